// The keyboard in a list: one stop for Tab, arrows to choose.

/** `at()` and `last()`: where the choice is and can be; `page()`: rows that are in sight. */
export function choices(node, { at, last, page, choose }) {
  const moves = {
    ArrowDown: () => (at() ?? -1) + 1,
    ArrowUp: () => (at() ?? 1) - 1,
    PageDown: () => (at() ?? 0) + page(),
    PageUp: () => (at() ?? 0) - page(),
    Home: () => 0,
    End: last,
  };
  node.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(move());
  });
}

/** What is wider than its place can be scrolled by keyboard; what is not, is no stop for Tab. */
export function scrollable(nodes) {
  const look = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const frame = target.closest(".scroll");
      if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  });
  for (const frame of nodes) {
    look.observe(frame);
    look.observe(frame.firstElementChild);
  }
}

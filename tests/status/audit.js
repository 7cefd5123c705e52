// What a page must not lack so that everybody can use it. Gives the complaints.
() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (node) => node.checkVisibility({ visibilityProperty: true });
  const called = (node) => `${node.tagName.toLowerCase()}#${node.id || "?"}.${node.className}`;
  const text = (node) => (node ? node.textContent.trim() : "");
  const named = (node) =>
    node.getAttribute("aria-label") ||
    (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => text(document.getElementById(id))).join("") ||
    [...(node.labels ?? [])].map(text).join("") ||
    (["INPUT", "SELECT", "CANVAS", "svg"].includes(node.tagName) ? "" : text(node));

  const complaints = [];
  const demand = (nodes, holds, what) =>
    nodes.filter((node) => !holds(node)).forEach((node) => complaints.push(`${called(node)}: ${what}`));

  demand(all("button, a, input, select, summary, [role]:not([role=status], [role=alert])"), named, "has no name");
  demand(all("canvas, svg"), (node) => node.getAttribute("role") === "img", "is no image to a reader");
  demand(all("table"), (node) => text(node.caption), "has no caption");
  demand(all("th"), (node) => node.scope, "has no scope");
  demand(all("[id]"), (node) => all(`[id="${node.id}"]`).length === 1, "has an id that is not its own");
  demand(all("[aria-hidden=true] *"), (node) => node.tabIndex < 0, "is hidden, and Tab stops at it");
  for (const landmark of ["header", "nav", "main", "footer", "h1"]) {
    if (all(`body ${landmark}`).length !== 1) complaints.push(`there is not one ${landmark}`);
  }
  if (!document.documentElement.lang) complaints.push("the language is not told");
  all("h1, h2, h3, h4").filter(seen).reduce((before, node) => {
    const level = Number(node.tagName[1]);
    if (level > before + 1) complaints.push(`${called(node)}: a level of headings is left out`);
    return level;
  }, 0);

  // Contrast, of every text that is seen, against what is painted below it.
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((n) => (n / 255 <= 0.04045 ? n / 255 / 12.92 : ((n / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = (node) => (node ? [...below(node.parentElement), getComputedStyle(node).backgroundColor] : []);
  const contrast = (node) => {
    const ground = below(node);
    const [a, b] = [light(painted(ground)), light(painted([...ground, getComputedStyle(node).color]))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const holders = new Set();
  while (words.nextNode()) if (words.currentNode.data.trim()) holders.add(words.currentNode.parentElement);
  const exempt = (node) => !seen(node) || node.closest(":disabled, noscript, script, style");
  demand([...holders].filter((node) => !exempt(node)), (node) => contrast(node) >= 4.5, "is too faint to read");
  return complaints;
}

"""Long work shows how far it is: a bar on a terminal, a line of the log now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_LINE_EVERY_S: Final = 10.0

Step = Callable[[int], None]
"""Says that so many more are done."""


@contextmanager
def progress(
    title: str, of: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Step]:
    """Show work on `of` things (None: nobody knows how many) on standard error while it lasts.

    What is over within ten seconds leaves no line behind.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, of, clock)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    known = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    counted = [TextColumn("{task.completed:,.0f}"), TimeElapsedColumn()]
    columns = [TextColumn("{task.description}"), *(known if of else counted)]
    # Rich would send what is printed meanwhile to standard error, out of the pipe it is meant for.
    redirected = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=redirected) as shown:
        task = shown.add_task(title, total=of)
        yield lambda count: shown.advance(task, count)


def _lines(title: str, of: int | None, clock: Callable[[], float]) -> Step:
    import structlog

    log, done, told = structlog.get_logger(), 0, clock()

    def step(count: int) -> None:
        nonlocal done, told
        done += count
        if clock() - told >= _LINE_EVERY_S:
            told = clock()
            log.info(title, done=done, **({"of": of} if of else {}))

    return step

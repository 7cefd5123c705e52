"""What a run says while it goes: a bar on a terminal, lines, and a file of figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
METRICS: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Journal:
    """Figures go to `metrics.jsonl` in the run's folder, and to `say` as a line."""

    out: Path
    say: Callable[[str], None] = print

    def note(self, **figures: Any) -> None:
        """One line of figures: a `stage`, an `epoch` if it is one of many, and what was found."""
        with (self.out / METRICS).open("a") as file:
            file.write(json.dumps(figures) + "\n")
        self.say("  ".join(f"{name} {_short(value)}" for name, value in figures.items()))

    def figures(self) -> list[dict[str, Any]]:
        """All lines of figures so far, those of an interrupted run before this one included."""
        return [json.loads(line) for line in (self.out / METRICS).read_text().splitlines()]

    def track(self, steps: Sequence[T], what: str) -> Iterator[T]:
        """`steps` one by one, with a bar where somebody is looking."""
        if not sys.stderr.isatty():
            yield from steps
            return
        from rich.console import Console
        from rich.progress import track

        yield from track(steps, what, console=Console(stderr=True), transient=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""An assignment: one stay of a partition with this dispatcher."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.books import Page
from dispatcher.tracker import Tracker
from ingest.events import Partition


@dataclass(slots=True, eq=False)
class Assignment:
    """What is open of a partition and what became of the rest, while it is ours.

    `ours` ends when the partition is revoked or lost, and never begins again: a partition that
    comes back is a new assignment. `dirty`: something changed since the last commit.
    """

    partition: Partition
    tracker: Tracker
    page: Page
    lane: str
    ours: bool = True
    dirty: bool = False

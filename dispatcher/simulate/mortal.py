"""A store that a killed dispatcher does not reach any more."""

from __future__ import annotations

from typing import Any

from dispatcher.errors import LedgerUnavailable
from dispatcher.ledger.stores import Store


class MortalStore:
    """`Store` of one dispatcher's life, by delegation. `alive`: False once it was killed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.alive = True

    def __getattr__(self, name: str) -> Any:
        if not self.alive:
            raise LedgerUnavailable("its dispatcher was killed")
        return getattr(self._store, name)

    async def open(self) -> None:
        """The books outlive their dispatchers."""

    async def close(self) -> None:
        """The books outlive their dispatchers."""

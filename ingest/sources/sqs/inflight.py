"""The messages that are ours for now: which offsets they stand for, and what may be deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_REMEMBERED: Final = 10_000


@dataclass(slots=True, eq=False)
class Message:
    """A message that the queue handed to us.

    `handle`: what it is deleted with; each time it is handed out, it gets another. `since`: when
    we got it, and `expires`: when others will see it again (monotonic seconds). `open`: its
    offsets that are not settled; None before it was delivered. `lost`: its handle means nothing
    any more. `leaving`: a call that deletes it is under way.
    """

    id: str
    handle: str
    group: str | None
    since: float
    expires: float
    open: set[int] | None = None
    lost: bool = False
    leaving: bool = False


class InFlight:
    """Messages by id, by offset, by group and by the end of their visibility (`visibility_s`)."""

    def __init__(self, visibility_s: float) -> None:
        self._visibility_s = visibility_s
        self._messages: dict[str, Message] = {}
        self._by_offset: dict[int, Message] = {}
        self._groups: dict[str, dict[str, Message]] = {}
        # In the order in which they expire: visibility always gets the same length, so whatever
        # was refreshed last expires last.
        self._expiring: dict[str, Message] = {}
        self._settled: dict[str, Message] = {}
        self._deleted: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(tuple(self._messages.values()))

    def __contains__(self, message: Message) -> bool:
        return self._messages.get(message.id) is message

    def add(self, id_: str, handle: str, group: str | None, now: float) -> Message:
        """A message that is new to us, or was handed back before."""
        message = Message(id_, handle, group, now, now + self._visibility_s)
        self._messages[id_] = message
        self._expiring[id_] = message
        if group is not None:
            self._groups.setdefault(group, {})[id_] = message
        return message

    def seen_again(self, id_: str, handle: str, now: float) -> bool:
        """Whether we hold it already; then the new handle is the one that counts."""
        message = self._messages.get(id_)
        if message:
            message.handle, message.since, message.lost = handle, now, False
            self.refreshed(message, now)
        return message is not None

    def was_deleted(self, id_: str) -> bool:
        """Whether it was settled in this run, as far as that is remembered."""
        return id_ in self._deleted

    def delivered(self, message: Message, offsets: Iterable[int]) -> None:
        """It was opened, and stands for these offsets; without any, it is settled."""
        message.open = set(offsets)
        self._by_offset.update(dict.fromkeys(message.open, message))
        self._close_if_settled(message)

    def settle(self, offset: int) -> None:
        """An offset was settled. What is not ours is passed over."""
        if message := self._by_offset.pop(offset, None):
            if message.open is not None:
                message.open.discard(offset)
            self._close_if_settled(message)

    def _close_if_settled(self, message: Message) -> None:
        if not message.open:
            self._settled[message.id] = message

    def ready(self) -> list[Message]:
        """What may be deleted now: settled, and in a group, the first of its group.

        Not the settled ones behind it at the same time: when a call fails for the first only, the
        group would have a hole.
        """
        return [each for each in self._settled.values() if self._is_first(each)]

    def _is_first(self, message: Message) -> bool:
        return message.group is None or next(iter(self._groups[message.group])) == message.id

    def remove(self, message: Message, *, deleted: bool = False) -> None:
        """It is not ours any more. `deleted`: and must not be delivered when it comes again."""
        for each in (self._messages, self._expiring, self._settled):
            each.pop(message.id, None)
        for offset in message.open or ():
            self._by_offset.pop(offset, None)
        if message.group is not None:
            group = self._groups[message.group]
            del group[message.id]
            if not group:
                del self._groups[message.group]
        if deleted:
            self._deleted[message.id] = None
            if len(self._deleted) > _REMEMBERED:
                del self._deleted[next(iter(self._deleted))]

    def due(self, now: float, ahead_s: float) -> list[Message]:
        """Those with less than half of their visibility in `ahead_s`, in the order of its end."""
        horizon = now + ahead_s + self._visibility_s / 2
        due = []
        for message in self._expiring.values():
            if message.expires >= horizon:
                break
            if not message.leaving:
                due.append(message)
        return due

    def refreshed(self, message: Message, now: float) -> None:
        """Others will not see it for another `visibility_s` from `now` on."""
        message.expires = now + self._visibility_s
        self._expiring.pop(message.id, None)
        self._expiring[message.id] = message

    def let_expire(self, message: Message) -> None:
        """Do not refresh it any more."""
        self._expiring.pop(message.id, None)


def offset_of(id_: str, index: int | None = None) -> int:
    """The offset of a message, or of a part of it: the same whenever it comes (63 bits)."""
    name = id_ if index is None else f"{id_}#{index}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1

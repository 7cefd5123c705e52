"""The pulse: a thread that lets the other ranks know that this one lives, and for whom it waits."""

from __future__ import annotations

import threading
from typing import Self

from fmi.mailbox import Mailbox
from fmi.notes import Note


class Pulse:
    """Beats until it is stopped. A rank that computes for long still has a pulse."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fmi-pulse", daemon=True)

    def start(self) -> Self:
        """Begin to beat."""
        if self._mailbox.channel.size > 1:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Beat no more; returns when the last beat is sent."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        channel = self._mailbox.channel
        while not self._over.wait(channel.beat_s):
            call = self._mailbox.waiting_in
            note = Note(self._mailbox.waiting_for, call.which() if call else None)
            channel.beat(note.write())

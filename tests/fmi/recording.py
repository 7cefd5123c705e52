"""One rank on a channel, without a communicator: sends frames and keeps what arrives."""

import time

from fmi.deadline import Deadline
from fmi.frames import HEADER, MAGIC


class Rank:
    """A channel and its inbox. `places` are views to be filled, in order."""

    def __init__(self, transport, group, rank, size, *, seconds=10.0):
        self.channel = transport.open(group, rank, size, Deadline.after(seconds))
        self.got, self.beats, self.places, self.placed = [], [], [], []
        self.gone = {}
        self._sent = 0
        self.channel.start(self)

    def place(self, header):
        return self.places.pop(0) if self.places and header.payload else None

    def deliver(self, header, description, payload):
        self.placed.append(payload)
        self.got.append((header.source, header.sequence, description, bytes(payload)))

    def heard(self, source, note):
        self.beats.append((source, note))

    def left(self, source, why):
        self.gone[source] = why

    def blocked(self, dest):
        """Nothing else ends a wait here."""

    def send(self, dest, payload, description=b""):
        channel = self.channel
        lengths = len(description), len(payload)
        head = HEADER.pack(MAGIC, channel.run, 0, 0, 1, channel.rank, 0, 0, self._sent, *lengths)
        self._sent += 1
        channel.send(dest, head + description, payload, Deadline.after(10))

    def receive(self, count, seconds=10.0):
        """Payloads of the next `count` messages, of anybody."""
        self.until(lambda: len(self.got) >= count, seconds)
        taken, self.got = self.got[:count], self.got[count:]
        return [payload for *_, payload in taken]

    def until(self, so_far, seconds=10.0):
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not so_far():
            assert time.monotonic() < end, f"{self.got} and {self.beats} is all that came"
            self.wait(0.1)

    def wait(self, seconds):
        self.channel.wait(range(self.channel.size), seconds)

    def close(self, seconds=5.0):
        self.channel.close(Deadline.after(seconds))

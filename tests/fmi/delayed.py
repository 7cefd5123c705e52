"""Networks that are slow on purpose, in memory: to see predictions come true, or not."""

import heapq
import itertools
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import fmi


class Delayed(fmi.Memory):
    """What is sent arrives later. Bytes queue up at both ranks, and in what all of them share."""

    def __init__(self, name, size, latency_s, byte_s, shared_byte_s=0.0):
        super().__init__(size)
        self.name = name
        self.latency_s, self.byte_s, self.shared_byte_s = latency_s, byte_s, shared_byte_s
        self._lock = threading.Lock()
        self._leaves, self._passes = [0.0] * size, 0.0
        self._lines = [_Line(self) for _ in range(size)]

    def send(self, source, size):
        """When the first byte of a message that is sent now comes, and the last one at best."""
        now = time.perf_counter()
        if not size:
            return now + self.latency_s, now + self.latency_s
        with self._lock:
            start = max(now, self._leaves[source])
            self._leaves[source] = start + size * self.byte_s
            self._passes = max(now + self.latency_s, self._passes) + size * self.shared_byte_s
            return start + self.latency_s, self._passes


class _Line:
    """In place of the line of `Memory`: the way into one rank."""

    def __init__(self, network):
        self._network = network
        self._change = threading.Condition()
        self._coming, self._count = [], itertools.count()  # by when they begin to come
        self._here, self._free, self.open = deque(), 0.0, True  # by when they have come

    def put(self, source, head, payload):
        with self._change:
            if self.open:
                first, last = self._network.send(source, len(payload))
                frame = source, head, payload
                heapq.heappush(self._coming, (first, next(self._count), last, frame))
                self._change.notify()

    def take(self, seconds):
        until = time.perf_counter() + seconds
        with self._change:
            while True:
                now = time.perf_counter()
                while self._coming and self._coming[0][0] <= now:
                    first, _, last, frame = heapq.heappop(self._coming)
                    came = max(first, self._free) + len(frame[2]) * self._network.byte_s
                    self._free = max(came, last)
                    self._here.append((self._free, frame))
                taken = []
                while self._here and self._here[0][0] <= now:
                    taken.append(self._here.popleft()[1])
                if taken or now >= until:
                    return taken
                due = [queue[0][0] for queue in (self._coming, self._here) if queue]
                self._change.wait(min([until, *due]) - now)


def on_all(size, over, program, **options):
    """Run `program(communicator)` on every rank; what it returns or raises, in rank order.

    `over` and `options` are for all ranks, or a function of the rank that gives them.
    """

    def rank(number):
        way = over(number) if callable(over) else over
        given = {key: each(number) if callable(each) else each for key, each in options.items()}
        with fmi.connect_blocking("group", number, size, way, **given) as ranks:
            return program(ranks)

    with ThreadPoolExecutor(size) as threads:
        running = [threads.submit(rank, number) for number in range(size)]
        return [each.exception() or each.result() for each in running]

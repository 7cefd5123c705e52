"""In the place of stamps and workers: answers after a while, in any order, or none."""

import asyncio
from collections import Counter

import numpy as np

from dispatcher.errors import InvocationError
from dispatcher.groups import ModelIdentity, Part, Replies
from dispatcher.invokers.bill import Bill
from ingest.errors import DecodeError, NotApplicable
from ingest.events import BANDS, Stamp
from workers.wire import Estimate, Verdict, VerdictKind

MODEL = ModelIdentity("none", "1", "0" * 64, None)

_IMAGE = np.ones((5, 32, 32), dtype=np.float32)
_MAGNITUDES = np.full(5, 20.0, dtype=np.float32)
ESTIMATE = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)
BILL = Bill(100)
_MOST_BAD_LUCK = 2  # of one item: three failures make a dead letter


class Stamps:
    """In the place of `Resolver`. `keys`: filled with the result keys of all that is resolved."""

    def __init__(self, delay, keys):
        self._delay, self._keys = delay, keys
        self.fates = {}

    async def resolve(self, event):
        key = self._keys[event.alert_id] = event.key(MODEL.key)
        if event.stamp is None:
            raise NotApplicable("no_stamp", "there is none")
        self.fates[key] = event.stamp.url.split("/")[2]
        await asyncio.sleep(self._delay())
        if self.fates[key] == "broken":
            raise DecodeError("bad_stamp", "it is none")
        return Stamp(_IMAGE, _MAGNITUDES, BANDS, event.stamp.url)


class Answers:
    """In the place of `GroupRunner`. `asked`: how often each key was, by all dispatchers.

    `slots`: as many calls at once as anybody makes.

    With a probability of `loss` a batch loses a part, or is told to ask again for one.
    """

    slots = 10_000

    def __init__(self, draw, delay, loss, fates):
        self._draw, self._delay, self._loss, self._fates = draw, delay, loss, fates
        self.asked = Counter()
        self._bad_luck = Counter()

    async def ask(self, questions, ranks, deadline_s, *, careful=False):
        keys = [each.key for each in questions]
        self.asked.update(keys)
        await asyncio.sleep(self._delay())
        if any(self._fates[each] == "killer" for each in keys):
            # Who was with it has been asked in vain often enough: no bad luck from now on.
            self._bad_luck.update(dict.fromkeys(keys, _MOST_BAD_LUCK))
            return Replies({}, [Part(questions, BILL, InvocationError("the worker ended"))])
        lost = self._strike(keys)
        later = self._strike([each for each in keys if each not in lost])
        said = {each: self._verdict(each, each in later) for each in keys if each not in lost}
        error = InvocationError("the worker ended") if lost else None
        return Replies(said, [Part(questions, BILL, error)])

    def _strike(self, keys):
        if not keys or self._draw.random() >= self._loss:
            return []
        first = self._draw.randrange(len(keys))
        struck = [each for each in keys[first:] if self._bad_luck[each] < _MOST_BAD_LUCK]
        self._bad_luck.update(struck)
        return struck

    def _verdict(self, key, later):
        if later:
            return Verdict(key, VerdictKind.TRY_AGAIN, reason="out_of_time")
        match self._fates[key]:
            case "bad_input":
                return Verdict(key, VerdictKind.BAD_INPUT, reason="not_finite")
            case "out_of_domain":
                return Verdict(key, VerdictKind.NOT_APPLICABLE, reason="out of domain")
        return Verdict(key, VerdictKind.ESTIMATED, ESTIMATE)

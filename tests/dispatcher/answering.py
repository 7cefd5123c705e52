"""A handler that answers without a model, and does to some items what a night may do."""

import numpy as np

from workers.inference import CHUNK
from workers.wire import Estimate, Verdict, VerdictKind, decode_items, encode_verdicts

ESTIMATE = Estimate(0.1, 0.1, 0.1, 0.09, 0.11, 0.08, 0.12, 0)


def images(*marks):
    """Stamps that carry a mark (their constant pixel value)."""
    return [np.full((5, 32, 32), mark, dtype=np.float32) for mark in marks]


class Answering:
    """Answers every item; `kills` and `later` say what happens to items of a certain mark.

    A mark in `kills` ends the whole invocation, as an item that crashes its worker does. A mark
    in `later` is answered with `try_again` as often as it says. One that `tells` leaves behind
    where it was when it was ended.
    """

    def __init__(self, sha256, kills=(), later=None, drift=(), tells=False):
        self.drift, self.tells = list(drift), tells
        self.sha256, self.kills, self.later = sha256, set(kills), dict(later or {})
        self.asked = []

    def __call__(self, event, context):
        ids, pixels, _ = decode_items(event["partition"])
        marks = pixels[:, 0, 0, 0].tolist()
        self.asked.append(marks)
        for place, mark in enumerate(marks):
            if mark in self.kills:
                raise self._killed(place, 1 if event.get("careful") else CHUNK)
        return {
            "rank": event.get("group", {}).get("rank", 0),
            "model": {"weights_sha256": self.sha256},
            "verdicts": encode_verdicts(
                [self._verdict(each, mark) for each, mark in zip(ids, marks, strict=True)]
            ),
            "gathered": [],
            "drift": self.drift,
        }

    def _killed(self, place, together):
        error = MemoryError("killed")
        if self.tells:
            error.reached = place - place % together
        return error

    def _verdict(self, key, mark):
        if self.later.get(mark, 0):
            self.later[mark] -= 1
            return Verdict(key, VerdictKind.TRY_AGAIN, reason="out_of_time")
        return Verdict(key, VerdictKind.ESTIMATED, ESTIMATE)

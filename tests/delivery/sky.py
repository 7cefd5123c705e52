"""What a random night brings: events of every fate, some of them twice."""

from collections import defaultdict

from ingest.codecs.notice import ImageAddress, NewImage

FATES = {
    "ok": 75,
    "out_of_domain": 5,
    "no_stamp": 6,
    "filtered": 4,
    "undecodable": 4,
    "broken": 3,  # its stamp is none
    "bad_input": 2,
    "killer": 1,  # it ends every worker that it is sent to
}
ROWS = {"ok", "out_of_domain", "no_stamp"}


class Sky:
    """The logs of a night, and the fate of every event.

    `stamp`: of all events that have one; else their addresses say what is to happen to them.
    `copies`: where each content is. `keys`: result keys by alert id, of those that were decoded.
    """

    def __init__(self, draw, events=None, fates=FATES, stamp=None):
        events = events or round(200 * 7.5 ** draw.random() ** 2)
        doubled = draw.choice((0, 0.02, 0.1))
        self.fates, self.ids, self.keys, bodies = {}, {}, {}, []
        for n, fate in enumerate(draw.choices(list(fates), fates.values(), k=events)):
            if bodies and draw.random() < doubled:
                bodies.append(draw.choice(bodies[-100:]))
            else:
                bodies.append(_body(n, fate, stamp))
                self.fates[bodies[-1]], self.ids[bodies[-1]] = fate, n
        self.logs = {f"p{n}": [] for n in range(draw.randint(1, 6))}
        self.copies = defaultdict(list)
        for body in bodies:
            partition = draw.choice(list(self.logs))
            self.copies[body].append((partition, len(self.logs[partition])))
            self.logs[partition].append(body)

    @property
    def events(self):
        return sum(map(len, self.logs.values()))

    def key_of(self, body):
        """Its result key; None if nobody has decoded it so far."""
        return self.keys.get(self.ids[body])


def _body(n, fate, stamp):
    if fate == "undecodable":
        return b"rubbish %d" % n
    stamp = None if fate == "no_stamp" else stamp or ImageAddress(url=f"sky://{fate}/{n}")
    survey = "other" if fate == "filtered" else "S"
    return NewImage(id=n, survey=survey, ra=1.0, dec=1.0, stamp=stamp).to_bytes()

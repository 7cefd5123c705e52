"""What a seed decides of a night besides its sky and its faults."""

from dataclasses import dataclass

from dispatcher.settings import Settings


@dataclass
class Plan:
    """How a night is; delays are the longest of each kind (s)."""

    queue: bool
    dispatchers: int
    files: bool  # sinks in files, of one dispatcher; else in memory, shared by all
    best_effort: bool
    flaky: float  # probability that a write fails in the middle
    loss: float  # probability that a batch loses a part
    sink_s: float
    answer_s: float
    thread_s: float
    broker_s: float
    visibility_s: float
    forgetful: float  # probability that a dispatcher starts on a new machine, without a state file
    settings: Settings

    @classmethod
    def drawn(cls, draw):
        dispatchers = draw.randint(1, 3)
        return cls(
            queue=draw.random() < 0.3,
            dispatchers=dispatchers,
            files=dispatchers == 1 and draw.random() < 0.5,
            best_effort=draw.random() < 0.2,
            flaky=draw.choice((0, 0.05, 0.3)),
            loss=draw.choice((0, 0.1, 0.4)),
            sink_s=draw.choice((0.0, 0.05, 0.5)),
            answer_s=draw.choice((0.2, 1.0, 3.0)),
            thread_s=draw.choice((0.0, 0.02, 0.3)),
            broker_s=draw.choice((0.0, 0.02, 0.2)),
            visibility_s=draw.choice((3.0, 10.0, 60.0)),
            forgetful=draw.choice((0, 0.3)),
            settings=settings_of(
                items=draw.choice((24, 64, 200)),
                fetch=draw.choice((4, 16, 32)),
                batch=draw.choice((1, 5, 16, 32)),
                rows=draw.choice((3, 20, 100)),
                commit_s=draw.choice((0.1, 0.5, 2)),
                revoke_s=draw.choice((0.3, 2, 20)),
            ),
        )

    @classmethod
    def calm(cls, queue):
        """Of an undisturbed night."""
        settings = settings_of(items=200, fetch=32, batch=32, rows=100, commit_s=1, revoke_s=20)
        return cls(queue, 1, False, False, 0, 0, 0.0, 0.2, 0.0, 0.0, 1e9, 0, settings)


def settings_of(*, items, fetch, batch, rows, commit_s, revoke_s):
    return Settings(
        ingest={"surveys": ("S",)},
        flow={"items": items, "fetch": fetch},
        batch={"items": batch, "linger_s": 0.3},
        workers={"ranks": 1},
        sinks={"batch": rows, "commit_s": commit_s},
        kafka={"revoke_s": revoke_s},
        dead_letters={"max_ratio": 1.0, "max_in_a_row": 10_000},
    )

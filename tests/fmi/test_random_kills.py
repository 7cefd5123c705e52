"""Any rank is killed at any moment of a random program: all others raise in time and name it.

None of them hangs, returns as if nothing were, or has got a wrong value. The seed is fixed, so
that every run tries the same programs, victims and moments (what each rank is doing at that
moment still differs a little). Other ones:

    LOOKBACK_KILLS_SEED=7 pytest tests/fmi/test_random_kills.py
    LOOKBACK_KILLS_TRIAL=direct-17 pytest tests/fmi/test_random_kills.py   (this one alone)
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import random_program
from random_program import DEADLINE_MARGIN_S, Program, Trial, WrongValueError

import fmi

SEED = int(os.environ.get("LOOKBACK_KILLS_SEED", "1"))
ONLY = os.environ.get("LOOKBACK_KILLS_TRIAL")

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Kind:
    """So many trials of one kind."""

    trials: int
    over: str
    within_s: float = 0.2  # the strike comes within so long
    terms: dict = field(default_factory=dict)


STOPPED = {"signal": signal.SIGSTOP, "deadline_s": 1.5}
KINDS = {
    # 200 of these
    "direct": Kind(90, "direct"),
    "direct-goes-on": Kind(30, "direct", terms={"goes_on": True}),
    "shared": Kind(30, "shared"),
    "shared-goes-on": Kind(10, "shared", terms={"goes_on": True}),
    "relay": Kind(30, "relay"),
    "relay-goes-on": Kind(10, "relay", terms={"goes_on": True}),
    # and these
    "redis": Kind(6, "redis", terms={"deadline_s": 6.0}),
    "while-they-meet": Kind(6, "direct", 0.06, {"meets": True, "deadline_s": 2.0}),
    "stopped-direct": Kind(6, "direct", terms=STOPPED),
    "stopped-shared": Kind(4, "shared", terms=STOPPED),
    "stopped-relay": Kind(4, "relay", terms=STOPPED),
    "no-heartbeat": Kind(6, "direct", terms=STOPPED | {"deadline_s": 10.0, "patience_s": 0.7}),
}
assert sum(KINDS[kind].trials for kind in list(KINDS)[:6]) == 200


class Starter:
    """A process that starts and strikes ranks, one trial at a time."""

    def __init__(self, process):
        self._process = process

    def strike(self, trial):
        self._process.stdin.write(random_program.as_line(trial))
        self._process.stdin.flush()
        return {
            int(rank): told for rank, told in json.loads(self._process.stdout.readline()).items()
        }


@contextmanager
def starter():
    # One thread: a fork takes no other one with it.
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with subprocess.Popen(
        [sys.executable, random_program.__file__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Starter(process)


@pytest.fixture(scope="module")
def starters():
    """Two, for the cores of the smallest machine."""
    with ExitStack() as stack:
        yield [stack.enter_context(starter()) for _ in range(2)]


@pytest.fixture
def where(request, rendezvous, tmp_path):
    """What a rank needs to get into a group, by channel."""

    def where(over, group, size):
        if over == "shared":
            folder = tmp_path / group
            folder.mkdir()
            return [over, str(folder)]
        if over == "redis":
            return [over, request.getfixturevalue("valkey_server").url]
        return [over, rendezvous.address, rendezvous.admit(group, size, 170)]

    return where


def drawn(kind, number, where):
    """A trial, from the seed and its number alone."""
    name, draw = f"{kind}-{number}", random.Random(f"{SEED} {kind} {number}")
    size, terms = draw.choice((3, 4)), KINDS[kind]
    return Trial(
        name,
        draw.getrandbits(32),
        size,
        where(terms.over, name, size),
        victim=draw.randrange(size),
        after_s=draw.uniform(0, terms.within_s),
        **terms.terms,
    )


def complaints(trial, reports):
    """What is wrong with what the survivors say."""
    for rank, told in reports.items():
        wrong = []
        if told["what"] != ("went on" if trial.goes_on else "lost"):
            wrong.append(told["what"])
        if "ranks" in told and told["ranks"] != [trial.victim]:
            wrong.append(f"it blames {told['ranks']}")
        if told.get("raised_s", 0) < 0:
            wrong.append("it raised before anybody was struck")
        if told.get("raised_s", 0) > trial.deadline_s + DEADLINE_MARGIN_S:
            wrong.append(f"it raised after {told['raised_s']:.2f} s")
        # Leaving waits for what was sent to arrive, and who still meets the struck rank reads
        # nothing before it gives up.
        leaving_s = DEADLINE_MARGIN_S + (trial.deadline_s if trial.meets else 0)
        if told.get("left_s", 0) - told.get("raised_s", 0) > leaving_s:
            wrong.append(f"it left after {told['left_s']:.2f} s")
        if "members" in told and told["members"] != sorted(reports):
            wrong.append(f"it went on with {told['members']}")
        if wrong:
            yield (
                f"rank {rank} of {trial.size}, when {trial.victim} was struck: "
                f"{', '.join(wrong)}; {told.get('step')}; {told.get('why')}"
            )


@pytest.mark.parametrize("kind", KINDS)
async def test_who_is_left_raises_in_time_and_names_who_was_killed(
    kind, starters, where, in_threads
):
    trials = deque(drawn(kind, number, where) for number in range(KINDS[kind].trials))
    if ONLY:
        trials = deque(trial for trial in trials if trial.name == ONLY)
    outcomes = []

    def strike_all(starter):
        while trials:
            trial = trials.popleft()
            outcomes.append((trial, starter.strike(trial)))

    for failed in await in_threads(*(lambda each=each: strike_all(each) for each in starters)):
        assert failed is None
    raised_s = [
        told["raised_s"] for _, all_ in outcomes for told in all_.values() if "raised_s" in told
    ]
    if len(raised_s) > 1:
        cuts = statistics.quantiles(raised_s, n=20, method="inclusive")
        print(
            f"{kind}: {len(raised_s)} survivors raised after {cuts[9]:.3f} s (median), "
            f"{cuts[18]:.3f} s (95 %), {max(raised_s):.3f} s (the last)"
        )
    found = [
        f"LOOKBACK_KILLS_SEED={SEED} LOOKBACK_KILLS_TRIAL={trial.name}: {each}"
        for trial, reports in outcomes
        for each in complaints(trial, reports)
    ]
    assert not found, "\n".join(found)


async def test_the_random_program_is_right_where_nobody_is_killed(in_threads):
    hub = fmi.Memory(4)

    def rank(number):
        with fmi.connect_blocking("g", number, 4, hub) as ranks:
            Program(ranks, SEED).run(300)

    assert await in_threads(*(lambda r=r: rank(r) for r in range(4))) == [None] * 4


@pytest.mark.parametrize("spoilt", [lambda a: a + 1, lambda a: a[:-1], lambda a: a.astype("f4")])
def test_a_wrong_value_is_noticed(spoilt):
    with fmi.connect_blocking("g", 0, 1, fmi.Memory(1)) as ranks:
        program, right = Program(ranks, SEED), np.arange(5.0)
        program.check(right.copy(), right)
        with pytest.raises(WrongValueError):
            program.check(spoilt(right), right)


def test_a_value_that_is_written_over_later_is_noticed():
    with fmi.connect_blocking("g", 0, 1, fmi.Memory(1)) as ranks:
        program, got = Program(ranks, SEED), np.arange(5.0)
        program.check(got, np.arange(5.0))
        got[3] = 0
        with pytest.raises(WrongValueError, match="written over"):
            program.run(50)

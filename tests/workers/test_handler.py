"""One function, and functions in a group: one verdict per item, whatever happens to the others."""

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

import fmi
from workers import handler, inference
from workers.density import unsketch
from workers.errors import WireError, WrongWeights
from workers.photometry import measure
from workers.quality import Quality
from workers.shelf import shelf
from workers.wire import Item, VerdictKind, decode_verdicts, encode_items


class Context:
    """What the platform passes: how long it will still wait."""

    def __init__(self, seconds=60.0):
        self.seconds = seconds

    def get_remaining_time_in_millis(self):
        return round(1000 * self.seconds)


@pytest.fixture(scope="module", autouse=True)
def model(weights_file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKBACK_WEIGHTS", str(weights_file))
        forget()
        yield shelf().get(shelf().any()).estimator
    forget()


def forget():
    """The next invocation is the first of its process."""
    shelf.cache_clear()


@pytest.fixture
def job(model):
    return {"weights_sha256": model.sha256}


def items(n, first=0):
    rng = np.random.default_rng(first)
    images = rng.normal(size=(n, 5, 32, 32)).astype(np.float32)
    magnitudes = rng.uniform(18, 21, (n, 5)).astype(np.float32)
    return [Item(f"item-{first + k}", images[k], magnitudes[k]) for k in range(n)]


def invoke(event, context=None):
    """As a platform does: JSON in, JSON out."""
    answer = handler.handler(orjson.loads(orjson.dumps(event)), context or Context())
    return orjson.loads(orjson.dumps(answer))


def alone(job, asked, context=None):
    answer = invoke({"job": job, "partition": encode_items(asked)}, context)
    return decode_verdicts(answer["verdicts"])


def test_every_item_has_its_verdict_in_order(job, model):
    asked = items(3)
    answer = invoke({"job": job, "partition": encode_items(asked)})
    verdicts = decode_verdicts(answer["verdicts"])
    assert [each.id for each in verdicts] == ["item-0", "item-1", "item-2"]
    expected = model.estimate(
        np.stack([each.image for each in asked]), np.stack([each.magnitudes for each in asked])
    )
    for k, each in enumerate(verdicts):
        assert each.kind is VerdictKind.ESTIMATED
        middles, p = unsketch(each.estimate.pz)
        assert np.interp(each.estimate.z_mode, middles, p) == pytest.approx(max(p), rel=0.1)
        for name in type(each.estimate).__dataclass_fields__.keys() - {"pz"}:
            found = getattr(expected, name)[k]
            assert getattr(each.estimate, name) == (None if np.isnan(found) else found), name
    assert len({each.estimate.z_mean for each in verdicts}) == 3
    assert (answer["rank"], answer["gathered"], answer["lost"]) == (0, [], [])


def test_an_estimate_is_a_redshift_inside_its_intervals(job, config):
    for each in alone(job, items(20)):
        found = each.estimate
        assert 0 <= found.z_err95_low <= found.z_err68_low <= found.z_median
        assert found.z_median <= found.z_err68_high <= found.z_err95_high <= config.z_max
        assert 0 < found.z_mean < config.z_max and 0 < found.z_mode < config.z_max


def test_the_answer_says_which_model_it_is(job, model):
    answer = invoke({"job": job, "partition": encode_items(items(1))})
    assert answer["model"] == {
        "name": "small",
        "version": "7",
        "weights_sha256": model.sha256,
        "calibration_id": "temperature-2.00",
    }
    assert answer["ms"]["total"] > 0


@pytest.mark.parametrize("n", [63, 64, 65, 130])
def test_a_partition_may_have_any_size(job, n):
    verdicts = alone(job, items(n))
    assert [each.id for each in verdicts] == [f"item-{k}" for k in range(n)]
    assert {each.kind for each in verdicts} == {VerdictKind.ESTIMATED}


def test_an_empty_partition_has_no_verdicts(job):
    assert alone(job, []) == []


BAD = {
    "a NaN in the image": lambda item: item.image.__setitem__((4, 31, 31), np.nan),
    "an infinite pixel": lambda item: item.image.__setitem__((0, 0, 0), -np.inf),
    "an infinite magnitude": lambda item: item.magnitudes.__setitem__(3, np.inf),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_bad_item_costs_one_item(job, name, place):
    asked = items(5)
    others = asked[:place] + asked[place + 1 :]
    without_it = alone(job, others)
    BAD[name](asked[place])
    verdicts = alone(job, asked)
    bad = verdicts.pop(place)
    assert (bad.id, bad.kind, bad.reason) == (
        f"item-{place}",
        VerdictKind.BAD_INPUT,
        "not_finite",
    )
    assert bad.estimate is None
    assert verdicts == without_it


def test_magnitudes_that_are_not_known_are_measured_and_that_is_flagged(job):
    asked = items(3)
    for each in asked:
        each.image[:, 12:20, 12:20] += 5.0
        each.magnitudes[:] = measure(each.image[None])[0]
    given = [each.estimate for each in alone(job, asked)]
    asked[1].magnitudes[:] = np.nan
    asked[2].magnitudes[0] = 29.0
    measured = [each.estimate for each in alone(job, asked)]
    assert given[0] == measured[0]
    for before, after in zip(given[1:], measured[1:], strict=True):
        assert not Quality.MEASURED_MAGNITUDES & before.quality_flag
        flagged = before.quality_flag | Quality.MEASURED_MAGNITUDES
        assert after == replace(before, quality_flag=flagged)


def test_a_partition_of_bad_items_only_is_answered(job):
    asked = items(3)
    for each in asked:
        each.image[:] = np.nan
    assert [each.kind for each in alone(job, asked)] == [VerdictKind.BAD_INPUT] * 3


ABSENT = ["torch", "scipy", "astropy", "matplotlib", "onnx", "sklearn"]

WITHOUT_THEM = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            raise ImportError(f"{{name}} is not in the image")

sys.meta_path.insert(0, Absent())
import json
from types import SimpleNamespace
from workers.handler import handler
context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
answer = handler(json.load(sys.stdin), context)
print([str(each["kind"]) for each in answer["verdicts"]])
print(sorted(set(sys.modules) & set({ABSENT})))
"""


def test_a_function_needs_neither_torch_nor_what_only_others_use(job, weights_file):
    event = orjson.dumps({"job": job, "partition": encode_items(items(2))})
    said = subprocess.check_output(
        [sys.executable, "-c", WITHOUT_THEM],
        input=event,
        env={**os.environ, "LOOKBACK_WEIGHTS": str(weights_file)},
    )
    assert said.decode().splitlines() == ["lookback at 0", "['estimated', 'estimated']", "[]"]


@pytest.fixture
def slow(model, monkeypatch):
    """On the handler's clock, every look takes a second and everything else no time."""
    now, quick = [0.0], model.estimate

    def estimate(*given):
        now[0] += 1.0
        return quick(*given)

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(model, "estimate", estimate)
    monkeypatch.setattr(handler, "time", clock)
    monkeypatch.setattr(inference, "time", clock)


@pytest.mark.usefixtures("slow")
def test_nothing_is_begun_that_would_not_end_in_time(job):
    # Half a second is kept free for the answer, and a third look would end after 2.5 seconds.
    verdicts = alone(job, items(180), Context(seconds=3.0))
    assert [each.id for each in verdicts] == [f"item-{k}" for k in range(180)]
    assert {each.kind for each in verdicts[:128]} == {VerdictKind.ESTIMATED}
    assert {(each.kind, each.reason, each.estimate) for each in verdicts[128:]} == {
        (VerdictKind.TRY_AGAIN, "out_of_time", None)
    }


def marks(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("lookback")]


def test_it_says_where_it_is_before_it_looks(job, capsys):
    alone(job, items(130))
    assert marks(capsys) == ["lookback at 0", "lookback at 64", "lookback at 128"]
    alone(job, [])
    alone(job, items(2), Context(seconds=0))
    assert marks(capsys) == [], "nothing is looked at"


def test_what_it_looked_at_when_it_failed_is_its_last_word(job, model, monkeypatch, capsys):
    whole = model.estimate

    def estimate(images, magnitudes):
        if (images[:, 0, 0, 0] == 666).any():
            raise MemoryError
        return whole(images, magnitudes)

    monkeypatch.setattr(model, "estimate", estimate)
    asked = items(130)
    asked[70].image[0, 0, 0] = 666
    with pytest.raises(MemoryError):
        alone(job, asked)
    assert marks(capsys)[-1] == "lookback at 64"
    with pytest.raises(MemoryError):
        invoke({"job": job, "partition": encode_items(asked[64:]), "careful": True})
    assert marks(capsys)[-1] == "lookback at 6"


def test_a_careful_look_at_one_after_the_other_finds_the_same(job, capsys):
    asked = items(5)
    together = alone(job, asked)
    capsys.readouterr()
    answer = invoke({"job": job, "partition": encode_items(asked), "careful": True})
    assert marks(capsys) == [f"lookback at {k}" for k in range(5)]
    one_by_one = decode_verdicts(answer["verdicts"])
    assert [each.id for each in one_by_one] == [each.id for each in together]
    for one, other in zip(one_by_one, together, strict=True):
        # The last digits of a sum of floats depend on its company.
        assert one.estimate.z_mean == pytest.approx(other.estimate.z_mean, abs=1e-3)


@pytest.mark.usefixtures("slow")
def test_a_careful_look_ends_in_time_too(job):
    event = {"job": job, "partition": encode_items(items(6)), "careful": True}
    verdicts = decode_verdicts(invoke(event, Context(seconds=4.0))["verdicts"])
    kinds = [each.kind for each in verdicts]
    assert kinds == [VerdictKind.ESTIMATED] * 3 + [VerdictKind.TRY_AGAIN] * 3


def test_the_time_it_took_is_told_by_phases(job):
    spent = invoke({"job": job, "partition": encode_items(items(20))})["ms"]
    assert spent.keys() - {"init"} == {"decode", "weights", "infer", "total"}
    assert spent["infer"] > spent["decode"] > spent["weights"] >= 0
    assert spent["decode"] + spent["infer"] <= spent["total"] + 0.01


def test_without_any_time_everything_is_to_be_tried_again(job):
    verdicts = alone(job, items(2), Context(seconds=0))
    assert [each.kind for each in verdicts] == [VerdictKind.TRY_AGAIN] * 2


def test_other_weights_than_the_jobs_are_named():
    with pytest.raises(WrongWeights, match=r"ffffffffffff.*deploy the same weights"):
        invoke({"job": {"weights_sha256": "f" * 64}, "partition": encode_items(items(1))})


def test_a_broken_partition_is_refused(job):
    with pytest.raises(WireError):
        invoke({"job": job, "partition": {"ids": ["a"]}})


class Group:
    """Events for the ranks of one group; rank r has r + 1 items."""

    def __init__(self, rendezvous, size, job, deadline_s=10.0):
        self.size, self.job = size, job
        self.fields = {
            "id": "g",
            "size": size,
            "rendezvous": rendezvous.address,
            "token": rendezvous.admit("g", size, 30),
            "deadline_s": deadline_s,
        }

    def partition(self, rank):
        return items(rank + 1, first=10 * rank)

    def event(self, rank):
        event = {
            "partition": encode_items(self.partition(rank)),
            "group": {**self.fields, "rank": rank},
        }
        return {**event, "job": self.job} if rank == 0 else event

    def join(self, rank):
        """Meet the others as a rank that is no handler."""
        fields = self.fields
        meeting = fmi.Direct(fields["rendezvous"], fields["token"])
        return fmi.connect_blocking(
            fields["id"], rank, self.size, meeting, deadline_s=fields["deadline_s"]
        )


async def in_threads(*calls):
    with ThreadPoolExecutor(len(calls)) as threads:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(threads, call) for call in calls), return_exceptions=True
        )


def ranks_of(group, *ranks):
    return [lambda rank=rank: invoke(group.event(rank)) for rank in ranks]


def assert_own_verdicts(answer, group, job):
    rank = answer["rank"]
    assert decode_verdicts(answer["verdicts"]) == alone(job, group.partition(rank))


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_each_rank_answers_for_itself_and_the_root_for_all(rendezvous, job, size):
    group = Group(rendezvous, size, job)
    answers = await in_threads(*ranks_of(group, *range(size)))
    assert [each["rank"] for each in answers] == list(range(size))
    for each in answers:
        assert_own_verdicts(each, group, job)
        assert each["lost"] == []
    assert answers[0]["gathered"] == [v for each in answers[1:] for v in each["verdicts"]]
    assert all(each["gathered"] == [] for each in answers[1:])


@pytest.mark.parametrize(("absent", "come"), [(1, (0, 2)), (0, (1, 2))], ids=["rank", "root"])
async def test_a_rank_that_never_comes_is_named_and_costs_only_its_own(
    rendezvous, job, absent, come
):
    group = Group(rendezvous, 3, job, deadline_s=4.0)
    started = time.monotonic()
    answers = await in_threads(*ranks_of(group, *come))
    assert time.monotonic() - started < 6.0
    assert tuple(each["rank"] for each in answers) == come
    for each in answers:
        assert_own_verdicts(each, group, job)
        assert each["lost"] == [absent]


async def test_a_rank_that_dies_at_work_is_named_and_the_rest_is_gathered(rendezvous, job):
    group = Group(rendezvous, 3, job)

    def dies():
        with group.join(1) as ranks:
            ranks.bcast()

    root, _, other = await in_threads(*ranks_of(group, 0), dies, *ranks_of(group, 2))
    for each in (root, other):
        assert_own_verdicts(each, group, job)
        assert each["lost"] == [1]
    assert root["gathered"] == other["verdicts"]


async def test_a_wait_for_the_others_is_told_as_such(rendezvous, job):
    group = Group(rendezvous, 2, job)

    def late(rank=1):
        time.sleep(0.3)
        return invoke(group.event(rank))

    root, _ = await in_threads(*ranks_of(group, 0), late)
    spent = root["ms"]
    assert spent.keys() == {"decode", "meet", "weights", "infer", "gather", "total"}
    assert spent["meet"] >= 250
    assert sum(spent.values()) - spent["total"] <= spent["total"] + 0.01


async def test_a_wait_in_vain_is_told_as_such(rendezvous, job):
    group = Group(rendezvous, 2, job, deadline_s=0.5)
    (root,) = await in_threads(*ranks_of(group, 0))
    spent = root["ms"]
    assert spent.keys() == {"decode", "meet", "weights", "infer", "total"}
    assert spent["meet"] >= 250, "most of its deadline"


async def test_a_rank_that_hangs_at_work_is_named_as_a_dead_one_is(rendezvous, job):
    group = Group(rendezvous, 3, job, deadline_s=2.5)

    def hangs():
        with group.join(1) as ranks:
            ranks.bcast()
            time.sleep(6)

    root, _, other = await in_threads(*ranks_of(group, 0), hangs, *ranks_of(group, 2))
    for each in (root, other):
        assert_own_verdicts(each, group, job)
        assert each["lost"] == [1]
        assert each["ms"]["total"] < 6000, "nobody waits for it to its end"
    assert root["gathered"] == other["verdicts"]


async def test_a_root_that_dies_at_work_costs_only_its_own(rendezvous, job):
    group = Group(rendezvous, 3, job)

    def dies():
        with group.join(0) as ranks:
            ranks.bcast(job)

    _, *others = await in_threads(dies, *ranks_of(group, 1, 2))
    assert [each["rank"] for each in others] == [1, 2]
    for each in others:
        assert_own_verdicts(each, group, job)
        assert each["lost"] == [0]


async def test_a_stolen_place_is_refused_and_the_partition_answered_all_the_same(rendezvous, job):
    group = Group(rendezvous, 2, job)
    group.fields["token"] = "stolen"
    (answer,) = await in_threads(*ranks_of(group, 0))
    assert_own_verdicts(answer, group, job)
    assert answer["lost"] == []


async def test_every_rank_of_a_group_refuses_other_weights(rendezvous):
    group = Group(rendezvous, 3, {"weights_sha256": "f" * 64})
    answers = await in_threads(*ranks_of(group, 0, 1, 2))
    assert [type(each) for each in answers] == [WrongWeights] * 3


async def test_bad_items_and_lack_of_time_travel_to_the_root(rendezvous, job):
    group = Group(rendezvous, 3, job)
    event = group.event(1)
    asked = group.partition(1)
    asked[1].image[0, 0, 0] = np.nan
    event["partition"] = encode_items(asked)
    root, *_ = await in_threads(
        lambda: invoke(group.event(0)),
        lambda: invoke(event),
        lambda: invoke(group.event(2), Context(seconds=0)),
    )
    assert [each["kind"] for each in root["verdicts"]] == ["estimated"]
    assert [each["kind"] for each in root["gathered"]] == [
        "estimated",
        "bad_input",
        *["try_again"] * 3,
    ]

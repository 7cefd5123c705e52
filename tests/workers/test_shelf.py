"""Models that come with a job: read once, given to the others, checked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from kept import bucket

from workers import handler, payload
from workers.errors import PayloadError, WrongWeights
from workers.shelf import NONE, Shelf, shelf
from workers.weights import identify
from workers.wire import Item, VerdictKind, decode_verdicts, encode_items

CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Processes that carry nothing."""
    monkeypatch.setenv("LOOKBACK_WEIGHTS", NONE)
    monkeypatch.setenv("LOOKBACK_CACHE", str(tmp_path))
    shelf.cache_clear()
    yield
    shelf.cache_clear()


@pytest.fixture
def kept(weights_file, monkeypatch):
    with bucket() as made:
        monkeypatch.setenv("LOOKBACK_PAYLOADS", f"{made.url}/")
        made.objects["/w"] = weights_file.read_bytes()
        yield made


@pytest.fixture
def job(kept, weights_file):
    sha256 = identify(weights_file).sha256
    return {"weights_sha256": sha256, "weights_at": kept.address("/w", kept.objects["/w"])}


def partition(n=2):
    rng = np.random.default_rng(n)
    images = rng.normal(size=(n, 5, 32, 32)).astype(np.float32)
    return encode_items(
        [Item(f"i{k}", each, np.full(5, 20, "f4")) for k, each in enumerate(images)]
    )


@pytest.mark.usefixtures("bare")
def test_weights_are_read_once_for_all_invocations(job, kept):
    for _ in range(2):
        answer = handler.handler({"job": job, "partition": partition()}, CONTEXT)
        assert answer["model"]["weights_sha256"] == job["weights_sha256"]
        verdicts = decode_verdicts(answer["verdicts"])
        assert {each.kind for each in verdicts} == {VerdictKind.ESTIMATED}
    assert len(kept.requests) == 1


@pytest.mark.usefixtures("bare")
def test_without_an_address_it_is_told_what_is_missing(job):
    with pytest.raises(WrongWeights, match="carries none"):
        handler.handler(
            {"job": {"weights_sha256": job["weights_sha256"]}, "partition": partition()}, CONTEXT
        )


@pytest.mark.usefixtures("bare")
def test_other_weights_than_were_asked_for_are_not_loaded(job, kept):
    other = b"x" + kept.objects["/w"][1:]
    kept.objects["/w"] = other
    with pytest.raises(PayloadError, match="not what was kept"):
        handler.handler({"job": job, "partition": partition()}, CONTEXT)
    with pytest.raises(PayloadError, match="weights came that are not"):
        Shelf().learn(other, job["weights_sha256"])


@pytest.mark.usefixtures("bare")
def test_of_a_group_one_rank_reads_them_and_gives_them_to_the_others(job, kept, monkeypatch):
    """Each rank has a shelf of its own here, as processes do."""
    answers = asyncio.run(_as_group(job, 3, monkeypatch, carrying=()))
    assert [each["model"]["weights_sha256"] for each in answers] == [job["weights_sha256"]] * 3
    assert len(answers[0]["gathered"]) == 4
    assert len(kept.requests) == 1, "a third of the requests"


@pytest.mark.usefixtures("bare")
def test_who_has_them_already_gives_them_and_nobody_reads(job, kept, monkeypatch, weights_file):
    answers = asyncio.run(_as_group(job, 3, monkeypatch, carrying=(2,), file=weights_file))
    assert [each["model"]["weights_sha256"] for each in answers] == [job["weights_sha256"]] * 3
    assert kept.requests == []


async def _as_group(job, size, monkeypatch, carrying, file=None):
    from fmi.meeting.rendezvous import Rendezvous
    from workers.shelf import Model

    shelves = [Shelf() for _ in range(size)]
    for rank in carrying:
        shelves[rank].put(Model.load(file))
    mine = {}
    monkeypatch.setattr(handler, "shelf", lambda: mine[_thread()])
    meeting = Rendezvous()
    await meeting.start()
    token = meeting.admit("g", size, ttl_s=30)

    def invoke(rank):
        mine[_thread()] = shelves[rank]
        group = {
            "id": "g",
            "rank": rank,
            "size": size,
            "rendezvous": meeting.address,
            "token": token,
            "deadline_s": 20,
        }
        return handler.handler({"job": job, "group": group, "partition": partition()}, CONTEXT)

    with ThreadPoolExecutor(size) as pool:
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(
            *(loop.run_in_executor(pool, invoke, rank) for rank in range(size))
        )
    await meeting.close()
    return answers


def _thread():
    import threading

    return threading.get_ident()


def test_two_models_are_kept_and_the_oldest_goes(weights_file):
    from workers.shelf import Model

    model = Model.load(weights_file)
    made = Shelf()
    for name in ("a", "b", "c"):
        made.put(
            Model(SimpleNamespace(sha256=name), model.path, None)  # only its name matters here
        )
    assert [name in made for name in ("a", "b", "c")] == [False, True, True]
    assert made.any() == "c"


def test_the_longest_that_is_read_is_bounded():
    assert payload.MAX_BYTES >= 64 * 2**20

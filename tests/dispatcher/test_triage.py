"""One bad item costs one item, whatever it does to the worker that takes it."""

import numpy as np
import pytest
import structlog
from answering import Answering, images

from dispatcher.errands import Errand, Question
from dispatcher.errors import LaneStopped
from dispatcher.groups import GroupRunner, ModelIdentity, cut
from dispatcher.invokers import InlineInvoker
from dispatcher.triage import Triage, Unanswerable
from ingest.events import Delivery, Event, Position, Stamp
from workers.wire import VerdictKind

MODEL = ModelIdentity("m", "1", "ab" * 32, None)


def questions(marks):
    return [
        Question(
            Errand(Delivery(Position("s", "p", n), b"", 0.0), 0.0, None),
            Event("S", n, 0.0, 0.0, "r"),
            Stamp(image, np.zeros(5, np.float32), tuple("ugriz"), "inline"),
            key=f"key-{n}",
        )
        for n, image in enumerate(images(*marks))
    ]


@pytest.fixture
def settle(rendezvous):
    async def run(handler, marks, ranks=2, attempts=3):
        groups = GroupRunner(InlineInvoker(handler), rendezvous, MODEL, "run", ranks, 10.0)
        replies = {}
        batch = questions(marks)
        async for question, reply in Triage(groups, attempts).settle(batch):
            assert question.key not in replies, "a question is answered once"
            replies[question.key] = reply
        assert len(replies) == len(batch)
        return batch, [replies[question.key] for question in batch]

    return run


async def test_a_batch_is_cut_among_the_ranks(settle):
    handler = Answering(MODEL.weights_sha256)
    _, replies = await settle(handler, range(7))
    assert sorted(map(len, handler.asked)) == [3, 4]
    assert all(reply.kind is VerdictKind.ESTIMATED for reply in replies)


async def test_an_item_that_kills_its_worker_is_found_and_all_others_are_answered(settle):
    handler = Answering(MODEL.weights_sha256, kills={21})
    batch, replies = await settle(handler, range(64))
    bad = [n for n, reply in enumerate(replies) if isinstance(reply, Unanswerable)]
    assert bad == [21]
    assert replies[21].reason == "function_error"
    assert "killed" in replies[21].detail
    assert batch[21].attempts >= 3
    assert len(handler.asked) < 30, "halving, not asking one by one"


async def test_what_the_other_rank_answered_is_not_asked_again(settle):
    handler = Answering(MODEL.weights_sha256, kills={3})
    batch, _ = await settle(handler, range(16))
    assert [question.attempts for question in batch[8:]] == [1] * 8


async def test_two_killers_are_both_found(settle):
    handler = Answering(MODEL.weights_sha256, kills={5, 40})
    _, replies = await settle(handler, range(64))
    assert [n for n, reply in enumerate(replies) if isinstance(reply, Unanswerable)] == [5, 40]


async def test_try_again_is_asked_again_and_given_up_after_some_attempts(settle):
    handler = Answering(MODEL.weights_sha256, later={1: 1, 2: 99})
    batch, replies = await settle(handler, range(4))
    assert replies[1].kind is VerdictKind.ESTIMATED
    assert batch[1].attempts == 2
    assert replies[2].reason == "tried_in_vain"
    assert "out_of_time" in replies[2].detail


async def test_answers_of_other_weights_stop_the_lane(settle):
    with pytest.raises(LaneStopped, match="deploy the same weights"):
        await settle(Answering("cd" * 32), range(3))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_partitions_are_of_equal_size(n):
    parts = cut(list(range(17)), n)
    assert [each for part in parts for each in part] == list(range(17))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


async def test_drift_that_workers_see_is_said_once(settle):
    handler = Answering(MODEL.weights_sha256, drift=("u-g", "z_median"))
    with structlog.testing.capture_logs() as logs:
        await settle(handler, range(7))
    (said,) = [each for each in logs if "not distributed" in each["event"]]
    assert said["quantities"] == ["u-g", "z_median"]
    assert said["log_level"] == "warning"

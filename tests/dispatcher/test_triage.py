"""One bad item costs one item, whatever it does to the worker that takes it."""

import asyncio
import random

import numpy as np
import pytest
import structlog
from answering import Answering, images

from dispatcher.calls import triage
from dispatcher.calls.triage import Asking, Unanswerable, judge
from dispatcher.clock import SystemClock
from dispatcher.control import open_queue, open_scheduler
from dispatcher.errands import Errand, Question
from dispatcher.errors import LaneStopped, WorkerLost
from dispatcher.groups import GroupRunner, ModelIdentity, Part, Replies, cut
from dispatcher.invokers import InlineInvoker
from dispatcher.invokers.bill import Bill
from dispatcher.ledger.accounts import Purse
from dispatcher.settings import Settings
from ingest.events import Delivery, Event, Position, Stamp
from workers import handler as function
from workers.wire import Verdict, VerdictKind

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
def settle(rendezvous, tmp_path):
    async def run(handler, marks, ranks=2, attempts=3, refused=0):
        settings = Settings(
            workers={"ranks": ranks, "attempts": attempts}, batch={"items": 160, "linger_s": 0.01}
        )
        groups = GroupRunner(InlineInvoker(handler), rendezvous, MODEL, "run")
        scheduler, durations = open_scheduler(settings, groups, tmp_path, SystemClock(), MODEL.key)
        for n in (80, 160):  # enough is known for a full batch
            durations.observe(n, 0.01)
        queue = open_queue(scheduler, durations, settings, Purse.LIVE)
        replies, done = {}, asyncio.Event()
        batch = questions(marks)

        def answered(question, reply):
            assert question.key not in replies, "a question is answered once"
            replies[question.key] = reply
            if len(replies) == len(batch):
                done.set()

        queue.answered = answered
        scheduler.concurrency._limit *= 0.7**refused
        async with scheduler.running():
            for question in batch:
                queue.put(question)
            queue.flush()
            await asyncio.wait_for(done.wait(), 10)
        return batch, [replies[question.key] for question in batch]

    return run


async def test_a_batch_is_cut_among_the_ranks(settle):
    handler = Answering(MODEL.weights_sha256)
    _, replies = await settle(handler, range(7))
    assert sorted(map(len, handler.asked)) == [3, 4]
    assert all(reply.kind is VerdictKind.ESTIMATED for reply in replies)


async def test_a_group_for_which_there_are_no_longer_workers_enough_is_a_smaller_one(settle):
    handler = Answering(MODEL.weights_sha256)
    _, replies = await settle(handler, range(7), refused=3)
    assert [len(each) for each in handler.asked] == [7]
    assert len(replies) == 7


async def test_an_item_that_kills_its_worker_is_found_and_all_others_are_answered(settle):
    handler = Answering(MODEL.weights_sha256, kills={21})
    batch, replies = await settle(handler, range(64))
    bad = [n for n, reply in enumerate(replies) if isinstance(reply, Unanswerable)]
    assert bad == [21]
    assert replies[21].reason == "function_error"
    assert "killed" in replies[21].detail
    assert batch[21].attempts >= 3
    assert len(handler.asked) < 12, "halving, not asking one by one"


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
    with pytest.raises(BaseExceptionGroup) as caught:
        await settle(Answering("cd" * 32), range(3))
    assert caught.group_contains(LaneStopped, match="deploy the same weights")


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


def test_marks_and_triage_mean_the_same_stretch():
    assert triage.TOGETHER == function.CHUNK


class Worker:
    """Looks at items one stretch after the other; some kill it. Counts what it was paid for."""

    def __init__(self, kills, *, marks):
        self.kills, self.marks = kills, marks
        self.calls = self.looked_at = 0

    def ask(self, asking):
        step = 1 if asking.careful else triage.TOGETHER
        self.calls += 1
        for start in range(0, len(asking.questions), step):
            looked_at = asking.questions[start : start + step]
            self.looked_at += len(looked_at)
            if any(each.key in self.kills for each in looked_at):
                error = WorkerLost("gone", start if self.marks else None)
                return Replies({}, [Part(asking.questions, Bill(1), error)])
        said = {each.key: Verdict(each.key, VerdictKind.ESTIMATED) for each in asking.questions}
        return Replies(said, [Part(asking.questions, Bill(1))])


def to_the_end(worker, batch):
    replies, waiting = {}, [Asking(batch, Purse.LIVE)]
    while waiting:
        asking = waiting.pop(0)
        for each in asking.questions:
            each.attempts += 1
        found = judge(asking, worker.ask(asking), attempts=3)
        for question, reply in found.answered:
            assert question.key not in replies
            replies[question.key] = reply
        waiting += found.next
    return replies


@pytest.mark.parametrize(("marks", "most_calls", "most_cost"), [(True, 5, 1.2), (False, 13, 1.9)])
def test_one_in_512_is_found_in_few_calls_and_nobody_is_paid_for_twice(
    marks, most_calls, most_cost
):
    cost, batch = [], questions([0] * 512)
    for place in range(0, 512, 7):
        for each in batch:
            each.attempts = each.failed_alone = 0
        worker = Worker({f"key-{place}"}, marks=marks)
        replies = to_the_end(worker, batch)
        dead = {key for key, reply in replies.items() if isinstance(reply, Unanswerable)}
        assert dead == {f"key-{place}"}
        assert len(replies) == 512
        assert worker.calls - 1 <= most_calls
        first = min(512, (place // 64 + 1) * 64)
        cost.append((worker.looked_at - first) / 512)
    assert max(cost) <= most_cost


@pytest.mark.parametrize("marks", [True, False])
def test_any_number_of_killers_anywhere_are_found(marks):
    draw = random.Random(5)
    for _ in range(60):
        batch = questions([0] * draw.randrange(1, 200))
        kills = {each.key for each in batch if draw.random() < draw.choice((0.01, 0.1, 0.6))}
        replies = to_the_end(Worker(kills, marks=marks), batch)
        assert {key for key, each in replies.items() if isinstance(each, Unanswerable)} == kills
        assert len(replies) == len(batch)

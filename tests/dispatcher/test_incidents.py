"""An incident is one line of the log, and the board knows the same."""

import json

import pytest
import structlog

from dispatcher.books import Outcome
from dispatcher.clock import ManualClock
from dispatcher.conclusions import Conclusion
from dispatcher.incidents import FAULTS, Board, current_board
from dispatcher.incidents.watchman import Watchman
from sinks.deadletters import DeadLetter


class Log:
    """The lines that come out behind a board."""

    def __init__(self, clock):
        self.board, self.lines = Board(clock.now), []
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                self.board,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=lambda *_: self,
            cache_logger_on_first_use=False,
        )
        self.logger = structlog.get_logger()

    def msg(self, text):
        self.lines.append(json.loads(text))

    info = warning = error = msg


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def log(clock):
    return Log(clock)


def begin(log, **facts):
    log.logger.warning("sink unavailable", incident="sink_down", subject="a", **facts)


def test_an_incident_that_lasts_is_one_line_and_every_sign_of_it_is_counted(log, clock):
    for n in range(5):
        begin(log, error=f"no answer {n}")
        clock.advance(1)
    assert len(log.lines) == 1
    (found,) = log.board.open()
    assert (found.count, found.subject, found.facts) == (5, "a", {"error": "no answer 4"})
    assert found.last - found.since == 4
    assert log.board.counts == {"sink_down": 1}


def test_it_ends_when_that_is_said_and_may_begin_again(log, clock):
    begin(log)
    log.logger.info("sink takes rows again", ended="sink_down", subject="a")
    assert log.board.open() == []
    assert [each.open for each in log.board.recent()] == [False]
    begin(log)
    assert log.board.counts["sink_down"] == 2
    assert [each["event"] for each in log.lines] == [
        "sink unavailable",
        "sink takes rows again",
        "sink unavailable",
    ]


def test_another_subject_is_another_incident(log):
    begin(log)
    log.logger.warning("sink unavailable", incident="sink_down", subject="b")
    log.logger.info("sink takes rows again", ended="sink_down", subject="a")
    assert [each.subject for each in log.board.open()] == ["b"]


def test_what_nobody_can_tell_the_end_of_ends_when_nothing_more_is_heard(log, clock):
    log.logger.warning("a worker is lost", incident="rank_lost")
    clock.advance(FAULTS["rank_lost"].lasts_s)
    assert log.board.open()
    clock.advance(1)
    assert not log.board.open()


def test_a_fault_that_nobody_described_is_an_error_of_ours(log):
    with pytest.raises(KeyError):
        log.logger.warning("strange", incident="strange")


def test_warnings_are_remembered_for_the_page_and_news_are_not(log):
    log.logger.info("progress")
    log.logger.warning("no such topic yet", source="a")
    (line,) = log.board.lines
    assert (line.level, line.event, line.facts["source"]) == ("warning", "no such topic yet", "a")


def test_the_board_of_the_process_is_the_one_in_its_log(log):
    assert current_board() is log.board


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_says_what_to_do_and_how_soon_it_shows(fault):
    assert fault.advice
    assert fault.metric.startswith("lookback_")
    assert 0 < fault.within_s <= 90


# What shows only over time.


class Watched:
    """A run as the watchman sees it."""

    def __init__(self, clock):
        self.clock, self.age_s, self.workers_lost = clock, 0.0, 0
        self.watchman = Watchman(
            clock, oldest_s=lambda: self.age_s, lost=lambda: self.workers_lost, late_s=10.0
        )

    def pass_seconds(self, seconds, *, older_by=0.0):
        for _ in range(seconds):
            self.clock.advance(1)
            self.age_s += older_by
            self.watchman.look()

    def settle(self, outcome, reason=None, count=1):
        letter = reason and DeadLetter("t", "0", 1, reason, "because", 0, b"", "run", 0.0)
        for _ in range(count):
            self.watchman.note(Conclusion(None, outcome, letter))


@pytest.fixture
def watched(clock, log):
    made = Watched(clock)
    made.watchman.look()
    return made


def faults(log):
    return [each.fault.name for each in log.board.open()]


def test_a_lag_that_grows_for_a_minute_is_told_and_so_is_its_end(watched, log):
    watched.pass_seconds(60, older_by=1.0)
    assert faults(log) == []
    watched.pass_seconds(15, older_by=1.0)
    assert faults(log) == ["lag_growing"]
    watched.age_s = 1.0
    watched.pass_seconds(1)
    assert faults(log) == []
    assert len(log.lines) == 2


def test_a_lag_that_shrinks_is_no_incident_however_long_it_is(watched, log):
    watched.age_s = 500.0
    watched.pass_seconds(120, older_by=-1.0)
    assert log.lines == []


def test_a_clock_that_jumps_is_told_and_one_that_drifts_is_not(watched, log, clock):
    clock.jump(1.5)
    watched.pass_seconds(1)
    assert log.lines == []
    clock.jump(-3600.0)
    watched.pass_seconds(1)
    assert faults(log) == ["clock_jump"]
    assert log.lines[0]["by_s"] == -3600.0
    assert watched.watchman.jumps == 1


def test_a_flood_of_dead_letters_is_told_and_a_few_are_not(watched, log):
    watched.settle(Outcome.WRITTEN, count=300)
    watched.settle(Outcome.DEAD, "truncated", count=19)
    watched.pass_seconds(1)
    assert log.lines == []
    watched.settle(Outcome.DEAD, "truncated", count=80)
    watched.pass_seconds(1)
    assert faults(log) == ["poison_flood"]
    assert log.lines[0]["most"] == "truncated"
    watched.pass_seconds(59)
    assert len(log.lines) == 1


def test_a_schema_that_is_not_known_is_told_at_once(watched, log):
    watched.settle(Outcome.DEAD, "unknown_schema", count=3)
    assert faults(log) == ["bad_schema"]
    assert watched.watchman.dead == {"unknown_schema": 3}


def test_workers_that_keep_ending_are_told_and_one_is_not(watched, log):
    watched.workers_lost = 2
    watched.pass_seconds(1)
    assert log.lines == []
    watched.workers_lost = 4
    watched.pass_seconds(1)
    assert faults(log) == ["worker_dying"]

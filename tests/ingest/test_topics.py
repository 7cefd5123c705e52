from datetime import UTC, datetime

import pytest

from ingest.errors import SourceError
from ingest.sources.kafka.topics import Topics


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_names_are_the_same_every_night():
    topics = Topics.parse("alerts-simulated, elasticc.2_ranked")
    assert topics.on(at("2026-11-28T03:00"), 12) == {"alerts-simulated", "elasticc.2_ranked"}


@pytest.mark.parametrize(
    ("now", "grace_h", "nights"),
    [
        ("2026-11-28T00:00", 12, {"20261128", "20261127"}),
        ("2026-11-28T11:59", 12, {"20261128", "20261127"}),
        ("2026-11-28T12:00", 12, {"20261128"}),
        ("2026-11-28T23:59", 12, {"20261128"}),
        ("2026-11-28T00:00", 0, {"20261128"}),
        ("2026-01-01T03:00", 30, {"20260101", "20251231", "20251230"}),
    ],
)
def test_a_topic_of_the_night_is_read_for_some_hours_after_midnight(now, grace_h, nights):
    topics = Topics.parse("ztf_%Y%m%d_programid1,ztf_%Y%m%d_programid3_public,fixed")
    assert topics.on(at(now), grace_h) == {"fixed"} | {
        f"ztf_{night}_{rest}" for night in nights for rest in ("programid1", "programid3_public")
    }


def test_an_expression_stands_alone_and_may_have_commas():
    topics = Topics.parse(r"^ztf_\d{4,8}_programid1$")
    known = {"ztf_20261128_programid1", "ztf_20261128_programid13", "ztf_1_programid1", "other"}
    assert topics.among(known, 0, 12) == {"ztf_20261128_programid1"}


def test_of_names_those_that_are_there_are_found():
    topics = Topics.parse("a,ztf_%Y%m%d")
    known = {"a", "b", "ztf_20261127", "ztf_20261126"}
    assert topics.among(known, at("2026-11-28T03:00"), 12) == {"a", "ztf_20261127"}


@pytest.mark.parametrize("text", ["", "a,,b", "a b", "a/b", "é", "a,^b.*", "x" * 250, "100%"])
def test_what_is_no_name_is_refused_with_what_to_do(text):
    with pytest.raises(SourceError, match="give several with commas"):
        Topics.parse(text)


def test_a_broken_expression_is_refused():
    with pytest.raises(SourceError, match="not a regular expression"):
        Topics.parse("^(ztf")

import pytest
from aiokafka import errors
from structlog.testing import capture_logs

from ingest.errors import SourceError
from ingest.sources.kafka.contact import Contact, refused


@pytest.fixture
def time():
    return [1000.0]


@pytest.fixture
def contact(time):
    return Contact("broker:9092", lambda: time[0])


def events(logs):
    return [each["event"] for each in logs]


def test_silence_is_told_once_and_so_is_its_end(contact, time):
    with capture_logs() as logs:
        for _ in range(100):
            contact.silence()
            time[0] += 1
        assert events(logs) == ["the Kafka broker does not answer; it is tried again"]
        contact.sign()
        contact.sign()
    assert events(logs[1:]) == ["the Kafka broker answers again"]


def test_a_short_silence_is_normal(contact, time):
    with capture_logs() as logs:
        for _ in range(10):
            contact.silence()
            time[0] += 14
            contact.silence()
            contact.sign()
    assert logs == []


def test_a_consumer_that_only_fails_is_given_up_after_a_minute(contact, time):
    for _ in range(60):
        assert contact.failure(errors.KafkaError("broken")) is None
        time[0] += 1
    time[0] += 1
    assert "start it again" in str(contact.failure(errors.KafkaError("broken")))


def test_failures_with_successes_between_are_waited_out(contact, time):
    for _ in range(10):
        assert contact.failure(errors.KafkaError("broken")) is None
        time[0] += 50
        assert contact.failure(errors.KafkaError("broken")) is None
        contact.silence()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.GroupAuthorizationFailedError("group"), "consumer group"),
        (errors.TopicAuthorizationFailedError("topic"), "describe the topics"),
        (errors.SaslAuthenticationFailed("no"), "user, password"),
    ],
)
def test_where_only_a_person_can_help_it_says_how(contact, error, advice):
    failure = contact.failure(error)
    assert isinstance(failure, SourceError)
    assert advice in str(failure)
    assert "broker:9092" in str(failure)


def test_where_time_may_help_nothing_is_refused():
    assert refused(errors.KafkaConnectionError("gone"), "broker:9092") is None

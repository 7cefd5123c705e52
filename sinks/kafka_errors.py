"""What aiokafka's errors mean for a sink: try again, or never as things are, and what to do."""

from __future__ import annotations

from typing import Final

from aiokafka import errors

from sinks.errors import SinkError, SinkRefused, SinkUnavailable

_ADVICE: Final[dict[type[BaseException], str]] = {
    errors.MessageSizeTooLargeError: "raise max.message.bytes of the topic, or lower batch_bytes",
    errors.RecordListTooLargeError: "raise max.message.bytes of the topic, or lower batch_bytes",
    errors.UnknownTopicOrPartitionError: "create the topic, or correct its name",
    errors.InvalidTopicError: "correct the name of the topic",
    errors.TopicAuthorizationFailedError: "let this user describe, read and write the topic",
    errors.GroupAuthorizationFailedError: "let this user read the consumer group",
    errors.ClusterAuthorizationFailedError: "let this user write idempotently",
    errors.TransactionalIdAuthorizationFailed: "let this user use the transactional id",
    errors.AuthenticationFailedError: "check user and password",
    errors.SaslAuthenticationFailed: "check user and password",
    errors.AuthenticationMethodNotSupported: "check the SASL mechanism",
    errors.UnsupportedSaslMechanismError: "check the SASL mechanism",
    errors.InvalidTransactionTimeout: "raise transaction.max.timeout.ms of the broker",
    errors.IncompatibleBrokerVersion: "set idempotent to false, or take a newer broker",
    errors.UnsupportedVersionError: "set idempotent to false, or take a newer broker",
    errors.PolicyViolationError: "see the broker's policy",
}

_HINTS: Final[dict[type[BaseException], str]] = {
    errors.ProducerFenced: "if another service has this transactional id, give each its own",
    errors.UnknownError: "if the broker has no idempotent producers, set idempotent to false",
}


def explained(error: BaseException, name: str) -> SinkError:
    """The sink's error for one of aiokafka's, or for a timeout or a lost connection."""
    what = f"{name}: {type(error).__name__}" + (f" ({error})" if str(error) else "")
    if advice := _ADVICE.get(type(error)):
        return SinkRefused(f"{what}: {advice}, then run again")
    if hint := _HINTS.get(type(error)):
        what += f": {hint}"
    return SinkUnavailable(what)

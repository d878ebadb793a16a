"""Every error of kafka-python is decided in one table; nothing falls through it unseen."""

import pytest
from kafka import errors

from iu_core.bus.kafka_errors import kind_of, translate, translated
from iu_core.errors import Fenced, IUError, Misconfigured, Retryable, Terminal


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.ProducerFencedError(), Fenced),
        (errors.InvalidProducerEpochError(), Fenced),
        (errors.FencedInstanceIdError(), Fenced),
        (errors.InvalidTxnStateError(), Retryable),
        (errors.InvalidProducerIdMappingError(), Retryable),
        (errors.KafkaTimeoutError(), Retryable),
        (errors.KafkaConnectionError(), Retryable),
        (errors.NotLeaderForPartitionError(), Retryable),
        (errors.CommitFailedError(), Retryable),
        (errors.OffsetOutOfRangeError(), Terminal),
        (errors.MessageSizeTooLargeError(), Terminal),
        (errors.IllegalStateError(), Terminal),
        (errors.TopicAuthorizationFailedError(), Misconfigured),
        (errors.UnsupportedVersionError(), Misconfigured),
        (errors.KafkaConfigurationError(), Misconfigured),
    ],
)
def test_an_error_means_one_thing(error: Exception, kind: type[IUError]) -> None:
    assert kind_of(error) is kind


def test_a_wrapped_fence_is_a_fence() -> None:
    """After a fence the client raises a bare KafkaError around it, at the next send."""
    assert kind_of(errors.KafkaError("Cannot perform send", errors.ProducerFencedError())) is Fenced


def test_a_bare_error_of_the_client_is_unclear_and_so_retryable() -> None:
    assert kind_of(errors.KafkaError("for unknown reasons")) is Retryable


def test_an_error_nobody_listed_is_terminal() -> None:
    assert kind_of(ValueError("x")) is Terminal


def test_every_error_of_the_broker_translates_to_one_message_with_a_remedy() -> None:
    broker_errors = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BrokerResponseError)
    ]
    assert len(broker_errors) > 100
    for kind in broker_errors:
        error = translate(kind(), "reading")
        assert error.remedy
        assert "\n" not in str(error)


def test_no_kafka_error_leaves_a_translated_block() -> None:
    with pytest.raises(Retryable, match="reading x") as raised, translated("reading x"):
        raise errors.RequestTimedOutError
    assert raised.value.code == "kafka 7"

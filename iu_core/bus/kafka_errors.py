"""What an error of kafka-python means to us, decided once and in one table.

The client's own `retriable` flag answers another question (may *this request* be sent
again?), and it drives those retries itself. What reaches us has outlived them, so the table
asks: does a new client have a chance (`Retryable`), has a newer owner taken over (`Fenced`),
or must somebody change something first (`Terminal`, `Misconfigured`)?

Looked up along the error's class hierarchy, the most special class first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from kafka import errors

from iu_core.errors import Fenced, IUError, Misconfigured, Retryable, Terminal

_Kind: TypeAlias = type[Retryable] | type[Fenced] | type[Terminal] | type[Misconfigured]

_KINDS: Final[dict[type[Exception], _Kind]] = {
    # A newer producer has our transactional id. The broker says the second of these to old clients.
    errors.ProducerFencedError: Fenced,
    errors.InvalidProducerEpochError: Fenced,
    # A newer member has our group.instance.id.
    errors.FencedInstanceIdError: Fenced,
    # The transaction was ended from outside (time-out, or an operator): start anew from the topic.
    errors.InvalidTxnStateError: Retryable,
    # The broker forgot an idle transactional id (transactional.id.expiration.ms, seven days).
    errors.InvalidProducerIdMappingError: Retryable,
    errors.UnknownProducerIdError: Retryable,
    errors.OutOfOrderSequenceNumberError: Retryable,
    errors.TransactionAbortedError: Retryable,
    errors.TransactionAbortableError: Retryable,
    errors.TransactionCoordinatorFencedError: Retryable,
    # The group moved on without us; a poll brings us back.
    errors.CommitFailedError: Retryable,
    errors.IllegalGenerationError: Retryable,
    errors.UnknownMemberIdError: Retryable,
    errors.RebalanceInProgressError: Retryable,
    errors.BrokerNotAvailableError: Retryable,
    errors.UnknownError: Retryable,  # "an unexpected server error": the log of the broker knows
    errors.OffsetOutOfRangeError: Terminal,  # retention ate what we had not read
    errors.CorruptRecordError: Terminal,
    errors.AuthorizationError: Misconfigured,
    errors.SaslAuthenticationFailedError: Misconfigured,
    errors.UnsupportedSaslMechanismError: Misconfigured,
    errors.UnsupportedVersionError: Misconfigured,
    errors.UnrecognizedBrokerVersion: Misconfigured,
    errors.KafkaConfigurationError: Misconfigured,
    errors.InvalidTransactionTimeoutError: Misconfigured,
    errors.InvalidReplicationFactorError: Misconfigured,
    errors.InvalidConfigurationError: Misconfigured,
    errors.PolicyViolationError: Misconfigured,
    errors.RetriableError: Retryable,
}

_REMEDIES: Final[dict[_Kind, str]] = {
    Retryable: "try again; `iu status` says whether the broker answers, its log says why not",
    Fenced: "nothing: another process has taken over; start this one again to have a standby",
    Terminal: "look at the broker's log; this will not pass by itself",
    Misconfigured: "correct the settings (IU_KAFKA…) or the broker's rights, then start again",
}


def kind_of(error: BaseException) -> _Kind:
    """Return what `error` means; a kind of error that nobody listed is `Terminal`."""
    for ancestor in type(error).__mro__:
        if (kind := _KINDS.get(ancestor)) is not None:
            return kind
    # The client wraps the error that broke a transaction in a bare KafkaError.
    wrapped = next((part for part in error.args if isinstance(part, errors.KafkaError)), None)
    if wrapped is not None:
        return kind_of(wrapped)
    # Without one, the client itself did not know what happened: ask again with a new client.
    return Retryable if type(error) is errors.KafkaError else Terminal


def translate(error: BaseException, doing: str) -> IUError:
    """Return `error`, met while `doing` something ("reading topic x"), as one of ours."""
    kind = kind_of(error)
    errno = getattr(error, "errno", None)
    reason = " ".join(str(error).split()) or type(error).__name__
    return kind(
        f"Kafka failed while {doing}",
        why=reason,
        remedy=_REMEDIES[kind],
        code=None if errno is None else f"kafka {errno}",
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Let no error of kafka-python out of the block but as one of ours."""
    try:
        yield
    except errors.KafkaError as error:
        raise translate(error, doing) from error

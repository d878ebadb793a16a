"""What a SQLSTATE means to us, decided once and in one table.

Five verdicts. RETRY: the transaction may succeed unchanged. ISOLATE: this row is at fault,
the others may land. GATE: somebody said no; hold. FENCE: a newer owner exists; give up what
is held. ALARM: our own fault or the machine's; stop rather than blame an event for it.
Source: design/30, "Decisions"; codes of PostgreSQL, Appendix A.
"""

from enum import Enum
from typing import Final

import psycopg

from iu_core.errors import Fenced, IUError, Misconfigured, Refused, Retryable, Terminal


class Verdict(Enum):
    """What the caller has to do about an error of the database."""

    RETRY = "retry"
    ISOLATE = "isolate"
    GATE = "gate"
    FENCE = "fence"
    ALARM = "alarm"


# Looked up by the longest prefix, so that a code may differ from its class.
_VERDICTS: Final = {
    "08": Verdict.RETRY,  # connection lost
    "40": Verdict.RETRY,  # deadlock, serialization
    "53": Verdict.RETRY,  # out of memory, connections, disk: an operator's, but not for ever
    "57P": Verdict.RETRY,  # shutdown, crash, idle session ended
    "25P02": Verdict.ALARM,  # a statement after a failed one: our own fault
    "25P03": Verdict.RETRY,  # idle in transaction: this process was stopped for a while
    "25P04": Verdict.RETRY,  # transaction time-out
    "55P03": Verdict.RETRY,  # lock_timeout
    "57014": Verdict.RETRY,  # statement_timeout; the caller counts the tries
    "22": Verdict.ISOLATE,
    "23": Verdict.ISOLATE,
    "IU0": Verdict.ISOLATE,
    "IU030": Verdict.GATE,  # the topic was made again: hold until somebody seeks
    "IU031": Verdict.FENCE,
    "IU032": Verdict.ALARM,  # our record contradicts the projection
    "IU040": Verdict.ALARM,  # our code changed an append-only table
    "42501": Verdict.GATE,
    "0A000": Verdict.GATE,
}

# A table, function or schema that our files make is missing.
_NOT_MIGRATED: Final = frozenset({"42P01", "42883", "3F000"})


def verdict_of(sqlstate: str | None) -> Verdict:
    """Return the verdict on `sqlstate`; None is a connection that broke without a word."""
    if sqlstate is None:
        return Verdict.RETRY
    for length in (5, 3, 2):
        if (verdict := _VERDICTS.get(sqlstate[:length])) is not None:
            return verdict
    return Verdict.ALARM


def classify(error: psycopg.Error) -> Verdict:
    """Return the verdict on `error`.

    Without a SQLSTATE only an OperationalError is the network's; any other such error of
    psycopg (a wrong parameter, a closed cursor) is ours.
    """
    if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
        return Verdict.ALARM
    return verdict_of(error.sqlstate)


def translate(error: psycopg.Error) -> IUError:
    """Return `error` as one of ours, with the server's own DETAIL as why and HINT as remedy."""
    diagnosis = error.diag
    if error.sqlstate in _NOT_MIGRATED:
        return Misconfigured(
            "the database is not migrated, or not far enough",
            why=diagnosis.message_primary,
            remedy="iu db status, then iu db up",
            code=error.sqlstate,
        )
    what = diagnosis.message_primary or str(error).strip() or type(error).__name__
    why, remedy, code = diagnosis.message_detail, diagnosis.message_hint, error.sqlstate
    match classify(error):
        case Verdict.RETRY:
            return Retryable(
                what, why=why, remedy=remedy or "try again; `iu status` says what is down", code=code
            )
        case Verdict.GATE:
            return Refused(what, why=why, remedy=remedy, code=code)
        case Verdict.FENCE:
            return Fenced(what, why=why, remedy=remedy, code=code)
        case Verdict.ISOLATE | Verdict.ALARM:
            return Terminal(what, why=why, remedy=remedy, code=code)

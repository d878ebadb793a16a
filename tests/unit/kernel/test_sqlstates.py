"""Each SQLSTATE has the verdict of design/30, and carries the server's words on."""

import psycopg
import pytest

from iu_core.database import Verdict, classify, translate
from iu_core.database.sqlstates import verdict_of
from iu_core.errors import ExitCode


@pytest.mark.parametrize(
    ("sqlstate", "verdict"),
    [
        ("08006", Verdict.RETRY),
        ("40P01", Verdict.RETRY),
        ("53300", Verdict.RETRY),
        ("57P01", Verdict.RETRY),
        ("55P03", Verdict.RETRY),
        ("57014", Verdict.RETRY),
        ("25P03", Verdict.RETRY),
        (None, Verdict.RETRY),
        ("22003", Verdict.ISOLATE),
        ("23505", Verdict.ISOLATE),
        ("IU001", Verdict.ISOLATE),
        ("IU020", Verdict.ISOLATE),
        ("IU022", Verdict.ISOLATE),
        ("IU030", Verdict.GATE),
        ("IU031", Verdict.FENCE),
        ("IU032", Verdict.ALARM),
        ("IU040", Verdict.ALARM),
        ("42501", Verdict.GATE),
        ("0A000", Verdict.GATE),
        ("42P01", Verdict.ALARM),
        ("42883", Verdict.ALARM),
        ("XX000", Verdict.ALARM),
        ("58030", Verdict.ALARM),
        ("25P02", Verdict.ALARM),
    ],
)
def test_verdict(sqlstate: str | None, verdict: Verdict) -> None:
    assert verdict_of(sqlstate) is verdict


def test_a_wrong_call_of_psycopg_is_our_fault_not_the_networks() -> None:
    assert classify(psycopg.ProgrammingError("the query has 2 placeholders")) is Verdict.ALARM
    assert classify(psycopg.OperationalError("server closed the connection")) is Verdict.RETRY


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (psycopg.errors.InsufficientPrivilege("no"), ExitCode.REFUSED),
        (psycopg.errors.DeadlockDetected("no"), ExitCode.TEMPORARY),
        (psycopg.errors.UniqueViolation("no"), ExitCode.FAULT),
    ],
)
def test_the_exit_code_follows_the_verdict(error: psycopg.Error, exit_code: ExitCode) -> None:
    assert translate(error).exit_code is exit_code

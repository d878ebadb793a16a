"""The checkup asks everything, whatever one check runs into, and says what could not be asked."""

from collections.abc import Callable
from typing import Any

from iu_core.bus.inspection import NotOffered
from iu_core.errors import IUError, Misconfigured, Refused, Retryable
from iu_core.settings import KafkaSettings, Settings
from producers.doctor.checkup import CHECKS, Check, examine
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Report, Severity


def finding(severity: Severity = Severity.WARNS, what: str = "w") -> Finding:
    return Finding(severity, what, (), "iu status")


def finds(*found: Finding) -> Callable[[Examination], list[Finding]]:
    return lambda _: list(found)


def raises(error: IUError) -> Callable[[Examination], list[Finding]]:
    def ask(_: Examination) -> list[Finding]:
        raise error

    return ask


def report(*asks: Any, mock: bool = False, on_mock: bool = True) -> Report:
    settings = Settings(kafka=KafkaSettings(mock=mock))
    asked = Examination(lambda: "", lambda: settings, settings)
    return examine(asked, [Check(f"c{number}", ask, on_mock) for number, ask in enumerate(asks)])


def test_the_gravest_comes_first_and_each_knows_its_check() -> None:
    made = report(finds(finding()), finds(finding(Severity.STOPS, "s")), finds(finding(Severity.SLOWS, "m")))
    assert [(one.what, one.check) for one in made.findings] == [("s", "c1"), ("m", "c2"), ("w", "c0")]


def test_a_service_that_is_away_leaves_a_hole_and_the_rest_is_asked() -> None:
    away = Retryable("away", why="refused")
    made = report(raises(away), finds(finding()), raises(away))
    assert len(made.findings) == 1
    assert [one.checks for one in made.away] == [("c0", "c2")]


def test_what_may_not_be_asked_is_told_and_is_no_hole() -> None:
    made = report(raises(Refused("no")), raises(NotOffered("too old")))
    assert [one.what for one in made.unasked] == ["no", "too old"]
    assert made.away == ()
    assert made.findings == ()


def test_a_wall_that_several_checks_run_into_is_one_finding() -> None:
    wall = Misconfigured("no such role", why="not migrated", remedy="iu db up")
    (found,) = report(raises(wall), raises(wall)).findings
    assert (found.severity, found.check, found.remedy) == (Severity.STOPS, "c0", "iu db up")


def test_on_the_mock_the_questions_it_cannot_answer_are_left_out() -> None:
    made = report(finds(finding()), mock=True, on_mock=False)
    assert made.findings == ()
    assert [one.what for one in made.unasked] == ["the broker is a mock"]


def test_the_names_of_the_checks_are_told_apart() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_a_service_that_is_away_is_waited_for_once() -> None:
    tried = []

    def address() -> str:
        tried.append(1)
        raise Retryable("no address")

    asked = Examination(address, Settings, Settings())
    for _ in range(3):
        made = examine(asked, [Check("c", lambda one: [finding(what=str(one.login))])])
        assert [one.what for one in made.away] == ["no address"]
    assert len(tried) == 1

"""The order of the decision is the contract: disabled, dry-run, kill switch, allowlist, target.

Each row closes one thing more than the row after it, so that putting two questions the other
way round turns a row red.
"""

from dataclasses import replace

import pytest

from consumers.route.decide import (
    SUPPORTED_TARGET,
    Decision,
    Deliver,
    Hold,
    Idle,
    Plan,
    Route,
    Switches,
    Target,
    decide,
    listed,
)

ROUTE = Route("structure_reparented", "structure_reparented", SUPPORTED_TARGET, enabled=True, mode="live")
OPEN = Switches("true", "structure_reparented")
OTHER = Target("http", "somewhere")
KILLED = Hold("kill_switch", "iu_core.delivery_enabled is 'false'")
MISSING = Hold("kill_switch", "iu_core.delivery_enabled is missing")
NOT_LISTED = Hold("allowlist", "structure_reparented is not in iu_core.delivery_live_routes")


@pytest.mark.parametrize(
    ("route", "switches", "expected"),
    [
        (None, OPEN, Idle()),
        (replace(ROUTE, enabled=False, mode="plan"), Switches(None, None), Idle()),
        (replace(ROUTE, enabled=False), OPEN, Idle()),
        (replace(ROUTE, mode="plan", target=OTHER), Switches("false", ""), Plan(KILLED)),
        (replace(ROUTE, mode="plan"), Switches("true", ""), Plan(NOT_LISTED)),
        (replace(ROUTE, mode="plan"), OPEN, Plan(Deliver(SUPPORTED_TARGET))),
        (replace(ROUTE, target=OTHER), Switches("false", ""), KILLED),
        (ROUTE, Switches(None, "structure_reparented"), MISSING),
        (replace(ROUTE, target=OTHER), Switches("true", ""), NOT_LISTED),
        (ROUTE, Switches("true", None), NOT_LISTED),
        (replace(ROUTE, target=OTHER), OPEN, Hold("target", "http 'somewhere' is not supported")),
        (ROUTE, OPEN, Deliver(SUPPORTED_TARGET)),
    ],
)  # fmt: skip
def test_the_first_closed_thing_decides(route: Route | None, switches: Switches, expected: Decision) -> None:
    assert decide(route, switches) == expected


@pytest.mark.parametrize("value", ["TRUE", "True", " true", "true ", "t", "1", "on", "yes", "", "false"])
def test_nothing_but_exactly_true_opens_the_kill_switch(value: str) -> None:
    decision = decide(ROUTE, Switches(value, "structure_reparented"))
    assert isinstance(decision, Hold)
    assert decision.gate == "kill_switch"


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        (None, set()),
        ("", set()),
        (" , ,", set()),
        ("a", {"a"}),
        (" a ,b", {"a", "b"}),
        ("a b", {"a b"}),
        ("\ta", {"\ta"}),  # btrim() takes blanks only
        ("A", {"A"}),
    ],
)
def test_the_allowlist_is_read_exactly(value: str | None, codes: set[str]) -> None:
    assert listed(value) == codes

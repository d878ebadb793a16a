"""Settings come from the environment only, and a wrong one is named, never passed over."""

from pathlib import Path

import pytest

from iu_core.env_example import env_example
from iu_core.errors import Misconfigured
from iu_core.settings import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("IU_")]:
        monkeypatch.delenv(name)


def test_a_nested_name_changes_one_value_and_keeps_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IU_RELAY__ROWS_MAX", "77")
    relay = load_settings().relay
    assert (relay.rows_max, relay.poll_max_ms) == (77, 25)


def test_the_log_level_is_one_of_four_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IU_LOG__LEVEL", "debug")
    assert load_settings().log.level == "DEBUG"
    monkeypatch.setenv("IU_LOG__LEVEL", "loud")
    with pytest.raises(Misconfigured, match="IU_LOG__LEVEL"):
        load_settings()


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IU_RELAY__ROWS_MAX", "many")
    monkeypatch.setenv("IU_RELAY__ROW_MAX", "5")
    monkeypatch.setenv("IU_DATABSE_URL", "postgresql://x")
    with pytest.raises(Misconfigured) as refusal:
        load_settings()
    why = refusal.value.why or ""
    assert "IU_RELAY__ROWS_MAX" in why
    assert "IU_RELAY__ROW_MAX" in why
    assert "IU_DATABSE_URL" in why
    assert refusal.value.exit_code == 78


def test_a_value_that_does_not_fit_is_told_and_an_unknown_ones_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The value of a variable that is no setting may be anything: a password, misspelt."""
    monkeypatch.setenv("IU_RELAY__ROWS_MAX", "abc")
    monkeypatch.setenv("IU_DATABASE__PASSWORD", "sesame")
    with pytest.raises(Misconfigured) as refusal:
        load_settings()
    assert "IU_RELAY__ROWS_MAX is 'abc'" in (refusal.value.why or "")
    assert "IU_DATABASE__PASSWORD: no such setting" in (refusal.value.why or "")
    assert "sesame" not in str(refusal.value)


def test_a_word_for_a_whole_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IU_RELAY", "abc")
    with pytest.raises(Misconfigured, match="IU_RELAY is a group"):
        load_settings()


def test_the_example_file_lists_exactly_the_settings_there_are() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()

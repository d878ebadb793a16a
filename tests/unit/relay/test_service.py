"""What the process does after each kind of fault, and how it stops. Sessions are replaced by a script."""

import threading
from collections.abc import Callable, Iterator

import pytest

from iu_core.errors import Fenced, IUError, Misconfigured, Retryable, Terminal
from iu_core.settings import RelaySettings, Settings
from producers.relay.framing import Wire
from producers.relay.service import RelayService

OUTAGE_MAX_S = 60
SETTINGS = Settings(relay=RelaySettings(outage_max_s=OUTAGE_MAX_S, watchdog_ms=60_000))


class NoContracts:
    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        return None


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def service(
    monkeypatch: pytest.MonkeyPatch,
    script: Iterator[Callable[[RelayService], bool]],
    *,
    until_idle: bool = False,
    clock: Clock | None = None,
) -> RelayService:
    """Return a service whose sessions are the steps of `script`."""
    made = RelayService(
        SETTINGS, "postgresql://nowhere", NoContracts(), until_idle=until_idle, clock_s=clock or Clock()
    )
    monkeypatch.setattr(made, "_session", lambda *_: next(script)(made))
    return made


def stands_then(error: IUError | None = None) -> Callable[[RelayService], bool]:
    def session(relay: RelayService) -> bool:
        relay.progress.sessions += 1
        if error is not None:
            raise error
        return True

    return session


def steps_aside(relay: RelayService) -> bool:
    relay.progress.sessions += 1
    return False


def fails(error: IUError) -> Callable[[RelayService], bool]:
    def session(_: RelayService) -> bool:
        raise error

    return session


def test_a_relay_that_never_stood_says_at_once_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = service(monkeypatch, iter([fails(Retryable("the broker is away"))]))
    with pytest.raises(Retryable, match="broker is away"):
        relay.run(threading.Event())


def test_a_relay_that_stood_starts_a_new_session_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Retryable("away")
    script = iter([stands_then(away), fails(away), fails(away), stands_then(away), stands_then()])
    assert service(monkeypatch, script).run(threading.Event()).sessions == 3
    assert next(script, None) is None


def test_a_relay_that_stepped_aside_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([steps_aside, stands_then()])
    assert service(monkeypatch, script).run(threading.Event()).sessions == 2


def test_an_outage_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def passing(_: RelayService) -> bool:
        clock.now_s += OUTAGE_MAX_S / 2 + 1
        raise Retryable("still away")

    relay = service(
        monkeypatch, iter([stands_then(Retryable("away")), passing, passing, passing]), clock=clock
    )
    with pytest.raises(Retryable, match="still away"):
        relay.run(threading.Event())
    assert clock.now_s == 2 * (OUTAGE_MAX_S / 2 + 1)


@pytest.mark.parametrize("error", [Fenced("x"), Misconfigured("x"), Terminal("x")])
def test_what_will_not_pass_ends_the_relay(monkeypatch: pytest.MonkeyPatch, error: IUError) -> None:
    relay = service(monkeypatch, iter([stands_then(error)]))
    with pytest.raises(type(error)):
        relay.run(threading.Event())


def test_a_drain_does_not_wait_for_an_outage_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = service(monkeypatch, iter([stands_then(Retryable("away"))]), until_idle=True)
    with pytest.raises(Retryable):
        relay.run(threading.Event())


def test_a_relay_told_to_stop_before_it_began_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    stop.set()
    assert service(monkeypatch, iter([])).run(stop).sessions == 0


def test_an_outage_while_stopping_ends_it_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not committed is not lost: the next relay publishes it."""
    stop = threading.Event()

    def told_to_stop(relay: RelayService) -> bool:
        relay.progress.sessions += 1
        stop.set()
        raise Retryable("the broker is away")

    assert service(monkeypatch, iter([told_to_stop])).run(stop).sessions == 1


def test_a_relay_told_to_stop_before_it_stood_ends_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def told_to_stop(_: RelayService) -> bool:
        stop.set()
        raise Retryable("the broker is away")

    assert service(monkeypatch, iter([told_to_stop])).run(stop).sessions == 0

"""What SIGTERM and SIGINT do to a long-running command."""

import signal
import threading
import time

import pytest

from iu_core.process_signals import drain_on_signals, sigterm_interrupts, stop_on_signals

WAIT_S = 10.0
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_asks_for_the_end(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_aborts_whichever_the_first_was(
    first: signal.Signals, second: signal.Signals
) -> None:
    with stop_on_signals():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)


def test_a_process_that_ends_by_itself_is_not_aborted_by_the_first_signal() -> None:
    """A relay whose one shard has failed sets the event, and the others still finish their transaction."""
    with stop_on_signals() as stop:
        stop.set()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_handlers_from_before_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_sigterm_can_be_as_ctrl_c_and_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


class Ended:
    """In place of ending the process."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.happened = threading.Event()

    def __call__(self, why: str) -> None:
        self.reasons.append(why)
        self.happened.set()


def test_what_has_not_drained_in_time_is_ended_with_the_reason() -> None:
    ended = Ended()
    with drain_on_signals(0.05, ended) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert ended.happened.wait(WAIT_S)
    assert ended.reasons == ["it took longer than 0.05 s, the grace period"]


def test_what_drains_in_time_or_was_never_told_to_is_left_alone() -> None:
    ended = Ended()
    with drain_on_signals(0.1, ended):
        signal.raise_signal(signal.SIGTERM)
    with drain_on_signals(0.1, ended) as stop:
        stop.set()
        time.sleep(0.3)
    assert not ended.happened.wait(0.3)


def test_the_second_signal_does_not_wait_for_the_grace_period() -> None:
    ended = Ended()
    with drain_on_signals(WAIT_S, ended):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert ended.reasons == ["a second signal, SIGINT"]

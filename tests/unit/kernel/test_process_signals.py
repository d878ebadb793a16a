"""What SIGTERM and SIGINT do to a long-running command."""

import signal

import pytest

from iu_core.process_signals import sigterm_interrupts, stop_on_signals

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

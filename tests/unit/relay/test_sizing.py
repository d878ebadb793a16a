"""The size of a transaction follows what it takes, within its bounds."""

import pytest

from producers.relay.sizing import ROWS_FIRST, ROWS_MIN, TransactionSizer


def steered(rate: float, *, rows_max: int = 20_000, overhead_s: float = 0.0) -> int:
    """Return where the size comes to rest on a machine that publishes `rate` rows a second."""
    sizer = TransactionSizer(target_s=0.1, rows_max=rows_max)
    for _ in range(30):
        sizer.note(sizer.rows, overhead_s + sizer.rows / rate)
    return sizer.rows


@pytest.mark.parametrize("rate", [10_000, 60_000, 150_000])
def test_a_full_transaction_comes_to_last_as_long_as_it_should(rate: float) -> None:
    assert steered(rate) == pytest.approx(rate * 0.1, rel=0.02)


def test_it_stays_within_its_bounds_however_slow_or_fast_the_machine_is() -> None:
    assert steered(1e9) == 20_000
    assert steered(1e9, rows_max=50) == 50
    assert steered(100) == ROWS_MIN
    assert steered(100, rows_max=50) == 50
    assert TransactionSizer(target_s=1, rows_max=7).rows == 7


def test_one_slow_transaction_only_halves_it() -> None:
    sizer = TransactionSizer(target_s=0.1, rows_max=20_000)
    sizer.note(sizer.rows, 60.0)
    assert sizer.rows == ROWS_FIRST // 2
    sizer.note(sizer.rows, 0.0)
    assert sizer.rows == ROWS_FIRST

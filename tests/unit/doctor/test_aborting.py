"""Which transaction may be ended, how, and that it is over when the command says so."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from iu_core.bus.inspection import OpenProducer, OpenTransaction, Place
from iu_core.bus.names import BusNames
from iu_core.errors import Refused, Retryable, Usage
from producers.doctor.aborting import Fence, WriteEnd, apply, in_words, plan

NAMES = BusNames("p.")
OURS, CURSOR = Place(NAMES.events, 2), Place(NAMES.cursor, 0)
KNOWN = OpenTransaction("relay-0", 5, "Ongoing", 30_000, None, frozenset({OURS, CURSOR}))
DECIDED = OpenTransaction("decided", 6, "PrepareCommit", 30_000, None, frozenset({OURS}))
FOREIGN = OpenTransaction("foreign", 7, "Ongoing", 30_000, None, frozenset({Place("theirs", 0)}))
HANGING = OpenProducer(OURS, 8, 3, 10, datetime(2026, 1, 1, tzinfo=UTC))
OF_KNOWN = OpenProducer(OURS, 5, 0, 12, datetime(2026, 1, 1, tzinfo=UTC))


class FakeInspection:
    """`TransactionInspection` with the transactions above; `stubborn` keeps them open."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.open = [HANGING, OF_KNOWN]
        self.stubborn = stubborn

    def transactions(self) -> tuple[OpenTransaction, ...]:
        return KNOWN, DECIDED, FOREIGN

    def open_producers(self, places: Iterable[Place]) -> tuple[OpenProducer, ...]:
        wanted = set(places)
        return tuple(one for one in self.open if one.place in wanted)

    def abort_at(self, producer: OpenProducer) -> None:
        if not self.stubborn:
            self.open.remove(producer)


def test_one_that_its_coordinator_knows_is_fenced_as_a_whole() -> None:
    decided = plan("relay-0", FakeInspection(), NAMES)
    assert decided == Fence(KNOWN)
    assert any("ends with 76" in line for line in in_words(decided))


def test_one_that_hangs_gets_its_end_on_its_partition() -> None:
    broker = FakeInspection()
    decided = plan(f"{OURS}/8", broker, NAMES)
    assert decided == WriteEnd(HANGING)
    apply(decided, broker, fence=lambda _: pytest.fail("nobody is fenced"))
    assert broker.open == [OF_KNOWN]


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("nobody", Usage, "open are: decided, foreign, relay-0"),
        (f"{OURS}/9", Usage, "has ended, or never was"),
        (f"{OURS}/5", Refused, "relay-0"),
        ("decided", Refused, "PrepareCommit"),
        ("foreign", Refused, NAMES.events),
        ("theirs/0/7", Refused, NAMES.events),
    ],
)
def test_what_is_not_to_be_ended_is_refused_with_the_reason(
    target: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        plan(target, FakeInspection(), NAMES)


def test_one_that_stays_open_is_not_called_done() -> None:
    broker, clock = FakeInspection(stubborn=True), iter(range(100))
    with pytest.raises(Retryable, match="still open after 15 s"):
        apply(
            WriteEnd(HANGING), broker, fence=lambda _: None, clock_s=lambda: float(next(clock)),
            sleep_s=lambda _: None,
        )  # fmt: skip


def test_a_fence_is_waited_for_on_every_partition_of_the_transaction() -> None:
    broker = FakeInspection()
    fenced = []

    def fence(name: str) -> None:
        fenced.append(name)
        broker.open.remove(OF_KNOWN)

    apply(Fence(KNOWN), broker, fence)
    assert fenced == ["relay-0"]

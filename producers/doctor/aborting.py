"""End an open Kafka transaction by hand.

Two ways, because two kinds of them exist (`hanging`). One that its coordinator knows is ended by
taking its transactional id over: the producer that left it is fenced, and every partition gets
its end. Writing the end on one partition alone would leave the producer able to go on with the
rest. One that hangs has no coordinator to ask: its end is written on its partition (KIP-664).

Only transactions on our own topics are touched; a cluster may have other tenants.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from iu_core.bus.inspection import OpenProducer, OpenTransaction, Place, TransactionInspection
from iu_core.bus.names import BusNames
from iu_core.errors import Refused, Retryable, Usage

_PLACE: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)/(?P<partition>\d+)/(?P<producer>\d+)")
_ONGOING: Final = "Ongoing"
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Fence:
    """Take the transactional id over: its transaction is aborted on all of its partitions."""

    transaction: OpenTransaction


@dataclass(frozen=True, slots=True)
class WriteEnd:
    """Write the missing end on one partition."""

    producer: OpenProducer


Plan: TypeAlias = Fence | WriteEnd


def plan(target: str, inspection: TransactionInspection, names: BusNames) -> Plan:
    """Return how the transaction `target` is ended: a transactional id, or TOPIC/PARTITION/PRODUCER.

    Raises `Usage` if there is no such open transaction, `Refused` if it is not ours to end.
    """
    ours = (names.events, names.cursor, names.relay_dead_letters)
    transactions = inspection.transactions()
    named = next((one for one in transactions if one.transactional_id == target), None)
    if named is not None:
        return _fence(named, ours)
    match = _PLACE.fullmatch(target)
    if match is None:
        raise Usage(
            f"no transaction with the transactional id {target!r} is open",
            why=f"open are: {', '.join(sorted(one.transactional_id for one in transactions)) or 'none'}",
            remedy="iu doctor names what is in the way; a hanging one is TOPIC/PARTITION/PRODUCER",
        )
    place, number = Place(match["topic"], int(match["partition"])), int(match["producer"])
    if place.topic not in ours:
        raise _foreign(target, ours)
    producer = next((one for one in inspection.open_producers([place]) if one.producer_id == number), None)
    if producer is None:
        raise Usage(
            f"producer {number} has no open transaction on {place}",
            why="it has ended, or never was",
            remedy="iu doctor",
        )
    owner = next((one for one in transactions if one.producer_id == number and place in one.places), None)
    if owner is not None:
        raise Refused(
            f"the transaction on {place} does not hang: its coordinator knows it",
            why=f"transactional id {owner.transactional_id}, state {owner.state}; ended on one partition, "
            "its producer could go on with the rest",
            remedy=f"iu doctor --abort-transaction {owner.transactional_id}",
        )
    return WriteEnd(producer)


def _fence(transaction: OpenTransaction, ours: tuple[str, ...]) -> Fence:
    if not any(place.topic in ours for place in transaction.places):
        raise _foreign(transaction.transactional_id, ours)
    if transaction.state != _ONGOING:
        raise Refused(
            f"the transaction of {transaction.transactional_id} is decided already",
            why=f"state {transaction.state}: its coordinator is writing its end",
            remedy="iu services status; the broker's log says what keeps it",
        )
    return Fence(transaction)


def _foreign(target: str, ours: tuple[str, ...]) -> Refused:
    return Refused(
        f"{target} holds none of our topics",
        why=f"ours are {', '.join(ours)}",
        remedy="set IU_KAFKA__PREFIX to the deployment you mean; others' transactions are theirs to end",
    )


def in_words(decided: Plan) -> list[str]:
    """Return what the plan does, for the preview."""
    match decided:
        case Fence(transaction):
            places = ", ".join(map(str, sorted(transaction.places)))
            return [
                f"abort the open transaction of {transaction.transactional_id} on {places}",
                "its records are never seen by readers of committed records",
                "its producer is fenced: a relay under this id ends with 76 and must be started again",
            ]
        case WriteEnd(producer):
            return [
                f"write the missing end (aborted) for producer {producer.producer_id} on {producer.place}, "
                f"open from offset {producer.first_offset}",
                "its records are never seen by readers of committed records",
            ]


def apply(
    decided: Plan,
    inspection: TransactionInspection,
    fence: Callable[[str], None],
    *,
    timeout_s: float = 15.0,
    clock_s: Callable[[], float] = time.monotonic,
    sleep_s: Callable[[float], None] = time.sleep,
) -> None:
    """End the transaction, and return when its partitions are free of it.

    `fence(transactional_id)` takes the id over and lets it go. Raises `Retryable` if the
    transaction is still open after `timeout_s` seconds.
    """
    match decided:
        case Fence(transaction):
            fence(transaction.transactional_id)
            places, number = transaction.places, transaction.producer_id
        case WriteEnd(producer):
            inspection.abort_at(producer)
            places, number = frozenset({producer.place}), producer.producer_id
    give_up_at = clock_s() + timeout_s
    while any(one.producer_id == number for one in inspection.open_producers(sorted(places))):
        if clock_s() > give_up_at:
            raise Retryable(
                f"the transaction of producer {number} is still open after {timeout_s:.0f} s",
                why="its abort was accepted, but the end is not on every partition",
                remedy="iu doctor",
            )
        sleep_s(_POLL_S)

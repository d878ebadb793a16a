"""Family 2: Kafka transactions that are open and do not move.

A reader of committed records stops at the first open transaction of a partition (its last
stable offset), and so does a relay that starts. Who holds a partition is known in two places.
The leader of the partition knows the producer's number and where its transaction began; the
coordinator knows the transactional id and the time-out. What only the leader knows is *hanging*:
the coordinator has ended it, or never heard of it, and will not end it again (KIP-664).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from iu_core.bus.inspection import OpenProducer, OpenTransaction, Place
from producers.doctor.clocks import broker_now
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, duration

# A transaction that its coordinator ends within this time is not worth an operator's hand.
_SOON_S: Final = 60.0
_ONGOING: Final = "Ongoing"


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition whose committed end `stable` stayed behind its real end while it was watched."""

    place: Place
    stable: int
    end: int


def hanging(asked: Examination) -> list[Finding]:
    """Find transactions that hold the readers of our topics, and do not move while we watch."""
    before = _gaps(asked)
    if not before:
        return []
    asked.sleep_s(asked.patience.sample_s)
    stalls = unmoved(before, _gaps(asked))
    if not stalls:
        return []
    producers = asked.inspection.open_producers([stall.place for stall in stalls])
    transactions = asked.inspection.transactions()
    # One that ended while we asked who it is.
    stalls = unmoved({stall.place: stall for stall in stalls}, _gaps(asked))
    return judge(stalls, producers, transactions, broker_now(asked), asked.patience)


def _gaps(asked: Examination) -> dict[Place, Stall]:
    """Return the partitions of our topics on which something is not committed at this moment."""
    found = {}
    for topic in (asked.names.events, asked.names.cursor, asked.names.relay_dead_letters):
        if asked.described(topic) is None:
            continue
        # In this order: a transaction committed between the two looks must not make a gap.
        ends = asked.topics.end_offsets(topic, committed=False)
        stable = asked.topics.end_offsets(topic, committed=True)
        for partition, end in ends.items():
            if stable[partition] < end:
                place = Place(topic, partition)
                found[place] = Stall(place, stable[partition], end)
    return found


def unmoved(before: Mapping[Place, Stall], after: Mapping[Place, Stall]) -> list[Stall]:
    """Return the stalls of `after` whose committed end is where it was before."""
    return [
        stall for place, stall in after.items() if place in before and before[place].stable == stall.stable
    ]


def judge(
    stalls: Iterable[Stall],
    producers: Iterable[OpenProducer],
    transactions: Iterable[OpenTransaction],
    now: datetime,
    patience: Patience,
) -> list[Finding]:
    """Return one finding for each transaction in the way; a partition may be held by several.

    `now` by the broker's clock.
    """
    stalled = {stall.place: stall for stall in stalls}
    # The first open transaction holds the partition; later ones would hold it next.
    held = [producer for producer in producers if producer.place in stalled]
    known = {one.producer_id: one for one in transactions}
    found = []
    for producer in held:
        owner = known.get(producer.producer_id)
        if owner is None or producer.place not in owner.places:
            found.append(_hanging(producer, stalled[producer.place], now))
    of_known = {
        owner.transactional_id: owner
        for producer in held
        if (owner := known.get(producer.producer_id)) is not None and producer.place in owner.places
    }
    for name in sorted(of_known):
        if (finding := _open(of_known[name], stalled, now, patience)) is not None:
            found.append(finding)
    nobody = sorted(place for place in stalled if all(producer.place != place for producer in held))
    return found + [_nobody(stalled[place]) for place in nobody]


def _open(
    owner: OpenTransaction, stalled: Mapping[Place, Stall], now: datetime, patience: Patience
) -> Finding | None:
    age_s = None if owner.started_at is None else (now - owner.started_at).total_seconds()
    if age_s is not None and age_s < patience.open_s:
        return None
    places = sorted(place for place in owner.places if place in stalled)
    age = "an unknown time" if age_s is None else duration(age_s)
    evidence = [
        f"transactional id {owner.transactional_id}, producer {owner.producer_id}, state {owner.state}",
        *(_where(stalled[place]) for place in places),
    ]
    if owner.state != _ONGOING:
        return Finding(
            Severity.STOPS,
            f"the broker does not finish the transaction of {owner.transactional_id} for {age}",
            (*evidence, "it is decided already; its end cannot be written on every partition"),
            "iu services status   # and look at the broker's log: a broker or a disk is away",
        )
    left_s = None
    if owner.started_at is not None:
        ends_at = owner.started_at + timedelta(milliseconds=owner.timeout_ms)
        left_s = (ends_at - now).total_seconds()
        when = f"in {duration(left_s)}" if left_s > 0 else f"{duration(-left_s)} ago"
        evidence.append(f"its time-out ends {when}; then the broker aborts it, within about 10 s")
    soon = left_s is not None and left_s < _SOON_S
    return Finding(
        Severity.SLOWS if soon else Severity.STOPS,
        f"a transaction of {owner.transactional_id} is open for {age}; committed records end before it",
        tuple(evidence),
        f'iu doctor --abort-transaction {owner.transactional_id} --reason "…"   # a preview',
    )


def _hanging(producer: OpenProducer, stall: Stall, now: datetime) -> Finding:
    age = duration(max(0.0, (now - producer.written_at).total_seconds()))
    return Finding(
        Severity.STOPS,
        f"a hanging transaction on {producer.place}: nobody will ever end it",
        (
            f"producer {producer.producer_id} of epoch {producer.producer_epoch}, open from offset "
            f"{producer.first_offset}, last record {age} ago",
            "no transaction coordinator knows it as open (KIP-664)",
            _where(stall),
        ),
        f"iu doctor --abort-transaction {producer.place}/{producer.producer_id} "
        '--reason "…"   # previews; with --apply it is aborted',
    )


def _nobody(stall: Stall) -> Finding:
    return Finding(
        Severity.SLOWS,
        f"committed records of {stall.place} end before its end, and no open transaction is known there",
        (_where(stall), "the leader may have changed, or replicas may be behind"),
        "iu doctor   # again; if it stays, look at the broker's log",
    )


def _where(stall: Stall) -> str:
    return f"{stall.place}: committed records end at offset {stall.stable} of {stall.end}"

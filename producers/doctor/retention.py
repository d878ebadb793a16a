"""Family 7: retention that is about to take records which a route has not read, or has taken them.

A held route may stand for as long as its gate is closed, so the events topic is made without
retention. Somebody may have given it one. The oldest unread record of each route and partition
then has a date: its own timestamp plus `retention.ms`, by the broker's clock. Retention takes
whole segments, so that is the earliest moment. `retention.bytes` gives no date but from the rate
at which the partition has grown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from producers.doctor.clocks import broker_now
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, duration, size

_POSITIONS: Final = """
    SELECT o.route_code, o.lane, o.partition, o.next_offset
      FROM public.iu_route_offset AS o
     WHERE o.topic = %s AND o.topic_id = %s
     ORDER BY 1, 2, 3
"""
# Markers and aborted records take offsets, too: the first record is looked for in this many.
_OFFSETS_SEEN: Final = 256


@dataclass(frozen=True, slots=True)
class RoutePosition:
    """Where a route's lane stands in a partition."""

    route_code: str
    lane: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class PartitionLife:
    """What a partition still holds: offsets from `start` to before `end`.

    `oldest_at` is the time of its first record, `size_bytes` what it takes; None if not known.
    """

    start: int
    end: int
    oldest_at: datetime | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The retention of a topic; None is without a limit."""

    age_s: float | None
    size_bytes: int | None

    @property
    def finite(self) -> bool:
        """Whether anything is ever taken."""
        return self.age_s is not None or self.size_bytes is not None


def limits(settings: Mapping[str, str]) -> Limits:
    """Return the retention that a topic's settings mean."""
    if "delete" not in settings.get("cleanup.policy", "delete"):
        return Limits(None, None)
    ms, most = int(settings.get("retention.ms", "-1")), int(settings.get("retention.bytes", "-1"))
    return Limits(None if ms < 0 else ms / 1_000, None if most < 0 else most)


def retention(asked: Examination) -> list[Finding]:
    """Find routes whose unread records are gone, or will be."""
    events = asked.names.events
    topic = asked.described(events)
    if topic is None:
        return []
    positions = [RoutePosition(*row) for row in asked.rows(_POSITIONS, (events, topic.topic_id), reader=True)]
    if not positions:
        return []
    starts = asked.topics.start_offsets(events)
    ends = asked.topics.end_offsets(events, committed=True)
    lives = {number: PartitionLife(starts[number], end) for number, end in ends.items()}
    found = judge_lost(positions, lives, events)
    limited = Limits(None, None) if asked.mock else limits(asked.inspection.settings(events))
    if not limited.finite:
        return found
    sizes = asked.inspection.sizes(events) if limited.size_bytes is not None else {}
    lives = {
        number: PartitionLife(
            life.start, life.end, _time_at(asked, number, life.start, life.end), sizes.get(number)
        )
        for number, life in lives.items()
    }
    unread = {
        (one.partition, one.next_offset): _time_at(
            asked, one.partition, one.next_offset, lives[one.partition].end
        )
        for one in positions
        if one.partition in lives and lives[one.partition].start <= one.next_offset
    }
    now = broker_now(asked)
    return found + judge_threatened(
        positions, lives, unread, limited, now, asked.patience, events, asked.bootstrap
    )


def _time_at(asked: Examination, partition: int, offset: int, end: int) -> datetime | None:
    """Return the time of the first record at or after `offset`."""
    upto = min(end, offset + _OFFSETS_SEEN)
    records = asked.topics.read(asked.names.events, partition, offset, upto)
    return datetime.fromtimestamp(records[0].timestamp_ms / 1_000, UTC) if records else None


def judge_lost(
    positions: Iterable[RoutePosition], lives: Mapping[int, PartitionLife], topic: str
) -> list[Finding]:
    """Return a finding for each route and lane that stands before the first record that is left."""
    lost: dict[tuple[str, str], list[str]] = {}
    for one in positions:
        life = lives.get(one.partition)
        if life is not None and one.next_offset < life.start:
            lost.setdefault((one.route_code, one.lane), []).append(
                f"partition {one.partition}: stands at offset {one.next_offset}, the topic begins at "
                f"{life.start}: {life.start - one.next_offset} offsets are gone"
            )
    return [
        Finding(
            Severity.STOPS,
            f"route {route} ({lane}) has lost records of {topic} that it had not read",
            (*lines, "the events are still in event_outbox"),
            "iu verify   # names the events without a decision",
        )
        for (route, lane), lines in lost.items()
    ]


def judge_threatened(
    positions: Iterable[RoutePosition],
    lives: Mapping[int, PartitionLife],
    unread: Mapping[tuple[int, int], datetime | None],
    limited: Limits,
    now: datetime,
    patience: Patience,
    topic: str,
    bootstrap: str,
) -> list[Finding]:
    """Return a finding for each route and lane with the time until it loses its first unread record.

    `unread` holds, by (partition, offset), the time of the first record there. `now` by the
    broker's clock.
    """
    at_risk: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for one in positions:
        life = lives.get(one.partition)
        if life is None or one.next_offset < life.start or one.next_offset >= life.end:
            continue
        written_at = unread.get((one.partition, one.next_offset))
        for left_s, why in _times_to_loss(life, written_at, one.next_offset, limited, now):
            if left_s <= patience.loss_within_s:
                line = f"partition {one.partition}, offset {one.next_offset} of {life.end}: {why}"
                at_risk.setdefault((one.route_code, one.lane), []).append((left_s, line))
    return [
        Finding(
            Severity.WARNS,
            f"retention takes unread records of {topic} from route {route} ({lane}) {_when(min(lines)[0])}",
            tuple(line for _, line in sorted(lines)),
            f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
            f"--entity-name {topic} --add-config retention.ms=-1,retention.bytes=-1",
        )
        for (route, lane), lines in at_risk.items()
    ]


def _times_to_loss(
    life: PartitionLife, written_at: datetime | None, offset: int, limited: Limits, now: datetime
) -> list[tuple[float, str]]:
    found = []
    if limited.age_s is not None and written_at is not None:
        left_s = (written_at + timedelta(seconds=limited.age_s) - now).total_seconds()
        found.append(
            (
                left_s,
                f"written {duration((now - written_at).total_seconds())} ago, "
                f"kept for {duration(limited.age_s)}",
            )
        )
    if limited.size_bytes is not None and life.size_bytes is not None:
        # What lies before the first unread record may go without a loss.
        read_share = (offset - life.start) / max(1, life.end - life.start)
        room = limited.size_bytes - life.size_bytes * (1 - read_share)
        span_s = 0.0 if life.oldest_at is None else (now - life.oldest_at).total_seconds()
        rate = life.size_bytes / span_s if span_s > 0 else 0.0
        if rate > 0:
            found.append(
                (
                    room / rate,
                    f"{size(max(0.0, room))} of {size(limited.size_bytes)} are free, "
                    f"{size(rate * 86_400)} come a day",
                )
            )
    return found


def _when(left_s: float) -> str:
    return f"in {duration(left_s)}" if left_s > 0 else "at any moment"

"""Family 5: clocks that disagree.

Records are stamped with the clock of the relay's machine and events with PostgreSQL's; ages and
retention are counted with the broker's. A clock is compared with half of the round trip taken
off, and only a difference beyond that uncertainty is a finding. The doctor speaks for the
machine it runs on: run it where the relay runs.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from iu_core.bus.inspection import ClockReading, NotOffered
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, duration

# message.timestamp.after.max.ms of the broker, unless the topic says otherwise.
_REFUSED_AHEAD_S: Final = 3_600.0
# No index leads by time: the newest rows are looked at.
_ROWS_SEEN: Final = 10_000
_FUTURE: Final = f"""
    SELECT count(*), max(o.event_ref::text),
           max(extract(epoch FROM o.occurred_at - clock_timestamp()))::float8
      FROM (SELECT n.event_ref, n.occurred_at FROM public.event_outbox AS n
             ORDER BY n.id DESC LIMIT {_ROWS_SEEN}) AS o
     WHERE o.occurred_at > clock_timestamp() + make_interval(secs => %s)
"""  # noqa: S608 - constants only


def database_clock(asked: Examination) -> list[Finding]:
    """Compare this machine's clock with PostgreSQL's."""
    return judge("PostgreSQL", asked.database_clock(), asked.patience)


def broker_clock(asked: Examination) -> list[Finding]:
    """Compare this machine's clock with the Kafka controller's."""
    reading = asked.inspection.clock()
    found = judge("the Kafka controller", reading, asked.patience)
    behind_s = -reading.ahead_s - reading.uncertain_s
    return [_refusing(found[0])] if found and behind_s > _REFUSED_AHEAD_S else found


def judge(whose: str, reading: ClockReading, patience: Patience) -> list[Finding]:
    """Return a finding if the clocks differ beyond the uncertainty of the reading."""
    if abs(reading.ahead_s) - reading.uncertain_s <= patience.skew_s:
        return []
    way = "ahead of" if reading.ahead_s > 0 else "behind"
    return [
        Finding(
            Severity.WARNS,
            f"the clock of {whose} is {duration(abs(reading.ahead_s))} {way} this machine's",
            (
                f"measured to ± {reading.uncertain_s * 1_000:.0f} ms",
                "ages, retention and the times of records are then wrong by as much; the order is not",
            ),
            "timedatectl status   # on both machines; turn time synchronisation on (chrony)",
        )
    ]


def _refusing(found: Finding) -> Finding:
    more = "the broker refuses records stamped more than an hour ahead (message.timestamp.after.max.ms)"
    return Finding(Severity.STOPS, found.what, (*found.evidence, more), found.remedy)


def future_events(asked: Examination) -> list[Finding]:
    """Find events that say they occur later than now."""
    ((count, event_ref, ahead_s),) = asked.rows(_FUTURE, (asked.patience.skew_s,), reader=True)
    return judge_future(count, event_ref, ahead_s)


def judge_future(count: int, event_ref: str | None, ahead_s: float | None) -> list[Finding]:
    """Return a finding if there are such events; `ahead_s` is the furthest."""
    if not count or ahead_s is None:
        return []
    return [
        Finding(
            Severity.WARNS,
            f"{count} events occurred in the future, by up to {duration(ahead_s)}",
            (
                f"one of them is {event_ref}; the newest {_ROWS_SEEN} rows were looked at",
                "PostgreSQL's clock was set back since they were written; their order is not touched",
            ),
            "timedatectl status   # on the database's machine",
        )
    ]


def broker_now(asked: Examination) -> datetime:
    """Return the time by the broker's clock; by ours where it does not tell."""
    try:
        ahead_s = asked.inspection.clock().ahead_s
    except NotOffered:
        ahead_s = 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead_s)

"""Family 3: topics that are missing, made with other settings, or closed to us.

What they should be is told by `producers.relay.topics`, which makes them. A broker fills in
its own defaults, so the settings are compared as they apply, not as they were given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Severity
from producers.relay.topics import CURSOR_CONFIG, DEAD_LETTERS_CONFIG, EVENTS_CONFIG

_NEEDED: Final = ("DESCRIBE", "READ", "WRITE")
# What a wrong setting costs; the others cost nothing until they are changed back.
_COSTS: Final = {
    "retention.ms": "events are deleted when they grow old, whether or not every route has read them",
    "retention.bytes": "events are deleted when the topic grows, whether or not every route has read them",
    "cleanup.policy": "compaction deletes events, deletion deletes the cursor: the relay would stop with 78",
    "max.message.bytes": "a record that the relay takes for sendable may be refused",
    "message.timestamp.type": "records carry the broker's time and not the time of publishing",
    "compression.type": "the broker compresses again what the relay compressed",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic of the relay as it should be; with `exact` of just so many partitions, else at least."""

    name: str
    partitions: int
    settings: Mapping[str, str]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class There:
    """A topic as it is. `partitions` 0: it is not there. `rights` None: the broker does not say."""

    partitions: int
    settings: Mapping[str, str]
    rights: frozenset[str] | None


def wanted(asked: Examination) -> tuple[Wanted, ...]:
    """Return the topics of the relay."""
    names = asked.names
    return (
        Wanted(names.events, asked.settings.kafka.partitions, EVENTS_CONFIG),
        # After a reshard to fewer shards the topic has partitions that are not used any more.
        Wanted(names.cursor, len(asked.layouts), CURSOR_CONFIG, exact=False),
        Wanted(names.relay_dead_letters, asked.settings.kafka.partitions, DEAD_LETTERS_CONFIG),
    )


def topics(asked: Examination) -> list[Finding]:
    """Compare each topic of the relay with what it should be."""
    found = []
    published = bool(asked.cursors())
    for topic in wanted(asked):
        described = asked.described(topic.name)
        settings: Mapping[str, str] = {}
        rights = None
        if not asked.mock:
            rights = asked.inspection.rights(topic.name)
            settings = asked.inspection.settings(topic.name) if described is not None else {}
        there = There(0 if described is None else described.partitions, settings, rights)
        found += judge(topic, there, published=published, bootstrap=asked.bootstrap)
    return found


def judge(topic: Wanted, there: There, *, published: bool, bootstrap: str) -> list[Finding]:
    """Return what is wrong with a topic. `published`: a cursor says that events were published."""
    if (closed := _closed(topic, there, bootstrap)) is not None:
        return [closed]
    if there.partitions == 0:
        return [_missing(topic, published=published)]
    found = []
    if there.partitions != topic.partitions and (topic.exact or there.partitions < topic.partitions):
        found.append(
            Finding(
                Severity.STOPS,
                f"{topic.name} has {there.partitions} partitions, {topic.partitions} are expected",
                ("the number is fixed when a topic is made; the relay and the routes refuse to start (78)",),
                f"export IU_KAFKA__PARTITIONS={there.partitions}   # or another IU_KAFKA__PREFIX"
                if topic.exact
                else "iu relay status   # its shards are those of another topic",
            )
        )
    for name, value in topic.settings.items():
        if (is_value := there.settings.get(name)) is not None and is_value != value:
            found.append(
                Finding(
                    Severity.WARNS,
                    f"{topic.name} has {name}={is_value}, {value} is expected",
                    (_COSTS[name],),
                    f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
                    f"--entity-name {topic.name} --add-config {name}={value}",
                )
            )
    return found


def _closed(topic: Wanted, there: There, bootstrap: str) -> Finding | None:
    if there.rights is None or not (lacking := [one for one in _NEEDED if one not in there.rights]):
        return None
    return Finding(
        Severity.STOPS,
        f"the broker does not let us {', '.join(lacking)} {topic.name}",
        (f"allowed: {', '.join(sorted(there.rights)) or 'nothing'}",),
        f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:NAME "
        f"{' '.join(f'--operation {one.title()}' for one in lacking)} --topic {topic.name}",
    )


def _missing(topic: Wanted, *, published: bool) -> Finding:
    if published:
        return Finding(
            Severity.STOPS,
            f"the topic {topic.name} is gone, and the cursor says that events were published to it",
            (
                "the relay would make it anew, see another topic id, and stop with 78",
                "what it held is still in event_outbox",
            ),
            "iu relay status   # what the cursor expects; restore the topic, or use another IU_KAFKA__PREFIX",
        )
    return Finding(
        Severity.STOPS,
        f"the topic {topic.name} is not there",
        ("no cursor of a relay was found either",),
        "iu relay run   # makes it; a lost cursor topic must be restored first",
    )

"""Family 8: what the relay itself would say at its start, without starting it.

The migrations, its rights, and its cursor held against the database and the topic by the very
functions it uses. Nothing is opened that would fence the relay that runs.
"""

from typing import Final
from uuid import UUID

from iu_core.database.migration_files import read
from iu_core.database.migrations import Entry, Migrator
from iu_core.errors import Misconfigured
from iu_core.resources import sql_dir
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Severity
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout

_TREES_NAMED: Final = 5


def migrations(asked: Examination) -> list[Finding]:
    """Find migrations that are pending, changed or unknown."""
    return judge_migrations(Migrator(asked.login, read(sql_dir())).status())


def judge_migrations(entries: tuple[Entry, ...]) -> list[Finding]:
    """Return one finding for all migrations that are not applied as they are."""
    odd = [entry for entry in entries if entry.state != "applied"]
    if not odd:
        return []
    unmigrated = all(entry.state == "pending" for entry in entries)
    pending = all(entry.state == "pending" for entry in odd)
    return [
        Finding(
            Severity.STOPS if unmigrated else Severity.WARNS,
            f"{len(odd)} migrations are not as this release has them",
            tuple(f"{entry.name}: {entry.state}" for entry in odd),
            "iu db up" if pending else "iu db status   # a changed or unknown file is another release's",
        )
    ]


def rights(asked: Examination) -> list[Finding]:
    """Ask what the relay asks, in its role; what it may not do is raised as it would raise it."""
    # How many shards there are does not matter here, and would take the broker to say.
    asked.outbox(Layout(asked.settings.kafka.partitions)).identity()
    return []


def cursors(asked: Examination) -> list[Finding]:
    """Hold the cursor of each shard against what is there."""
    found = judge_shards(asked.settings.relay.shards, asked.layouts[0])
    known = asked.cursors()
    for layout in asked.layouts:
        cursor = known.get(layout.shard)
        if cursor is None:
            found += _without_cursor(asked, layout)
        else:
            found += _compared(asked, cursor, layout) + judge_state(cursor)
    return found


def _without_cursor(asked: Examination, layout: Layout) -> list[Finding]:
    events, cursor = asked.names.events, asked.names.cursor
    topic = asked.described(events)
    if topic is None or not recovery.holds_events(asked.topics, events, layout):
        return []
    return [
        Finding(
            Severity.STOPS,
            f"{events} holds events, but {cursor} holds no cursor of shard {layout.shard}",
            ("the relay stops with 78: from the beginning it would publish every event a second time",),
            "iu relay status   # restore the cursor topic, or use an empty one: another IU_KAFKA__PREFIX",
        )
    ]


def _compared(asked: Examination, cursor: Cursor, layout: Layout) -> list[Finding]:
    topic = asked.described(asked.names.events)
    if topic is None:
        return []  # told by the check of the topics
    outbox = asked.outbox(layout)
    event_ref: UUID | None = None if cursor.highest is None else outbox.event_ref_of(cursor.highest.id)
    differences = recovery.compare(cursor, outbox.identity(), event_ref, topic, layout)
    try:
        recovery.refuse(differences)
    except Misconfigured as refusal:
        return [
            Finding(
                Severity.STOPS,
                f"the relay of shard {layout.shard} does not start: {refusal.what}",
                tuple(map(str, differences)),
                f"iu relay status   # {refusal.remedy}",
            )
        ]
    return []


def judge_state(cursor: Cursor) -> list[Finding]:
    """Return what the cursor itself says to be in the way."""
    found = []
    if cursor.sealed:
        found.append(
            Finding(
                Severity.STOPS,
                f"shard {cursor.layout.shard} is sealed: a reshard was begun and has not ended",
                (f"sealed at {cursor.at.isoformat(timespec='seconds')}, epoch {cursor.layout.epoch}",),
                'iu relay reshard --to N --reason "..." --apply   # it goes on where it was interrupted',
            )
        )
    return found + _blocked(cursor)


def judge_shards(configured: int, layout: Layout) -> list[Finding]:
    """Return what a relay with these settings would be refused for."""
    if configured == layout.shards:
        return []
    return [
        Finding(
            Severity.WARNS,
            f"IU_RELAY__SHARDS is {configured}, the events are relayed in {layout.shards} shards",
            ("a relay with this setting does not start (exit 78)",),
            f"IU_RELAY__SHARDS={layout.shards}; or for good: "
            f'iu relay reshard --to {configured} --reason "..." --apply',
        )
    ]


def _blocked(cursor: Cursor) -> list[Finding]:
    if not cursor.blocked:
        return []
    trees = sorted(cursor.blocked.items(), key=str)
    named = tuple(f"tree {tree} waits from version {version} on" for tree, version in trees[:_TREES_NAMED])
    more = len(trees) - _TREES_NAMED
    return [
        Finding(
            Severity.SLOWS,
            f"{len(trees)} trees are blocked by an event that cannot be published",
            named + ((f"and {more} more",) if more > 0 else ()),
            "iu relay blocked   # then, when the cause is mended: iu relay unblock TREE",
        )
    ]

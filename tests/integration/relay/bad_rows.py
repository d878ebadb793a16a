"""A stage for rows that cannot be published: plant them, let the relay meet them, look at what stands."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Record
from iu_core.errors import Retryable
from iu_core.settings import Settings
from producers.relay.contracts import BundledContracts
from producers.relay.cursor import Cursor
from producers.relay.framing import Contracts
from producers.relay.service import RelayService
from producers.relay.unblock import How
from producers.relay.unblock_command import UnblockCommand
from schemas.catalog import Catalog
from tests.integration.relay.held_topic import bus_settings, chain_faults, held
from tests.integration.relay.relay_process import DEADLINE_S, relay_environment
from tests.integration.sql.sessions import Editor, open_gate, session

UNRELEASED = 99
PLANT = "UPDATE event_outbox SET {} WHERE aggregate_id = %s AND aggregate_version = ANY (%s)"


@dataclass
class Stage:
    """One database and one set of topics."""

    url: str
    settings: Settings
    environment: dict[str, str]
    contracts: Contracts
    editor: Editor

    @property
    def names(self) -> BusNames:
        return BusNames(self.settings.kafka.prefix)

    def tree(self, events: int) -> UUID:
        """Make a tree of so many versions, each a transaction of its own."""
        root = self.editor.add(None)
        self.grow(root, events - 1)
        return root

    def grow(self, tree: UUID, events: int) -> None:
        for _ in range(events):
            self.editor.add(tree)

    def spoil(self, tree: UUID, *versions: int, kind: str | None = None) -> None:
        """Make these versions unpublishable: their contract is not released."""
        change = f"schema_version = {UNRELEASED}" + ("" if kind is None else f", event_type = '{kind}'")
        self._plant(change, tree, versions)

    def mend(self, tree: UUID, *versions: int) -> None:
        """Undo `spoil`, as the release of their contract would."""
        self._plant("schema_version = 1", tree, versions)

    def drain(self) -> None:
        """Relay what is committed, in this process; waits for a command that is just leaving the shard."""
        give_up_at = time.monotonic() + DEADLINE_S
        while True:
            try:
                RelayService(self.settings, self.url, self.contracts, until_idle=True).run(threading.Event())
            except Retryable:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.1)
            else:
                return

    def unblock(
        self, tree: UUID, how: How, *, url: str | None = None, rows_max: int = 2_000
    ) -> UnblockCommand:
        return UnblockCommand(
            self.settings,
            url or self.url,
            self.contracts,
            tree=tree,
            how=how,
            reason="a test",
            rows_max=rows_max,
        )

    def versions(self, tree: UUID) -> list[int]:
        """Return the versions of `tree` on the events topic, in the order of their offsets."""
        refs = [_ref(record) for record in self.records() if record.key == str(tree).encode()]
        query = "SELECT event_ref, aggregate_version FROM event_outbox WHERE aggregate_id = %s"
        with session(self.url) as onlooker:
            known: dict[UUID, int] = dict(onlooker.execute(query, (tree,)).fetchall())
        return [known[ref] for ref in refs]

    def records(self) -> list[Record]:
        return [record for records in held(self.settings)[0].values() for record in records]

    def cursor(self) -> Cursor:
        return held(self.settings)[1][-1]

    def faults(self, *left_out: UUID) -> list[str]:
        """Return what the chain checker finds, but for events that were left out and the hole they leave."""
        found = chain_faults(self.url, self.settings)
        expected = {f"lost: {event_ref}" for event_ref in left_out}
        assert expected <= set(found)
        return [
            fault for fault in found if fault not in expected and not (left_out and "disordered" in fault)
        ]

    def letters(self, columns: str = "aggregate_version, state") -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM iu_relay_dead_letter ORDER BY tree_id, aggregate_version"  # noqa: S608
        with session(self.url) as onlooker:
            return onlooker.execute(query).fetchall()

    def event_ref(self, tree: UUID, version: int) -> UUID:
        query = "SELECT event_ref FROM event_outbox WHERE aggregate_id = %s AND aggregate_version = %s"
        with session(self.url) as onlooker:
            row = onlooker.execute(query, (tree, version)).fetchone()
        assert row is not None
        event_ref: UUID = row[0]
        return event_ref

    def _plant(self, change: str, tree: UUID, versions: Sequence[int]) -> None:
        with session(self.url) as admin, admin.transaction():
            admin.execute("ALTER TABLE event_outbox DISABLE TRIGGER trg_event_outbox_append_only")
            changed = admin.execute(PLANT.format(change), (tree, list(versions))).rowcount
            admin.execute("ALTER TABLE event_outbox ENABLE ALWAYS TRIGGER trg_event_outbox_append_only")
        assert changed == len(versions)


@contextmanager
def staged(url: str, bootstrap: str, prefix: str) -> Iterator[Stage]:
    """Yield a stage; its topics are deleted at the end."""
    open_gate(url)
    settings = bus_settings(bootstrap, prefix)
    contracts = BundledContracts(Catalog.bundled(), BusNames().events)
    stage = Stage(url, settings, relay_environment(url, bootstrap, prefix), contracts, Editor(url))
    try:
        yield stage
    finally:
        stage.editor.session.close()
        admin = KafkaAdmin(settings, "tests")
        admin.delete([stage.names.events, stage.names.cursor, stage.names.relay_dead_letters])
        admin.close()


def _ref(record: Record) -> UUID:
    return UUID((record.header("ce_id") or b"").decode())

"""A database, a broker and topics of a test's own, with the doctor and the trouble it is to find."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from iu_core.bus.kafka_client import admin_options, producer_options
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.database import Role
from iu_core.settings import Settings
from producers.doctor.checkup import CHECKS, examine
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Report
from producers.relay.contracts import BundledContracts
from producers.relay.service import RelayService
from schemas.catalog import Catalog
from tests.integration.sql.sessions import Editor, Session, session

# How full the disks of the machine are is not this suite's business.
DISKS = ("disks of the brokers", "disk of the database")


@dataclass
class Ward:
    """One deployment, and how a process finds it."""

    url: str
    settings: Settings
    environment: dict[str, str]

    @property
    def names(self) -> BusNames:
        return BusNames(self.settings.kafka.prefix)

    def write(self, events: int) -> UUID:
        """Commit `events` events of one new tree, each in a transaction of its own; return its root."""
        editor = Editor(self.url)
        with closing(editor.session):
            root = editor.add(None)
            for _ in range(events - 1):
                editor.add(root)
        return root

    def drain(self) -> int:
        """Publish what is committed, in this process; return how many events."""
        contracts = BundledContracts(Catalog.bundled(), BusNames().events)
        service = RelayService(self.settings, self.url, contracts, until_idle=True)
        return service.run(threading.Event()).published

    def report(self, *checks: str, url: str | None = None, **patience: float) -> Report:
        """Ask the doctor in this process; `checks` by name, all but the disks if none is named."""
        patient = Patience(**{"open_s": 0.2, "sample_s": 0.3} | patience)  # type: ignore[arg-type]
        known = [check.name for check in CHECKS]
        assert set(checks) <= set(known)
        wanted = checks or [name for name in known if name not in DISKS]
        with closing(
            Examination(lambda: url or self.url, lambda: self.settings, self.settings, patience=patient)
        ) as asked:
            return examine(asked, [check for check in CHECKS if check.name in wanted])

    def only(self, *checks: str, url: str | None = None, **patience: float) -> Finding:
        """Return the one finding there is."""
        report = self.report(*checks, url=url, **patience)
        assert report.unasked == (), report
        (finding,) = report.findings
        return finding

    def committed_ends(self) -> dict[int, int]:
        """Return the ends of the events topic as a reader of committed records sees them."""
        with closing(KafkaTopicReader(self.settings, "ward")) as reader:
            return dict(reader.end_offsets(self.names.events, committed=True))

    @contextmanager
    def admin(self) -> Iterator[Any]:
        client = KafkaAdminClient(**admin_options(self.settings, "ward"))
        try:
            yield client
        finally:
            client.close()

    def configure(self, topic: str, **settings: str) -> None:
        """Change settings of a topic; underscores stand for dots."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        with self.admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, named)])

    def forget_before(self, partition: int, offset: int) -> None:
        """Let the events topic begin at `offset`, as retention would."""
        with self.admin() as admin:
            admin.delete_records({TopicPartition(self.names.events, partition): offset})

    @contextmanager
    def open_transaction(self, name: str, topic: str, partition: int) -> Iterator[None]:
        """A producer that sends and never commits."""
        producer = KafkaProducer(**producer_options(self.settings, name))
        try:
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(topic, b"never committed", partition=partition)
            producer.flush()
            yield
        finally:
            producer._sender.force_close()
            producer.close(timeout=1)

    @contextmanager
    def hanging_transaction(self, name: str, topic: str, partition: int) -> Iterator[None]:
        """The same, but unknown to every coordinator.

        Brokers have verified since 3.6 that a partition was added to a transaction; it is
        switched off for the moment of sending. The records are what a broker before that took.
        """
        with self._unverified():
            producer = KafkaProducer(**producer_options(self.settings, name))
            producer.init_transactions()
            producer.begin_transaction()
            producer._transaction_manager._partitions_in_transaction.add(TopicPartition(topic, partition))
            sent = producer.send(topic, b"hanging", partition=partition)
            producer.flush()
        try:
            assert sent.succeeded(), sent.exception
            yield
        finally:
            producer._sender.force_close()
            producer.close(timeout=1)

    @contextmanager
    def _unverified(self) -> Iterator[None]:
        with self.admin() as admin:
            (broker,) = admin.describe_cluster()["brokers"]

            def verify(value: str) -> None:
                setting = {"transaction.partition.verification.enable": value}
                admin.alter_configs(
                    [ConfigResource(ConfigResourceType.BROKER, str(broker["broker_id"]), setting)]
                )

            verify("false")
            try:
                yield
            finally:
                verify("true")


@contextmanager
def open_writer(url: str, name: str) -> Iterator[Session]:
    """A session that has written an event of a new tree and does not commit, for as long as it takes."""
    with session(url, Role.EDITOR, name=name) as writer, writer.transaction(force_rollback=True):
        writer.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        editor_of(writer).add(None)
        yield writer


def editor_of(writer: Session) -> Editor:
    """Return the operations over a session that is there already."""
    editor = Editor.__new__(Editor)
    editor.session = writer
    return editor

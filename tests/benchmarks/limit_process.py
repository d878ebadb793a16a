"""`python -m tests.benchmarks.limit_process NAME '{…}'`: one limit, in a process of its own.

A limit is what a relay could reach at best with that tool: nothing is looked up, checked or made;
keys, values and headers lie ready in memory, and no cursor is written. All publish transactions
of `transaction_rows` records with lz4, the same bytes as the relay, under `read_committed` rules.

Prints one JSON object: {"rows", "elapsed_s", "cpu_s"}; what went before (start, reading, framing)
is not in it.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from confluent_kafka import Producer
from kafka import KafkaProducer

from iu_core.bus.kafka_client import producer_options
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing
from iu_core.bus.record_format import SectionBuilder, field, headers_field
from iu_core.bus.watchdog import Watchdog
from iu_core.settings import Settings, load_settings
from schemas.catalog import Catalog

_PAGE: Final = """
    SELECT o.id, o.event_ref, o.event_type, o.schema_version, o.aggregate_id, o.bucket,
           o.datum, o.payload_digest, o.headers, o.occurred_at
      FROM public.event_outbox AS o WHERE o.id > %s ORDER BY o.id LIMIT %s
"""
_PAGE_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Job:
    """What a limit is given."""

    settings: Settings
    rows: int
    transaction_rows: int


@dataclass(frozen=True, slots=True)
class Took:
    """Wall and CPU time of the part that counts."""

    rows: int
    elapsed_s: float
    cpu_s: float


def _timed(rows: int, work: Callable[[], None]) -> Took:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Took(rows, time.perf_counter() - started_s, time.process_time() - cpu_s)


def _pages(job: Job) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Yield the outbox in pages by primary key, binary, as the relay reads a backlog."""
    with psycopg.connect(job.settings.database_url or "", autocommit=True) as session:
        last, left = 0, job.rows
        with session.cursor(binary=True) as cursor:
            while left and (page := cursor.execute(_PAGE, (last, min(left, _PAGE_ROWS))).fetchall()):
                yield page
                last, left = page[-1][0], left - len(page)


def _records(job: Job) -> list[Outgoing]:
    topic = BusNames(job.settings.kafka.prefix).events
    prefix = Catalog.bundled().prefix("structure_reparented", 1)
    return [
        Outgoing(
            topic,
            bucket % job.settings.kafka.partitions,
            str(tree).encode(),
            prefix + datum,
            (
                ("ce_specversion", b"1.0"),
                ("ce_id", str(event_ref).encode()),
                ("ce_type", event_type.encode()),
                ("ce_source", b"iu-core/local"),
                ("ce_time", at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()),
                ("ce_dataschema", f"urn:avro:iu.structure.{event_type}:v{version}".encode()),
                ("content-type", b"application/avro"),
                ("iu_digest", digest.hex().encode()),
            ),
        )
        for page in _pages(job)
        for _, event_ref, event_type, version, tree, bucket, datum, digest, _, at in page
    ]


def _transactions(job: Job, records: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    for first in range(0, len(records), job.transaction_rows):
        yield records[first : first + job.transaction_rows]


def read(job: Job) -> Took:
    """Read the rows from PostgreSQL and do nothing with them."""

    def work() -> None:
        for _ in _pages(job):
            pass

    return _timed(job.rows, work)


def send(job: Job) -> Took:
    """kafka-python's `send()`, one call a record."""
    records = _records(job)
    producer = KafkaProducer(**producer_options(job.settings, f"{job.settings.kafka.prefix}limit"))
    producer.init_transactions()

    def work() -> None:
        for chunk in _transactions(job, records):
            producer.begin_transaction()
            for record in chunk:
                producer.send(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                )
            producer.flush(timeout=60)
            producer.commit_transaction()

    took = _timed(len(records), work)
    producer.close()
    return took


def librdkafka(job: Job) -> Took:
    """confluent-kafka's `produce()`, one call a record, the work done in C."""
    records = _records(job)
    producer = Producer(
        {
            "bootstrap.servers": job.settings.kafka_bootstrap_servers,
            "transactional.id": f"{job.settings.kafka.prefix}limit",
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 1_048_576,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions(30)

    def work() -> None:
        for chunk in _transactions(job, records):
            producer.begin_transaction()
            for record in chunk:
                producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                )
            producer.commit_transaction(60)

    return _timed(len(records), work)


def batched(job: Job) -> Took:
    """The relay's own publisher below kafka-python's `send()`, fed with fields that are encoded already.

    What is timed is putting them into records, compressing, and the transactions: no header is
    formatted, no digest taken, nothing looked up.
    """
    fields = [
        (record.partition, (field(record.key), field(record.value), headers_field(record.headers)))
        for record in _records(job)
    ]
    topic, partitions = BusNames(job.settings.kafka.prefix).events, job.settings.kafka.partitions
    watchdog = Watchdog(job.settings.relay.watchdog_ms / 1_000)
    publisher = KafkaPublisher(job.settings, f"{job.settings.kafka.prefix}limit", watchdog)
    publisher.open()

    def work() -> None:
        for first in range(0, len(fields), job.transaction_rows):
            builders = [SectionBuilder(topic, number) for number in range(partitions)]
            for partition, parts in fields[first : first + job.transaction_rows]:
                builders[partition].add(parts)
            publisher.publish([section for builder in builders for section in builder.close()])

    took = _timed(len(fields), work)
    publisher.close()
    watchdog.close()
    return took


LIMITS: Final[dict[str, Callable[[Job], Took]]] = {
    "read": read,
    "send": send,
    "batched": batched,
    "librdkafka": librdkafka,
}


def main() -> None:
    """Run the limit that the command line names."""
    name, rows, transaction_rows = sys.argv[1:]
    took = LIMITS[name](Job(load_settings(), int(rows), int(transaction_rows)))
    sys.stdout.write(json.dumps({"rows": took.rows, "elapsed_s": took.elapsed_s, "cpu_s": took.cpu_s}))


if __name__ == "__main__":
    main()

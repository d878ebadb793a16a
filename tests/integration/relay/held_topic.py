"""What the servers hold, in the terms of the chain checker."""

from collections.abc import Mapping, Sequence

from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Record
from iu_core.settings import KafkaSettings, Settings
from producers.relay.cursor import Cursor, decode
from tests.chaos.chain_checker import Row, check
from tests.integration.sql.sessions import session


def bus_settings(bootstrap: str, prefix: str) -> Settings:
    """Return settings for a broker and a prefix."""
    return Settings(kafka_bootstrap_servers=bootstrap, kafka=KafkaSettings(prefix=prefix))


def committed_rows(url: str) -> list[Row]:
    """Return every committed row of the outbox."""
    with session(url) as onlooker:
        found = onlooker.execute(
            "SELECT event_ref, aggregate_id, incarnation, aggregate_version, bucket, payload_digest"
            "  FROM event_outbox"
        ).fetchall()
    return [Row(*row) for row in found]


def held(settings: Settings) -> tuple[Mapping[int, Sequence[Record]], list[Cursor]]:
    """Return the committed records of every events partition, and every committed cursor, by shard."""
    names, reader = BusNames(settings.kafka.prefix), KafkaTopicReader(settings, "checker", read_timeout_s=30)
    try:
        ends = reader.end_offsets(names.events, committed=True)
        topic = {partition: reader.read(names.events, partition, 0, end) for partition, end in ends.items()}
        cursors = [
            decode(record.value or b"")
            for shard, end in sorted(reader.end_offsets(names.cursor, committed=True).items())
            for record in reader.read(names.cursor, shard, 0, end)
        ]
    finally:
        reader.close()
    return topic, cursors


def chain_faults(url: str, settings: Settings) -> list[str]:
    """Hold the topic against the outbox; an empty list means that all promises hold."""
    topic, cursors = held(settings)
    with session(url) as onlooker:
        given_up = {row[0] for row in onlooker.execute("SELECT event_ref FROM iu_abandoned_event")}
    return check(topic, cursors, committed_rows(url), abandoned=given_up)

"""The plain path: every record of a section through `KafkaProducer.send`."""

from collections.abc import Sequence
from typing import Any, Final

from kafka import errors

from iu_core.bus.ports import RecordSection
from iu_core.bus.record_format import records_of


class SendPath:
    """`RecordPath` of `kafka_publisher`: record by record, by the client's public face alone."""

    name: Final = "send"

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def send(self, section: RecordSection, timestamp_ms: int) -> Sequence[Any]:
        """Send each record; returns their futures. Raises `ValueError` and errors of kafka-python."""
        return [
            self._producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=timestamp_ms,
            )
            for record in records_of(section)
        ]

    def refusal(self, sent: Any) -> Exception | None:
        """Return why a record did not arrive, None if the broker has acknowledged it."""
        if sent.succeeded():
            return None
        failure: Exception | None = sent.exception
        return failure or errors.KafkaTimeoutError("a record was not acknowledged")

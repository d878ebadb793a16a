"""Look into a Kafka broker with kafka-python's admin client.

The hanging-transaction tools are those of KIP-664. Kafka has no request for the time; but the
leader of the metadata quorum answers DescribeQuorum (KIP-836) with its own "last fetch", which
is the moment of the answer. With separate controllers it is a controller's clock, not a broker's.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition, errors
from kafka.admin import AbortTransactionSpec, ConfigResource, ConfigResourceType

from iu_core.bus.inspection import (
    ClockReading,
    LogDir,
    NotOffered,
    OpenProducer,
    OpenTransaction,
    Place,
)
from iu_core.bus.kafka_client import admin_options, require_reachable
from iu_core.bus.kafka_errors import translated
from iu_core.errors import Retryable
from iu_core.settings import Settings

_OPEN: Final = frozenset({"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"})
_UNKNOWN_BYTES: Final = -1


class KafkaInspection:
    """`BusInspection` on a Kafka broker; one thread at a time."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._options = admin_options(settings, client_id)
        self._client: Any = None

    def transactions(self) -> tuple[OpenTransaction, ...]:
        """Return the transactions of the whole cluster that are not ended."""
        with _asked("listing transactions", "DESCRIBE on the transactional ids"):
            listed = self._admin().list_transactions()
        found = []
        for name in sorted(
            {one.transactional_id for of_broker in listed.values() for one in of_broker if _is_open(one)}
        ):
            # One at a time: an id that has gone since would spoil the answer for all.
            with (
                suppress(errors.TransactionalIdNotFoundError),
                _asked("describing a transaction", f"DESCRIBE on the transactional id {name}"),
            ):
                described = self._admin().describe_transactions([name])[name]
                if _is_open(described):
                    found.append(_transaction(name, described))
        return tuple(found)

    def open_producers(self, places: Iterable[Place]) -> tuple[OpenProducer, ...]:
        """Return who has a transaction open on `places`."""
        partitions = [TopicPartition(place.topic, place.partition) for place in places]
        with _asked("asking for the producers of a partition", "READ on the topic"):
            answer = self._admin().describe_producers(partitions)
        return tuple(
            OpenProducer(
                place=Place(partition.topic, partition.partition),
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                first_offset=producer.current_transaction_start_offset,
                written_at=_time(producer.last_timestamp),
            )
            for partition, state in answer.items()
            for producer in state.active_producers
            if producer.current_transaction_start_offset >= 0
        )

    def abort_at(self, producer: OpenProducer) -> None:
        """Write the end that is missing on the producer's partition: aborted."""
        place = TopicPartition(producer.place.topic, producer.place.partition)
        with translated(f"aborting the transaction of producer {producer.producer_id} on {producer.place}"):
            self._admin().abort_transaction(
                AbortTransactionSpec(place, producer.producer_id, producer.producer_epoch)
            )

    def settings(self, topic: str) -> Mapping[str, str]:
        """Return every setting of a topic, defaults too; empty if there is no such topic."""
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        with _asked(f"reading the settings of {topic}", "DESCRIBE_CONFIGS on the topic"):
            answer = self._admin().describe_configs([asked], config_filter="all")
        return {name: entry["value"] for name, entry in answer["topic"][topic].items()}

    def rights(self, topic: str) -> frozenset[str] | None:
        """Return what we may do with a topic (READ, WRITE, …); None if the broker does not say."""
        with translated(f"describing {topic}"):
            answers = self._admin().describe_topics([topic])
        answer = next((answer for answer in answers if answer["name"] == topic), None)
        if answer is None:
            return None
        if answer["error_code"] == errors.TopicAuthorizationFailedError.errno:
            return frozenset()
        operations = answer.get("authorized_operations")
        return None if operations is None else frozenset(operations)

    def log_dirs(self) -> tuple[LogDir, ...]:
        """Return the directories of every broker."""
        return tuple(
            LogDir(
                broker=answer["broker"],
                path=directory["log_dir"],
                total_bytes=_bytes(directory.get("total_bytes")),
                usable_bytes=_bytes(directory.get("usable_bytes")),
                error=_error(directory["error_code"]),
            )
            for answer in self._described_log_dirs([])
            for directory in answer["log_dirs"]
        )

    def sizes(self, topic: str) -> Mapping[int, int]:
        """Return the bytes that each partition takes on disk: of its largest replica."""
        sizes: dict[int, int] = {}
        for answer in self._described_log_dirs([topic]):
            for directory in answer["log_dirs"]:
                for held in directory["topics"]:
                    for part in held["partitions"]:
                        number = part["partition_index"]
                        sizes[number] = max(sizes.get(number, 0), part["partition_size"])
        return sizes

    def clock(self) -> ClockReading:
        """Compare the clock of the cluster's controller with this machine's; the best of three looks."""
        return min((self._clock() for _ in range(3)), key=lambda reading: reading.uncertain_s)

    def close(self) -> None:
        """Disconnect. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _clock(self) -> ClockReading:
        before_s = time.time()
        with _asked("asking for the time of the controller", "DESCRIBE on the cluster"):
            answer = self._admin().describe_metadata_quorum()
        after_s = time.time()
        part = answer["topics"][0]["partitions"][0]
        leader = part["leader_id"]
        stamps = [
            voter["last_fetch_timestamp"]
            for voter in part["current_voters"]
            if voter["replica_id"] == leader and voter.get("last_fetch_timestamp", -1) > 0
        ]
        if not stamps:
            raise NotOffered("the broker does not tell the time", why=part.get("error"))
        return ClockReading(stamps[0] / 1_000 - (before_s + after_s) / 2, (after_s - before_s) / 2)

    def _described_log_dirs(self, topics: list[str]) -> list[dict[str, Any]]:
        with _asked("asking for the brokers' disks", "DESCRIBE on the cluster"):
            answers: list[dict[str, Any]] = self._admin().describe_log_dirs(topics)
        # A broker that does not let us ask gives no directory and no error.
        if answers and not any(answer["log_dirs"] for answer in answers):
            raise NotOffered(
                "the brokers do not tell of their disks", remedy=_grant("DESCRIBE on the cluster")
            )
        return answers

    def _admin(self) -> Any:
        if self._client is None:
            require_reachable(self._settings)
            self._client = KafkaAdminClient(**self._options)
        return self._client


@contextmanager
def _asked(doing: str, needed: str) -> Iterator[None]:
    """Let errors out as ours; a question that is unknown or not allowed is `NotOffered`."""
    try:
        with translated(doing):
            try:
                yield
            except errors.TransactionalIdNotFoundError:
                raise
            except errors.AuthorizationError as error:
                raise NotOffered(
                    f"the broker does not let us ask ({doing})", why=str(error), remedy=_grant(needed)
                ) from error
            except (errors.UnsupportedVersionError, errors.IncompatibleBrokerVersion) as error:
                raise NotOffered(
                    f"the broker does not offer this ({doing})", why=str(error), remedy="a newer broker does"
                ) from error
            except (KeyError, IndexError) as error:
                raise Retryable(
                    f"the broker's answer is incomplete ({doing})", why=repr(error), remedy="try again"
                ) from error
    except TimeoutError as error:
        raise Retryable(f"the broker does not answer in time ({doing})", why=str(error)) from error


def _grant(needed: str) -> str:
    return f"as an administrator of the broker: let our principal have {needed} (kafka-acls.sh --add)"


def _is_open(one: Any) -> bool:
    return str(one.state.value) in _OPEN


def _transaction(name: str, described: Any) -> OpenTransaction:
    started_ms = described.transaction_start_time_ms
    return OpenTransaction(
        transactional_id=name,
        producer_id=described.producer_id,
        state=str(described.state.value),
        timeout_ms=described.transaction_timeout_ms,
        started_at=_time(started_ms) if started_ms > 0 else None,
        places=frozenset(Place(part.topic, part.partition) for part in described.topic_partitions),
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def _bytes(number: int | None) -> int | None:
    return None if number is None or number == _UNKNOWN_BYTES else number


def _error(code: int) -> str | None:
    return None if code == 0 else str(errors.for_code(code).__name__)

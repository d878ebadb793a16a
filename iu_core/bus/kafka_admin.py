"""Make and describe topics with kafka-python. Topics are never made by auto-creation."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer, errors
from kafka.admin import ConfigResource, ConfigResourceType

from iu_core.bus.kafka_client import admin_options, require_reachable
from iu_core.bus.kafka_errors import translated
from iu_core.bus.ports import Topic
from iu_core.errors import Misconfigured, Retryable
from iu_core.settings import Settings

_UNKNOWN_TOPIC: Final = errors.UnknownTopicOrPartitionError.errno
_SHOW_POLL_S: Final = 0.02
# What brokers before 2.8 (and the mock) answer where a topic id is asked for.
_NO_TOPIC_ID: Final = "00000000-0000-0000-0000-000000000000"


class KafkaAdmin:
    """`BusAdmin` on a Kafka broker; one thread at a time."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._options = admin_options(settings, client_id)
        self._replication_factor = settings.kafka.replication_factor
        self._mock = settings.kafka.mock
        self._timeout_ms = settings.kafka.request_timeout_ms
        self._client: Any = None

    def create(self, topic: str, *, partitions: int, configs: Mapping[str, str]) -> None:
        """Make `topic` unless it is there. Raises `Misconfigured` if its partition count differs."""
        if self._mock:
            self._make_on_mock(topic)
            return
        wanted = {
            topic: {
                "num_partitions": partitions,
                "replication_factor": self._replication_factor,
                "configs": dict(configs),
            }
        }
        # Somebody else may make it between our question and our request.
        if self.describe(topic) is None:
            with translated(f"making {topic}"), suppress(errors.TopicAlreadyExistsError):
                self._admin().create_topics(wanted, timeout_ms=self._timeout_ms, wait_for_metadata=True)
        there = self._await(topic, 1)
        if there.partitions != partitions:
            raise Misconfigured(
                f"the topic {topic} has {there.partitions} partitions, {partitions} are expected",
                why="the number of partitions is fixed when a topic is made: keys would move",
                remedy=f"set IU_KAFKA__PARTITIONS={there.partitions}, or use another IU_KAFKA__PREFIX",
            )

    def _make_on_mock(self, topic: str) -> None:
        """Make a topic the one way the mock has: ask for its partitions. It has four, wanted or not."""
        with translated(f"making {topic}"):
            producer = KafkaProducer(**self._options)
            try:
                producer.partitions_for(topic)
            finally:
                producer.close()

    def describe(self, topic: str) -> Topic | None:
        """Return the topic, None when there is none."""
        with translated(f"describing {topic}"):
            answers = self._admin().describe_topics([topic])
        answer = next((answer for answer in answers if answer["name"] == topic), None)
        if answer is None or answer["error_code"] == _UNKNOWN_TOPIC or not answer["partitions"]:
            return None
        return Topic(topic, str(answer.get("topic_id") or _NO_TOPIC_ID), len(answer["partitions"]))

    def grow(self, topic: str, *, partitions: int) -> None:
        """Give `topic` more partitions; one that has as many already stays as it is. Not part of the port.

        Only for a topic whose records name their partition: keys would move.
        """
        if (there := self.describe(topic)) is not None and there.partitions >= partitions:
            return
        with translated(f"growing {topic} to {partitions} partitions"):
            self._admin().create_partitions({topic: partitions}, timeout_ms=self._timeout_ms)
        self._await(topic, partitions)

    def _await(self, topic: str, partitions: int) -> Topic:
        """Return the topic once it shows so many partitions: the broker we ask may learn of it late."""
        give_up_at = time.monotonic() + self._timeout_ms / 1_000
        while (there := self.describe(topic)) is None or there.partitions < partitions:
            if time.monotonic() > give_up_at:
                raise Retryable(f"the topic {topic} was made but does not show yet", remedy="try again")
            time.sleep(_SHOW_POLL_S)
        return there

    def configs(self, topic: str) -> Mapping[str, str]:
        """Return the settings of a topic that differ from the broker's defaults. Not part of the port."""
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        with translated(f"reading the settings of {topic}"):
            answer = self._admin().describe_configs([asked])
        return {name: entry["value"] for name, entry in answer["topic"][topic].items()}

    def delete(self, topics: list[str]) -> None:
        """Delete those of `topics` that are there. For tests and the demo; not part of the port.

        Returns once the broker shows them no more; under load its metadata is a moment behind.
        Raises `Retryable` if it still does after the request time-out.
        """
        there = [topic for topic in sorted(set(topics)) if self.describe(topic) is not None]
        if not there:
            return
        with translated("deleting topics"):
            self._admin().delete_topics(there, timeout_ms=self._timeout_ms)
        give_up_at = time.monotonic() + self._timeout_ms / 1_000
        while shown := [topic for topic in there if self.describe(topic) is not None]:
            if time.monotonic() > give_up_at:
                raise Retryable(f"deleted, but still shown: {', '.join(shown)}", remedy="try again")
            time.sleep(0.02)

    def close(self) -> None:
        """Disconnect. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _admin(self) -> Any:
        if self._client is None:
            require_reachable(self._settings)
            self._client = KafkaAdminClient(**self._options)
        return self._client

"""The events topic as the routes of one process see it: one client for all of their threads."""

import threading
from collections.abc import Mapping

from iu_core.bus.ports import BusAdmin, Topic, TopicReader


class SharedTopics:
    """`Topics` of `worker` for any number of threads; each call waits for those before it."""

    def __init__(self, topic: str, admin: BusAdmin, reader: TopicReader) -> None:
        self._topic = topic
        self._admin = admin
        self._reader = reader
        self._one_at_a_time = threading.Lock()

    def describe(self) -> Topic | None:
        """Return the topic, None while there is none. Raises `Retryable`."""
        with self._one_at_a_time:
            return self._admin.describe(self._topic)

    def starts(self) -> Mapping[int, int]:
        """Return the first offset that each partition still holds. Raises `Retryable`."""
        with self._one_at_a_time:
            return self._reader.start_offsets(self._topic)

    def ends(self) -> Mapping[int, int]:
        """Return the end of each partition as a reader of committed records sees it. Raises `Retryable`."""
        with self._one_at_a_time:
            return self._reader.end_offsets(self._topic, committed=True)

    def close(self) -> None:
        """Disconnect."""
        with self._one_at_a_time:
            self._reader.close()
            self._admin.close()

"""`python -m tests.benchmarks.reader_process TOPIC PARTITIONS HEADER`: when each event became visible.

A `read_committed` reader on librdkafka, from the end of the topic on. It says `ready` once it stands
there. On standard input it takes `await ID` (answers `seen ID` once it has read that event, `missing
ID` after a minute) and, at the end of the input, prints one JSON object and ends:
{"seen": {event id: monotonic ns}, "repeated": count}.
"""

import json
import queue
import sys
import threading
import time
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from iu_core.settings import load_settings

_POLL_S: Final = 0.05
_PATIENCE_S: Final = 60.0


class Reader:
    """Reads one topic and answers questions meanwhile."""

    def __init__(self, topic: str, partitions: int, header: str) -> None:
        self._header = header
        self._seen: dict[str, int] = {}
        self._repeated = 0
        self._awaited: dict[str, float] = {}
        self._questions: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._consumer = Consumer(
            {
                "bootstrap.servers": load_settings().kafka_bootstrap_servers,
                "group.id": "bench-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )
        places = [TopicPartition(topic, number) for number in range(partitions)]
        ends = [self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in places]
        self._consumer.assign(
            [TopicPartition(topic, place.partition, end) for place, end in zip(places, ends, strict=True)]
        )

    def run(self) -> None:
        """Serve until the input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        _say("ready")
        while self._hear():
            message = self._consumer.poll(_POLL_S)
            if message is not None and message.error() is None:
                self._note(message)
            self._answer()
        self._consumer.close()
        _say(json.dumps({"seen": self._seen, "repeated": self._repeated}))

    def _note(self, message: Any) -> None:
        now_ns = time.monotonic_ns()
        name = next((value.decode() for key, value in message.headers() or () if key == self._header), "")
        if name in self._seen:
            self._repeated += 1
        else:
            self._seen[name] = now_ns

    def _listen(self) -> None:
        for line in sys.stdin:
            self._questions.put(line.removeprefix("await ").strip())
        self._questions.put(None)

    def _hear(self) -> bool:
        while not self._questions.empty():
            if (name := self._questions.get()) is None:
                return False
            self._awaited[name] = time.monotonic()
        return True

    def _answer(self) -> None:
        for name, asked_s in list(self._awaited.items()):
            late = time.monotonic() - asked_s > _PATIENCE_S
            if name in self._seen or late:
                del self._awaited[name]
                _say(f"{'seen' if name in self._seen else 'missing'} {name}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Reader(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run()

"""The last resort: librdkafka's mock cluster, one broker, for a machine with neither Docker nor Java.

It keeps its records in memory, and `read_committed` readers see what was aborted. It shows the
system moving; none of the guarantees is tested on it, and `verify` says NOT PROVEN.

Run as `python -m infra.local.mock_broker FILE`: writes host:port to FILE once it answers.
"""

import signal
import sys
from pathlib import Path
from types import FrameType

from confluent_kafka import Producer

METADATA_TIMEOUT_S = 10.0


def main() -> None:
    """Serve until a signal comes."""
    target = Path(sys.argv[1])
    # The cluster lives in the client that asks for it; the address given is replaced by its own.
    client = Producer({"bootstrap.servers": "replaced", "test.mock.num.brokers": 1})
    (broker,) = client.list_topics(timeout=METADATA_TIMEOUT_S).brokers.values()
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.write_text(f"{broker.host}:{broker.port}\n")
    unfinished.rename(target)
    signal.signal(signal.SIGTERM, _leave)
    while True:
        # The mock serves on threads of its own; this one only has to stay.
        signal.pause()


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()

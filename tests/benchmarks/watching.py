"""How fast a topic fills, as a `read_committed` reader sees it: its end offsets, asked 50 times a second.

Whoever read the records meanwhile would take the CPU of the subject that is measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.errors import Terminal
from iu_core.settings import Settings

SAMPLE_S: Final = 0.02
SETTLED_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Samples (seconds since the start of the subject, records visible), the first change first."""

    samples: tuple[tuple[float, int], ...]

    @property
    def with_start_s(self) -> float:
        """From the start of the subject to the last record visible."""
        return self.samples[-1][0]

    def rate(self, rows: int) -> float:
        """Records a second from the first visible batch to the last; the start of the subject left out.

        Offsets taken by transaction markers are shared out evenly. Where everything became visible
        at once, the start is all there is and counts.
        """
        (first_s, first), (last_s, last) = self.samples[0], self.samples[-1]
        if last_s - first_s < 5 * SAMPLE_S:
            return rows / last_s
        return rows * (last - first) / last / (last_s - first_s)


def watch(
    settings: Settings, topic: str, rows: int, *, ended: Callable[[], bool] | None, timeout_s: float
) -> Curve:
    """Watch `topic` until the subject has ended; None: until all `rows` are there and nothing moves.

    Raises `Terminal` with how far it came when that takes longer than `timeout_s`.
    """
    reader = KafkaTopicReader(settings, "bench-watch")
    started = time.monotonic()
    samples: list[tuple[float, int]] = []
    try:
        while True:
            over = ended() if ended is not None else False
            visible = sum(reader.end_offsets(topic, committed=True).values())
            now_s = time.monotonic() - started
            if visible > (samples[-1][1] if samples else 0):
                samples.append((now_s, visible))
            if ended is None and samples and visible >= rows:
                over = now_s - samples[-1][0] > SETTLED_S
            if over:
                break
            if now_s > timeout_s:
                raise Terminal(f"only {visible} of {rows} records after {timeout_s:.0f} s in {topic}")
            time.sleep(SAMPLE_S)
    finally:
        reader.close()
    if not samples:
        raise Terminal(f"nothing was published to {topic}")
    return Curve(tuple(samples))

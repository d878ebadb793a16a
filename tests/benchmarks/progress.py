"""What a person who waits is told: one line at a time, on standard error, with the time since the start."""

import sys
import time

_STARTED_S = time.monotonic()


def say(line: str) -> None:
    """Write a line of progress."""
    minutes, seconds = divmod(int(time.monotonic() - _STARTED_S), 60)
    sys.stderr.write(f"{minutes:02}:{seconds:02} {line}\n")
    sys.stderr.flush()

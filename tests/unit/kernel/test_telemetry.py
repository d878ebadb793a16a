"""A library in trouble may not drown what we say about it; our own lines always pass."""

import json
import subprocess
import sys

SETUP = (
    "import logging; from iu_core.telemetry import configure_logs, get_logger; configure_logs(as_json=True)\n"
)


def said(program: str) -> list[str]:
    """Return the events logged by a process that runs `program` after setting its logs up."""
    done = subprocess.run([sys.executable, "-c", SETUP + program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["event"] for line in done.stderr.splitlines()]


def test_a_library_that_repeats_itself_is_heard_once() -> None:
    program = """
for number in range(50):
    logging.getLogger("kafka.net.manager").error("Connection failed: attempt %d", number)
logging.getLogger("kafka.net.manager").error("Something else")
"""
    assert said(program) == ["Connection failed: attempt 0", "Something else"]


def test_our_own_lines_all_pass() -> None:
    program = 'for _ in range(3): get_logger("producers.relay.service").warning("outage", out_s=1)'
    assert said(program) == ["outage"] * 3

"""`make bench-relay` in small: every part runs, shows its figures, and leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local.jars import find_java
from tests.services import ROOT

pytestmark = pytest.mark.skipif(isinstance(find_java(), str), reason="no Java for a broker of its own")

WORDS = (sys.executable, "-m", "tests.benchmarks")
ENDED_WITHIN_S = 60


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IU_")}


def test_a_small_bench_fills_every_column_and_finds_no_fault(tmp_path: Path) -> None:
    words = ("--rows", "2000", "--runs", "1", "--seconds", "1", "--rate", "100", "--systems", "this relay")
    done = subprocess.run(
        [*WORDS, *words, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [run["subject"] for run in results["runs"]] == [
        "this relay",
        "writers alone, before",
        "this relay",
        "writers alone, after",
        "this relay, a transaction open",
    ]
    assert [run["faults"] for run in results["runs"]] == [[]] * 5
    drain, alone, live = (results["runs"][number]["figures"] for number in (0, 1, 2))
    assert drain["rows_per_s"] > 0
    assert drain["own_cpu_s_per_million"] > 0
    assert drain["own_rss_mb"] > 20
    assert alone["commit_p50_ms"] > 0
    assert "visible_p50_ms" not in alone
    assert 0 < live["visible_p50_ms"] <= live["visible_p99_ms"] <= live["visible_max_ms"]
    assert live["dead_tuples"] == live["lock_waits"] == 0
    assert done.stdout == (tmp_path / "benchmarks.md").read_text()


def test_a_killed_bench_leaves_no_process_behind(tmp_path: Path) -> None:
    bench = subprocess.Popen(
        [*WORDS, "--rows", "2000", "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert bench.stderr is not None
    said = ""
    # Servers run and a relay is at work.
    while "limit: librdkafka" not in said:
        said = bench.stderr.readline()
        assert said, "the bench ended by itself"
    family = psutil.Process(bench.pid).children(recursive=True)
    assert len(family) > 2
    bench.send_signal(signal.SIGKILL)
    bench.wait(10)
    bench.stderr.close()
    give_up_at = time.monotonic() + ENDED_WITHIN_S
    while left := [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < give_up_at, left
        time.sleep(0.1)

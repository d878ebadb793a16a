"""The arithmetic of the bench: a figure that is computed wrongly is worse than none."""

import sys
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from infra.local.jars import kafka_version
from tests.benchmarks import goals, report
from tests.benchmarks.checking import Counted, _place
from tests.benchmarks.child import Child
from tests.benchmarks.measuring import measured
from tests.benchmarks.results import Absent, Results, Run, percentile, spread
from tests.benchmarks.systems import connect, limits, relay
from tests.benchmarks.watching import Curve

BUSY = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
PART = "drain: some rows"


def runs(subject: str, *rates: float, foreign: float = 0.0, part: str = PART) -> list[Run]:
    return [Run(part, subject, {"rows_per_s": rate}, foreign) for rate in rates]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_runs_on_a_busy_machine_are_left_out_while_there_are_quiet_ones() -> None:
    found = spread([*runs("a", 10, 20, 60), *runs("a", 1, foreign=0.5)], "rows_per_s")
    assert found is not None
    assert (found.median, found.low, found.high, found.runs, found.noisy) == (20, 10, 60, 3, False)
    noisy = spread(runs("a", 1, foreign=0.5), "rows_per_s")
    assert noisy is not None
    assert noisy.noisy
    assert spread(runs("a", 1), "no_such_figure") is None


def test_the_rate_leaves_the_start_out_and_the_markers() -> None:
    """100 events and 10 markers, all visible between second 5 and second 7: 50 a second, half before."""
    curve = Curve(((5.0, 55), (6.0, 80), (7.0, 110)))
    assert curve.rate(100) == pytest.approx(100 * 0.5 / 2)
    assert curve.with_start_s == 7.0
    assert Curve(((4.0, 100),)).rate(100) == 25.0


def test_what_is_wrong_with_a_topic_is_said() -> None:
    assert Counted(records=100, distinct=100, disordered=0).faults(100) == ()
    assert Counted(records=100, distinct=98, disordered=1).faults(99) == (
        "1 lost",
        "2 repeated",
        "1 out of order",
    )


def test_tree_and_version_are_found_in_a_datum() -> None:
    """Prefix, event_ref, occurred_at as a varint of 3 bytes, tree, incarnation 1, version 300."""
    tree = bytes(range(16))
    value = b"prefix" + bytes(16) + b"\x80\x81\x02" + tree + b"\x02" + b"\xd8\x04" + b"rest"
    assert _place(value, 6) == (tree, 300)


def test_a_process_that_ends_meanwhile_is_counted_and_is_not_foreign() -> None:
    group = psutil.Process().pid
    with measured({"own": group}) as used:
        Popen([sys.executable, "-c", BUSY]).wait()
    assert used.groups["own"] == pytest.approx(0.45, abs=0.2)
    with measured({"own": group}) as idle:
        pass
    assert idle.groups["own"] < 0.1


def test_a_child_says_what_it_used_and_fails_loudly(tmp_path: Path) -> None:
    """Its memory is its own, however much this process has."""
    ballast = bytearray(400_000_000)
    with Child(("platform",), environment={}, log=tmp_path / "log") as child:
        ended = child.wait()
    assert len(ballast) == 400_000_000
    assert ended.code == 0
    assert 1_000_000 < ended.rss_bytes < 100_000_000
    with Child(("no_such_module",), environment={}, log=tmp_path / "log") as child:
        failure = child.failed(f"exit code {child.wait().code}")
    assert "exit code 1" in str(failure)
    assert "No module named no_such_module" in str(failure)


def test_a_goal_is_judged_by_the_medians_of_one_part() -> None:
    results = Results(runs(relay.NAME, 90, 100, 110), [], [])
    results.runs += runs(goals.EXACTLY_ONCE, 40, 50, 60) + runs(limits.NAMES["batched"], 200)
    assert [(goal.measured, goal.verdict) for goal in goals.judged(results)] == [
        ("2.00", "yes"),
        ("0.50", "no"),
    ]
    assert goals.judged(Results(runs(relay.NAME, 1, part="growth: x"), [], [])) == []


def test_the_page_names_faults_dropped_runs_and_absentees() -> None:
    faulty = Run(PART, "a", {"rows_per_s": 1000.0}, 0.0, ("1 lost",))
    results = Results([faulty, *runs("a", 1, foreign=0.5)], [Absent(PART, "b", "no Java")], ["a note"])
    page = report.page(results, ["head"])
    assert "| a | 1,000 | 1 (+1 dropped) | 1 lost |" in page
    assert "b was not measured: no Java" in page
    assert "- a note" in page


def test_the_worker_is_of_the_broker_s_version_and_no_pom_names_a_repository() -> None:
    assert connect.version("connect") == kafka_version()
    for pom in ("connect", "debezium"):
        text = (connect._POMS / f"{pom}.xml").read_text()
        assert "<repositor" not in text
        assert "://" not in text

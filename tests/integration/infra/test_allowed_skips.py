"""In CI a skipped test fails the run, unless the list says why it may be skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import allowed_skips
from tests.services import ROOT

SKIPS = """
import pytest

def test_skips():
    pytest.skip("no reason that counts")

@pytest.mark.xfail(strict=True)
def test_fails_as_expected():
    assert False

def test_passes():
    pass
"""
MODULE_SKIPS = """
import pytest

pytest.skip("the whole module", allow_module_level=True)
"""


def _pytest(tmp_path: Path, content: str, *, ci: bool) -> str:
    (tmp_path / "test_skipping.py").write_text(content)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", tmp_path, "-q", tmp_path],
        env=environment | {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ran.stdout.splitlines()[-1]


def test_a_skip_is_a_failure_in_ci(tmp_path: Path) -> None:
    assert "1 failed, 1 passed, 1 xfailed" in _pytest(tmp_path, SKIPS, ci=True)


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    assert "1 passed, 1 skipped, 1 xfailed" in _pytest(tmp_path, SKIPS, ci=False)


@pytest.mark.parametrize(("ci", "outcome"), [(True, "1 error"), (False, "1 skipped")])
def test_a_module_that_skips_itself_counts_too(tmp_path: Path, ci: bool, outcome: str) -> None:
    assert outcome in _pytest(tmp_path, MODULE_SKIPS, ci=ci)


def test_every_entry_of_the_list_has_a_reason_and_names_tests_that_exist() -> None:
    for pattern, reason in allowed_skips():
        assert len(reason) > 20
        assert (ROOT / pattern.split("::")[0].rstrip("*")).exists()

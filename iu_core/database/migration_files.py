"""The migrations and runtime registrations as they lie in `sql/`, read and checked.

A migration is a file `NNN_name.sql` of the form BEGIN … COMMIT, so that `psql -f` can run it
alone, with a rollback of the same form. The runner wants the body without that frame: only
then can it put the ledger row into the same transaction.

A registration (`runtime/NNN_name_register.sql`) is idempotent and names the migration it stands
on in a comment, `-- Requires: migration 013`: it goes when that migration goes.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iu_core.errors import Misconfigured

_NAME: Final = re.compile(r"(?P<number>\d{3})_[a-z0-9_]+\.sql")
_REQUIRES: Final = re.compile(r"^-- Requires: migration (\d{3})$", re.MULTILINE)
_BLANK: Final = r"(?:[ \t]*(?:--[^\n]*)?\n)*"
_FRAME: Final = re.compile(rf"\A(?P<head>{_BLANK})BEGIN;\n(?P<body>.*\n)COMMIT;\n{_BLANK}\Z", re.DOTALL)
# At the start of a line and on its own: BEGIN of a function body has no semicolon, and END; is its end.
_TRANSACTION: Final = re.compile(
    r"^(BEGIN|COMMIT|ROLLBACK|START TRANSACTION)\s*;", re.MULTILINE | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Script:
    """One SQL file of the form BEGIN … COMMIT.

    `body` keeps the line numbers of the file (what stood outside the frame is blank there), so
    that the server's error position leads to the right line. `checksum` is SHA-256, hex, of the
    whole file.
    """

    path: Path
    number: int
    body: str
    checksum: str

    @property
    def name(self) -> str:
        """The file's name, as the ledger and every message say it."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration with what undoes it."""

    up: Script
    down: Script

    @property
    def number(self) -> int:
        """1, 2, 3, … without a gap."""
        return self.up.number


@dataclass(frozen=True, slots=True)
class Registration:
    """An idempotent runtime registration, its undoing, and the migration it stands on."""

    up: Script
    down: Script
    requires: int


@dataclass(frozen=True, slots=True)
class SqlFiles:
    """Everything the runner applies: roles and ledger as plain text, the rest in order."""

    roles: str
    ledger: str
    migrations: tuple[Migration, ...]
    registrations: tuple[Registration, ...]

    @property
    def newest(self) -> int:
        """The number of the last migration, 0 if there is none."""
        return self.migrations[-1].number if self.migrations else 0


def read(sql: Path) -> SqlFiles:
    """Read every file under `sql`.

    Raises `Misconfigured` on a gap in the numbers, a number used twice, a missing rollback, or
    a file that is not of the form BEGIN … COMMIT.
    """
    migrations = tuple(
        Migration(up, _rollback_of(up, sql / "rollback")) for up in _scripts(sql / "migrations", "*.sql")
    )
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise Misconfigured(
                f"migration {expected:03} is missing",
                why=f"the next file is {migration.up.name}",
                remedy="number migrations without gaps, each number once",
            )
    registrations = tuple(
        Registration(up, _rollback_of(up, sql / "runtime" / "rollback"), _requires(up, len(migrations)))
        for up in _scripts(sql / "runtime", "*_register.sql")
    )
    return SqlFiles(
        roles=(sql / "roles.sql").read_text(encoding="utf-8"),
        ledger=(sql / "ledger.sql").read_text(encoding="utf-8"),
        migrations=migrations,
        registrations=registrations,
    )


def read_script(path: Path) -> Script:
    """Read one file; raises `Misconfigured` if its name or its frame is wrong."""
    named = _NAME.fullmatch(path.name.replace(".rollback.sql", ".sql"))
    if named is None:
        raise Misconfigured(f"{path.name} is not named NNN_name.sql", remedy="rename the file")
    raw = path.read_bytes()
    return Script(path, int(named["number"]), _body(path, raw.decode()), hashlib.sha256(raw).hexdigest())


def _scripts(folder: Path, pattern: str) -> list[Script]:
    return [read_script(path) for path in sorted(folder.glob(pattern))]


def _rollback_of(up: Script, folder: Path) -> Script:
    path = folder / f"{up.path.stem}.rollback.sql"
    if not path.is_file():
        raise Misconfigured(
            f"{up.name} has no rollback", why=f"{path.name} does not exist", remedy=f"write {path}"
        )
    return read_script(path)


def _requires(script: Script, newest: int) -> int:
    named = _REQUIRES.search(script.path.read_text(encoding="utf-8"))
    if named is None or not 1 <= int(named[1]) <= newest:
        raise Misconfigured(
            f"{script.name} does not say which migration it stands on",
            why="the line `-- Requires: migration NNN` is missing or names none",
            remedy="add it before BEGIN",
        )
    return int(named[1])


def _body(path: Path, text: str) -> str:
    framed = _FRAME.match(text)
    if framed is None:
        raise Misconfigured(
            f"{path.name} is not of the form BEGIN; … COMMIT;",
            why="only comments may stand outside, and both must stand on lines of their own",
            remedy="put the whole file into one transaction",
        )
    stray = _TRANSACTION.search(framed["body"])
    if stray is not None:
        line = text.count("\n", 0, framed.start("body") + stray.start()) + 1
        raise Misconfigured(
            f"{path.name} ends its transaction in the middle",
            why=f"line {line}: {stray[0]}",
            remedy="one file is one transaction: split it",
        )
    return "\n" * (framed["head"].count("\n") + 1) + framed["body"]

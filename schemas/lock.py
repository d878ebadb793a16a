"""`schemas.lock`: what was released, append-only, so that a released contract cannot change unseen.

The sha256 is of the file's text, docs included: a registry does not store a text that differs
in docs alone, so a reworded doc would live nowhere but here. The fingerprint is what readers
resolve by; should a library compute another one day, every record would become unreadable.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from iu_core.errors import Usage
from schemas.catalog import Contract

Status: TypeAlias = Literal["draft", "released"]

HEAD: Final = """\
# What was released of each contract. Append-only; written by `iu schemas lock`.
# sha256: of the text of the file. fingerprint: CRC-64-AVRO as it stands on the wire.
# A released contract never changes: write the next version. A draft may, and is locked again.
"""

_ENTRY: Final = """
[[contract]]
event = "{event}"
version = {version}
sha256 = "{sha256}"
fingerprint = "{fingerprint}"
status = "{status}"
"""


class InvalidLock(Usage):
    """The lock is not as `render` writes it. It is append-only, so its history has a good one."""

    def __init__(self, why: str) -> None:
        super().__init__("schemas.lock cannot be read", why=why, remedy="restore it from version control")


@dataclass(frozen=True, slots=True)
class Entry:
    """One locked contract; both digests in lower-case hex."""

    event: str
    version: int
    sha256: str
    fingerprint: str
    status: Status


def read(path: Path) -> tuple[Entry, ...]:
    """Return the entries, in order; none if there is no lock yet.

    Raises `InvalidLock` if it is not as `render` writes it, or names a contract twice.
    """
    if not path.exists():
        return ()
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidLock(str(error)) from None
    entries = tuple(_entry(fields) for fields in document.get("contract", []))
    keys = [(entry.event, entry.version) for entry in entries]
    twice = {f"{event} v{version}" for event, version in keys if keys.count((event, version)) > 1}
    if twice:
        raise InvalidLock(f"locked twice: {', '.join(sorted(twice))}")
    return entries


def _entry(fields: object) -> Entry:
    match fields:
        case {
            "event": str(event),
            "version": int(version),
            "sha256": str(sha256),
            "fingerprint": str(fingerprint),
            "status": ("draft" | "released") as status,
        }:
            return Entry(event, version, sha256, fingerprint, status)
    raise InvalidLock(f"{fields!r} is no entry")


def entry_of(contract: Contract, status: Status) -> Entry:
    """Return what the lock has to say of `contract` as it is now."""
    digest = hashlib.sha256(contract.text.encode()).hexdigest()
    return Entry(contract.event_type, contract.version, digest, contract.fingerprint.hex(), status)


def render(entries: Iterable[Entry]) -> str:
    """Return the text of the lock."""
    return HEAD + "".join(
        _ENTRY.format(
            event=entry.event,
            version=entry.version,
            sha256=entry.sha256,
            fingerprint=entry.fingerprint,
            status=entry.status,
        )
        for entry in entries
    )


def extended(entries: Sequence[Entry], contracts: Iterable[Contract], status: Status) -> tuple[Entry, ...]:
    """Return `entries` with the new contracts at the end and drafts brought up to date.

    A released entry stays as it is, whatever became of its file: `check` reports that.
    """
    now = {(c.event_type, c.version): entry_of(c, status) for c in contracts}
    kept = []
    for entry in entries:
        current = now.pop((entry.event, entry.version), entry)
        kept.append(current if entry.status == "draft" else entry)
    return (*kept, *now.values())

"""`iu schemas check`: every fault of the contracts and of everything derived from them, at once.

Each step takes what the steps before it could read, so one broken file does not hide the
faults of the others. Whether versions can read each other is proved elsewhere; the place for
that proof is a step of its own in `check`, between the lock and the golden data.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastavro.schema import SchemaParseException, UnknownType

from iu_core.errors import Usage
from iu_core.events import EVENTS
from schemas import drift, golden, lock, sql_files
from schemas.avro_types import InvalidSchema
from schemas.catalog import Contract, Listing, load_contract, load_listings, version_of
from schemas.findings import Finding, Kind
from schemas.lint import SchemaFile, lint
from schemas.source import lines

MODES: Final = frozenset({"FULL_TRANSITIVE"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the contracts and the SQL made from them lie. `root` shortens names in findings."""

    root: Path
    schemas: Path
    sql_encoders: Path

    def name(self, path: Path) -> str:
        """Return `path` as a person writes it, from the root."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and every fault found."""

    contracts: int
    golden_cases: int
    findings: tuple[Finding, ...]


def check(layout: Layout) -> Report:
    """Check everything in `layout`. Reads only; raises nothing for what the files hold."""
    findings: list[Finding] = []
    contracts, files = _load(layout, findings)
    listings = _listings(layout, findings)
    findings += lint(files)
    findings += _unlike_their_listing(layout, contracts, files, listings)
    findings += _not_as_locked(layout, contracts)
    golden_cases = _check_golden(layout, contracts, findings)
    findings += _models_differ(layout, contracts)
    findings += (
        _whole(Kind.DRIFT, "sql", layout.name(path), what, "iu schemas sql")
        for path, what in sql_files.stale(layout.sql_encoders, contracts)
    )
    return Report(len(files), golden_cases, tuple(findings))


def contracts_in(layout: Layout) -> list[Contract]:
    """Return every contract. Raises `Usage` if one cannot be read: half of them would mislead."""
    findings: list[Finding] = []
    contracts, _ = _load(layout, findings)
    if findings:
        why = "; ".join(f"{finding.place}: {finding.what}" for finding in findings)
        raise Usage("a contract cannot be read", why=why, remedy="iu schemas check")
    return contracts


def _whole(kind: Kind, rule: str, file: str, what: str, fix: str) -> Finding:
    """Return a finding about a whole file."""
    return Finding(kind, rule, file, None, "", what, fix)


def _load(layout: Layout, findings: list[Finding]) -> tuple[list[Contract], list[SchemaFile]]:
    contracts, files = [], []
    for path in sorted(layout.schemas.glob("*/*/*.avsc")):
        name = layout.name(path)
        try:
            text = path.read_text("utf-8")
            file = SchemaFile(path.parent.name, version_of(path), name, json.loads(text), lines(text))
        except (OSError, ValueError) as error:
            findings.append(
                _whole(Kind.INVALID, "json", name, str(error), "write JSON in UTF-8, named v<N>.avsc")
            )
            continue
        files.append(file)
        try:
            contracts.append(load_contract(path))
        except InvalidSchema as error:
            fix = error.remedy or "see the Avro specification"
            findings.append(file.finding("schema", error.path, error.fault, fix, Kind.INVALID))
        except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
            findings.append(
                file.finding("schema", (), str(error), "see the Avro specification", Kind.INVALID)
            )
    return contracts, files


def _listings(layout: Layout, findings: list[Finding]) -> tuple[Listing, ...]:
    path = layout.schemas / "contracts.toml"
    try:
        return load_listings(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it cannot be read: {type(error).__name__}: {error}"
        findings.append(
            _whole(Kind.INVALID, "listing", layout.name(path), what, "its head says how it is written")
        )
        return ()


def _unlike_their_listing(
    layout: Layout, contracts: Sequence[Contract], files: Sequence[SchemaFile], listings: Sequence[Listing]
) -> Iterator[Finding]:
    """Yield where contracts.toml and the folders do not name the same things."""
    listing_file = layout.name(layout.schemas / "contracts.toml")

    def fault(rule: str, what: str, fix: str) -> Finding:
        return _whole(Kind.LINT, rule, listing_file, what, fix)

    present: dict[str, set[int]] = {}
    for file in files:
        present.setdefault(file.event_type, set()).add(file.version)
    for listing in listings:
        event, versions = listing.event_type, present.get(listing.event_type, set())
        if missing := set(listing.versions) - versions:
            yield fault(
                "listing", f"{event} lists version {min(missing)}, which has no file", "write or unlist it"
            )
        if listing.mode not in MODES:
            yield fault("mode", f"{event} has the mode {listing.mode!r}", f"use {', '.join(MODES)}")
        if not listing.consumers or not listing.owner:
            yield fault(
                "listing", f"{event} names no owner or no consumer", "name who breaks when it changes"
            )
        if Path(listing.schema).name != event:
            yield fault("listing", f"{event} is kept in {listing.schema}", "call the folder like the event")
        names = {c.record.full_name for c in contracts if c.event_type == event} - {listing.record}
        for name in sorted(names):
            yield fault(
                "listing", f"{event} is listed as {listing.record}, its record is {name}", "call both alike"
            )
    for event in sorted(present.keys() - {listing.event_type for listing in listings}):
        yield fault("listing", f"{event} has a contract and no topic", "list it, or nobody may write it")
    for event, found in present.items():
        if found != set(range(1, len(found) + 1)):
            numbers = ", ".join(f"v{number}" for number in sorted(found))
            yield fault("versions", f"{event} has {numbers}", "number versions 1, 2, 3, ... without a hole")


def _not_as_locked(layout: Layout, contracts: Sequence[Contract]) -> Iterator[Finding]:
    path = layout.schemas / "schemas.lock"
    try:
        entries = {(entry.event, entry.version): entry for entry in lock.read(path)}
    except lock.InvalidLock as error:
        yield _whole(Kind.INVALID, "lock", layout.name(path), str(error), error.remedy or "")
        return
    for contract in contracts:
        entry = entries.pop((contract.event_type, contract.version), None)
        name = layout.name(contract.path)
        now = lock.entry_of(contract, entry.status if entry else "released")
        if entry is None:
            yield _whole(Kind.LINT, "lock", name, "it is not in schemas.lock", "iu schemas lock")
        elif entry.status == "draft" and entry != now:
            yield _whole(
                Kind.DRIFT, "lock", name, "the draft has changed since it was locked", "iu schemas lock"
            )
        elif entry.fingerprint != now.fingerprint:
            what = (
                f"a released contract has changed: fingerprint {now.fingerprint}, locked {entry.fingerprint}"
            )
            fix = f"undo the change and write v{contract.version + 1}.avsc"
            yield _whole(Kind.LINT, "released", name, what, fix)
        elif entry.sha256 != now.sha256:
            what = "the text of a released contract has changed (docs, defaults or layout)"
            yield _whole(Kind.LINT, "released", name, what, f"undo it, or write v{contract.version + 1}.avsc")
    for event, version in entries:
        what = f"{event} v{version} is locked and its file is gone"
        yield _whole(Kind.LINT, "released", layout.name(path), what, "restore the file: old records need it")
    yield from _same_fingerprint(layout, contracts)


def _same_fingerprint(layout: Layout, contracts: Sequence[Contract]) -> Iterator[Finding]:
    first: dict[bytes, Contract] = {}
    for contract in contracts:
        other = first.setdefault(contract.fingerprint, contract)
        if other is not contract:
            what = f"it has the fingerprint of {layout.name(other.path)}: a reader cannot tell them apart"
            fix = "change something that the canonical form keeps, or drop the version"
            yield _whole(Kind.LINT, "fingerprint", layout.name(contract.path), what, fix)


def _check_golden(layout: Layout, contracts: Sequence[Contract], findings: list[Finding]) -> int:
    count = 0
    for contract in contracts:
        where = golden.folder(layout.schemas, contract)
        if (contract.event_type, contract.version) not in EVENTS:
            continue  # the model is missing; that is reported once, as drift
        try:
            cases = list(golden.cases(where))
        except (OSError, ValueError) as error:
            findings.append(
                _whole(Kind.DRIFT, "golden", layout.name(where), str(error), "write JSON in UTF-8")
            )
            continue
        count += len(cases)
        if len(cases) < golden.CASES_MIN:
            what = f"{len(cases)} golden cases, at least {golden.CASES_MIN} are asked for"
            findings.append(
                _whole(Kind.DRIFT, "golden", layout.name(where), what, "add payloads, edges first")
            )
        for case in cases:
            for fault in golden.faults(contract, case):
                fix = "iu schemas lock" if case.datum is None else "undo what changed the encoding"
                findings.append(_whole(Kind.DRIFT, "golden", layout.name(case.json_file), fault, fix))
        for path in sorted({*where.glob("*.bin")} - {case.bin_file for case in cases}):
            findings.append(
                _whole(Kind.DRIFT, "golden", layout.name(path), "it has no payload", "add the .json")
            )
    return count


def _models_differ(layout: Layout, contracts: Sequence[Contract]) -> Iterator[Finding]:
    for contract in contracts:
        name = layout.name(contract.path)
        model = EVENTS.get((contract.event_type, contract.version))
        if model is None:
            yield _whole(Kind.DRIFT, "model", name, "iu_core.events has no model of it", "add one to EVENTS")
            continue
        for path, what in drift.differences(contract.record, model):
            fix = f"correct {model.__name__} in iu_core/events.py"
            yield Finding(Kind.DRIFT, "model", name, None, path, what, fix)
    known = {(contract.event_type, contract.version) for contract in contracts}
    for event, version in EVENTS.keys() - known:
        what = f"{EVENTS[event, version].__name__} is the model of {event} v{version}, which has no contract"
        yield _whole(Kind.DRIFT, "model", "iu_core/events.py", what, "write the contract, or drop the model")

"""`iu schemas check` finds every planted fault, at its line, with what mends it.

Each test copies the real contracts, breaks the copy and checks it; the contracts as they are
must be clean, or no fault planted elsewhere could be told from theirs.
"""

import json
import re
import shutil
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError
from pydantic import create_model

from iu_core.errors import Usage
from iu_core.events import EVENTS, Int64, StructureReparented
from iu_core.resources import sql_dir
from schemas import check as checking
from schemas import lock, sql_files
from schemas.avro_types import Field, InvalidSchema, Record, String
from schemas.catalog import SCHEMAS_DIR
from schemas.check import Layout, check, contracts_in
from schemas.findings import Finding, exit_code
from schemas.sql_encoder import encoder_sql

SECONDS_MAX = 2.0  # design/40: twenty subjects of ten versions; here six of one
EVENT = "structure_child_added"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A copy of the contracts and of the SQL made from them."""
    ignored = shutil.ignore_patterns("*.py", "__pycache__", "py.typed")
    shutil.copytree(SCHEMAS_DIR, tmp_path / "schemas", ignore=ignored)
    encoders = tmp_path / "sql" / "functions" / "avro"
    shutil.copytree(sql_dir() / "functions" / "avro", encoders)
    return Layout(tmp_path, tmp_path / "schemas", encoders)


def contract_file(layout: Layout, event: str = EVENT, version: int = 1) -> Path:
    return layout.schemas / "structure" / event / f"v{version}.avsc"


def edit(path: Path, old: str, new: str, count: int = 1) -> int:
    """Replace `old`, which must be there `count` times; return the line of the first."""
    text = path.read_text()
    assert text.count(old) == count, f"{old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new))
    return text.count("\n", 0, text.index(old)) + 1


def of(rule: str, findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


def test_the_contracts_as_they_are_are_clean_and_quickly_checked(layout: Layout) -> None:
    began = time.monotonic()
    report = check(layout)
    assert time.monotonic() - began < SECONDS_MAX
    assert report.findings == ()
    assert (report.contracts, report.golden_cases >= 3 * 6, exit_code(report.findings)) == (6, True, 0)


@pytest.mark.parametrize(
    ("rule", "old", "new", "path"),
    [
        ("doc", '"doc": "SHA-256.",', '"doc": " ",', "fields[14].type"),
        ("doc", '"doc": "Its code.", ', "", "fields[10]"),
        ("enum-default", ',\n        "default": "UNKNOWN"', "", "fields[13].type.default"),
        ("namespace", '"namespace": "iu.structure"', '"namespace": "iu.structure.v1"', "namespace"),
        ("record-name", '"name": "structure_child_added"', '"name": "child_added"', "name"),
        ("uuid", ',\n        "logicalType": "uuid"', "", "fields[0].type"),
        ("uuid", '"size": 16', '"size": 15', "fields[0].type"),
        ("logical-type", "timestamp-micros", "timestamp-millis", "fields[1].type.logicalType"),
        ("logical-type", '"type": {"type": "long", "logicalType": "timestamp-micros"}',
         '"type": "long", "logicalType": "timestamp-micros"', "fields[1].logicalType"),
        ("header", "Why, in the actor's words.", "Why.", "fields[7]"),
        ("header", '"name": "incarnation"', '"name": "epoch"', "fields[3]"),
        ("named-type", '"enacted", "deprecated"]', '"enacted"]', "fields[13].type"),
        ("released", "Its code.", "Its code!", ""),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_with_file_line_path_and_a_fix(
    layout: Layout, rule: str, old: str, new: str, path: str
) -> None:
    line = edit(contract_file(layout), old, new)
    found = of(rule, check(layout).findings)
    assert [finding.path for finding in found] == [path]
    assert found[0].file == f"schemas/structure/{EVENT}/v1.avsc"
    assert found[0].line is None or abs(found[0].line - line) <= 4, (found[0].line, line)
    assert found[0].what
    assert found[0].fix
    assert exit_code(found) == 1


def test_many_faults_in_many_files_are_all_told_at_once(layout: Layout) -> None:
    edit(contract_file(layout), '"doc": "The new unit.", ', "")
    edit(contract_file(layout, "structure_reparented"), "timestamp-micros", "local-timestamp-micros")
    contract_file(layout, "structure_piece_split").write_text("{")
    (layout.schemas / "golden" / "structure_piece_merged" / "v1" / "plain.bin").write_bytes(b"")
    edit(layout.sql_encoders / "fn_iu_avro_structure_piece_merged_v1.sql", "'sources',", "'source',", count=2)
    findings = check(layout).findings
    assert {(finding.rule, Path(finding.file).as_posix().split("/")[-2]) for finding in findings} >= {
        ("doc", EVENT),
        ("released", EVENT),
        ("logical-type", "structure_reparented"),
        ("schema", "structure_reparented"),
        ("header", "structure_reparented"),
        ("json", "structure_piece_split"),
        ("golden", "v1"),
        ("sql", "avro"),
    }
    assert exit_code(findings) == 2  # the gravest: one file is no JSON at all


def test_an_invalid_schema_is_told_at_its_line(layout: Layout) -> None:
    line = edit(contract_file(layout), '["null", "Uuid"]', '["null", "Guid"]')
    (found,) = of("schema", check(layout).findings)
    assert (found.place, found.path) == (f"schemas/structure/{EVENT}/v1.avsc:{line}", "fields[11].type[1]")
    assert "'Guid'" in found.what
    assert exit_code([found]) == 2


def test_a_released_contract_that_means_something_else_names_the_next_version(layout: Layout) -> None:
    edit(contract_file(layout), '"ordinal", "doc": "Its place among its siblings, from 0.", "type": "int"',
         '"ordinal", "doc": "Its place among its siblings, from 0.", "type": "long"')  # fmt: skip
    findings = check(layout).findings
    (released,) = of("released", findings)
    assert "09450602bdcdd763" in released.what
    assert "v2.avsc" in released.fix
    # The same change shows in all that was derived: model and SQL; int and long have one datum.
    assert [(finding.rule, finding.path) for finding in findings if finding.rule in ("model", "sql")] == [
        ("model", "ordinal"),
        ("sql", ""),
    ]


def break_consistently(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widen a field of a released contract, and bring everything derived from it in line, as one change."""
    was = json.loads(contract_file(layout).read_text())
    edit(contract_file(layout), '"ordinal", "doc": "Its place among its siblings, from 0.", "type": "int"',
         '"ordinal", "doc": "Its place among its siblings, from 0.", "type": "long"')  # fmt: skip
    model = EVENTS[EVENT, 1]
    fields: dict[str, Any] = {name: (info.annotation, info) for name, info in model.model_fields.items()}
    fields["ordinal"] = (Int64, ...)
    changed = create_model("Changed", __config__=model.model_config, **fields)
    monkeypatch.setitem(EVENTS, (EVENT, 1), changed)
    (widened,) = (contract for contract in contracts_in(layout) if contract.event_type == EVENT)
    sql_files.write(layout.sql_encoders, [widened])
    datum = (layout.schemas / "golden" / EVENT / "v1" / "plain.bin").read_bytes()
    now = json.loads(contract_file(layout).read_text())
    with pytest.raises(SchemaResolutionError):  # a consumer that was built before the change
        schemaless_reader(BytesIO(datum), now, was)


def test_g12_an_incompatible_change_made_everywhere_at_once_is_refused(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G12: only the lock remembers what was released; all else is derived, and was changed with it."""
    break_consistently(layout, monkeypatch)
    findings = check(layout).findings
    assert [finding.rule for finding in findings] == ["released"]
    assert exit_code(findings) == 1


def test_g12_without_the_lock_the_same_change_would_pass(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted, the test of the test above: what was released is not compared with what is there."""
    monkeypatch.setattr(checking, "_not_as_locked", lambda *anything: ())
    break_consistently(layout, monkeypatch)
    findings = check(layout).findings
    assert exit_code(findings) == 0, findings


def test_a_draft_may_change_and_asks_to_be_locked_again(layout: Layout) -> None:
    edit(layout.schemas / "schemas.lock", '"released"', '"draft"', count=6)
    edit(contract_file(layout), "Its code.", "Its code!")
    (found,) = check(layout).findings
    assert (found.rule, found.fix, exit_code([found])) == ("lock", "iu schemas lock", 3)


def test_what_is_not_locked_is_reported_and_locking_it_is_the_fix(layout: Layout) -> None:
    path = layout.schemas / "schemas.lock"
    text = path.read_text()
    path.write_text(text[: text.rindex("\n[[contract]]")])
    (found,) = check(layout).findings
    assert (found.rule, found.file) == ("lock", "schemas/structure/structure_reparented/v1.avsc")
    path.write_text(lock.render(lock.extended(lock.read(path), contracts_in(layout), "released")))
    assert path.read_text() == text
    assert check(layout).findings == ()


def test_a_locked_contract_whose_file_is_gone_is_reported(layout: Layout) -> None:
    shutil.rmtree(layout.schemas / "structure" / "structure_reparented")
    findings = check(layout).findings
    assert [finding.what for finding in of("released", findings)] == [
        "structure_reparented v1 is locked and its file is gone"
    ]
    assert {finding.rule for finding in findings} == {"released", "listing", "model", "sql"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[contract", "Expected"),
        ('[[contract]]\nevent = "x"\n', "is no entry"),
        (None, "locked twice: structure_reparented v1"),
    ],
)
def test_a_lock_that_cannot_be_read_is_invalid(layout: Layout, text: str | None, why: str) -> None:
    path = layout.schemas / "schemas.lock"
    whole = path.read_text()
    path.write_text(whole + whole[whole.rindex("\n[[contract]]") :] if text is None else text)
    (found,) = of("lock", check(layout).findings)
    assert why in found.what
    assert exit_code([found]) == 2
    with pytest.raises(lock.InvalidLock, match=re.escape(why)):
        lock.read(path)


def test_locking_never_touches_what_was_released(layout: Layout) -> None:
    edit(contract_file(layout), "Its code.", "Its code!")
    before = lock.read(layout.schemas / "schemas.lock")
    assert lock.extended(before, contracts_in(layout), "released") == before


def test_golden_data_fails_in_the_direction_that_broke(layout: Layout) -> None:
    folder = layout.schemas / "golden" / EVENT / "v1"
    plain = json.loads((folder / "plain.json").read_text())
    (folder / "plain.json").write_text(json.dumps(plain | {"ordinal": plain["ordinal"] + 1}))
    (folder / "smallest.json").write_text(json.dumps(plain | {"ordinal": "2"}))
    (folder / "largest.bin").write_bytes((folder / "largest.bin").read_bytes()[:-1])
    (folder / "supersedes.json").unlink()
    (folder / "new.json").write_text(json.dumps(plain))
    told = {
        (Path(f.file).name, f.what.split(":")[0].split(",")[0]) for f in of("golden", check(layout).findings)
    }
    assert told == {
        ("plain.json", "the payload gives other bytes than the datum kept"),
        ("plain.json", "the datum gives another payload"),
        ("smallest.json", "the payload no longer encodes"),
        ("smallest.json", "the datum gives another payload"),
        ("largest.json", "the payload gives other bytes than the datum kept"),
        ("largest.json", "the datum no longer decodes"),
        ("supersedes.bin", "it has no payload"),
        ("new.json", "it has no datum yet"),
    }


def test_too_little_golden_data_is_a_fault(layout: Layout) -> None:
    shutil.rmtree(layout.schemas / "golden" / EVENT)
    (found,) = check(layout).findings
    assert (found.rule, found.what) == ("golden", "0 golden cases, at least 3 are asked for")


def test_sql_that_is_stale_missing_or_left_over_is_drift(layout: Layout) -> None:
    names = sorted(path.name for path in layout.sql_encoders.glob("fn_*.sql"))
    (layout.sql_encoders / names[0]).write_text("-- edited\n")
    (layout.sql_encoders / names[1]).unlink()
    (layout.sql_encoders / "fn_iu_avro_structure_vanished_v1.sql").write_text("")
    findings = check(layout).findings
    assert {(finding.rule, Path(finding.file).name, finding.what) for finding in findings} == {
        ("sql", names[0], "it is not what its contract gives"),
        ("sql", names[1], "it is missing"),
        ("sql", "fn_iu_avro_structure_vanished_v1.sql", "no contract gives it"),
    }
    assert exit_code(findings) == 3
    assert {path.name for path in sql_files.write(layout.sql_encoders, contracts_in(layout))} == set(
        names[:2]
    )
    assert [finding.what for finding in check(layout).findings] == ["no contract gives it"]


@pytest.mark.parametrize(
    ("field", "annotation", "what"),
    [
        ("old_ordinal", int, "minimum"),
        ("actor", str, "pattern"),
        ("iu_code", None, "the model lacks the field"),
        ("surplus", int, "the contract has no such field"),
    ],
)
def test_a_model_that_says_something_else_is_drift(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, field: str, annotation: Any, what: str
) -> None:
    fields: dict[str, Any] = {
        name: (info.annotation, info) for name, info in StructureReparented.model_fields.items()
    }
    fields.pop(field, None)
    if annotation is not None:
        fields[field] = (annotation, ...)
    changed = create_model("Changed", __config__=StructureReparented.model_config, **fields)
    monkeypatch.setitem(EVENTS, ("structure_reparented", 1), changed)
    found = [finding for finding in of("model", check(layout).findings) if finding.path == field]
    assert len(found) == 1
    assert what in found[0].what
    assert exit_code(found) == 3


def test_a_model_whose_fields_stand_in_another_order_is_drift(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        name: (info.annotation, info) for name, info in reversed(StructureReparented.model_fields.items())
    }
    changed = create_model("Changed", __config__=StructureReparented.model_config, **fields)
    monkeypatch.setitem(EVENTS, ("structure_reparented", 1), changed)
    (found,) = of("model", check(layout).findings)
    assert "another order: new_ordinal, " in found.what


def test_a_model_without_a_contract_and_a_contract_without_a_model_are_drift(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENTS, ("structure_vanished", 1), EVENTS["structure_reparented", 1])
    monkeypatch.delitem(EVENTS, (EVENT, 1))
    found = of("model", check(layout).findings)
    assert sorted(finding.file for finding in found) == [
        "iu_core/events.py",
        f"schemas/structure/{EVENT}/v1.avsc",
    ]


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("versions = [1]", "versions = [1, 2]", "listing"),
        ('mode = "FULL_TRANSITIVE"', 'mode = "BACKWARD"', "mode"),
        ('consumers = ["route structure_reparented", "iu verify"]', "consumers = []", "listing"),
        ('record = "iu.structure.structure_reparented"', 'record = "iu.structure.moved"', "listing"),
        ('schema = "structure/structure_reparented"', 'schema = "structure/moved"', "listing"),
    ],
)
def test_a_listing_that_does_not_fit_its_folder_is_told(
    layout: Layout, old: str, new: str, rule: str
) -> None:
    path = layout.schemas / "contracts.toml"
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    found = of(rule, check(layout).findings)
    assert [finding.file for finding in found] == ["schemas/contracts.toml"]


def test_a_contract_without_a_listing_and_an_unreadable_listing_are_told(layout: Layout) -> None:
    path = layout.schemas / "contracts.toml"
    text = path.read_text()
    path.write_text(text[: text.rindex("[topics.")])
    assert [finding.what for finding in check(layout).findings] == [
        "structure_piece_replaced has a contract and no topic"
    ]
    path.write_text("[topics")
    assert exit_code(check(layout).findings) == 2


def test_versions_have_no_hole_and_no_two_one_fingerprint(layout: Layout) -> None:
    third = contract_file(layout, version=3)
    third.write_text(contract_file(layout).read_text())
    findings = check(layout).findings
    assert [finding.what for finding in of("versions", findings)] == [f"{EVENT} has v1, v3"]
    assert [finding.file for finding in of("fingerprint", findings)] == [f"schemas/structure/{EVENT}/v3.avsc"]


def test_header_and_shared_types_are_those_of_the_newest_versions(layout: Layout) -> None:
    """An older version keeps the header it was released with; the newest must have today's."""
    text = contract_file(layout).read_text()
    contract_file(layout, version=2).write_text(text.replace("SHA-256.", "Hash.").replace("Who asked", "Who"))
    findings = check(layout).findings
    told = {(finding.rule, Path(finding.file).name) for finding in findings} & {
        (rule, f"v{version}.avsc") for rule in ("header", "named-type") for version in (1, 2)
    }
    assert told == {("header", "v2.avsc"), ("named-type", "v2.avsc")}


def test_half_of_the_contracts_is_not_worked_on(layout: Layout) -> None:
    contract_file(layout).write_text("{")
    with pytest.raises(Usage, match=f"{EVENT}/v1.avsc"):
        contracts_in(layout)


def test_a_name_too_long_for_postgresql_is_refused() -> None:
    with pytest.raises(InvalidSchema, match="longer than 63 bytes"):
        encoder_sql(Record("x" * 60, "iu.structure", (Field("a", String(), False),)), 1)

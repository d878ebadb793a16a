"""`iu schemas`: the event contracts and what is made from them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.cli.output import emit, stderr
from iu_core.errors import Usage
from iu_core.resources import sql_dir
from schemas import golden, lock, sql_files
from schemas.catalog import SCHEMAS_DIR
from schemas.check import Layout, Report, check, contracts_in
from schemas.codec import encode_with
from schemas.findings import Finding, exit_code

app = typer.Typer()

Root = Annotated[
    Path | None,
    typer.Option("--root", help="A checkout to look at; default: the one that runs.", metavar="DIR"),
]


class Against(StrEnum):
    """What released contracts are compared with."""

    LOCK = "lock"


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"


@app.command("check")
def check_command(
    against: Annotated[Against, typer.Option(help="What released contracts must equal.")] = Against.LOCK,
    style: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    root: Root = None,
) -> None:
    """Check contracts, lock, golden data, SQL encoders and models; report every fault.

    Exit code: 0 clean, 1 a rule is broken or a released contract changed, 2 no valid schema,
    3 something made from a contract differs from it. Example: iu schemas check --format json
    """
    report = check(_layout(root))
    code = exit_code(report.findings)
    value = {"against": against, "exit_code": code, "report": report}
    emit(value, as_json=as_json or style is Format.JSON, text=lambda: _as_text(report))
    raise typer.Exit(code)


@app.command("sql")
def sql_command(
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 3 if a file is stale.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    root: Root = None,
) -> None:
    """Write the SQL encoders of the contracts to sql/functions/avro. Example: iu schemas sql --check"""
    layout = _layout(root)
    contracts = contracts_in(layout)
    stale = [(layout.name(path), what) for path, what in sql_files.stale(layout.sql_encoders, contracts)]
    written = [] if check_only else [layout.name(p) for p in sql_files.write(layout.sql_encoders, contracts)]
    left = [(name, what) for name, what in stale if name not in written]
    lines = [f"wrote {name}" for name in written] + [f"{name}: {what}" for name, what in left]
    emit(
        {"written": written, "stale": [{"file": name, "what": what} for name, what in left]},
        as_json=as_json,
        text=lambda: Text("\n".join(lines) or "every SQL encoder is what its contract gives"),
    )
    raise typer.Exit(3 if left else 0)


@app.command("lock")
def lock_command(
    draft: Annotated[
        bool, typer.Option("--draft", help="Lock new contracts as drafts that may change.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    root: Root = None,
) -> None:
    """Add new contracts to schemas.lock and make the datum of new golden payloads.

    What was released is never touched. Example: iu schemas lock
    """
    layout = _layout(root)
    contracts = contracts_in(layout)
    made = []
    for contract in contracts:
        for case in golden.cases(golden.folder(layout.schemas, contract)):
            if case.datum is None:
                case.bin_file.write_bytes(encode_with(contract, case.payload))
                made.append(layout.name(case.bin_file))
    path = layout.schemas / "schemas.lock"
    before = lock.read(path)
    after = lock.extended(before, contracts, "draft" if draft else "released")
    if after != before:
        path.write_text(lock.render(after), "utf-8")
    locked = [f"{entry.event} v{entry.version} {entry.status}" for entry in after if entry not in before]
    lines = [f"locked {name}" for name in locked] + [f"made {name}" for name in made]
    emit(
        {"locked": locked, "made": made},
        as_json=as_json,
        text=lambda: Text("\n".join(lines) or "nothing is new"),
    )


def _layout(root: Path | None) -> Layout:
    if root is None:
        return Layout(SCHEMAS_DIR.parent, SCHEMAS_DIR, sql_dir() / "functions" / "avro")
    layout = Layout(root, root / "schemas", root / "sql" / "functions" / "avro")
    if not layout.schemas.is_dir():
        raise Usage(
            f"{root} is no checkout of IU Core", why="it has no folder schemas", remedy="name one with --root"
        )
    return layout


def _as_text(report: Report) -> RenderableType:
    counts = f"{report.contracts} contracts, {report.golden_cases} golden cases"
    if not report.findings:
        return Text(f"clean: {counts}")
    stderr.print(f"{counts}, {len(report.findings)} faults", highlight=False)
    return Group(*(_finding(finding) for finding in report.findings))


def _finding(finding: Finding) -> Text:
    path = f" {finding.path}" if finding.path else ""
    return Text(f"{finding.place}:{path} {finding.what} [{finding.rule}]\n  fix: {finding.fix}")

"""`iu demo`: the main job on real input, from nothing to `verify` clean."""

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.cli import route
from iu_core.cli import verify as verify_command
from iu_core.cli.demonstration.stage import Stage, stage
from iu_core.cli.demonstration.story import Outcome, Story
from iu_core.cli.output import Json, emit, stderr, table
from iu_core.errors import Usage
from iu_core.process_signals import sigterm_interrupts
from iu_core.resources import sql_dir
from iu_core.settings import load_settings

# What to type while it runs on.
TO_TRY = (
    "iu status",
    "iu explain {event}",
    'iu gate open structure --reason "try" --apply',
    'iu op deprecate pilot.iu0.test-002 --reason "try" --apply',
    'iu gate open delivery --reason "try" --apply',
    "iu verify",
    "iu gate history --limit 5",
    "iu gate close",
)


def command(
    documents: Annotated[
        Path | None, typer.Option(help="A folder whose Markdown files are cut too.", metavar="FOLDER")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Play the main job on real PostgreSQL and Kafka; everything it makes is removed again.

    Example: iu demo --documents handbook/ --keep
    """
    pages = tuple(_pages(documents))
    started = time.monotonic()
    with sigterm_interrupts(), stage(load_settings(), _tell) as set_up:
        story = Story(set_up, say=_Steps(), tell=_tell)
        outcome = story.play(pages)
        seconds = time.monotonic() - started
        emit(
            {"seconds": round(seconds, 1), "broker_is_mock": set_up.is_mock, "outcome": outcome},
            as_json=as_json,
            text=lambda: _figures(outcome, set_up, seconds),
        )
        if keep:
            _stay(set_up, outcome)


def _pages(documents: Path | None) -> Iterator[Path]:
    """Yield this repository's own Markdown pages, then those of `documents`."""
    root = sql_dir().parent
    yield from (page for page in sorted(root.rglob("*.md")) if not _is_foreign(page.relative_to(root)))
    if documents is None:
        return
    if not documents.is_dir():
        raise Usage(f"{documents} is no folder", remedy="name a folder that holds Markdown files")
    found = sorted(documents.rglob("*.md"))
    if not found:
        raise Usage(f"{documents} holds no Markdown file", remedy="files are taken by their ending, .md")
    yield from found


def _is_foreign(page: Path) -> bool:
    """Whether a page of this checkout came with a tool: hidden folders hold environments and caches."""
    return any(part.startswith(".") or part == "node_modules" for part in page.parts)


def _tell(line: str) -> None:
    stderr.print(f"  {line}", markup=False)


class _Steps:
    """Prints the title of each step with its number and the time since the first."""

    def __init__(self) -> None:
        self._number = 0
        self._started = time.monotonic()

    def __call__(self, title: str) -> None:
        self._number += 1
        at = time.monotonic() - self._started
        stderr.print(f"[bold]{self._number}. {title}[/] [dim]{at:.1f} s[/]")


def _figures(outcome: Outcome, set_up: Stage, seconds: float) -> RenderableType:
    reference = table(
        "reference state", "",
        rows=[
            ("operations and events", outcome.reference["events"]),
            ("dry_run attempts", outcome.reference["planned"]),
            ("sent attempts", outcome.reference["sent"]),
            ("projection rows", outcome.reference["projected"]),
            ("dead letters", outcome.reference["dead"]),
        ],
    )  # fmt: skip
    summary = Text(
        f"{outcome.units} units loaded; {outcome.pieces} pieces cut from {outcome.documents} documents; "
        f"{outcome.published} events published; longest close {outcome.close_ms:.0f} ms; "
        f"{seconds:.0f} s in all"
    )
    warning = (
        [Text("NOT PROVEN: the broker is a MOCK; the guarantees were not put to a test", style="bold yellow")]
        if set_up.is_mock
        else []
    )
    blank = Text("")
    return Group(
        blank, reference, blank, route.overview(outcome.routes), blank,
        verify_command.in_words(outcome.verification), blank, summary, *warning,
    )  # fmt: skip


def _stay(set_up: Stage, outcome: Outcome) -> None:
    """Say how to play with what runs, and wait for Ctrl-C."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in set_up.environment.items()]
    here = Path(sys.executable).parent
    if shutil.which("iu") != str(here / "iu"):
        lines.insert(0, f'export PATH={shlex.quote(str(here))}:"$PATH"')
    stderr.print("\n[bold]It runs on.[/] In another terminal:\n", highlight=False)
    for line in (*lines, "", *(line.format(event=outcome.deprecation) for line in TO_TRY)):
        _tell(line)
    stderr.print("\nCtrl-C ends it and removes everything.")
    try:
        while True:
            time.sleep(3_600)
    except KeyboardInterrupt:
        stderr.print("ending")

"""`iu`: mounts the groups of commands, and turns every fault into one message and one exit code."""

import importlib
import sys
import tempfile
import traceback
from typing import Final

import typer

from iu_core import __version__
from iu_core.cli import output
from iu_core.errors import ExitCode, IUError

# name → what it is for; the module of the same name holds `app` (a group) or `command`.
GROUPS: Final = {
    "services": "PostgreSQL and Kafka on this machine: up, down, status.",
    "db": "The database schema: up, down, status, verify.",
    "gate": "The switches: status, open, close, allow, revoke, history.",
    "route": "Routes: list, show, enable, disable, dry-run.",
    "op": "Structure operations on a tree; previewed unless --apply.",
    "relay": "The outbox relay: run, status, blocked, unblock, reshard, prune.",
    "consumer": "The route consumers: run.",
    "schemas": "The event contracts: check, sql, lock.",
}
COMMANDS: Final = ("status", "doctor", "explain", "verify", "demo")


def build(only: str | None = None) -> typer.Typer:
    """Return the command tree; `only` names the one group or command that is wanted.

    Importing them all takes most of a second, and a kill switch should not wait for the modules
    of commands that nobody typed.
    """
    app = typer.Typer(
        name="iu",
        help="IU Core: governed structure changes, an exactly-once relay, gated route consumers.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_version)
    for name, purpose in GROUPS.items():
        if only in (None, name):
            group = importlib.import_module(f"iu_core.cli.{name}").app
            app.add_typer(group, name=name, help=purpose, no_args_is_help=True)
    for name in COMMANDS:
        if only in (None, name):
            app.command(name)(importlib.import_module(f"iu_core.cli.{name}").command)
    return app


def _version(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
) -> None:
    if version:
        sys.stdout.write(f"iu-core {__version__}\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run `iu` and exit with a code of `iu_core.errors.ExitCode`; no traceback reaches the terminal."""
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        first = words[0] if words else None
        build(first if first in GROUPS or first in COMMANDS else None)(
            args=words
        )  # typer itself answers wrong words, with exit code 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except IUError as error:
        output.report(error, as_json="--json" in words)
        return error.exit_code
    except BrokenPipeError:
        # The reader has gone (`iu … | head`): nothing is left to say, and stdout may not be flushed.
        sys.stderr.close()
        return ExitCode.OK
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="iu-fault-", suffix=".log", delete=False) as log:
            traceback.print_exception(error, file=log)
        output.stderr.print(f"error: a fault of iu itself: {type(error).__name__}: {error}", markup=False)
        output.stderr.print(f"  why: the traceback is in {log.name}", markup=False)
        return ExitCode.FAULT
    return ExitCode.OK

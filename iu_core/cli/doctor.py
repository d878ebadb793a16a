"""`iu doctor`: say why the relay does not move, and end a transaction that is in the way."""

from contextlib import closing
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from iu_core.bus.kafka_inspection import KafkaInspection
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.names import BusNames
from iu_core.bus.watchdog import Watchdog
from iu_core.cli.context import Context
from iu_core.cli.output import Apply, Json, Reason, emit, required_reason, stderr
from iu_core.database import Role, connect
from iu_core.errors import DifferencesFound, Retryable
from iu_core.settings import Settings
from iu_core.telemetry import configure_logs, get_logger
from producers.doctor import aborting
from producers.doctor.checkup import examine
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Report, Severity, Unasked
from producers.relay.actions import record_action

log = get_logger(__name__)

_STYLES = {Severity.STOPS: "bold red", Severity.SLOWS: "bold yellow", Severity.WARNS: "cyan"}


def command(
    patience_s: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds a transaction may be open before it is told.")
    ] = Patience().open_s,
    abort_transaction: Annotated[
        str | None,
        typer.Option(
            "--abort-transaction",
            metavar="ID|TOPIC/PARTITION/PRODUCER",
            help="End this Kafka transaction; previewed unless --apply, which wants a --reason.",
        ),
    ] = None,
    reason: Reason = None,
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Say why the relay does not move: what is wrong, on what evidence, and the command against it.

    Exit 65 if something is found, 75 if a service could not be asked. Changes nothing and fences
    nobody, but with --abort-transaction.

    Example: iu doctor --json
    """
    context = Context.current()
    if abort_transaction is not None:
        _abort(context, abort_transaction, reason, apply=apply, as_json=as_json)
        return
    asked = Examination(
        context.database_url, context.bus_settings, context.settings, patience=Patience(open_s=patience_s)
    )
    with closing(asked):
        report = examine(asked)
    emit(report, as_json=as_json, text=lambda: in_words(report))
    _end(report)


def _end(report: Report) -> None:
    if report.away:
        first = report.away[0]
        raise Retryable(
            "not everything could be asked", why=first.what, remedy=first.remedy or "iu services status"
        )
    if report.findings:
        first_finding = report.findings[0]
        raise DifferencesFound(
            f"{len(report.findings)} findings", why=first_finding.what, remedy=first_finding.remedy
        )


def _abort(context: Context, target: str, reason: str | None, *, apply: bool, as_json: bool) -> None:
    """Plan, show, and with consent do it."""
    why, settings = required_reason(reason, "aborting a transaction"), context.bus_settings()
    with closing(KafkaInspection(settings, "iu-doctor")) as inspection:
        plan = aborting.plan(target, inspection, BusNames(settings.kafka.prefix))
        if apply:
            configure_logs()
            _record(context, target, why)
            log.warning("aborting transaction", target=target, reason=why)
            aborting.apply(plan, inspection, lambda name: _fence(settings, name))
    lines = aborting.in_words(plan)
    emit(
        {"target": target, "plan": plan, "reason": why, "applied": apply},
        as_json=as_json,
        text=lambda: Text("\n".join([f"{'done' if apply else 'would'}: {lines[0]}", *lines[1:]])),
    )
    if not apply and not as_json:
        stderr.print("nothing is changed yet; do it with: --apply")


def _record(context: Context, target: str, reason: str) -> None:
    """Leave the row of the audit trail, before the act."""
    settings = context.settings.database
    with connect(
        context.database_url(), Role.OWNER, settings=settings, application_name="iu-doctor"
    ) as owner:
        record_action(owner, "doctor --abort-transaction", {"target": target}, reason)


def _fence(settings: Settings, transactional_id: str) -> None:
    """Take a transactional id over, which ends its transaction, and let it go."""
    with (
        closing(Watchdog(settings.relay.watchdog_ms / 1_000)) as watchdog,
        closing(KafkaPublisher(settings, transactional_id, watchdog)) as publisher,
    ):
        publisher.open()


def in_words(report: Report) -> RenderableType:
    """Return the report for a person: the gravest first, each with evidence and remedy."""
    parts = [_finding(finding) for finding in report.findings]
    parts += [_unasked(one) for one in report.unasked]
    if not report.findings and not report.away:
        parts.append(Text("nothing found that holds the relay", style="bold green"))
    return Group(*parts)


def _finding(finding: Finding) -> Text:
    told = Text.assemble(
        (finding.severity.value.upper(), _STYLES[finding.severity]), f"  {finding.what}", style=""
    )
    for line in finding.evidence:
        told.append(f"\n       {line}")
    told.append(f"\n       remedy: {finding.remedy}")
    return told


def _unasked(one: Unasked) -> Text:
    told = Text(f"NOT ASKED  {', '.join(one.checks)}: {one.what}", style="magenta" if one.away else "dim")
    for label, line in (("why", one.why), ("remedy", one.remedy)):
        if line:
            told.append(f"\n       {label}: {line}")
    return told

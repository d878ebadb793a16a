"""`iu verify`: prove that database, topic and trees tell one story."""

from contextlib import ExitStack

from rich.console import Group, RenderableType
from rich.text import Text

from consumers.verify.report import Report
from consumers.verify.verification import Bus, verify
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit, stderr, table
from iu_core.database import Role, connect
from iu_core.errors import DifferencesFound
from producers.relay.status import ask


def command(as_json: Json = False) -> None:
    """Compare outbox, topic, decisions, projection and trees; exit 65 at a difference.

    Changes nothing, and may run while everything else does.

    Example: iu verify --json
    """
    report = run(Context.current(), quiet=as_json)
    emit(report, as_json=as_json, text=lambda: in_words(report))
    if not report.clean:
        first = report.findings[0]
        raise DifferencesFound(
            f"{len(report.findings)} rules are broken",
            why=f"{first.check}: {first.first}",
            remedy="iu explain EVENT tells the life of one event",
        )


def run(context: Context, *, quiet: bool) -> Report:
    """Run `verify` against the services of `context`."""
    settings, url, name = context.bus_settings(), context.database_url(), "iu-verify"
    found = ask(settings, url)
    with ExitStack() as opened:
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        connection = connect(url, Role.READER, settings=settings.database, application_name=name)
        opened.callback(connection.close)
        bus = Bus(reader, admin, BusNames(settings.kafka.prefix), settings.kafka.mock)
        return verify(
            connection,
            bus,
            settled=None if found.settled is None else str(found.settled),
            floor_id=found.floor_id,
            progress=(lambda line: None) if quiet else lambda line: stderr.print(f"[dim]{line}[/]"),
        )


def in_words(report: Report) -> RenderableType:
    """Return the report for a person: states by route, then the broken rules or 'clean'."""
    states = table(
        "route", "projected", "dead", "parked", "refused", "ahead", "before start",
        "unpublished", "undecided", "dry-run",
        rows=[
            (
                route.route_code, route.projected, route.dead, route.parked, route.refused, route.ahead,
                route.before_start, route.unpublished, route.undecided, route.planned,
            )
            for route in report.routes
        ],
        unless_zero=("dead", "parked", "refused", "ahead", "before start", "unpublished", "undecided"),
    )  # fmt: skip
    totals = Text(
        f"{report.events} events, {report.pruned} of them pruned; {report.published} on the topic, "
        f"{report.projected} projected; {report.units} units in {report.trees} trees folded and compared"
    )
    verdict = (
        [Text("verify: clean", style="bold green")]
        if report.clean
        else [
            Text(f"broken: {finding.check}\n  {finding.count} times; first: {finding.first}", style="red")
            for finding in report.findings
        ]
    )
    if not report.proven:
        verdict.append(
            Text("NOT PROVEN: the broker is a mock, which cannot break these rules", style="yellow")
        )
    return Group(states, totals, *verdict)

"""`iu explain`: the life of one event, in words."""

from contextlib import ExitStack
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group
from rich.text import Text

from consumers.explain import Explanation, explain
from consumers.explain.life import Decision, RouteLife
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.cli.context import Context
from iu_core.cli.output import Json, emit
from iu_core.database import Role, connect
from iu_core.errors import Usage

STYLES = {
    "delivered": "bold green",
    "dead-lettered": "bold red",
    "refused": "bold red",
    "undecided": "bold red",
    "dry-run": "cyan",
    "disabled": "dim",
}
EventRef = Annotated[str, typer.Argument(help="The event's reference, which iu op prints.", metavar="EVENT")]


def command(event: EventRef, as_json: Json = False) -> None:
    """Tell the life of one event: made by whom, published where, decided how, with what effect.

    Changes nothing.

    Example: iu explain 019206a1-3f7e-7c55-9d2e-0a4f3c1b2d6e
    """
    try:
        event_ref = UUID(event)
    except ValueError as error:
        raise Usage(
            f"{event!r} is no event reference",
            why="it is not a UUID",
            remedy="copy it from what `iu op … --apply` printed",
        ) from error
    context = Context.current()
    settings, url, name = context.bus_settings(), context.database_url(), "iu-explain"
    with ExitStack() as opened:
        connection = connect(url, Role.READER, settings=settings.database, application_name=name)
        opened.callback(connection.close)
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        found = explain(connection, reader, admin, BusNames(settings.kafka.prefix).events, event_ref)
    emit(found, as_json=as_json, text=lambda: in_words(found))


def in_words(found: Explanation) -> Group:
    """Return the life of the event for a person, from its making to its effect."""
    lines = [Text(f"event      {found.event_ref}")]
    if found.event is None:
        lines.append(Text("           the outbox has no such event; only records claim to be it", "red"))
    else:
        event = found.event
        lines[0].append(f"  {event.event_type} v{event.schema_version}")
        lines.append(
            Text(f"made       {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC, ").append(
                f"version {event.aggregate_version} of tree {event.tree_id}"
            )
        )
        if event.pruned_at is not None:
            lines.append(Text(f"pruned     {event.pruned_at:%Y-%m-%d %H:%M:%S} UTC; its digest stays"))
    if (operation := found.operation) is not None:
        subject = operation.iu_code or "a unit"
        lines.append(Text(f"by         {operation.actor}: {operation.kind} of {subject}"))
        lines.append(Text(f"because    {operation.reason}"))
    if (place := found.place) is None:
        lines.append(Text("published  not on the topic"))
    else:
        where = f"{place.topic}, partition {place.partition}, offset {place.offset}"
        lines.append(Text(f"published  {place.published_at:%Y-%m-%d %H:%M:%S} UTC, {where}"))
    for route in found.routes:
        lines += _on_route(route)
    if not found.routes:
        lines.append(Text("route      none is registered for it", style="yellow"))
    effect = (
        "none"
        if found.effect_at is None
        else f"row in iu_tree_change_log, {found.effect_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    return Group(*lines, Text(f"effect     {effect}"))


def _on_route(route: RouteLife) -> list[Text]:
    verdict = (route.verdict.upper(), STYLES.get(route.verdict, "bold yellow"))
    head = Text.assemble(f"route      {route.route_code}: ", verdict, f", {route.why}")
    return [head, *(line for decision in route.decisions for line in _decided(decision))]


def _decided(decision: Decision) -> list[Text]:
    because = ": ".join(part for part in (decision.gate, decision.reason) if part)
    lane = decision.lane.replace("_", "-")
    said = f"{lane} lane decided {decision.decision}" + (f" ({because})" if because else "")
    lines = [Text(f"           {decision.at:%Y-%m-%d %H:%M:%S} UTC, {said}")]
    for then in decision.switches:
        who = f"set by {then.login} {then.since:%Y-%m-%d %H:%M:%S}"
        why = f", because {then.reason}" if then.reason else ""
        lines.append(Text(f"             {then.key} was {then.value!r}, {who}{why}", style="dim"))
    return lines

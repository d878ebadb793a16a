"""The demo's story, step by step: inert first, then dry-run, then one gate open, then closed again.

Each step says what it does, waits until it shows in the database, and raises if it does not.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from consumers import switches
from consumers.routes import RouteState, read_routes, set_route
from consumers.switches import Gate
from consumers.verify.report import Report
from infra.local.launch import Started
from iu_core.cli import verify as verify_command
from iu_core.cli.demonstration.stage import Stage
from iu_core.database import Role
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.errors import DifferencesFound, Terminal
from iu_core.resources import sql_dir
from producers import reference_state
from producers.autocut.bridge import operations_of
from producers.autocut.markdown import cut_markdown
from producers.relay.status import ask
from producers.structure.operations import Enacted
from producers.structure.store import PgStructureStore

ACTOR: Final = "iu demo"
WAIT_S: Final = 60.0
REPARENTED: Final = "structure_reparented"
DEPRECATED: Final = "structure_piece_deprecated"
CHILD_ADDED: Final = "structure_child_added"
# design/00: what the 46 operations on the reference state leave behind.
REFERENCE: Final = {"events": 46, "planned": 45, "sent": 1, "projected": 1, "dead": 0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, in figures. `reference` are those of the reference state, as measured;
    `deprecation` is its one event that was delivered."""

    units: int
    documents: int
    pieces: int
    published: int
    reference: dict[str, int]
    deprecation: UUID
    routes: tuple[RouteState, ...]
    close_ms: float
    verification: Report


class Story:
    """Plays the steps on `stage`; `say` prints a step's title, `tell` a line beneath it."""

    def __init__(self, stage: Stage, *, say: Callable[[str], None], tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._say = say
        self._tell = tell

    def play(self, documents: Iterable[Path]) -> Outcome:
        """Play everything; raises the error of the step that failed."""
        self._say("Schema: roles, migrations, registrations")
        self._migrate()
        self._say("Reference state: 158 units, then 45 reparents and 1 deprecation as real operations")
        units, done = self._load()
        events = len(done)
        self._say("Documents: cut at their headings, added piece by piece")
        cut, pieces = self._cut(documents)
        self._say("Relay and consumers start, each a process of its own")
        relay, consumers = self._stage.start("relay", "run"), self._stage.start("consumer", "run")
        published = self._await_published(relay, events + pieces)
        self._say("Inert: a live route behind a closed gate holds, and loses nothing")
        self._inert(consumers)
        self._say("Dry-run: decided and recorded, nothing delivered")
        self._dry_run(consumers)
        self._say(f"The gate opens for {DEPRECATED}, delivers, closes")
        close_ms = self._deliver(consumers, DEPRECATED, 1)
        reference = self._reference(events)
        self._say(f"The documents go the same way: {CHILD_ADDED} from its first event on")
        self._set_route(CHILD_ADDED, enabled=True, dry_run=False, allow=True)
        close_ms = max(close_ms, self._deliver(consumers, CHILD_ADDED, pieces))
        self._say("Verify: outbox, topic, decisions, projection and folded trees tell one story")
        verification = verify_command.run(self._stage.context, quiet=True)
        if not verification.clean:
            first = verification.findings[0]
            raise DifferencesFound("verify found differences", why=f"{first.check}: {first.first}")
        return Outcome(
            units, cut, pieces, published, reference, done[-1].event_ref,
            tuple(self._routes().values()), close_ms, verification,
        )  # fmt: skip

    def _migrate(self) -> None:
        with self._stage.connection(None) as connection:
            moved = Migrator(connection, read(sql_dir())).up()
        self._tell(f"{len(moved.applied)} migrations, {len(moved.registered)} registrations: all inert")

    def _load(self) -> tuple[int, tuple[Enacted, ...]]:
        with self._stage.connection(Role.OWNER) as connection:
            units = reference_state.load(connection, actor=ACTOR, reason="the reference state")
        with self._structure_gate_open(), self._store() as store:
            done = store.run(
                reference_state.reference_operations(), actor=ACTOR, reason="the reference state"
            )
        self._tell(f"{units} units loaded with their baseline, {len(done)} operations, {len(done)} events")
        self._tell("(the predecessor has 45 events for these 46: one of its reparents left none)")
        return units, done

    def _cut(self, documents: Iterable[Path]) -> tuple[int, int]:
        count = pieces = 0
        taken: set[str] = set()
        with self._structure_gate_open(), self._store() as store:
            for path in documents:
                code = _doc_code(path, taken)
                cut = cut_markdown(path.read_bytes(), code)
                pieces += len(store.run(operations_of(cut), actor=ACTOR, reason=f"cut {path.name}"))
                count += 1
        self._tell(f"{count} documents, {pieces} pieces, {pieces} events")
        return count, pieces

    def _await_published(self, relay: Started, expected: int) -> int:
        def published() -> int:
            return ask(self._stage.context.bus_settings(), self._stage.context.database_url()).published

        self._stage.await_that(
            lambda: published() == expected, what="publishing every event", by=relay, timeout_s=WAIT_S
        )
        held = "in a mock's memory" if self._stage.is_mock else "each once, in order per tree"
        self._tell(f"{expected} events on the topic, {held}")
        return expected

    def _inert(self, consumers: Started) -> None:
        self._set_route(DEPRECATED, enabled=True, dry_run=False, allow=True)
        self._await(consumers, lambda routes: bool(routes[DEPRECATED].holds), "the hold")
        route = self._routes()[DEPRECATED]
        if route.sent or any(state.sent or state.planned for state in self._routes().values()):
            raise Terminal("something was decided behind a closed gate")
        self._tell(f"{DEPRECATED} holds: {route.why}; 0 decisions, 0 rows delivered")

    def _dry_run(self, consumers: Started) -> None:
        self._set_route(REPARENTED, enabled=True, dry_run=True, allow=False)
        wanted = reference_state.REPARENTS
        self._await(consumers, lambda routes: routes[REPARENTED].planned == wanted, "the dry-run")
        self._tell(f"{wanted} decisions recorded, 0 delivered")

    def _deliver(self, consumers: Started, route: str, expected: int) -> float:
        """Open the gate until `expected` events are delivered; return how long the close took, in ms."""
        with self._stage.connection(Role.GATEKEEPER) as connection:
            switches.open_gate(connection, Gate.DELIVERY, f"demo: deliver {route}")
            self._await(consumers, lambda routes: routes[route].sent == expected, f"delivery on {route}")
            took_ms = switches.close_gate(connection, Gate.DELIVERY)
        self._tell(f"{expected} delivered; closed again in {took_ms:.0f} ms")
        return took_ms

    def _reference(self, events: int) -> dict[str, int]:
        routes = self._routes().values()
        measured = {
            "events": events,
            "planned": sum(route.planned for route in routes),
            "sent": sum(route.sent for route in routes),
            "projected": self._projected(),
            "dead": sum(route.dead + route.parked for route in routes),
        }
        if measured != REFERENCE:
            raise Terminal("the figures are not those of the reference state", why=f"{measured}")
        return measured

    def _projected(self) -> int:
        return verify_command.run(self._stage.context, quiet=True).projected

    @contextmanager
    def _structure_gate_open(self) -> Iterator[None]:
        with self._stage.connection(Role.GATEKEEPER) as connection:
            switches.open_gate(connection, Gate.STRUCTURE, "demo: structure operations")
            try:
                yield
            finally:
                switches.close_gate(connection, Gate.STRUCTURE)

    @contextmanager
    def _store(self) -> Iterator[PgStructureStore]:
        with self._stage.connection(Role.EDITOR) as connection:
            yield PgStructureStore(connection)

    def _set_route(self, route: str, *, enabled: bool, dry_run: bool, allow: bool) -> None:
        with self._stage.connection(Role.GATEKEEPER) as connection:
            if allow:
                switches.allow(connection, route, f"demo: allow {route}")
            set_route(
                connection, route, enabled=enabled, dry_run=dry_run, reason=f"demo: {route}", apply=True
            )

    def _routes(self) -> dict[str, RouteState]:
        with self._stage.connection(Role.READER) as connection:
            return {route.route_code: route for route in read_routes(connection)}

    def _await(self, by: Started, reached: Callable[[dict[str, RouteState]], bool], what: str) -> None:
        with self._stage.connection(Role.READER) as connection:

            def asked() -> bool:
                return reached({route.route_code: route for route in read_routes(connection)})

            self._stage.await_that(asked, what=what, by=by, timeout_s=WAIT_S)


def _doc_code(path: Path, taken: set[str]) -> str:
    """Return a code for the document, its file's name in lower case; a number tells twins apart."""
    stem = "".join(c if c.isalnum() else "-" for c in path.stem.lower()).strip("-") or "document"
    base = f"{path.parent.name.lower()}.{stem}" if stem.isdigit() else stem
    code, number = base, 2
    while code in taken:
        code, number = f"{base}-{number}", number + 1
    taken.add(code)
    return code

"""A stage for restore drills: trees with a history, a dump, and what happens after it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from iu_core.bus.names import BusNames
from iu_core.errors import IUError
from producers.relay.contracts import BundledContracts
from producers.relay.rebase import preview, rebase
from producers.relay.rebase_plan import Done, Policy, Preview
from schemas.catalog import Catalog
from tests.integration.consumers.world import World, verified
from tests.integration.relay.held_topic import chain_faults
from tests.integration.sql.dump import pg_dump
from tests.integration.sql.sessions import Editor, session

ROUTE = "structure_reparented"
OTHER_ROUTE = "structure_child_added"


@dataclass(frozen=True, slots=True)
class Grove:
    """A tree in which `unit` goes to and fro between two parents: every event of that can be redone."""

    root: UUID
    here: UUID
    there: UUID
    unit: UUID

    @classmethod
    def planted(cls, editor: Editor) -> "Grove":
        """Make the tree: four events, versions 1 to 4."""
        root = editor.add(None)
        here, there = editor.add(root), editor.add(root)
        return cls(root, here, there, editor.add(here))

    def move(self, editor: Editor, times: int) -> list[UUID]:
        """Move the unit; return the events."""
        made = []
        for _ in range(times):
            at_home = self.unit in {child for child, _, _ in editor.children(self.here)}
            made.append(editor.reparent(self.unit, self.there if at_home else self.here).event_ref)
        return made


@contextmanager
def editing(url: str) -> Iterator[Editor]:
    """Yield an editor, disconnected afterwards."""
    editor = Editor(url)
    try:
        yield editor
    finally:
        editor.session.close()


@contextmanager
def world_at(url: str, world: World) -> Iterator[World]:
    """Yield `world` as it is found at `url`: the same topics, another or a restored database."""
    with session(url, None, name="a test") as admin:
        settings = world.settings.model_copy(update={"database_url": url})
        yield World(url, settings, admin)


def dump(url: str, file: Path) -> Path:
    """Dump the database of `url` with the pg_dump of its server."""
    with session(url) as asking:
        version = asking.info.server_version // 10000
    done = subprocess.run(
        [pg_dump(version), "--dbname", url, "--file", file], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return file


def restore(server: str, url: str, file: Path) -> None:
    """Make the database of `url` anew on `server`, under its own name, from a dump."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    with session(server) as admin:
        version = admin.info.server_version // 10000
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    psql = Path(pg_dump(version)).with_name("psql")
    done = subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url, "--file", file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def relays(world: World) -> IUError | None:
    """Publish what is committed; return what the relay ends with, None if that is nothing."""
    try:
        world.relay()
    except IUError as error:
        return error
    return None


def iu_environment(world: World) -> dict[str, str]:
    """Return what the relay's commands need to find `world`."""
    return world.environment | {"IU_RELAY__CLUSTER": world.settings.relay.cluster}


def previewed(world: World) -> Preview:
    """Return the preview of a rebase."""
    return preview(world.settings, world.url, Catalog.bundled())


def rebased(world: World, policy: Policy | None = None, *, abandon_rest: bool = False) -> Done:
    """Rebase, as the command does with --apply."""
    catalog = Catalog.bundled()
    return rebase(
        world.settings,
        world.url,
        BundledContracts(catalog, BusNames().events),
        catalog,
        policy=policy,
        abandon_rest=abandon_rest,
        reason="a drill",
    )


def assert_one_story(world: World) -> None:
    """Everything committed is on the topic once, in order; `verify` finds nothing; the relay goes on."""
    assert relays(world) is None
    assert chain_faults(world.url, world.settings) == []
    assert verified(world).findings == ()

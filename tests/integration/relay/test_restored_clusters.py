"""Restore drills with clusters of their own: another cluster, a point in time, a failover (G10).

The first two are stopped for and rebased, the third is not a restore: the relay goes on.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from iu_core.errors import Misconfigured
from producers.relay.rebase_plan import Policy
from tests.integration.consumers.world import World, made_world, verified
from tests.integration.relay.clusters import Cluster, await_true, make_roles, migrate, own_cluster
from tests.integration.relay.drill import (
    ROUTE,
    Grove,
    assert_one_story,
    dump,
    editing,
    previewed,
    rebased,
    relays,
    restore,
    world_at,
)
from tests.services import on_database


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with own_cluster() as made:
        yield made


def differences(world: World) -> str:
    """Return why the relay refuses to start; it must."""
    error = relays(world)
    assert isinstance(error, Misconfigured), error
    return error.why or ""


def moved(world: World, grove: Grove) -> None:
    with editing(world.url) as editor:
        grove.move(editor, 2)
    assert_one_story(world)
    world.consume(ROUTE)
    assert verified(world).findings == ()


def test_a_dump_restored_into_another_cluster(
    migrated_url: str, kafka_bootstrap: str, bus_prefix: str, cluster: Cluster, tmp_path: Path
) -> None:
    """Consumers have read the ghosts before the rebase: what was `failed` as unknown stays known."""
    with made_world(migrated_url, kafka_bootstrap, bus_prefix) as world:
        world.go_live(ROUTE)
        with editing(world.url) as editor:
            grove = Grove.planted(editor)
            grove.move(editor, 2)
            world.relay()
            world.consume(ROUTE)
            file = dump(world.url, tmp_path / "dump.sql")
            ghosts = grove.move(editor, 3)
        world.relay()
        server = cluster.start()
        make_roles(server)
        url = on_database(server, "restored")
        restore(server, url, file)
        with world_at(url, world) as there:
            assert "system identifier of the cluster" in differences(there)
            there.consume(ROUTE)
            failed = (
                "SELECT count(*) FROM iu_route_attempt WHERE event_ref = ANY (%s) AND decision = 'failed'"
            )
            assert there.one(failed, ghosts) == 3
            assert previewed(there).compared.ghosts == 3
            rebased(there, Policy.ABANDON)
            moved(there, grove)


def test_a_point_in_time(kafka_bootstrap: str, bus_prefix: str, cluster: Cluster) -> None:
    """The base backup is a cold copy; the archived log is replayed up to a restore point."""
    cluster.start()
    migrate(cluster.url)
    cluster.stop()
    archive = cluster.archive_dir()
    cluster.configure(archive_mode="on", archive_command=f"cp %p {archive}/%f")
    base = cluster.copy()
    cluster.start()
    with made_world(cluster.url, kafka_bootstrap, bus_prefix) as world:
        world.go_live(ROUTE)
        with editing(world.url) as editor:
            grove = Grove.planted(editor)
            grove.move(editor, 2)
            world.relay()
            world.admin.execute("SELECT pg_create_restore_point('drill')")
            grove.move(editor, 3)
        world.relay()
        switched = world.one("SELECT pg_walfile_name(pg_switch_wal())")
        archived = "(SELECT last_archived_wal FROM pg_stat_archiver)"
        await_true(world.url, f"{archived} >= '{switched}'")
        world.admin.close()
        cluster.stop()
        base.configure(
            archive_mode="off",
            restore_command=f"cp {archive}/%f %p",
            recovery_target_name="drill",
            recovery_target_action="promote",
        )
        base.signal_file("recovery.signal")
        url = base.start()
        await_true(url, "NOT pg_is_in_recovery()")
        with world_at(url, world) as there:
            why = differences(there)
            assert "event of outbox row" in why
            assert "system identifier" not in why
            assert previewed(there).compared.ghosts == 3
            assert rebased(there, Policy.ADOPT).adopted == 3
            moved(there, grove)


def test_a_promoted_standby_is_a_failover_and_the_relay_goes_on(
    kafka_bootstrap: str, bus_prefix: str, cluster: Cluster
) -> None:
    cluster.start()
    migrate(cluster.url)
    cluster.stop()
    standby = cluster.copy()
    primary = cluster.start()
    password = (cluster.home / "password").read_text().strip()
    port = primary.rsplit(":", 1)[1].split("/")[0]
    standby.configure(primary_conninfo=f"host=127.0.0.1 port={port} user=postgres password={password}")
    standby.signal_file("standby.signal")
    followed = standby.start()
    with made_world(primary, kafka_bootstrap, bus_prefix) as world:
        world.go_live(ROUTE)
        with editing(world.url) as editor:
            grove = Grove.planted(editor)
        world.relay()
        with editing(world.url) as editor:
            grove.move(editor, 2)
        lsn = world.one("SELECT pg_current_wal_flush_lsn()::text")
        await_true(followed, f"pg_last_wal_replay_lsn() >= '{lsn}'")
        world.admin.close()
        cluster.stop()
        with world_at(followed, world) as there:
            assert there.one("SELECT pg_promote()")
            with capture_logs() as said:
                assert relays(there) is None
            assert "failover" in [line["event"] for line in said]
            moved(there, grove)

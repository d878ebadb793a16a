"""dot_config: every change is written down, opening needs a reason, closing never does."""

from collections.abc import Iterator

import pytest

from iu_core.database import Role
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from tests.integration.sql.sessions import Session, refused, session

SET = "SELECT fn_iu_config_set(%s, %s, %s)"
TRAIL = "SELECT operation, key, old_value, new_value, reason FROM dot_config_audit WHERE key = %s ORDER BY id"


@pytest.fixture
def keeper(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url, Role.GATEKEEPER, name="iu gate") as keeper:
        yield keeper


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("iu_core.delivery_enabled", "false", "true"),
        ("iu_core.delivery_enabled", None, "true"),
        ("iu_core.structure_op_enabled", "TRUE", "true"),
        ("iu_core.delivery_enabled.http", "false", "true"),
        ("iu_core.delivery_live_routes", "", "a"),
        ("iu_core.delivery_live_routes", None, "a"),
        ("iu_core.delivery_live_routes", "a", "a, b"),
        ("iu_core.delivery_live_routes", "a,b", "b,c"),
        ("iu_core.delivery_live_routes.http", "a", "A"),
    ],
)
def test_opening_needs_a_reason(keeper: Session, key: str, old: str | None, new: str) -> None:
    keeper.execute("DELETE FROM dot_config WHERE key = %s", (key,))
    if old is not None:
        keeper.execute("SELECT set_config('iu.reason', 'the state before', false)")
        keeper.execute("INSERT INTO dot_config (key, value) VALUES (%s, %s)", (key, old))
        keeper.execute("SELECT set_config('iu.reason', '', false)")
    for reason in (None, "", "  "):
        with refused("IU006") as said:
            keeper.execute(SET, (key, new, reason))
        assert key in said.message
    upsert = (
        "INSERT INTO dot_config (key, value) VALUES (%s, %s)"
        " ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
    )
    with refused("IU006"):
        keeper.execute(upsert, (key, new))
    assert keeper.execute("SELECT value FROM dot_config WHERE key = %s", (key,)).fetchone() == (
        old if old is None else (old,)
    )
    assert keeper.execute(SET, (key, new, " because ")).fetchone() == (old,)
    assert keeper.execute(TRAIL, (key,)).fetchall()[-1][2:] == (old, new, "because")


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("iu_core.delivery_enabled", "true", "false"),
        ("iu_core.delivery_enabled", "true", "TRUE"),
        ("iu_core.delivery_enabled", "true", "true"),
        ("iu_core.delivery_live_routes", "a,b", " b ,,"),
        ("iu_core.delivery_live_routes", "a,b", ""),
        ("iu_core.some_text", "a", "true"),
    ],
)
def test_closing_needs_none(keeper: Session, key: str, old: str, new: str) -> None:
    keeper.execute(SET, (key, old, "the state before"))
    assert keeper.execute(SET, (key, new, None)).fetchone() == (old,)
    assert keeper.execute("SELECT value FROM dot_config WHERE key = %s", (key,)).fetchone() == (new,)


def test_every_change_says_who_when_from_what_to_what_and_why(keeper: Session) -> None:
    key = "iu_core.test_enabled"
    keeper.execute(SET, (key, "true", "first"))
    keeper.execute("UPDATE dot_config SET value = 'false' WHERE key = %s", (key,))
    keeper.execute("DELETE FROM dot_config WHERE key = %s", (key,))
    assert keeper.execute(TRAIL, (key,)).fetchall() == [
        ("INSERT", key, None, "true", "first"),
        ("UPDATE", key, "true", "false", None),
        ("DELETE", key, "false", None, None),
    ]
    who = keeper.execute(
        "SELECT DISTINCT login, role, application_name FROM dot_config_audit WHERE key = %s", (key,)
    ).fetchall()
    login = keeper.execute("SELECT session_user::text").fetchone()
    assert login is not None
    # The role taken, not the owner of the definer trigger.
    assert who == [(*login, "iu_gatekeeper", "iu gate")]
    with keeper.transaction():
        keeper.execute(SET, (key, "true", "second"))
        now = keeper.execute("SELECT pg_current_xact_id()::text").fetchone()
    newest = keeper.execute("SELECT xid::text FROM dot_config_audit ORDER BY id DESC LIMIT 1").fetchone()
    assert newest == now


def test_neither_the_trail_nor_the_queue_sleeps_in_a_replica(migrated_url: str) -> None:
    """Plain triggers do: a superuser could then open a gate without a trace, past the deliveries."""
    key = "iu_core.test_enabled"
    with session(migrated_url) as admin:
        admin.execute("SET session_replication_role = replica")
        with refused("IU006"):
            admin.execute("INSERT INTO dot_config (key, value) VALUES (%s, 'true')", (key,))
        with admin.transaction():
            admin.execute("INSERT INTO dot_config (key, value) VALUES (%s, 'false')", (key,))
            held = admin.execute(
                "SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                " AND (classid, objid) = (18773, 1)"
            ).fetchall()
        assert held == [("ExclusiveLock",)]
        assert admin.execute(TRAIL, (key,)).fetchall() == [("INSERT", key, None, "false", None)]


def test_the_reason_given_for_one_switch_opens_no_other(keeper: Session) -> None:
    with keeper.transaction(force_rollback=True):
        keeper.execute(SET, ("iu_core.one_enabled", "true", "for one"))
        with refused("IU006"), keeper.transaction():
            keeper.execute("INSERT INTO dot_config (key, value) VALUES ('iu_core.two_enabled', 'true')")
    with keeper.transaction(force_rollback=True):
        keeper.execute("SELECT set_config('iu.reason', 'for all of this', true)")
        keeper.execute(SET, ("iu_core.one_enabled", "false", None))
        keeper.execute("INSERT INTO dot_config (key, value) VALUES ('iu_core.two_enabled', 'true')")


def test_setting_a_switch_to_what_it_is_leaves_no_trail(keeper: Session) -> None:
    key = "iu_core.structure_op_enabled"
    assert keeper.execute(SET, (key, "false", "again")).fetchone() == ("false",)
    assert len(keeper.execute(TRAIL, (key,)).fetchall()) == 1


def test_a_switch_is_not_renamed_into_another(keeper: Session, migrated_url: str) -> None:
    keeper.execute(SET, ("iu_core.harmless", "true", None))
    with refused("IU040"):
        keeper.execute("UPDATE dot_config SET key = 'iu_core.http_enabled' WHERE key = 'iu_core.harmless'")
    with refused("22004"):
        keeper.execute(SET, ("iu_core.harmless", None, "why"))
    with session(migrated_url, Role.OWNER) as owner, refused("IU040"):
        owner.execute("TRUNCATE dot_config")


def test_registering_again_neither_closes_nor_opens(keeper: Session, migrated_url: str) -> None:
    keeper.execute(SET, ("iu_core.structure_op_enabled", "true", "a test"))
    before = keeper.execute("SELECT key, value FROM dot_config ORDER BY key").fetchall()
    trail = keeper.execute("SELECT count(*) FROM dot_config_audit").fetchone()
    with session(migrated_url) as admin:
        assert len(Migrator(admin, read(sql_dir())).up().registered) >= 3
    assert keeper.execute("SELECT key, value FROM dot_config ORDER BY key").fetchall() == before
    assert keeper.execute("SELECT count(*) FROM dot_config_audit").fetchone() == trail

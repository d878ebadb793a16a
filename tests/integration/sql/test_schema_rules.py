"""What holds for every object: owned, commented, private, bounded in what it may reach."""

from collections.abc import Iterator

import pytest

from iu_core.database import Role
from iu_core.database.assemble import named_files, stale
from iu_core.database.migration_files import read
from iu_core.database.schema_check import differences
from iu_core.resources import sql_dir
from tests.integration.sql.sessions import Editor, Session, open_gate, refused, session


@pytest.fixture
def admin(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url) as admin:
        yield admin


def test_migration_file_and_database_have_one_text_of_every_function(admin: Session) -> None:
    """Also: every object is owned by iu_owner and commented, and PUBLIC executes nothing."""
    assert stale(sql_dir()) == [], "run python -m iu_core.database.assemble"
    assert differences(admin, read(sql_dir()), sql_dir()) == ()


@pytest.mark.parametrize(
    ("damage", "place", "what"),
    [
        (
            "CREATE OR REPLACE FUNCTION fn_iu_reason() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
            "fn_iu_reason()",
            "is not the text of its file",
        ),
        (
            "GRANT EXECUTE ON FUNCTION fn_iu_reason() TO PUBLIC",
            "function fn_iu_reason()",
            "can be executed by PUBLIC",
        ),
        (
            "GRANT EXECUTE ON FUNCTION fn_iu_reason() TO iu_relay",
            "fn_iu_reason()",
            "is not the text of its file",
        ),
        (
            "DROP FUNCTION fn_iu_piece_arguments(jsonb)",
            "fn_iu_piece_arguments(jsonb)",
            "is missing in the database",
        ),
        (
            "CREATE FUNCTION fn_iu_extra() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
            "fn_iu_extra()",
            "has no file in sql/functions",
        ),
        ("ALTER TABLE iu_tree OWNER TO postgres", "table iu_tree", "is owned by postgres"),
        ("COMMENT ON COLUMN iu_tree.version IS NULL", "column iu_tree.version", "has no comment"),
        ("COMMENT ON INDEX event_outbox_xid_idx IS NULL", "index event_outbox_xid_idx", "has no comment"),
        (
            "COMMENT ON TRIGGER trg_event_outbox_append_only ON event_outbox IS NULL",
            "trigger trg_event_outbox_append_only on event_outbox",
            "has no comment",
        ),
        ("DELETE FROM iu_schema_migration WHERE number = 13", "013_delivery_seam.sql", "is not applied"),
        (
            "UPDATE iu_schema_migration SET checksum = repeat('0', 64) WHERE number = 2",
            "002_trees.sql",
            "was changed after it was applied",
        ),
    ],
)
def test_verify_finds_what_was_changed_behind_the_runner(
    admin: Session, damage: str, place: str, what: str
) -> None:
    admin.execute(damage)
    found = {(each.place, each.what) for each in differences(admin, read(sql_dir()), sql_dir())}
    assert (place, what) in found


def test_every_function_that_runs_as_its_owner_has_its_search_path_pinned(admin: Session) -> None:
    loose = admin.execute(
        """SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace AND prosecdef
              AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"""
    ).fetchall()
    assert loose == []
    invokers = admin.execute(
        """SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND NOT prosecdef"""
    ).fetchall()
    # The encoders touch no table; sql/functions/avro/avro_primitives.sql says why.
    assert {row[0] for row in invokers if not row[0].startswith("fn_iu_avro_")} == set()


def test_a_function_that_nobody_revoked_is_private_all_the_same(migrated_url: str) -> None:
    """By the owner's default privileges; PostgreSQL's own would open it to every login."""
    with session(migrated_url, Role.OWNER) as owner:
        owner.execute("CREATE FUNCTION fn_iu_forgotten() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$")
    with session(migrated_url, Role.RELAY) as somebody, pytest.raises(Exception, match="permission denied"):
        somebody.execute("SELECT fn_iu_forgotten()")


def test_the_functions_compile_with_every_extra_check(admin: Session) -> None:
    """PL/pgSQL's own: a variable that hides another, and assignments that do not fit."""
    with admin.transaction(force_rollback=True):
        admin.execute("SET LOCAL ROLE iu_owner")
        admin.execute("SET LOCAL plpgsql.extra_errors = 'all'")
        for path in named_files(sql_dir()):
            admin.execute(path.read_bytes())


def test_no_function_builds_sql_from_values(admin: Session) -> None:
    dynamic = admin.execute(
        r"""SELECT oid::regprocedure::text FROM pg_proc
             WHERE pronamespace = 'public'::regnamespace AND prosrc ~* '\mEXECUTE\M'"""
    ).fetchall()
    assert dynamic == []


@pytest.mark.parametrize(
    "table",
    [
        "dot_config_audit",
        "iu_unit_supersedes",
        "iu_tree_baseline",
        "iu_structure_operation",
        "event_outbox",
        "event_outbox_stub",
        "iu_relay_action",
    ],
)
@pytest.mark.parametrize("replica", [False, True])
def test_history_is_not_changed_even_by_a_superuser(
    admin: Session, migrated_url: str, table: str, replica: bool
) -> None:
    """With plain triggers the second half goes green for the vandal: they sleep in a replica."""
    open_gate(migrated_url)
    editor = Editor(migrated_url)
    with editor.session:
        editor.replace(editor.add(editor.add(None)))
    count = admin.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    if replica:
        admin.execute("SET session_replication_role = replica")
    column = admin.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 1 AND attidentity = ''"
        " ORDER BY attnum LIMIT 1",
        (table,),
    ).fetchone()
    assert column is not None
    for statement in (
        f"UPDATE {table} SET {column[0]} = {column[0]}",  # noqa: S608
        f"DELETE FROM {table}",  # noqa: S608
        f"TRUNCATE {table} CASCADE",
    ):
        with refused("IU040", statement) as said:
            admin.execute(statement)
        assert table in said.message
    assert admin.execute(f"SELECT count(*) FROM {table}").fetchone() == count  # noqa: S608


@pytest.mark.parametrize("table", ["iu_tree", "information_unit"])
def test_no_unit_and_no_tree_is_ever_deleted(admin: Session, table: str) -> None:
    admin.execute("SET session_replication_role = replica")
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):  # noqa: S608
        with refused("IU040", statement):
            admin.execute(statement)


def test_the_outbox_refuses_rows_that_contradict_themselves(admin: Session) -> None:
    insert = """
        INSERT INTO event_outbox (event_ref, event_type, schema_version, aggregate_id, aggregate_version,
                                  bucket, incarnation, payload, datum, payload_digest)
        SELECT gen_random_uuid(), 'structure_reparented', 1, tree, %(version)s,
               get_byte(sha256(uuid_send(tree)), 0) + %(shift)s, 1, '{}', 'x', sha256(%(digested)s)
          FROM (SELECT '11111111-1111-1111-1111-111111111111'::uuid AS tree) AS given
    """
    right = {"version": 1, "shift": 0, "digested": b"x"}
    admin.execute(insert, right)
    for wrong in ({"shift": 1}, {"digested": b"y"}, {"version": 0}, {"version": 1}):
        with pytest.raises(Exception, match=r"event_outbox_.*_(chk|uq)"):
            admin.execute(insert, right | {"version": 2} | wrong)


# What each role may do, whole: a privilege that is not listed is one too many.
TABLE_RIGHTS = {
    ("iu_editor", "information_unit"): {"SELECT"},
    ("iu_editor", "iu_tree"): {"SELECT"},
    ("iu_relay", "event_outbox"): {"SELECT"},
    ("iu_gatekeeper", "dot_config"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("iu_gatekeeper", "dot_config_audit"): {"SELECT"},
}
FUNCTION_RIGHTS = {
    "iu_editor": {
        "fn_iu_structure_op_reparent",
        "fn_iu_structure_op_add_new_piece",
        "fn_iu_structure_op_deprecate_piece",
        "fn_iu_structure_op_split",
        "fn_iu_structure_op_merge",
        "fn_iu_structure_op_replace",
    },
    "iu_relay": {
        "fn_iu_relay_dead_letter_ends",
        "fn_iu_relay_dead_letter_record",
        "fn_iu_relay_dead_letter_resolve",
    },
    "iu_reader": {"fn_iu_delivery_enabled", "fn_iu_payload_matches"},
    "iu_gatekeeper": {"fn_iu_config_set", "fn_iu_delivery_enabled"},
}
# Tables of 009 to 013, and what the consumer may execute, are held in test_delivery_*.
OURS = """('dot_config', 'dot_config_audit', 'iu_tree', 'information_unit', 'iu_unit_supersedes',
           'iu_tree_baseline', 'iu_structure_operation', 'event_outbox',
           'event_outbox_stub', 'iu_event', 'iu_relay_dead_letter', 'iu_relay_action')"""


def test_each_role_may_do_its_work_and_nothing_else(admin: Session) -> None:
    granted = admin.execute(
        f"""SELECT role.rolname, c.relname, array_agg(DISTINCT right_name)
              FROM pg_class AS c
              CROSS JOIN unnest(ARRAY['iu_relay', 'iu_consumer', 'iu_editor', 'iu_gatekeeper'])
                   AS role (rolname)
              CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                                      'TRIGGER']) AS right_name
             WHERE c.relname IN {OURS} AND c.relnamespace = 'public'::regnamespace
               AND has_table_privilege(role.rolname, c.oid, right_name)
             GROUP BY 1, 2"""  # noqa: S608
    ).fetchall()
    assert {(role, table): set(rights) for role, table, rights in granted} == TABLE_RIGHTS
    for role, expected in FUNCTION_RIGHTS.items():
        executable = admin.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND has_function_privilege(%s, oid, 'EXECUTE')",
            (role,),
        ).fetchall()
        assert {row[0] for row in executable} == expected, role


def test_the_reader_reads_everything_and_writes_nothing(admin: Session) -> None:
    rights = admin.execute(
        """SELECT relname, has_table_privilege('iu_reader', oid, 'SELECT'),
                  has_table_privilege('iu_reader', oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
             FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"""
    ).fetchall()
    assert len(rights) >= 8
    assert [row for row in rights if row[1:] != (True, False)] == []


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (Role.EDITOR, "UPDATE information_unit SET parent_id = NULL"),
        (Role.EDITOR, "SELECT FROM event_outbox"),
        (Role.EDITOR, "SELECT fn_iu_structure_op_gate()"),
        (Role.EDITOR, "SELECT fn_iu_config_set('iu_core.structure_op_enabled', 'true', 'x')"),
        (Role.EDITOR, "SELECT fn_iu_tree_baseline_load('[]', 'a', 'b')"),
        (Role.RELAY, "UPDATE event_outbox SET headers = '{}'"),
        (Role.RELAY, "SELECT FROM information_unit"),
        (Role.RELAY, "SELECT FROM dot_config"),
        (Role.RELAY, "SELECT fn_iu_structure_op_deprecate_piece(NULL, 'a', 'b')"),
        (Role.RELAY, "SELECT FROM iu_relay_dead_letter"),
        (Role.RELAY, "UPDATE iu_relay_dead_letter SET state = 'published'"),
        (Role.RELAY, "INSERT INTO iu_relay_action (command) VALUES ('x')"),
        (Role.RELAY, "SELECT fn_iu_relay_action_record('x', '{}', 'x')"),
        (Role.EDITOR, "SELECT fn_iu_relay_dead_letter_ends('x')"),
        (Role.CONSUMER, "SELECT FROM iu_relay_dead_letter"),
        (Role.CONSUMER, "SELECT FROM event_outbox"),
        (Role.CONSUMER, "SELECT FROM dot_config"),
        (Role.GATEKEEPER, "SELECT FROM event_outbox"),
        (Role.GATEKEEPER, "INSERT INTO dot_config_audit DEFAULT VALUES"),
        (Role.READER, "UPDATE iu_relay_dead_letter SET state = 'published'"),
        (Role.READER, "SELECT fn_iu_config_set('iu_core.structure_op_enabled', 'true', 'x')"),
    ],
)
def test_the_server_says_no_to_what_is_not_granted(migrated_url: str, role: Role, statement: str) -> None:
    with session(migrated_url, role) as somebody, pytest.raises(Exception, match="permission denied"):
        somebody.execute(statement)

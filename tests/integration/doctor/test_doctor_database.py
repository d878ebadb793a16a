"""What keeps events in the database: each cause is made, found, and named with its remedy."""

import threading

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from iu_core.database import Role
from producers.doctor.finding import Severity
from producers.relay.lock import LOCK_BASE, LOCK_CLASS, ShardLock
from tests.conftest import RunIu
from tests.integration.doctor.ward import DISKS, Ward, editor_of, open_writer
from tests.integration.relay.relay_process import await_that, running_relay
from tests.integration.sql.sessions import session


def test_a_system_that_works_gives_no_finding(ward: Ward, iu: RunIu) -> None:
    ward.write(5)
    ward.drain()
    with running_relay(ward.environment) as relay:
        relay.await_event("started")
        report = ward.report()
        assert (report.findings, report.unasked) == ((), ())
        done = iu("doctor", "--json", env=ward.environment)
        # A full disk of the machine is a true finding, and none of this test's.
        others = [one for one in done.json()["findings"] if one["check"] not in DISKS]
        assert others == []
        assert done.exit_code == (65 if done.json()["findings"] else 0), done.stderr


def test_a_writer_that_does_not_commit_is_named_and_the_others_flow(ward: Ward) -> None:
    ward.write(2)
    with open_writer(ward.url, "long-import") as slow:
        assert ward.drain() == 2
        ward.write(3)
        assert ward.drain() == 3
        finding = ward.only("open transactions")
        pid = slow.info.backend_pid
        assert finding.severity is Severity.SLOWS
        assert "long-import" in finding.what
        assert f"backend {pid}" in finding.what
        assert "fn_iu_structure_op_add_new_piece" in " ".join(finding.evidence)
        assert f"pg_terminate_backend({pid})" in finding.remedy
        assert ward.report("open transactions", open_s=60).findings == ()


def test_writers_that_wait_for_an_open_one_are_counted(ward: Ward) -> None:
    root = ward.write(1)
    with session(ward.url, Role.EDITOR, name="holder") as slow, session(ward.url, Role.EDITOR) as waiter:
        holder, second = editor_of(slow), editor_of(waiter)
        with slow.transaction(force_rollback=True):
            holder.add(root)
            thread = threading.Thread(target=lambda: second.add(root))
            thread.start()
            with session(ward.url) as onlooker:
                blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
                pid = (waiter.info.backend_pid,)
                await_that(lambda: onlooker.execute(blocked, pid).fetchone() == (True,), "the second waits")
            finding = ward.only("open transactions", open_s=0.0)
        thread.join(10)
    assert any(line.startswith("1 sessions wait") for line in finding.evidence)


def test_a_foreign_transaction_is_no_finding(ward: Ward) -> None:
    """It has an xid and stands for long; but it holds no event back, so it is not to blame."""
    with session(ward.url, name="report") as foreign, foreign.transaction(force_rollback=True):
        foreign.execute("CREATE TABLE of_somebody_else (n int)")
        assert ward.report("open transactions", open_s=0.0).findings == ()


def test_a_login_that_may_not_look_says_what_would_let_it(ward: Ward) -> None:
    name = conninfo_to_dict(ward.url)["dbname"]
    login = f"doctor_{name}"
    with session(ward.url) as admin:
        admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x'")
        admin.execute(f"GRANT iu_relay, iu_reader TO {login}")
    try:
        small = make_conninfo(ward.url, user=login, password="x")
        with open_writer(ward.url, "import") as slow:
            finding = ward.only("open transactions", url=small)
            assert f"backend {slow.info.backend_pid}" in finding.what
            assert f'GRANT pg_read_all_stats TO "{login}"' in " ".join(finding.evidence)
            assert "add_new_piece" not in str(finding)
    finally:
        with session(ward.url) as admin:
            admin.execute(f"DROP ROLE {login}")


def test_a_shard_that_nobody_relays_is_told_with_what_waits(ward: Ward) -> None:
    ward.drain()
    idle = ward.only("shard locks")
    assert (idle.severity, idle.remedy) == (Severity.WARNS, "iu relay run")
    ward.write(3)
    busy = ward.only("shard locks")
    assert busy.severity is Severity.STOPS
    assert "3 events wait" in busy.evidence[0]


def test_a_holder_that_gives_no_sign_of_life_is_told(ward: Ward) -> None:
    ward.drain()
    with session(ward.url, name="somebody") as holder, session(ward.url) as clock:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_BASE))
        clock.execute("SELECT pg_sleep(1.7)")
        finding = ward.only("shard locks")
        assert finding.severity is Severity.STOPS
        assert "somebody" in finding.what
        assert str(holder.info.backend_pid) in finding.remedy


def test_a_maintenance_lock_is_told_with_its_holder(ward: Ward) -> None:
    ward.drain()
    with session(ward.url, name="iu-relay-maintenance") as command:
        command.execute("SELECT pg_advisory_lock(%s, 2000)", (LOCK_CLASS,))
        finding = ward.only("shard locks")
        assert "iu-relay-maintenance" in finding.what
        assert "maintenance" in finding.what


def test_a_relay_that_holds_the_shard_and_publishes_nothing_is_told(ward: Ward) -> None:
    """It pings, so it is not frozen; what does not move is its cursor."""
    ward.write(1)
    ward.drain()
    ward.write(2)
    lock = ShardLock(lambda: session(ward.url, Role.RELAY, name="iu-relay-stuck"), 0)
    assert lock.acquire() is None
    try:
        finding = ward.only("shard locks", "progress", open_s=0.0)
        assert "iu-relay-stuck" in finding.what
        assert "publishes nothing" in finding.what
    finally:
        lock.release()


def test_a_right_that_the_relay_lacks_is_told(ward: Ward) -> None:
    ward.drain()
    with session(ward.url) as admin:
        admin.execute("REVOKE SELECT ON event_outbox FROM iu_relay")
    found = ward.report("rights of the relay", "shard locks").findings
    assert {finding.what for finding in found} == {"the relay may not read the outbox"}
    assert found[0].remedy.startswith("iu db up")


def test_a_database_that_is_not_migrated_is_told(ward: Ward, postgres_url: str) -> None:
    found = ward.report("migrations", "rights of the relay", url=postgres_url).findings
    assert found[0].severity is Severity.STOPS
    assert found[0].remedy == "iu db up"


def test_an_event_of_the_future_is_told(ward: Ward) -> None:
    root = ward.write(1)
    with session(ward.url) as owner:
        owner.execute("ALTER TABLE event_outbox DISABLE TRIGGER ALL")
        owner.execute(
            "UPDATE event_outbox SET occurred_at = now() + interval '2 hours' WHERE aggregate_id IN"
            " (SELECT tree_id FROM information_unit WHERE id = %s)",
            (root,),
        )
    finding = ward.only("times of events")
    assert finding.what == "1 events occurred in the future, by up to 2.0 h"


def test_an_abort_wants_a_reason(ward: Ward, iu: RunIu) -> None:
    assert iu("doctor", "--abort-transaction", "nobody", env=ward.environment).exit_code == 2


def test_with_the_database_away_the_broker_is_still_asked(ward: Ward, iu: RunIu) -> None:
    away = ward.environment | {"IU_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/x"}
    done = iu("doctor", "--json", env=away)
    assert done.exit_code == 75
    told = done.json()
    assert any("is not there" in finding["what"] for finding in told["findings"])
    assert [one["what"] for one in told["unasked"] if one["away"]] == [
        "PostgreSQL at 127.0.0.1:1/x does not answer"
    ]


def test_with_the_broker_away_the_database_is_still_asked(ward: Ward, iu: RunIu) -> None:
    away = ward.environment | {"IU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    with open_writer(ward.url, "import"):
        done = iu("doctor", "--patience", "0", env=away)
    assert done.exit_code == 75
    assert "import (backend" in done.stdout
    assert "nobody relays shard 0" in done.stdout
    assert "NOT ASKED" in done.stdout
    assert done.stdout.count("Kafka does not answer") == 1

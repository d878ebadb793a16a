"""What keeps events, or their readers, at the broker: each cause is made, found, and mended."""

from kafka import TopicPartition

from iu_core.bus.names import BusNames
from producers.doctor.finding import Severity
from tests.conftest import RunIu
from tests.integration.doctor.ward import Ward
from tests.integration.sql.sessions import session


def test_an_open_transaction_is_found_and_aborted_and_its_readers_go_on(ward: Ward, iu: RunIu) -> None:
    ward.write(3)
    ward.drain()
    stranger = f"{ward.settings.kafka.prefix}stranger"
    with ward.open_transaction(stranger, ward.names.events, 2):
        ward.write(8)
        ward.drain()
        before = ward.committed_ends()
        finding = ward.only("Kafka transactions")
        assert stranger in finding.what
        assert f"{ward.names.events}/2" in " ".join(finding.evidence)
        assert f"--abort-transaction {stranger}" in finding.remedy
        words = ("doctor", "--abort-transaction", stranger, "--reason", "a test")
        preview = iu(*words, env=ward.environment)
        assert preview.exit_code == 0, preview.stderr
        assert "would: abort" in preview.stdout
        assert ward.committed_ends() == before
        applied = iu(*words, "--apply", env=ward.environment)
        assert applied.exit_code == 0, applied.stderr
        assert ward.committed_ends()[2] > before[2]
        assert ward.report("Kafka transactions").findings == ()
        assert iu(*words, "--apply", env=ward.environment).exit_code == 2


def test_a_hanging_transaction_is_found_and_ended_on_its_partition(ward: Ward, iu: RunIu) -> None:
    ward.write(3)
    ward.drain()
    with ward.hanging_transaction(f"{ward.settings.kafka.prefix}gone", ward.names.events, 1):
        finding = ward.only("Kafka transactions")
        assert finding.severity is Severity.STOPS
        assert "hanging" in finding.what
        before = ward.committed_ends()
        target = finding.remedy.split()[3]
        assert target.startswith(f"{ward.names.events}/1/")
        done = iu(
            "doctor", "--abort-transaction", target, "--reason", "a test", "--apply", "--json",
            env=ward.environment,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert done.json()["applied"] is True
        assert ward.committed_ends()[1] > before[1]
        assert ward.report("Kafka transactions").findings == ()


def test_a_transaction_whose_coordinator_knows_it_is_not_ended_on_one_partition(
    ward: Ward, iu: RunIu
) -> None:
    ward.drain()
    name = f"{ward.settings.kafka.prefix}known"
    with ward.open_transaction(name, ward.names.events, 0):
        with ward.admin() as admin:
            place = TopicPartition(ward.names.events, 0)
            (producer,) = admin.describe_producers([place])[place].active_producers
        target = f"{ward.names.events}/0/{producer.producer_id}"
        done = iu(
            "doctor", "--abort-transaction", target, "--reason", "a test", "--apply", env=ward.environment
        )
        assert done.exit_code == 77
        assert name in done.stderr


def test_a_transaction_of_another_deployment_is_left_alone(ward: Ward, iu: RunIu) -> None:
    ward.drain()
    name = f"{ward.settings.kafka.prefix}other"
    elsewhere = ward.environment | {"IU_KAFKA__PREFIX": "elsewhere."}
    with ward.open_transaction(name, ward.names.events, 0):
        done = iu("doctor", "--abort-transaction", name, "--reason", "a test", "--apply", env=elsewhere)
        assert done.exit_code == 77
        assert BusNames("elsewhere.").events in done.stderr


def test_a_topic_that_is_gone_is_told(ward: Ward) -> None:
    ward.write(3)
    ward.drain()
    with ward.admin() as admin:
        admin.delete_topics([ward.names.events])
    finding = ward.only("topics", "cursor")
    assert finding.severity is Severity.STOPS
    assert f"{ward.names.events} is gone" in finding.what


def test_a_cursor_topic_that_is_gone_is_told(ward: Ward) -> None:
    ward.write(3)
    ward.drain()
    with ward.admin() as admin:
        admin.delete_topics([ward.names.cursor])
    found = ward.report("topics", "cursor").findings
    assert [finding.severity for finding in found] == [Severity.STOPS] * 2
    assert "holds no cursor" in found[1].what


def test_a_topic_made_again_is_what_the_relay_would_say(ward: Ward) -> None:
    ward.write(3)
    ward.drain()
    with ward.admin() as admin:
        admin.delete_topics([ward.names.events])
        made = {ward.names.events: {"num_partitions": 4, "replication_factor": 1}}
        admin.create_topics(made, wait_for_metadata=True, timeout_ms=10_000)
    finding = ward.only("cursor")
    assert "does not start" in finding.what
    assert any(line.startswith("topic id") for line in finding.evidence)


def test_settings_that_differ_are_told_one_by_one(ward: Ward) -> None:
    ward.drain()
    assert ward.report("topics").findings == ()
    ward.configure(ward.names.events, retention_ms="86400000")
    ward.configure(ward.names.cursor, cleanup_policy="delete")
    told = {finding.what: finding.remedy for finding in ward.report("topics").findings}
    assert set(told) == {
        f"{ward.names.events} has retention.ms=86400000, -1 is expected",
        f"{ward.names.cursor} has cleanup.policy=delete, compact is expected",
    }
    assert told[f"{ward.names.events} has retention.ms=86400000, -1 is expected"].endswith(
        "--add-config retention.ms=-1"
    )


def test_retention_that_takes_unread_records_is_dated_and_what_it_took_is_told(ward: Ward) -> None:
    ward.write(40)
    ward.drain()
    partition = max(ward.committed_ends().items(), key=lambda item: item[1])[0]
    with session(ward.url) as owner, ward.admin() as admin:
        (topic,) = admin.describe_topics([ward.names.events])
        owner.execute(
            "INSERT INTO iu_route_offset (route_code, lane, topic, partition, topic_id, start_offset,"
            " next_offset, owner) VALUES ('slow', 'live', %s, %s, %s, 0, 2, 'a test')",
            (ward.names.events, partition, str(topic["topic_id"])),
        )
    assert ward.report("retention").findings == ()
    ward.configure(ward.names.events, retention_ms="3600000")
    finding = ward.only("retention")
    assert finding.severity is Severity.WARNS
    assert finding.what.endswith(("from route slow (live) in 60 min", "in 59 min"))
    ward.configure(ward.names.events, retention_ms="-1", retention_bytes="100000")
    assert ward.report("retention", loss_within_s=0.0).findings == ()
    assert "are free" in ward.only("retention", loss_within_s=1e12).evidence[0]
    ward.configure(ward.names.events, retention_bytes="-1")
    ward.forget_before(partition, 5)
    lost = ward.only("retention")
    assert lost.severity is Severity.STOPS
    assert "3 offsets are gone" in lost.evidence[0]


def test_the_clocks_of_one_machine_agree_and_the_broker_tells_its_own(ward: Ward) -> None:
    ward.drain()
    report = ward.report("clock of the database", "clock of the broker")
    assert (report.findings, report.unasked) == ((), ())
    # Every difference is beyond a patience of less than nothing, so both were read.
    told = ward.report("clock of the database", "clock of the broker", skew_s=-10.0).findings
    assert len(told) == 2


def test_the_disks_of_broker_and_database_are_asked(ward: Ward) -> None:
    ward.drain()
    report = ward.report("disks of the brokers", "disk of the database", free_share=1.1)
    assert [finding.severity for finding in report.findings] == [Severity.WARNS] * (2 - len(report.unasked))
    assert any("of broker" in finding.what for finding in report.findings)

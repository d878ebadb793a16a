"""A call that never returns ends the process with 75, whichever call it is.

The relay runs as it is, but for one call that is made to hang; the limits are short. A call that no
guard covers would keep the process until the test's own deadline. Taking the guard out of any of these
places turns its case red.
"""

import subprocess
import sys

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from tests.integration.relay.held_topic import bus_settings, chain_faults
from tests.integration.relay.relay_process import DEADLINE_S, drain, relay_environment
from tests.integration.sql.sessions import Editor, open_gate

# The line of code that makes a call hang: where it is looked up, and what the log says was being done.
HANGING = {
    "admin: a request": ("kafka.KafkaAdminClient.describe_topics", "making the topics"),
    "reader: end of a partition": ("kafka.KafkaConsumer.end_offsets", "asking for the end"),
    "reader: a poll": ("kafka.KafkaConsumer.poll", "reading the cursors"),
    "producer: metadata": ("kafka.KafkaProducer.partitions_for", "connecting the transactional producer"),
    "producer: fencing": ("kafka.KafkaProducer.init_transactions", "opening the transactional producer"),
    "producer: flush": ("kafka.KafkaProducer.flush", "publishing"),
    "producer: commit": ("kafka.KafkaProducer.commit_transaction", "publishing"),
    "admin: closing": ("kafka.KafkaAdminClient.close", "disconnecting"),
    "database: a snapshot": ("producers.relay.outbox.PostgresOutbox.snapshot", "a step of the relay"),
    "database: rows": ("producers.relay.outbox.PostgresOutbox.rows", "a step of the relay"),
    "database: the lock": ("producers.relay.lock.ShardLock.acquire", "asking for the shard's lock"),
}
PROGRAM = """
import importlib, sys, threading
path, name = sys.argv[1].rsplit(".", 1)
module, _, owner = path.rpartition(".")
import kafka, producers.relay.service
setattr(getattr(importlib.import_module(module), owner), name, lambda *_, **__: threading.Event().wait())
from iu_core.cli.main import main
main(["relay", "run", "--until-idle"])
"""


def test_whichever_call_hangs_the_process_ends_with_75_and_says_which(
    migrated_url: str, kafka_bootstrap: str, bus_prefix: str
) -> None:
    """One after the other on one database, because what is killed must not be in the next one's way."""
    open_gate(migrated_url)
    environment = relay_environment(migrated_url, kafka_bootstrap, bus_prefix)
    editor = Editor(migrated_url)
    editor.add(None)
    drain(environment)  # so that there is a cursor to be read
    short = {"IU_RELAY__WATCHDOG_MS": "1500", "IU_DATABASE__STATEMENT_TIMEOUT_MS": "1500"}
    wrong = {}
    for kind, (call, doing) in HANGING.items():
        editor.add(None)
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, call],
            env=environment | short,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        if ended.returncode != 75 or f"watchdog: {doing}" not in ended.stderr:
            wrong[kind] = (ended.returncode, ended.stderr)
    editor.session.close()
    assert wrong == {}
    drain(environment)
    settings = bus_settings(kafka_bootstrap, bus_prefix)
    assert chain_faults(migrated_url, settings) == []
    admin = KafkaAdmin(settings, "tests")
    admin.delete(list(BusNames(bus_prefix).relay_topics))
    admin.close()

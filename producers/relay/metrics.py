"""Every metric of the relay: names, kinds, units. `docs/architecture/relay-sidecar.md` shows this list.

Each is per shard. Only the process that publishes a shard tells its backlog, so a sum over processes
counts no event twice.
"""

from typing import Final

from prometheus_client import CollectorRegistry

from iu_core.metrics import Metric

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    15.0,
    60.0,
    300.0,
    1_800.0,
    7_200.0,
)
_ROWS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)

PENDING: Final = Metric(
    "iu_outbox_pending_events", "gauge", "events", ("shard",),
    "Committed and not published, as of the last sample; counted up to 250,000",
)  # fmt: skip
OLDEST_AGE: Final = Metric(
    "iu_outbox_oldest_age_seconds", "gauge", "s", ("shard",),
    "Age of the oldest of them, 0 if there is none; grows while no sample can be had. Page on this",
)  # fmt: skip
SAMPLED: Final = Metric(
    "iu_outbox_sampled_timestamp_seconds", "gauge", "s since 1970", ("shard",),
    "When the outbox was last asked",
)  # fmt: skip
STATE: Final = Metric(
    "iu_relay_state", "gauge", "0 or 1", ("shard", "state"),
    "1 for the one state the shard is in: starting, standby, publishing, outage or stopped",
)  # fmt: skip
PUBLISHED: Final = Metric(
    "iu_events_published_total", "counter", "events", ("shard",), "Events published by this process"
)
TRANSACTIONS: Final = Metric(
    "iu_relay_transactions_total", "counter", "transactions", ("shard",),
    "Kafka transactions committed by this process",
)  # fmt: skip
TRANSACTION_ROWS: Final = Metric(
    "iu_relay_transaction_rows", "histogram", "rows", ("shard",),
    "Outbox rows that one transaction dealt with: published, or written as dead letters", _ROWS,
)  # fmt: skip
TRANSACTION_SECONDS: Final = Metric(
    "iu_relay_transaction_seconds", "histogram", "s", ("shard",),
    "One Kafka transaction, from its begin to the acknowledged commit", _SECONDS,
)  # fmt: skip
LAG: Final = Metric(
    "iu_relay_publish_lag_seconds", "histogram", "s", ("shard",),
    "From an event's occurred_at (the newest of its transaction) to the acknowledged commit in Kafka, "
    "by two clocks", _LAG_SECONDS,
)  # fmt: skip
DEAD_LETTERS: Final = Metric(
    "iu_relay_dead_letters_total", "counter", "rows", ("shard",),
    "Rows that could not be published and were written as dead letters by this process",
)  # fmt: skip
BLOCKED: Final = Metric(
    "iu_relay_blocked_trees", "gauge", "trees", ("shard",), "Trees that wait for a dead letter to be settled"
)
SESSIONS: Final = Metric(
    "iu_relay_sessions_total", "counter", "sessions", ("shard",),
    "How often the shard was taken over or resumed; many mean outages or fencing",
)  # fmt: skip
PATH: Final = Metric(
    "iu_relay_path_info", "gauge", "1", ("shard", "path"),
    "How records get to the client: batches (framed, below send) or send (slower)",
)  # fmt: skip

ALL: Final = (
    PENDING, OLDEST_AGE, SAMPLED, STATE, PUBLISHED, TRANSACTIONS, TRANSACTION_ROWS, TRANSACTION_SECONDS,
    LAG, DEAD_LETTERS, BLOCKED, SESSIONS, PATH,
)  # fmt: skip


class RelayMetrics:
    """The instruments of all shards of one process, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pending = PENDING.gauge(registry)
        self.oldest_age = OLDEST_AGE.gauge(registry)
        self.sampled = SAMPLED.gauge(registry)
        self.state = STATE.gauge(registry)
        self.published = PUBLISHED.counter(registry)
        self.transactions = TRANSACTIONS.counter(registry)
        self.transaction_rows = TRANSACTION_ROWS.histogram(registry)
        self.transaction_seconds = TRANSACTION_SECONDS.histogram(registry)
        self.lag = LAG.histogram(registry)
        self.dead_letters = DEAD_LETTERS.counter(registry)
        self.blocked = BLOCKED.gauge(registry)
        self.sessions = SESSIONS.counter(registry)
        self.path = PATH.gauge(registry)

"""How every client of this project reaches the broker: one place for addresses and time-outs.

The mock broker (librdkafka's, `settings.kafka.mock`) speaks the protocol of Kafka 2.0 and
fills in no checksums, hence the two options it needs.
"""

import socket
from collections.abc import Mapping
from typing import Any, Final

from iu_core.errors import Misconfigured, Retryable
from iu_core.settings import Settings

# CONCURRENT_TRANSACTIONS costs one back-off per transaction: 100 ms, the library's default,
# is a hundred times what the broker needs. Source: design/20.
RETRY_BACKOFF_MS: Final = 5
# The largest produce request. A whole transaction is cut into requests of at most this size,
# so it also bounds one record; the broker's own default (message.max.bytes) is the same.
REQUEST_BYTES_MAX: Final = 1_048_576
_MOCK_API_VERSION: Final = (2, 0)


def bootstrap_servers(settings: Settings) -> str:
    """Return the broker's address; raises `Misconfigured` when none is set."""
    if not settings.kafka_bootstrap_servers:
        raise Misconfigured(
            "no Kafka is known",
            why="IU_KAFKA_BOOTSTRAP_SERVERS is not set",
            remedy="set it to host:port, or start local services: iu services up",
        )
    return settings.kafka_bootstrap_servers


def require_reachable(settings: Settings) -> None:
    """Return if one of the broker's addresses accepts a connection; else raise `Retryable`.

    Asked before a client is made: kafka-python 3.0.12 would try until its bootstrap time-out
    even where the connection is refused, and leave its sockets open when it gives up.
    """
    refusals = []
    timeout_s = settings.kafka.request_timeout_ms / 1_000
    for address in bootstrap_servers(settings).split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        except ValueError as error:
            raise Misconfigured(
                f"{address.strip()!r} is not the address of a broker",
                why="host:port is expected, several separated by commas",
                remedy="correct IU_KAFKA_BOOTSTRAP_SERVERS",
            ) from error
        except OSError as error:
            refusals.append(f"{address.strip()}: {error.strerror or error}")
        else:
            return
    raise Retryable(
        "Kafka does not answer",
        why="; ".join(refusals),
        remedy="start it (`iu services up` on this machine) or correct IU_KAFKA_BOOTSTRAP_SERVERS",
    )


def connection_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """Return the options that every kind of client takes."""
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(settings),
        "client_id": client_id,
        "request_timeout_ms": settings.kafka.request_timeout_ms,
        "bootstrap_timeout_ms": settings.kafka.request_timeout_ms,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
    }
    if settings.kafka.mock:
        options["api_version"] = _MOCK_API_VERSION
    return options


def producer_options(settings: Settings, transactional_id: str) -> Mapping[str, Any]:
    """Return the options of a transactional producer; idempotence and acks=all follow from it."""
    request_timeout_ms = settings.kafka.request_timeout_ms
    return connection_options(settings, transactional_id) | {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": settings.relay.transaction_timeout_ms,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "max_block_ms": request_timeout_ms,
        "delivery_timeout_ms": max(settings.relay.watchdog_ms, request_timeout_ms + 1),
        "max_request_size": REQUEST_BYTES_MAX,
        "batch_size": REQUEST_BYTES_MAX // 2,  # of the plain path; a section is a batch of its own
        "linger_ms": 0,
        "compression_type": "lz4",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def consumer_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """Return the options of a consumer that sees committed records only and commits nothing itself."""
    options = connection_options(settings, client_id) | {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "retry_backoff_ms": 20,
        "metrics_enabled": False,
    }
    if settings.kafka.mock:
        options["check_crcs"] = False
    return options


def admin_options(settings: Settings, client_id: str) -> Mapping[str, Any]:
    """Return the options of an admin client."""
    return connection_options(settings, client_id)

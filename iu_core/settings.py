"""The one settings object, read from the environment; nothing else in the project reads it.

Prefix `IU_`. Three addresses are flat, every other setting is nested by `__`
(`IU_RELAY__POLL_MAX_MS=50`). An unknown `IU_` name is an error, because a misspelt switch
that silently keeps its default is how a system ends up open or stalled.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from iu_core.errors import Misconfigured

BadRowPolicy: TypeAlias = Literal["halt", "block_tree", "skip"]
LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Milliseconds = Annotated[int, Field(gt=0, le=3_600_000)]


def _upper(given: object) -> object:
    return given.upper() if isinstance(given, str) else given


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Group):
    """How every connection to PostgreSQL is opened."""

    connect_timeout_s: int = Field(default=5, gt=0, le=300, description="per attempt")
    statement_timeout_ms: Milliseconds = Field(default=30_000, description="bound of one statement")
    idle_in_transaction_timeout_ms: Milliseconds = Field(
        default=800, description="a stopped worker must not hold the gate's lock longer than this"
    )


class KafkaSettings(_Group):
    """Names and shape of what this system owns on the broker."""

    prefix: str = Field(
        default="", pattern=r"^[a-z0-9._-]*$", description="put before every topic and group name"
    )
    partitions: int = Field(
        default=4, ge=1, le=256, description="P of the events topic; fixed when it is made"
    )
    replication_factor: int = Field(default=1, ge=1, le=10)
    request_timeout_ms: Milliseconds = 10_000
    mock: bool = Field(
        default=False, description="the address is librdkafka's mock broker: demo only, proves nothing"
    )


class HttpSettings(_Group):
    """Health and metrics over HTTP, of the processes that go on running."""

    bind: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=0, ge=0, le=65_535, description="of /livez, /readyz, /metrics; 0: off")


class LogSettings(_Group):
    """The log, on stderr: JSON unless that is a terminal."""

    level: Annotated[LogLevel, BeforeValidator(_upper)] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR; libraries from WARNING on"
    )


class RelaySettings(_Group):
    """The outbox relay."""

    cluster: str = Field(
        default="local", pattern=r"^[A-Za-z0-9_-]+$", description="names the transactional id"
    )
    shards: int = Field(
        default=1, ge=1, le=256, description="N, at most P; changed for good only by iu relay reshard"
    )
    rows_max: int = Field(
        default=20_000, ge=1, le=100_000, description="rows of one Kafka transaction, at most"
    )
    transaction_target_ms: Milliseconds = Field(
        default=100, description="how long a transaction may take while there is a backlog; sets its size"
    )
    batch_path: Literal["auto", "send"] = Field(
        default="auto", description="auto hands framed batches to the client; send goes record by record"
    )
    bad_rows: BadRowPolicy = Field(
        default="block_tree",
        description="what a row that cannot be published does: halt, block_tree (its tree waits) or skip",
    )
    bad_rows_by_type: dict[str, BadRowPolicy] = Field(
        default_factory=dict, description='policies of single event types, as JSON: {"<event_type>": "halt"}'
    )
    poll_min_ms: Milliseconds = 1
    poll_max_ms: Milliseconds = 25
    transaction_timeout_ms: Milliseconds = 30_000
    watchdog_ms: Milliseconds = Field(
        default=20_000, description="a broker call that takes longer ends the process"
    )
    outage_max_s: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="how long a relay that was running tries again before it ends with 75",
    )
    grace_s: int = Field(
        default=10,
        ge=1,
        le=3_600,
        description="how long a relay told to stop may take before it ends with 75",
    )
    backlog_sample_s: int = Field(
        default=5, ge=1, le=3_600, description="how often the metrics ask the outbox what waits, at most"
    )


class ConsumerSettings(_Group):
    """The route consumers."""

    batch_rows_max: int = Field(default=500, ge=1, le=10_000)
    poll_ms: Milliseconds = 200
    session_timeout_ms: Milliseconds = 10_000
    watchdog_ms: Milliseconds = Field(default=30_000, description="a poll that takes longer ends the process")
    hold_recheck_ms: Milliseconds = Field(
        default=250, description="how often a held route asks its gates again"
    )
    instance: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="names this process among the members of its groups (static membership): one that "
        "comes back under the same name has its partitions again at once; unset: a dynamic member",
    )


class ServicesSettings(_Group):
    """Services that `iu services up` starts on this machine."""

    state_dir: Path = Field(default_factory=lambda: platformdirs.user_state_path("iu-core"))
    cache_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("iu-core"))


class Settings(BaseSettings):
    """Everything that can be set from outside.

    `database_url` is a libpq URL. Its login must be a member of the role a command takes
    (`iu_relay`, `iu_consumer`, …); see `iu_core.database`.
    """

    model_config = SettingsConfigDict(
        env_prefix="IU_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    database_url: str | None = None
    kafka_bootstrap_servers: str | None = None
    schema_registry_url: str | None = None
    database: DatabaseSettings = DatabaseSettings()
    kafka: KafkaSettings = KafkaSettings()
    relay: RelaySettings = RelaySettings()
    consumer: ConsumerSettings = ConsumerSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    services: ServicesSettings = ServicesSettings()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the process environment.

    `environ` is only looked at for misspelt names; values come from the process. Names that
    begin with IU_TEST_ are the test suite's.
    Raises `Misconfigured` that names every wrong variable.
    """
    known = {f"IU_{name.upper()}" for name in Settings.model_fields}
    faults = [
        f"{name}: no such setting"
        for name in sorted(os.environ if environ is None else environ)
        if name.startswith("IU_") and not name.startswith("IU_TEST_") and name.split("__")[0] not in known
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        faults += [_fault(fault) for fault in error.errors()]
    except SettingsError:
        # A variable that stands for a whole group must be JSON, and is not.
        groups = {
            f"IU_{name.upper()}"
            for name, field in Settings.model_fields.items()
            if isinstance(field.default, _Group)
        }
        faults += [
            f"{name} is a group of settings: set those in it, {name}__…"
            for name in sorted(groups & set(os.environ))
        ]
    if faults:
        raise Misconfigured(
            "the settings in the environment are wrong",
            why="; ".join(faults),
            remedy="correct or unset the variables named; .env.example lists every setting",
        )
    return settings


def _fault(fault: ErrorDetails) -> str:
    """Return a fault with the value given, except under a wrong name: that may be a secret."""
    name = f"IU_{'__'.join(str(part) for part in fault['loc']).upper()}"
    if fault["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    given = f" is {fault['input']!r}" if isinstance(fault["input"], str) else ""
    return f"{name}{given}: {fault['msg']}"

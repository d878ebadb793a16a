"""Values: where the services are, and why there."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from iu_core.errors import Misconfigured

Service = Literal["postgres", "kafka", "registry"]
Means = Literal["environment", "docker", "process", "mock"]


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A step of the discovery that was passed over, and the evidence for it."""

    means: Means
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """How one service was found: the step taken, what it gave, and why no earlier step was taken."""

    service: Service
    means: Means
    what: str
    not_taken: tuple[NotTaken, ...] = ()

    def __str__(self) -> str:
        passed = "".join(f"; {step.means}: {step.reason}" for step in self.not_taken)
        return f"{self.service}: {self.means}, {self.what}{passed}"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the services that were wanted; None for one that was not, or that has died.

    `database_url` is a libpq URL of a superuser. `kafka_is_mock`: the address is librdkafka's
    mock broker, which proves none of the guarantees.
    """

    database_url: str | None
    kafka_bootstrap_servers: str | None
    schema_registry_url: str | None
    kafka_is_mock: bool
    choices: tuple[Choice, ...]

    def postgres(self) -> str:
        """Return `database_url`; raises `Misconfigured` if there is none."""
        if self.database_url is None:
            raise Misconfigured("no PostgreSQL was asked for, or it has died", remedy="iu services up")
        return self.database_url

    def kafka(self) -> str:
        """Return `kafka_bootstrap_servers`; raises `Misconfigured` if there is none."""
        if self.kafka_bootstrap_servers is None:
            raise Misconfigured("no Kafka was asked for, or it has died", remedy="iu services up")
        return self.kafka_bootstrap_servers

    def environment(self) -> dict[str, str]:
        """Return the variables under which `iu` finds these services."""
        named = {
            "IU_DATABASE_URL": self.database_url,
            "IU_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "IU_SCHEMA_REGISTRY_URL": self.schema_registry_url,
            "IU_KAFKA__MOCK": "true" if self.kafka_is_mock else None,
        }
        return {name: value for name, value in named.items() if value is not None}


def endpoints_to_json(endpoints: Endpoints) -> dict[str, Any]:
    """Return `endpoints` in terms of JSON; `endpoints_from_json` is the inverse."""
    return dataclasses.asdict(endpoints)


def endpoints_from_json(value: Mapping[str, Any]) -> Endpoints:
    """Return the endpoints written by `endpoints_to_json`. Raises KeyError or TypeError if it is not that."""
    choices = tuple(
        Choice(**{**choice, "not_taken": tuple(NotTaken(**step) for step in choice["not_taken"])})
        for choice in value["choices"]
    )
    return Endpoints(**{**value, "choices": choices})

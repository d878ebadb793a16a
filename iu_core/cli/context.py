"""Where a command finds the database and the broker: the environment first, then the services
that `iu services up` left running on this machine."""

from dataclasses import dataclass
from functools import cached_property

from infra.local import state
from infra.local.endpoints import Endpoints
from iu_core.errors import Misconfigured
from iu_core.settings import Settings, load_settings


@dataclass(frozen=True)
class Context:
    """The settings of this process with the addresses filled in."""

    settings: Settings

    @classmethod
    def current(cls) -> "Context":
        """Read the environment. Raises `Misconfigured` naming every wrong variable."""
        return cls(load_settings())

    @cached_property
    def _left_running(self) -> Endpoints | None:
        return state.read(self.settings)

    def database_url(self) -> str:
        """Return the address of PostgreSQL; raises `Misconfigured` if none is known."""
        left = self._left_running if self.settings.database_url is None else None
        url = self.settings.database_url or (left.database_url if left else None)
        if url is None:
            raise _nowhere("PostgreSQL", "IU_DATABASE_URL")
        return url

    def bus_settings(self) -> Settings:
        """Return the settings with the broker's address (and whether it is a mock) filled in."""
        if self.settings.kafka_bootstrap_servers is not None:
            return self.settings
        left = self._left_running
        if left is None or left.kafka_bootstrap_servers is None:
            raise _nowhere("Kafka", "IU_KAFKA_BOOTSTRAP_SERVERS")
        kafka = self.settings.kafka.model_copy(update={"mock": left.kafka_is_mock})
        return self.settings.model_copy(
            update={"kafka_bootstrap_servers": left.kafka_bootstrap_servers, "kafka": kafka}
        )


def _nowhere(service: str, variable: str) -> Misconfigured:
    return Misconfigured(
        f"no {service} is known",
        why=f"{variable} is not set and no services were left running here",
        remedy=f"set {variable}, or start local services: iu services up",
    )

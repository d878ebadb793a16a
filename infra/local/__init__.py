"""PostgreSQL and Kafka for development, the demo and the tests: found, or started here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.local.endpoints import Choice, Endpoints
    from infra.local.postgres import Installation, postgres_versions
    from infra.local.running import services

__all__ = ["Choice", "Endpoints", "Installation", "postgres_versions", "services"]

# Looked up when asked for: the supervisor is a module of this package and must be up at once,
# without the database driver and the settings (0.1 s instead of 0.6 s).
_PLACES: Final = {
    "Choice": "infra.local.endpoints",
    "Endpoints": "infra.local.endpoints",
    "Installation": "infra.local.postgres",
    "postgres_versions": "infra.local.postgres",
    "services": "infra.local.running",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)

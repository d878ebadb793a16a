"""PostgreSQL and Kafka for development, the demo and the tests: found, or started here."""

from infra.local.endpoints import Choice, Endpoints
from infra.local.postgres import Installation, postgres_versions
from infra.local.running import services

__all__ = ["Choice", "Endpoints", "Installation", "postgres_versions", "services"]

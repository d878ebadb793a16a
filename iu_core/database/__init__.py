"""The one place that opens connections to PostgreSQL and says what its errors mean."""

from iu_core.database.connection import Connection, Role, connect
from iu_core.database.sqlstates import Verdict, classify, translate

__all__ = ["Connection", "Role", "Verdict", "classify", "connect", "translate"]

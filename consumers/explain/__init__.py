"""Tell the life of one event: who made it, where it stands, what each route decided, what came of it."""

from consumers.explain.life import Explanation
from consumers.explain.telling import explain

__all__ = ["Explanation", "explain"]

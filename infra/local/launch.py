"""Values: a process to start, and a process that was started. Both cross the pipe to the supervisor."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """The user a process runs as, where the caller's own will not do."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One process: what to run, where, as whom, where its output goes, how it is asked to stop.

    `stop_signal` is a name such as "SIGINT"; after `grace_s` seconds SIGKILL follows.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    log: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    grace_s: float = 10.0
    account: Account | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it in terms of JSON."""
        return {**dataclasses.asdict(self), "environment": dict(self.environment)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Launch":
        """Return what `to_json` wrote."""
        account = Account(**value["account"]) if value["account"] else None
        return cls(**{**value, "argv": tuple(value["argv"]), "account": account})


@dataclass(frozen=True, slots=True)
class Started:
    """A running process. A pid alone is not a name: `create_time` (Unix seconds) tells a reused one apart."""

    name: str
    pid: int
    create_time: float
    log: str
    stop_signal: str
    grace_s: float

"""What the doctor says: findings, questions that could not be asked, and how patient it is."""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """What a finding does to the events. In the order in which they are told."""

    STOPS = "stops"  # nothing moves, or events are lost, until somebody acts
    SLOWS = "slows"  # some events wait, others flow
    WARNS = "warns"  # nothing waits yet


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `what` is one line; `evidence` are the facts it rests on, a line each; `remedy` begins with
    a command that can be pasted. `check` is filled in by the checkup.
    """

    severity: Severity
    what: str
    evidence: tuple[str, ...]
    remedy: str
    check: str = ""


@dataclass(frozen=True, slots=True)
class Unasked:
    """A question without an answer. `away`: the service did not answer, so the picture has a hole.

    Not away: this login may not ask it, or this broker does not know it.
    """

    checks: tuple[str, ...]
    what: str
    why: str | None
    remedy: str | None
    away: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, the gravest first, and what could not be asked."""

    findings: tuple[Finding, ...]
    unasked: tuple[Unasked, ...]

    @property
    def away(self) -> tuple[Unasked, ...]:
        """The questions whose service did not answer."""
        return tuple(one for one in self.unasked if one.away)


@dataclass(frozen=True, slots=True)
class Patience:
    """From where on something is a finding.

    `open_s`: age of a transaction, in seconds. `sample_s`: how long what should move is watched.
    `skew_s`: clocks further apart. `free_share`, `free_bytes`: less room than either.
    `kept_bytes`: write-ahead log kept for a slot that nobody reads.
    `loss_within_s`: unread records that retention takes within this time.
    """

    open_s: float = 5.0
    sample_s: float = 1.0
    skew_s: float = 1.0
    free_share: float = 0.10
    free_bytes: int = 1_000_000_000
    kept_bytes: int = 1_000_000_000
    loss_within_s: float = 7 * 86_400.0


def duration(seconds: float) -> str:
    """Return `seconds` as a person says it: 4.2 s, 3 min, 5.0 h, 12 days."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3_600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.0f} days"


def size(count: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} TB"


def psql(statement: str) -> str:
    """Return the command that runs `statement` on our database."""
    return f'psql "$IU_DATABASE_URL" -c "{statement}"'

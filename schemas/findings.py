"""What `iu schemas check` says: each fault with its place, what is wrong and what mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a finding means for the exit code. Source: design/40, "Commands for CI"."""

    INVALID = "invalid"
    LINT = "lint"
    DRIFT = "drift"

    @property
    def exit_code(self) -> int:
        """2 for what is no contract at all, 1 for one that breaks a rule, 3 for copies that differ."""
        return {Kind.INVALID: 2, Kind.LINT: 1, Kind.DRIFT: 3}[self]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `file` is relative to the checkout; `path` is inside it, empty for the whole."""

    kind: Kind
    rule: str
    file: str
    line: int | None
    path: str
    what: str
    fix: str

    @property
    def place(self) -> str:
        """`file:line`, as editors take it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 without findings, else the code of the gravest: invalid, then lint, then drift."""
    present = {finding.kind for finding in findings}
    return next((kind.exit_code for kind in Kind if kind in present), 0)

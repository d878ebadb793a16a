"""The checkup: every check there is, in the order in which they are asked, and how they are run.

A check returns findings. What it raises is an answer as well: a service that is away leaves a
hole in the picture; a question that may not be asked is told with what would allow it; any
other fault of the settings or the servers is what the relay would run into, and so a finding.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from iu_core.bus.inspection import NotOffered
from iu_core.errors import IUError, Refused, Retryable
from producers.doctor import (
    clocks,
    disks,
    hanging,
    position,
    retention,
    shard_locks,
    topics,
    writers,
)
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Report, Severity, Unasked


@dataclass(frozen=True, slots=True)
class Check:
    """A question. `on_mock`: it makes sense on the mock broker, too."""

    name: str
    ask: Callable[[Examination], list[Finding]]
    on_mock: bool = True


CHECKS: Final = (
    Check("migrations", position.migrations),
    Check("rights of the relay", position.rights),
    Check("topics", topics.topics),
    Check("cursor", position.cursors),
    Check("shard locks", shard_locks.holders),
    Check("progress", shard_locks.progress),
    Check("open transactions", writers.open_writers),
    Check("prepared transactions", writers.prepared),
    Check("Kafka transactions", hanging.hanging, on_mock=False),
    Check("retention", retention.retention),
    Check("clock of the database", clocks.database_clock),
    Check("clock of the broker", clocks.broker_clock, on_mock=False),
    Check("times of events", clocks.future_events),
    Check("disks of the brokers", disks.broker_disks, on_mock=False),
    Check("disk of the database", disks.database_disk),
    Check("replication slots", writers.slots),
)
_ORDER: Final = tuple(Severity)


def examine(asked: Examination, checks: Iterable[Check] = CHECKS) -> Report:
    """Ask everything that can be asked. Raises nothing of a service; each fault is in the report."""
    findings: dict[tuple[str, str], Finding] = {}
    unasked: list[Unasked] = []
    for check in checks:
        try:
            if not check.on_mock and asked.mock:
                raise NotOffered("the broker is a mock", remedy="iu services up   # where Java or Docker is")
            found = check.ask(asked)
        except (NotOffered, Refused) as error:
            unasked.append(_unasked(check, error, away=False))
            continue
        except Retryable as error:
            unasked.append(_unasked(check, error, away=True))
            continue
        except IUError as error:
            found = [_met(error)]
        for finding in found:
            # Several checks may run into the same wall.
            findings.setdefault((finding.what, finding.remedy), replace(finding, check=check.name))
    ordered = sorted(findings.values(), key=lambda finding: _ORDER.index(finding.severity))
    return Report(tuple(ordered), _grouped(unasked))


def _met(error: IUError) -> Finding:
    return Finding(Severity.STOPS, error.what, (error.why,) if error.why else (), error.remedy or "iu status")


def _unasked(check: Check, error: IUError, *, away: bool) -> Unasked:
    return Unasked((check.name,), error.what, error.why, error.remedy, away)


def _grouped(unasked: Iterable[Unasked]) -> tuple[Unasked, ...]:
    """Put together the checks that could not be asked for the same reason."""
    groups: dict[tuple[str, str | None, bool], Unasked] = {}
    for one in unasked:
        key = (one.what, one.why, one.away)
        before = groups.get(key)
        groups[key] = one if before is None else replace(before, checks=before.checks + one.checks)
    return tuple(groups.values())

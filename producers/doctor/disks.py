"""Family 6: disks that are full, or nearly.

Of the brokers' directories the broker itself tells (KIP-827). PostgreSQL does not tell how much
room it has; only where its data lie on this machine the file system is asked.
"""

import ipaddress
import shutil
from pathlib import Path
from typing import Final

from iu_core.bus.inspection import LogDir, NotOffered
from iu_core.errors import Refused
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, size

_WHERE: Final = "SELECT current_setting('data_directory'), host(inet_server_addr())"


def broker_disks(asked: Examination) -> list[Finding]:
    """Find directories of a broker that are failed or full."""
    return [
        finding for directory in asked.inspection.log_dirs() for finding in judge(directory, asked.patience)
    ]


def judge(directory: LogDir, patience: Patience) -> list[Finding]:
    """Return a finding if a broker's directory is offline or has too little room."""
    what = f"{directory.path} of broker {directory.broker}"
    if directory.error is not None:
        return [
            Finding(
                Severity.STOPS,
                f"the directory {what} is offline",
                (directory.error, "the partitions on it have no leader, or one replica less"),
                f"df -h {directory.path}   # on the broker's machine; mend the disk, then restart the broker",
            )
        ]
    if directory.usable_bytes is None or not directory.total_bytes:
        return []
    return _room(what, directory.path, directory.usable_bytes, directory.total_bytes, patience)


def database_disk(asked: Examination) -> list[Finding]:
    """Find out how much room PostgreSQL's data directory has, if it is on this machine.

    Raises `NotOffered` if it is elsewhere, or if we may not ask.
    """
    try:
        ((path, address),) = asked.rows(_WHERE)
    except Refused as error:
        login = asked.login.info.user
        raise NotOffered(
            "PostgreSQL does not let us ask where its data lie",
            why=error.what,
            remedy=f'as an administrator: GRANT pg_monitor TO "{login}"',
        ) from error
    here = address is None or ipaddress.ip_address(address).is_loopback
    if not here or not _is_directory(path):
        raise NotOffered(
            "PostgreSQL's data do not lie on this machine, or not where we may look",
            why=f"{path} of {address or 'a local socket'}",
            remedy=f"df -h {path}   # on the database's machine",
        )
    room = shutil.disk_usage(path)
    return _room(f"{path} of PostgreSQL", path, room.free, room.total, asked.patience)


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def _room(what: str, path: str, usable: int, total: int, patience: Patience) -> list[Finding]:
    share = usable / total
    if share >= patience.free_share and usable >= patience.free_bytes:
        return []
    return [
        Finding(
            Severity.WARNS if usable else Severity.STOPS,
            f"the disk under {what} has {size(usable)} left",
            (f"{share:.1%} of {size(total)}; a server whose disk is full stops, and the relay with it",),
            f"df -h {path}   # on that machine; make room or move the data",
        )
    ]

"""The directories a set of services lives in, and whether another user can reach them."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.local.launch import Account
from iu_core.errors import Misconfigured

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where data, logs and downloads go.

    `durable`: data must survive a crash of the machine (fsync on). `throwaway`: data is removed
    when the services end; logs stay, because a message may point at them.
    """

    state_dir: Path
    log_dir: Path
    cache_dir: Path
    durable: bool = True
    throwaway: bool = False

    def log(self, name: str) -> Path:
        """Return the path of the log of `name`, its directory made."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return self.log_dir / f"{name}.log"


def unprivileged_account() -> Account | None:
    """Return the user PostgreSQL is to run as: None (ourselves) unless we are root, whom it refuses.

    Raises `Misconfigured` if we are root and this machine has none of `UNPRIVILEGED`.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Misconfigured(
        "PostgreSQL does not run as root, and there is no other user to run it as",
        why=f"none of the users {', '.join(UNPRIVILEGED)} exists",
        remedy="run the command as an ordinary user, or set IU_DATABASE_URL",
    )


def can_reach(path: Path, account: Account | None) -> bool:
    """Tell whether `account` may enter directory `path`; a directory above it may be closed to it."""
    if account is None:
        return os.access(path, os.X_OK)
    # The kernel is asked as that user: modes alone miss access lists and mount options.
    shell = shutil.which("sh", path=os.defpath) or "sh"
    entered = subprocess.run(
        [shell, "-c", 'cd "$0"', str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=10,
    )
    return entered.returncode == 0


def reachable_directory(wanted: Path, account: Account | None) -> Path:
    """Make and return `wanted`, or a place of the same meaning that `account` can enter.

    The substitute lies under the directory for temporary files, under a name derived from
    `wanted`, so that the next call finds it again. Raises `Misconfigured` if somebody else
    already owns that name.
    """
    wanted.mkdir(parents=True, exist_ok=True, mode=0o711)
    if can_reach(wanted, account):
        return wanted
    digest = hashlib.sha256(str(wanted.resolve()).encode()).hexdigest()[:12]
    substitute = Path(tempfile.gettempdir()) / f"iu-core-{os.geteuid()}-{digest}"
    substitute.mkdir(exist_ok=True, mode=0o711)
    status = substitute.lstat()
    # The directory for temporary files is open to all: do not move into a house somebody else built.
    if substitute.is_symlink() or status.st_uid != os.geteuid() or not can_reach(substitute, account):
        raise Misconfigured(
            f"{wanted} cannot be reached by user {account.name if account else '?'}",
            why=f"and {substitute}, the place to go instead, is not ours or is closed too",
            remedy="set IU_SERVICES__STATE_DIR to a directory every user may enter",
        )
    return substitute

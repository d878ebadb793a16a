"""A command acts in the place of the relay: the running relay steps aside, and comes back.

The command takes the maintenance lock of each shard, (18773, 2000 + shard). A relay asks for
that lock with each ping of its own; when it is held, the relay finishes its transaction, lets
go of the shard and stands by. Then the command takes the relay's lock, too, so that no other
relay starts in between. Both are locks of one session that ends itself soon after this process
stops, so a killed or frozen command keeps nobody out.

Order: all maintenance locks by shard, then all relay locks by shard. Two commands meet on the
first of these and wait there; a relay never waits for anything.

As everywhere the locks are courtesy. Inside the block the command opens the shard's
transactional producer; that fences whatever still runs, and is what the command's own
transaction stands or falls by.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from iu_core.database import Connection, Role, connect
from iu_core.errors import Retryable
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from producers.relay.lock import LOCK_BASE, MAINTENANCE_BASE, PingedSession

log = get_logger(__name__)

_POLL_S: Final = 0.05


@contextmanager
def maintained(
    settings: Settings,
    database_url: str,
    shards: Sequence[int],
    *,
    wait_s: float = 10.0,
    application_name: str = "iu-relay-maintenance",
) -> Iterator[None]:
    """Hold `shards` in the relay's place for the length of the block.

    Raises `Retryable` that names the holder when a relay or another command has not let go
    within `wait_s` seconds; then nothing is held.
    """

    def open_session() -> Connection:
        return connect(
            database_url, Role.RELAY, settings=settings.database, application_name=application_name
        )

    ordered = sorted(set(shards))
    session = PingedSession(open_session)
    try:
        session.keep_alive()
        give_up_at = time.monotonic() + wait_s
        for base in (MAINTENANCE_BASE, LOCK_BASE):
            for shard in ordered:
                _take(session, base, shard, give_up_at, wait_s)
        yield
        if session.lost:
            log.warning("maintenance lock lost", shards=ordered)
    finally:
        session.close()


def _take(session: PingedSession, base: int, shard: int, give_up_at: float, wait_s: float) -> None:
    while not session.take(base, shard):
        if time.monotonic() > give_up_at:
            other = session.holder(base, shard) or "a session that is just leaving"
            raise Retryable(
                f"shard {shard} is held by {other}, which has not let go within {wait_s:.0f} s",
                why="a relay steps aside after its transaction; another command keeps it to its end",
                remedy="try again; if it hangs, end that process: what it had begun is rolled back by Kafka",
            )
        time.sleep(_POLL_S)

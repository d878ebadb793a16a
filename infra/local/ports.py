"""Free ports on the loopback, and questions a port can be asked."""

import socket
import struct
from collections.abc import Callable
from typing import TypeVar

from iu_core.errors import Terminal

LOOPBACK = "127.0.0.1"
PORT_ATTEMPTS = 4
# As PostgreSQL and the JVM say it, and as the Docker engine does.
PORT_TAKEN = ("ddress already in use", "port is already allocated")
ANSWER_BYTES_MAX = 1_000_000

T = TypeVar("T")


def free_ports(count: int) -> tuple[int, ...]:
    """Return `count` different ports that nothing listens on at this moment.

    Another process may take one before we do; `with_free_ports` starts over then.
    """
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((LOOPBACK, 0))
        return tuple(int(one.getsockname()[1]) for one in held)
    finally:
        for one in held:
            one.close()


def is_free(port: int) -> bool:
    """Tell whether we could listen on `port` now. A connection in TIME_WAIT does not count."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def with_free_ports(
    count: int,
    begin: Callable[[tuple[int, ...]], T],
    *,
    preferred: tuple[int, ...] = (),
    propose: Callable[[int], tuple[int, ...]] = free_ports,
) -> T:
    """Call `begin` with `count` ports; again with others while it fails because one was taken meanwhile.

    `preferred` (those of last time) come first if all are free. At most `PORT_ATTEMPTS` tries.
    """
    for attempt in range(1, PORT_ATTEMPTS + 1):
        keep = attempt == 1 and len(preferred) == count and all(map(is_free, preferred))
        try:
            return begin(preferred if keep else propose(count))
        except Terminal as error:
            if attempt == PORT_ATTEMPTS or not any(mark in (error.why or "") for mark in PORT_TAKEN):
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Tell whether somebody accepts a connection there."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False


def kafka_is_ready(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Tell whether a broker answers there and counts at least one broker (itself) as usable.

    Asks Metadata v1 for no topic at all. An open port is not enough: a KRaft broker opens it while
    it is still fenced, and refuses to make topics then. Source: the Kafka protocol guide,
    Metadata (key 3): request = array of topics; response = correlation id, array of brokers, …
    """
    correlation = 1
    request = struct.pack(">hhihi", 3, 1, correlation, -1, 0)
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= length <= ANSWER_BYTES_MAX:
                return False
            echoed, brokers = struct.unpack(">ii", _read(connection, length)[:8])
            return bool(echoed == correlation and brokers >= 1)
    except OSError:
        return False


def _read(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the other side closed the connection")
        received += chunk
    return received

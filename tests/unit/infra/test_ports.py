"""Free ports, and what happens when somebody else takes one in between."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.local.ports import (
    LOOPBACK,
    PORT_ATTEMPTS,
    answers,
    free_ports,
    is_free,
    kafka_is_ready,
    with_free_ports,
)
from iu_core.errors import Terminal

TAKEN = Terminal("x did not come up", why="FATAL: could not bind: Address already in use")


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield int(server.getsockname()[1])


def test_the_ports_given_are_different_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.create_server((LOOPBACK, port)):
            assert not is_free(port)


def test_a_port_that_is_taken_in_between_is_given_up_for_another() -> None:
    tried = []

    def begin(ports: tuple[int, ...]) -> int:
        tried.append(ports)
        if len(tried) < 3:
            raise TAKEN
        return ports[0]

    proposals = iter([(1001,), (1002,), (1003,)])
    assert with_free_ports(1, begin, propose=lambda count: next(proposals)) == 1003
    assert tried == [(1001,), (1002,), (1003,)]


def test_ports_that_are_always_taken_end_the_trying() -> None:
    tried = []

    def begin(ports: tuple[int, ...]) -> None:
        tried.append(ports)
        raise TAKEN

    with pytest.raises(Terminal, match="did not come up"):
        with_free_ports(2, begin)
    assert len(tried) == PORT_ATTEMPTS


def test_another_failure_is_not_tried_again() -> None:
    tried = []

    def begin(ports: tuple[int, ...]) -> None:
        tried.append(ports)
        raise Terminal("x did not come up", why="FATAL: data directory has wrong ownership")

    with pytest.raises(Terminal):
        with_free_ports(1, begin)
    assert len(tried) == 1


def test_the_ports_of_last_time_are_taken_again_if_they_are_free() -> None:
    (port,) = free_ports(1)
    assert with_free_ports(1, lambda ports: ports, preferred=(port,)) == (port,)


def test_a_port_of_last_time_that_is_taken_is_not() -> None:
    with listening() as port:
        assert with_free_ports(1, lambda ports: ports, preferred=(port,)) != (port,)


def test_nobody_answers_on_a_free_port() -> None:
    (port,) = free_ports(1)
    assert not answers(LOOPBACK, port)
    assert not kafka_is_ready(LOOPBACK, port)


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        pytest.param(struct.pack(">ii", 1, 1), True, id="one usable broker"),
        pytest.param(struct.pack(">ii", 1, 0), False, id="fenced: no usable broker"),
        pytest.param(struct.pack(">ii", 7, 1), False, id="answer to another question"),
    ],
)
def test_a_broker_is_ready_when_it_counts_itself(answer: bytes, ready: bool) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(struct.pack(">i", len(answer)) + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert kafka_is_ready(LOOPBACK, int(server.getsockname()[1])) is ready
        thread.join(5)


def test_something_else_on_the_port_is_no_broker() -> None:
    """It accepts and says nothing: the question is bounded."""
    with listening() as port:
        assert answers(LOOPBACK, port)
        assert not kafka_is_ready(LOOPBACK, port, timeout_s=0.2)

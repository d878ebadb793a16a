"""A TCP proxy on the loopback that does to a connection what a network may do.

  cut      both ends see an orderly end; `reset` sends RST instead
  freeze   bytes are accepted and none is forwarded, both ways, until `thaw`: a partition
  delay    every piece waits a while before it is forwarded
  shut     new connections are reset until `admit`

On a Kafka connection it can also lose one commit: `lose_commit` waits for the next EndTxn request
(API key 26) and swallows either the request or the broker's answer to it, then cuts. To whoever asked
both look the same; in the second case the transaction is committed. Source: the Kafka protocol
guide, request header (size, API key, API version, correlation id) and response header.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from infra.local.ports import LOOPBACK

END_TXN = 26
CONNECT_TIMEOUT_S = 5.0
_PIECE_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)
_REQUEST_HEADER = struct.Struct(">hhi")  # API key, API version, correlation id

Loss = Literal["request", "answer"]


@dataclass(eq=False)
class _Link:
    """One connection: the client's end, the server's end, and the answer that must not come back."""

    client: socket.socket
    server: socket.socket
    swallow: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def end(self, *, reset: bool = False) -> None:
        """Close both ends; the pumps notice by their next call."""
        self.ended.set()
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                end.close()


class TcpProxy:
    """Forwards `port` on the loopback to `upstream` (a port there); safe to steer from any thread.

    `upstream` may be set after the proxy listens: a broker must be told the proxy's port first.
    `kafka`: cut the stream into requests and answers, so that `lose_commit` works.
    """

    def __init__(self, upstream: int | None = None, *, kafka: bool = False) -> None:
        self.upstream = upstream
        self.delay_s = 0.0
        self._kafka = kafka
        self._flowing = threading.Event()
        self._flowing.set()
        self._shut = False
        self._loss: Loss | None = None
        self._lost = threading.Event()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def __enter__(self) -> "TcpProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self, *, reset: bool = False) -> int:
        """End every connection; returns how many there were."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.end(reset=reset)
        return len(links)

    def freeze(self) -> None:
        """Forward nothing from now on."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward what has waited, and go on."""
        self._flowing.set()

    def shut(self) -> None:
        """Reset every connection, and every new one."""
        self._shut = True
        self.cut(reset=True)

    def admit(self) -> None:
        """Take connections again."""
        self._shut = False

    def lose_commit(self, loss: Loss) -> None:
        """Swallow the next EndTxn or the answer to it, and shut the proxy there and then."""
        self._lost.clear()
        self._loss = loss

    def await_loss(self, timeout_s: float) -> bool:
        """Return whether a commit was lost within `timeout_s` seconds."""
        return self._lost.wait(timeout_s)

    def close(self) -> None:
        """Stop listening and end every connection. Idempotent."""
        self._shut = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flowing.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._shut or self.upstream is None:
                    raise ConnectionRefusedError("the proxy is shut")
                server = socket.create_connection((LOOPBACK, self.upstream), CONNECT_TIMEOUT_S)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            for pump in (self._to_server, self._to_client):
                threading.Thread(target=self._pump, args=(pump, link), daemon=True).start()

    def _pump(self, pump: Callable[[_Link], None], link: _Link) -> None:
        try:
            pump(link)
        except OSError:
            pass
        finally:
            link.end()
            with self._lock:
                self._links.discard(link)

    def _to_server(self, link: _Link) -> None:
        for piece in self._pieces(link.client):
            if self._kafka and self._loss is not None:
                key, _, correlation = _REQUEST_HEADER.unpack_from(piece, 4)
                if key == END_TXN:
                    loss, self._loss = self._loss, None
                    if loss == "request":
                        self._lose()
                        return
                    link.swallow = correlation
            self._forward(piece, link.server, link)

    def _to_client(self, link: _Link) -> None:
        for piece in self._pieces(link.server):
            if link.swallow is not None and struct.unpack_from(">i", piece, 4)[0] == link.swallow:
                self._lose()
                return
            self._forward(piece, link.client, link)

    def _lose(self) -> None:
        self.shut()
        self._lost.set()

    def _forward(self, piece: bytes, end: socket.socket, link: _Link) -> None:
        if self.delay_s:
            link.ended.wait(self.delay_s)
        self._flowing.wait()
        end.sendall(piece)

    def _pieces(self, end: socket.socket) -> Iterator[bytes]:
        """Yield what comes in: whole messages of Kafka, or whatever there is."""
        if not self._kafka:
            while piece := end.recv(_PIECE_BYTES):
                yield piece
            return
        while len(size := self._exactly(end, 4)) == 4:
            message = self._exactly(end, struct.unpack(">i", size)[0])
            yield size + message

    @staticmethod
    def _exactly(end: socket.socket, count: int) -> bytes:
        """Return `count` bytes, fewer at the end of the stream."""
        received = bytearray()
        while len(received) < count and (piece := end.recv(count - len(received))):
            received += piece
        return bytes(received)

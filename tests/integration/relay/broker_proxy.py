"""A broker behind a wire that can be cut: forwards, holds everything back, or refuses connections.

The broker tells its clients where it listens, and they would go round the proxy. So in every
answer the broker's address is replaced by the proxy's: the port that follows the host's name.
Answers are taken frame by frame; the replacement is as long as what it replaces.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class BrokerProxy:
    """Listens on `address`; `hold` and `release` act on every connection there is and will be."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._broker = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self.address = f"{host}:{self._port}"
        self._told = host.encode() + struct.pack(">i", int(port))
        self._instead = host.encode() + struct.pack(">i", self._port)
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self.held = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Forward nothing from now on; connections stay open, and new ones are accepted."""
        self._open.clear()

    def release(self) -> None:
        """Forward again, also what was held back."""
        self._open.set()

    def refuse(self) -> None:
        """Accept no connection any more, and cut those there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._broker)
            except OSError:
                return
            self._sockets += [client, broker]
            for source, target, rewrite in ((client, broker, False), (broker, client, True)):
                threading.Thread(target=self._pump, args=(source, target, rewrite), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, rewrite: bool) -> None:
        with suppress(OSError):
            while frame := self._frame(source):
                if not self._open.is_set():
                    self.held += 1
                self._open.wait()
                target.sendall(frame.replace(self._told, self._instead) if rewrite else frame)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _frame(source: socket.socket) -> bytes:
        size = _exactly(source, 4)
        return size + _exactly(source, struct.unpack(">i", size)[0]) if size else b""

    def await_held(self, deadline_s: float = 30.0) -> None:
        """Return once something is being held back."""
        give_up_at = time.monotonic() + deadline_s
        while not self.held:
            assert time.monotonic() < give_up_at, "nothing was sent"
            time.sleep(0.01)


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := source.recv(count - len(parts))):
            return b""
        parts += part
    return bytes(parts)


@contextmanager
def proxied(bootstrap: str) -> Iterator[BrokerProxy]:
    """A proxy before the broker at `bootstrap`; cut with the block."""
    proxy = BrokerProxy(bootstrap)
    try:
        yield proxy
    finally:
        proxy.refuse()
        proxy.release()

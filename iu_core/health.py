"""Health and metrics of a long-running process over HTTP, one port: `/livez`, `/readyz`, `/metrics`.

Whoever restarts processes asks `/livez`, whoever counts on them `/readyz`. Both answer 200 or 503
with a JSON body that says why. The answers come from memory: a probe never asks a database or a
broker, so a dependency that is away cannot get a healthy process killed.

The server is the standard library's, a thread for each request: a handful of requests a minute
need no more, and a library that hangs in the worker's thread does not keep it from answering.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any, Final, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from iu_core.errors import Misconfigured
from iu_core.settings import HttpSettings
from iu_core.telemetry import get_logger

log = get_logger(__name__)

_REQUEST_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe; `details` is shown beside it and must be JSON."""

    holds: bool
    details: Mapping[str, object]


class Probed(Protocol):
    """What can be asked how it is. Called from threads of the server; must not wait for anything."""

    def live(self) -> Verdict:
        """Say whether the process still works at all; if not, it should be killed."""

    def ready(self) -> Verdict:
        """Say whether it does its job, or would at once."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Without a name look-up of our own address, which may take seconds where there is no resolver.
    request_queue_size = 16

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_TIMEOUT_S

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing: a probe every few seconds is no news."""

    def address_string(self) -> str:
        return str(self.client_address[0])


def application(probed: Probed, registry: CollectorRegistry) -> WSGIApplication:
    """Return the WSGI application of the three paths."""
    metrics: WSGIApplication = make_wsgi_app(registry)
    probes: dict[str, Callable[[], Verdict]] = {"/livez": probed.live, "/readyz": probed.ready}

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", "GET or HEAD")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in probes:
            return _plain(start_response, "404 Not Found", "/livez, /readyz or /metrics")
        verdict = probes[path]()
        body = json.dumps({path[1:]: verdict.holds} | dict(verdict.details)).encode() + b"\n"
        status = "200 OK" if verdict.holds else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return respond


def _plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


@contextmanager
def serving(settings: HttpSettings, probed: Probed, registry: CollectorRegistry) -> Iterator[int | None]:
    """Answer on `settings.bind` and `settings.port` within the block; yields the port, None if it is off.

    Raises `Misconfigured` if the port cannot be had.
    """
    if settings.port == 0:
        yield None
        return
    server_class = _ServerV6 if ":" in settings.bind else _Server
    try:
        server = make_server(
            settings.bind, settings.port, application(probed, registry), server_class, _Handler
        )
    except OSError as error:
        raise Misconfigured(
            f"no HTTP server can listen on {settings.bind}, port {settings.port}",
            why=error.strerror or str(error),
            remedy="set IU_HTTP__PORT to a free port (0: off), IU_HTTP__BIND to an address of this machine",
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    log.info("serving", bind=settings.bind, port=server.server_port, paths="/livez /readyz /metrics")
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=1)

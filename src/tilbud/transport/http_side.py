"""The HTTP side: /metrics for Prometheus, /livez and /readyz for whoever restarts and routes.

What holds: it has its own port and its own threads, so a failing or slow scrape never touches a
decision; it only reads. Every request is bounded in time, and so is the number of connections.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

_TIMEOUT_S = 10.0
_CONNECTIONS_MAX = 16
_TOLD_MAX = 10


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a connection, and a bounded number of them: more are closed at once."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._free = threading.BoundedSemaphore(_CONNECTIONS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = threading.Timer(_TIMEOUT_S, _hang_up, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was closed meanwhile
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: scrapes are no news."""


class HttpSide:
    """Serves the HTTP side from threads of its own.

    `ready` says why not, or "" when it is; `missing` what is wrong with campaign files that are not served,
    which is no reason to send the calls of the others elsewhere.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        ready: Callable[[], str],
        missing: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        metrics = make_wsgi_app(registry)

        def respond(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/metrics":
                return metrics(environ, start)  # type: ignore[no-any-return]  # untyped WSGI
            if path == "/livez":
                return _text(start, "200 OK", "alive")
            if path == "/readyz":
                reason = ready()
                if reason:
                    return _text(start, "503 Service Unavailable", reason)
                return _text(start, "200 OK", "\n".join(["ready", *_told(missing())]))
            return _text(start, "404 Not Found", "try /metrics, /livez or /readyz")

        self._server = make_server(host, port, respond, server_class=_Server, handler_class=_Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_TIMEOUT_S)


def _told(missing: Sequence[str]) -> list[str]:
    told = [f"not served: {problem}" for problem in missing[:_TOLD_MAX]]
    return told + [f"and {len(missing) - _TOLD_MAX} more"] * (len(missing) > _TOLD_MAX)


def _text(start: StartResponse, status: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]

"""The HTTP side: /metrics for Prometheus, /livez and /readyz for whoever restarts and routes.

What holds: it has its own port, thread and event loop, so a failing or slow scrape never touches a decision;
it only reads. Probes are answered by that loop, scrapes made by threads of their own, so that a scrape that
hangs keeps no probe waiting. A request gets so long and no longer; where there are too many connections the
oldest ends for the newest, so that whoever opens them and says nothing keeps nobody out. Some descriptors are
kept back for when the process has no more.

What it does not do: keep a connection for a second request, or read a request's body.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import os
import socket
import threading
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import gzip_accepted
from prometheus_client.registry import Collector

from tilbud.domain.limits import Limits
from tilbud.telemetry.exposition import exposition

_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
_METHODS = ("GET", "HEAD")
_GZIP_LEVEL = 4  # a third of the time that the highest takes
_Headers = list[tuple[str, str]]
_Response = tuple[str, _Headers, bytes]


class HttpSide:
    """Serves the HTTP side from a thread of its own; raises OSError where the address cannot be had.

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
        self._listener = _listener(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._ready = ready
        self._missing = missing
        self._scrapes = _Scrapes(registry)
        self._spare: list[int] = []
        self._open: dict[socket.socket, asyncio.Task[None]] = {}  # the oldest first
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(Limits.http_answer_s)

    def _run(self) -> None:
        self._loop.set_exception_handler(lambda _loop, _context: None)  # a connection that broke is no news
        self._keep_spare()
        self._listen()
        self._loop.run_forever()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._loop.run_until_complete(self._end_all())
        self._loop.close()
        for descriptor in self._spare:
            os.close(descriptor)

    async def _end_all(self) -> None:
        if serving := tuple(self._open.values()):
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(Limits.http_accepted_at_once):
            try:
                accepted, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR and self._spare:
                    os.close(self._spare.pop())
                    continue
                self._end_oldest()
                self._loop.remove_reader(self._listener)  # else it would be asked again at once, for ever
                self._loop.call_later(Limits.http_pause_s, self._listen)
                return
            if len(self._open) >= Limits.http_connections_max:
                self._end_oldest()
            accepted.setblocking(False)
            self._open[accepted] = self._loop.create_task(self._serve(accepted))

    def _end_oldest(self) -> None:
        for oldest in self._open:
            self._open.pop(oldest).cancel()  # which closes it
            return

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._spare) < Limits.http_spare_descriptors:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(Limits.http_request_s):
                head = await self._head(connection)
            response = await self._answer(head)
            async with asyncio.timeout(Limits.http_answer_s):
                await self._loop.sock_sendall(connection, _written(head, response))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # whoever asked has left, or takes too long
        finally:
            self._open.pop(connection, None)
            connection.close()
            self._keep_spare()

    async def _head(self, connection: socket.socket) -> bytes:
        """Return a request up to its empty line."""
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            read = await self._loop.sock_recv(connection, Limits.http_head_bytes_max)
            head += read
            if not read or len(head) > Limits.http_head_bytes_max:
                raise asyncio.IncompleteReadError(head[:0], None)
        return head

    async def _answer(self, head: bytes) -> _Response:
        method, target, headers = _read(head)
        if method not in _METHODS:
            return _text("405 Method Not Allowed", "only GET and HEAD", [("Allow", "GET, HEAD")])
        path, _, query = target.partition("?")
        if path == "/metrics":
            return await self._scrapes.make(query, headers)
        if path == "/livez":
            return _text("200 OK", "alive")
        if path == "/readyz":
            reason = self._ready()
            if reason:
                return _text("503 Service Unavailable", reason)
            return _text("200 OK", "\n".join(["ready", *_missing_lines(self._missing())]))
        return _text("404 Not Found", "try /metrics, /livez or /readyz")


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address[0] == "::":  # every address, those of IPv4 too, whatever the system's default is
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(Limits.http_connections_max)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class _Scrapes:
    """Makes scrapes in threads; so many at a time, also where some never end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._free = threading.BoundedSemaphore(Limits.http_scrapes_max)

    async def make(self, query: str, headers: dict[str, str]) -> _Response:
        if not self._free.acquire(blocking=False):
            return _text("503 Service Unavailable", "too many scrapes at once; scrape less often")
        loop = asyncio.get_running_loop()
        made: asyncio.Future[_Response] = loop.create_future()

        def scrape() -> None:
            try:
                response = self._scrape(query, headers)
            except Exception:  # noqa: BLE001 - a collector of anybody's; a scrape must not end the thread silently
                response = _text("500 Internal Server Error", "the metrics could not be collected")
            finally:
                self._free.release()
            with contextlib.suppress(RuntimeError):  # it stopped meanwhile
                loop.call_soon_threadsafe(tell, response)

        def tell(response: _Response) -> None:
            if not made.done():
                made.set_result(response)

        try:
            threading.Thread(target=scrape, name="scrape", daemon=True).start()
        except RuntimeError:  # there can be no more threads
            self._free.release()
            return _text("503 Service Unavailable", "no thread to scrape with; try again")
        try:
            return await asyncio.wait_for(made, Limits.http_answer_s)
        except TimeoutError:
            return _text("503 Service Unavailable", "the metrics took too long to collect")

    def _scrape(self, query: str, headers: dict[str, str]) -> _Response:
        registry: Collector = self._registry
        if names := parse_qs(query).get("name[]"):
            registry = self._registry.restricted_registry(names)
        body, content_type = exposition(registry, headers.get("accept", ""))
        sent = [("Content-Type", content_type)]
        if gzip_accepted(headers.get("accept-encoding", "")):
            body = gzip.compress(body, _GZIP_LEVEL)
            sent.append(("Content-Encoding", "gzip"))
        return "200 OK", sent, body


def _read(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return method, target and headers, whatever the bytes are."""
    first, *lines = head.decode("latin-1").splitlines()
    method, target, *_ = [*first.split(), "", ""]
    named = (line.partition(":") for line in lines)
    return method, target, {name.strip().lower(): value.strip() for name, _, value in named}


def _written(head: bytes, response: _Response) -> bytes:
    status, headers, body = response
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if head.startswith(b"HEAD ") else body)


def _missing_lines(missing: Sequence[str]) -> list[str]:
    lines = [f"not served: {problem}" for problem in missing[: Limits.http_problems_reported_max]]
    return lines + [f"and {len(missing) - Limits.http_problems_reported_max} more"] * (
        len(missing) > Limits.http_problems_reported_max
    )


def _text(status: str, text: str, headers: _Headers | None = None) -> _Response:
    return status, [("Content-Type", "text/plain; charset=utf-8"), *(headers or [])], f"{text}\n".encode()

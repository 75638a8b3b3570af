"""What a request may ask that is no call: does the process live, is it ready, where are its metrics.

What holds: whoever sends calls to this address can probe it too. Metrics are made elsewhere, by a thread of
their own at --metrics; who asks for them here is sent there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tilbud.transport.connect.connection import Request
from tilbud.transport.connect.responses import Response

_TEXT = "text/plain; charset=utf-8"
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d+)?", re.IGNORECASE)
_GET_ONLY = (("allow", "GET, HEAD"),)


class Pages:
    """Answers for a process; `ready` says why it is not, or "" when it is."""

    def __init__(self, ready: Callable[[], str], metrics_port: int) -> None:
        self._ready = ready
        self._metrics_port = metrics_port

    def answer(self, request: Request, path: bytes) -> Response | None:
        """Return the page at a path; None: there is none."""
        if path not in (b"/livez", b"/readyz", b"/metrics"):
            return None
        if request.method not in (b"GET", b"HEAD"):
            return _text(405, "only GET and HEAD", _GET_ONLY)
        if path == b"/livez":
            return _text(200, "alive")
        if path == b"/readyz":
            reason = self._ready()
            return _text(503, reason) if reason else _text(200, "ready")
        host = _HOST.fullmatch(request.headers.get(b"host", b""))
        name = host[1].decode() if host else "127.0.0.1"
        there = f"http://{name}:{self._metrics_port}/metrics"
        return _text(307, f"metrics are at {there}", (("location", there),))


def _text(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, f"{text}\n".encode(), _TEXT, headers)

"""Pages of browsers that may call: CORS, off unless origins are listed.

What holds: a request that names an origin which is not listed is refused, also where the browser would let
the page not read the answer. So no page can call a service on its visitor's own machine, by whatever name
it reached it. Callers that are no browsers name no origin.
"""

from __future__ import annotations

from collections.abc import Collection

from grpc import StatusCode

from tilbud.domain.limits import Limits
from tilbud.transport.connect.errors import problem
from tilbud.transport.connect.responses import Response

EVERY = "*"
_HEADERS = (
    "authorization, content-type, content-encoding, "
    "connect-protocol-version, connect-timeout-ms, traceparent, tracestate, x-user-agent"
)


class Origins:
    """Which origins may call: as browsers write them, such as https://shop.example; `*`: all."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def headers(self, origin: str) -> tuple[tuple[str, str], ...]:
        """Return what lets a page of a listed origin read an answer."""
        return (("access-control-allow-origin", origin), ("vary", "origin"))

    def refusal(self, origin: str) -> Response | None:
        """Return why a page may not call; None: it may."""
        if origin in self._allowed or EVERY in self._allowed:
            return None
        message = (
            f"pages of {origin[: Limits.text_chars_max]} may not call; --cors-origin lists those that may"
        )
        return problem(403, StatusCode.PERMISSION_DENIED, message)

    def preflight(self, origin: str) -> Response:
        """Return what a browser hears that asks first."""
        allowed = (
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", _HEADERS),
            ("access-control-max-age", "7200"),
        )
        return Response(204, headers=(*self.headers(origin), *allowed))

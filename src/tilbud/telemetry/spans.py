"""What the rooms know of traces: how a call's span begins and ends, and what a decision says of itself.

`telemetry/otel.py` makes them, where a service has --otel; without it nobody holds a `Traces`, and nothing is
done for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

Metadata = Iterable[tuple[str, str | bytes]]
"""What a caller said beside its message: names in lower case."""


class CallSpan(Protocol):
    """The span of one call, within which others of its task lie."""

    def end(self, code: str) -> None:
        """End it with the call's gRPC code."""


class Traces(Protocol):
    """Makes spans."""

    def call(self, method: str, protocol: str, metadata: Metadata, began_s: float) -> CallSpan:
        """Begin the span of a call: `method` as package.Service/Method, `began_s` by perf_counter."""

    def place(self) -> Any:
        """Return where in a trace this task is, for `decision`; None: in none that is kept."""

    def now_ns(self) -> int:
        """Return the time that spans go by, in nanoseconds since 1970."""

    def decision(
        self, place: Any, began_ns: int, *, campaign: str, variant: str, reason: str, recorded: bool
    ) -> None:
        """Tell of a decision that is made, from when its batch began until now; no id of anybody."""

"""When not to wait for a service that is away: whoever has a default shall not pay a deadline for each page.

What holds: after some calls in a row that were not answered, calls rest; now and then one asks again, and the
first answer ends the rest. Time is an argument, in seconds of a clock that does not jump.
"""

from __future__ import annotations

from tilbud.client.refusals import Refusal

_FAILURES = 5
_REST_S = 0.5


class Away:
    """Counts calls that were not answered, and says when to rest."""

    def __init__(self) -> None:
        self._failures = 0
        self._again_s = 0.0

    def check(self, now_s: float) -> None:
        """Raise a Refusal where not to ask; where it does not during a rest, that call asks for all."""
        if self._failures < _FAILURES:
            return
        if now_s < self._again_s:
            raise Refusal("UNAVAILABLE", [f"not asked: {self._failures} calls in a row were not answered"])
        self._again_s = now_s + _REST_S

    def answered(self) -> None:
        """The service is there."""
        self._failures = 0

    def refused(self, refusal: Refusal, now_s: float) -> None:
        """A call was refused: by a service that is there, or for want of one."""
        if not refusal.later:
            self.answered()
            return
        self._failures += 1
        if self._failures == _FAILURES:
            self._again_s = now_s + _REST_S

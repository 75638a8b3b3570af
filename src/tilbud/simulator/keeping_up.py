"""Waiting for the learner, so that a run at full speed is not a run with late feedback.

A driver can ask thousands of times in the moment a service takes to learn. Every one of those decisions is
made without the feedback on the ones before, as no real shop's would be. So a lane waits before it asks
while more than `unlearned_max` of what the run gave it to learn (see driver.py) is not in the model, by the
sequence in the campaign's model version.

What always holds: waiting is bounded. Where the model has not moved far enough for PATIENCE_S, because the
campaign learns at deadlines or the learner stands still, waiting is given up for the rest of the run.

What it does not do: promise an exact lag; another caller's settlements also move the sequence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tilbud.client.refusals import Refusal
from tilbud.simulator.calls import Calls, Pause

UNLEARNED_MAX = 200
PATIENCE_S = 5.0
_ASK_EVERY_S = 0.01


class KeepingUp:
    """How far one run is ahead of the model."""

    def __init__(
        self,
        calls: Calls,
        campaign: str,
        model_version: str,
        *,
        unlearned_max: int,
        pause: Pause = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._campaign = campaign
        self._unlearned_max = unlearned_max
        self._pause = pause
        self._clock = clock
        self._first = self._latest = sequence(model_version)
        self._one_asks = asyncio.Lock()

    @property
    def given_up(self) -> bool:
        """The model did not follow: the run no longer waits for it."""
        return self._first is None

    async def wait(self, to_learn: int, stop: asyncio.Event) -> None:
        """Until all but `unlearned_max` of what this run gave it to learn is learned."""
        async with self._one_asks:
            patient_until = self._clock() + PATIENCE_S
            while self._unlearned(to_learn) > self._unlearned_max and not stop.is_set():
                if self._clock() >= patient_until:
                    self._first = None
                    return
                await self._ask()
                if self._unlearned(to_learn) > self._unlearned_max:
                    await self._pause(_ASK_EVERY_S)

    def _unlearned(self, to_learn: int) -> int:
        if self._first is None or self._latest is None:
            return 0
        return to_learn - (self._latest - self._first)

    async def _ask(self) -> None:
        try:
            served = await self._calls.campaign(self._campaign)
        except Refusal:
            return  # the next decision will meet the same trouble and say so
        self._latest = sequence(served.model_version)


def sequence(model_version: str) -> int | None:
    """The last settlement learned by `<lineage>.<sequence>`; None where it does not say."""
    number = model_version.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else None

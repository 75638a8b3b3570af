"""Waiting for the learner."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.simulator.calls import Calls
from tilbud.simulator.driver import Pacing
from tilbud.simulator.keeping_up import PATIENCE_S, KeepingUp, sequence
from tilbud.simulator.simulate import run_simulation


class Wait:
    """A wait whose pauses take no time but on its own clock."""

    def __init__(self, service, version: str) -> None:
        self._service, self._version = service, version
        self.pauses = 0

    async def until_learned(self, reported: int, *, stop: bool = False) -> bool:
        """Wait; True where it was given up."""
        stopped = asyncio.Event()
        if stop:
            stopped.set()
        async with grpc.aio.insecure_channel(self._service.target) as channel:
            keeping_up = KeepingUp(
                Calls(channel, target="fake"),
                "shop",
                self._version,
                unlearned_max=100,
                pause=self._pause,
                clock=lambda: self.pauses * PATIENCE_S / 10,
            )
            await keeping_up.wait(reported, stopped)
            return keeping_up.given_up

    async def _pause(self, _: float) -> None:
        self.pauses += 1


async def test_a_run_waits_until_the_model_has_learned(service):
    """While the model lacks more than the limit the run waits, and no longer."""
    wait = Wait(service, "fake.1000")
    service.learned = lambda: 1000 + 200 * wait.pauses
    assert not await wait.until_learned(900)
    assert wait.pauses == 4


async def test_a_model_close_enough_is_not_waited_for(service):
    """Within the limit nothing is asked of the service."""
    service.learned = pytest.fail
    assert not await Wait(service, "fake.7").until_learned(100)


async def test_a_model_that_stands_still_is_given_up(service):
    """A model that does not move is waited for once, for a bounded time."""
    service.learned = lambda: 0
    wait = Wait(service, "fake.0")
    assert await wait.until_learned(101)
    assert wait.pauses == 10


async def test_a_stopped_run_does_not_wait(service):
    """After a stop there is nothing to wait for."""
    service.learned = lambda: 0
    wait = Wait(service, "fake.0")
    assert not await wait.until_learned(500, stop=True)
    assert wait.pauses == 0


async def test_a_run_stays_near_the_model(service):
    """In a whole run the model never lacks more than the limit and what is in flight."""
    most = 0

    def measure() -> None:
        nonlocal most
        most = max(most, len(service.reported) - learned)

    learned = 0

    def learn() -> int:
        nonlocal learned
        learned = min(learned + 10, len(service.reported))
        return learned

    service.on_batch, service.learned = measure, learn
    pacing = Pacing(batch=10, in_flight=2, unlearned_max=30)
    result = await run_simulation(service.target, "shop", run="a", decisions=400, pacing=pacing)
    assert result.everyone.decisions == 400
    assert result.counts.learner_followed
    assert most <= 30 + 2 * 10


@given(st.text())
def test_a_version_that_says_nothing_is_no_sequence(text: str):
    """Whatever the version, its sequence is a number of at least 0 or unknown."""
    number = sequence(text)
    assert number is None or number >= 0
    assert sequence(f"{text}.17") == 17

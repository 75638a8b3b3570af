"""What is observed of the event loop, with a sleep and a clock moved by hand."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from tilbud.domain.limits import Limits
from tilbud.telemetry.metrics import Metrics
from tilbud.telemetry.stalls import watch_stalls


class _Loop:
    """A loop that wakes whoever sleeps late by what it is told, then cancels them."""

    def __init__(self, *late_s: float) -> None:
        self._late_s = list(late_s)
        self.now_s = 100.0

    async def sleep(self, seconds: float) -> None:
        if not self._late_s:
            raise asyncio.CancelledError
        self.now_s += seconds + self._late_s.pop(0)


async def _watched(loop: _Loop, metrics: Metrics) -> list[float]:
    observed: list[float] = []

    def observe(seconds: float) -> None:
        observed.append(round(seconds, 6))
        metrics.process.stalled(seconds)

    with pytest.raises(asyncio.CancelledError):
        await watch_stalls(observe, lambda: True, sleep=loop.sleep, clock=lambda: loop.now_s)
    return observed


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process."""
    return Metrics(CollectorRegistry(), version="test", vw_version="test")


async def test_each_sleep_is_observed_by_how_late_it_ended(metrics: Metrics) -> None:
    """Late by what else the loop did; one that ends early, as a timer may, is not late."""
    assert await _watched(_Loop(0.0, 0.003, 0.25, -Limits.stall_sleep_s / 2), metrics) == [
        0.0,
        0.003,
        0.25,
        0.0,
    ]


async def test_the_largest_stall_stays_shown(metrics: Metrics) -> None:
    """The histogram has every sleep; the gauge the largest, whatever came after it."""
    await _watched(_Loop(0.004, 0.06, 0.001), metrics)

    def sample(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"tilbud_event_loop_stall_{name}", labels)

    assert sample("max_seconds") == pytest.approx(0.06)
    assert sample("seconds_count") == 3
    assert sample("seconds_bucket", le="0.05") == 2


async def test_it_sleeps_longer_while_nobody_calls() -> None:
    """An idle process is left alone; for a second after a call it is watched as closely as amid them."""
    loop, slept_s, calls = _Loop(*120 * [0.0]), list[float](), iter([False, True])

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        await loop.sleep(seconds)

    with pytest.raises(asyncio.CancelledError):
        await watch_stalls(
            lambda _seconds: None, lambda: next(calls, False), sleep=sleep, clock=lambda: loop.now_s
        )
    assert slept_s[0] == Limits.stall_idle_sleep_s
    busy = round(Limits.stall_busy_s / Limits.stall_sleep_s)
    assert slept_s[1:busy] == (busy - 1) * [Limits.stall_sleep_s]
    assert slept_s[busy + 2 :] == (len(slept_s) - busy - 2) * [Limits.stall_idle_sleep_s]

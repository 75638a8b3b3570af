"""A process that serves says how it is, at each change, by its log, its health and its metrics."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from tests.wiring import HandClock

from tilbud.domain.clock import Now
from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.runtime.heartbeat import Beats
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics


class HandLedger:
    """A ledger whose condition is set by hand."""

    def __init__(self) -> None:
        self.wrong = ("", "")
        self.reads_failed = 0
        self.idle = 10.0
        self.touched = 0

    def trouble(self) -> tuple[str, str]:
        return self.wrong

    def failed_reads(self) -> int:
        return self.reads_failed

    def idle_s(self) -> float:
        return self.idle

    def look(self) -> None:
        """Find nothing new."""

    async def touch(self, now: Now) -> None:
        assert now.service_us
        self.touched += 1
        if self.wrong[0]:
            raise LedgerUnavailable(self.wrong[1])


def _beats(ledger: HandLedger) -> tuple[Beats, Metrics, list[bool]]:
    """Return the beats of a process on this ledger, its metrics, and what its health is told."""
    told: list[bool] = []
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")

    async def set_serving(*, serving: bool) -> None:
        told.append(serving)

    beats = Beats(
        ledger=ledger,
        clock=HandClock(),
        unready=lambda: ledger.wrong[1],
        set_serving=set_serving,
        metrics=metrics.process,
        limits=Limits(),
        log=logger("test"),
    )
    return beats, metrics, told


async def test_health_follows_the_ledger_there_and_back_with_a_line_each() -> None:
    """However long it lasts, one line tells that it began and one that it is over."""
    ledger = HandLedger()
    beats, metrics, told = _beats(ledger)

    def shown(kind: str) -> float | None:
        return metrics.registry.get_sample_value("tilbud_ledger_trouble", {"kind": kind})

    with capture_logs() as logged:
        await beats.beat()
        assert (told, shown("damaged")) == ([], 0)
        ledger.wrong, ledger.reads_failed = ("damaged", "the ledger is damaged"), 3
        for _ in range(3):
            await beats.beat()
            await asyncio.sleep(0)
        assert (told, shown("damaged")) == ([False], 1)
        ledger.wrong = ("", "")
        await beats.beat()
    assert (told, shown("damaged")) == ([False, True], 0)
    assert [line["event"] for line in logged] == ["not_ready", "ready_again"]
    assert metrics.registry.get_sample_value("tilbud_ledger_read_errors_total") == 3
    assert beats.stalled() == ""


async def test_what_turns_out_to_be_another_trouble_is_told_too() -> None:
    """A ledger that does not commit may prove damaged, which has another remedy; health is told once."""
    ledger = HandLedger()
    beats, _, told = _beats(ledger)
    with capture_logs() as logged:
        for wrong in (
            ("not_committing", "nothing was committed for 2.1 s"),
            ("not_committing", "nothing was committed for 2.3 s"),
            ("damaged", "the ledger is damaged"),
            ("", ""),
        ):
            ledger.wrong = wrong
            await beats.beat()
            await asyncio.sleep(0)
    assert [line.get("reason") for line in logged] == [
        "nothing was committed for 2.1 s",
        "the ledger is damaged",
        None,
    ]
    assert told == [False, True]


async def test_a_ledger_that_is_busy_needs_no_proof() -> None:
    """Only while nothing else is committed is a commit of nothing made."""
    ledger = HandLedger()
    beats, _, told = _beats(ledger)
    ledger.idle = 0.0
    await beats.beat()
    await asyncio.sleep(0)
    assert ledger.touched == 0
    ledger.idle = 1.0
    await beats.beat()
    await asyncio.sleep(0)
    assert ledger.touched == 1
    assert not told

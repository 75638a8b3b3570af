"""How long does the slowest caller wait, while the service learns?

    python loadtests/tail.py [--seconds 30] [--shares 25 50 75] [--minutes 0]

Unary durable Decide at a fixed rate of arrivals, in shares of saturation, which is measured first in the same
run (h2load, 32 in flight, learning on). Calls are due at times known beforehand, by chance as customers come
(Poisson, seeded) or evenly (`--even`), and a latency counts from when its call was due, whether or not the
client could send it then. Every decision has a window of one second, so that as many settle and are learned
meanwhile as are made. A gRPC server that does nothing gets the same calls before: what it shows is the
machine's share.

The client runs in a process of its own on the same machine, and how late it sent is in the table; so is the
service's own p99 of a call, which knows nothing of the time before it began to handle one. The service is
asked for its metrics every few seconds, as Prometheus would.

`--minutes`: afterwards one long run at half of saturation, in a service that is started anew for it, and how
often and how long its event loop stalled, by its own metrics. Checks that every call was answered OK and
recorded, and that every decision was learned, once. Prints its table and the machine.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arriving import Calls, arrivals, when_due
from filling import await_learned, campaigns_in, learned, progress, question
from histograms import Seen
from serving import (
    CAMPAIGN,
    DECIDE,
    QUESTION,
    SEED,
    Server,
    accounted,
    echoing,
    framed,
    h2load,
    machine,
    need_h2load,
    offers_campaign,
    parser_of,
    served,
)

OFFERS = 10
WARM = 2_000
IN_FLIGHT = 32
LOOKED_EVERY_S = 5.0
STALL_S = 0.01
QUANTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Lap:
    """A run at one rate: what callers saw, what the service saw, and what it learned meanwhile."""

    calls: Calls
    inside: Seen
    settlements_a_second: float
    lag_max_s: float

    def quantile_ms(self, share: float) -> float:
        """Return the latency below which this share of the calls stayed."""
        return float(np.quantile(self.calls.latency_s, share)) * 1e3


@contextmanager
def client() -> Iterator[ProcessPoolExecutor]:
    """Have a process to call from, warm."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(time.perf_counter).result()
        yield pool


def handled(server: Server) -> Seen:
    """Return how long calls of Decide were handled so far."""
    name = "tilbud_rpc_duration_seconds"
    samples = [each for end in ("bucket", "sum") for each in server.samples(f"{name}_{end}", method="Decide")]
    return Seen.of(samples)


def at_rate(
    server: Server,
    pool: ProcessPoolExecutor,
    rate: float,
    seconds: float,
    *,
    campaign: str = CAMPAIGN,
    even: bool = False,
) -> Lap:
    """Call Decide at a fixed rate of arrivals, and watch the service meanwhile."""
    due_s = arrivals(rate, seconds, SEED, even=even)
    message = question(campaign).SerializeToString()
    inside = handled(server)
    with accounted(server, Decide=len(due_s), decisions=len(due_s)):
        before = learned(server, campaign)
        started = time.perf_counter()
        running = pool.submit(when_due, server.port, DECIDE, [message], due_s)
        lag_max_s = _watch(server, running, seconds, campaign)
        calls = running.result()
        settled = (learned(server, campaign) - before) / (time.perf_counter() - started)
    return Lap(calls, handled(server) - inside, settled, lag_max_s)


def _watch(server: Server, running: Future[Calls], seconds: float, campaign: str) -> float:
    """Show how far it is until it is done; return the longest lag of settling that was seen."""
    lag_max_s, started = 0.0, time.perf_counter()
    with progress() as shown:
        task = shown.add_task(f"calling {campaign}, s", total=math.ceil(seconds))
        while not running.done():
            _wait(running, LOOKED_EVERY_S)
            lags = server.samples("tilbud_settlement_lag_seconds", campaign=campaign)
            lag_max_s = max(lag_max_s, *(each.value for each in lags), 0.0)
            shown.update(task, completed=int(time.perf_counter() - started))
    return lag_max_s


def _wait(running: Future[Calls], seconds: float) -> None:
    try:
        running.exception(timeout=seconds)
    except TimeoutError:
        return


def saturation(server: Server, body: Path, calls: int, rounds: int) -> float:
    """Return the calls a second the service answers at most, the median of some rounds."""
    h2load(server.port, DECIDE, body, WARM, IN_FLIGHT)
    rates = []
    for _ in range(rounds):
        with accounted(server, Decide=calls, decisions=calls):
            rates.append(h2load(server.port, DECIDE, body, calls, IN_FLIGHT).rate)
    return statistics.median(rates)


def all_learned(server: Server, campaign: str = CAMPAIGN) -> None:
    """Wait until every decision of a campaign is learned, no more and no less."""
    await_learned(server, server.counted("tilbud_decisions_total", campaign=campaign), campaign)


def row(table: Table, what: str, rate: float, lap: Lap) -> None:
    """Show a run."""
    late_ms = float(np.quantile(lap.calls.sent_s - lap.calls.due_s, 0.99)) * 1e3
    table.add_row(
        what,
        f"{rate:,.0f}",
        *(f"{lap.quantile_ms(share):.2f}" for share in QUANTILES),
        f"{lap.quantile_ms(1.0):.1f}",
        f"{late_ms:.2f}",
        f"{lap.inside.quantile(0.99) * 1e3:.2f}",
        f"{lap.settlements_a_second:,.0f}",
        f"{lap.lag_max_s:.2f}",
    )


def idle(table: Table, pool: ProcessPoolExecutor, rate: float, seconds: float, *, even: bool) -> None:
    """Show the same calls of a server that does nothing: what gRPC and the machine take by themselves."""
    due_s = arrivals(rate, seconds, SEED, even=even)
    with echoing() as noop:
        pool.submit(when_due, noop.port, DECIDE, [question().SerializeToString()], due_s[:WARM]).result()
        calls = pool.submit(when_due, noop.port, DECIDE, [question().SerializeToString()], due_s).result()
    latencies_ms = [float(np.quantile(calls.latency_s, share)) * 1e3 for share in (*QUANTILES, 1.0)]
    table.add_row("the no-op", f"{rate:,.0f}", *(f"{each:.2f}" for each in latencies_ms))


def stalls(server: Server) -> Seen:
    """Return how late the event loop was so far; nothing where the service does not export it."""
    return Seen.of(server.samples("tilbud_event_loop_stall_seconds_bucket"))


def stalled(server: Server, before: Seen) -> str:
    """Return how often and how long the event loop stalled, by the service's own metrics."""
    longest = server.samples("tilbud_event_loop_stall_max_seconds")
    if not longest:
        return "stalls of the event loop: not exported"
    count = (stalls(server) - before).beyond(STALL_S)
    longest_ms = max(each.value for each in longest) * 1e3
    return (
        f"stalls of the event loop above {STALL_S * 1e3:.0f} ms in the long run: {count} (goal: 0); "
        f"the longest since that service began to serve: {longest_ms:.1f} ms"
    )


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="at each rate")
    parser.add_argument("--shares", type=float, nargs="*", default=[25, 50, 75], help="%% of saturation")
    parser.add_argument("--calls", type=int, default=20_000, help="of each round that finds saturation")
    parser.add_argument("--minutes", type=float, default=0.0, help="of a long run at 50 %% afterwards")
    parser.add_argument("--even", action="store_true", help="calls come evenly, not by chance")
    options = parser.parse_args()
    need_h2load()
    table = Table(
        "of saturation", "a second", "p50", "p99", "p99.9", "max", "sent late, p99", "p99, service",
        "settled a second", "lag, s",
        title="Decide since it was due, ms, learning on (goal: p99 ≤ 5 ms at 50 %)",
    )  # fmt: skip
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name, client() as pool:
        directory = Path(name)
        campaigns = campaigns_in(directory, {CAMPAIGN: offers_campaign(OFFERS, window="1s")})
        body = framed(QUESTION, directory)

        def runs(server: Server, rate: float, seconds: float, what: str) -> None:
            row(table, what, rate, at_rate(server, pool, rate, seconds, even=options.even))
            all_learned(server)

        with served(directory / "data", campaigns=campaigns) as server:
            highest = saturation(server, body, options.calls, options.rounds)
            all_learned(server)
            for share in options.shares:
                rate = highest * share / 100
                idle(table, pool, rate, options.seconds, even=options.even)
                try:
                    runs(server, rate, options.seconds, f"{share:g} %")
                except RuntimeError:  # gRPC drops what waits beyond a thousand calls of a connection
                    table.add_row(f"{share:g} %", f"{rate:,.0f}", "overload")
                    break
        if options.minutes:
            with served(directory / "long", campaigns=campaigns) as server:
                before = stalls(server)
                runs(server, highest / 2, options.minutes * 60, "50 %, long")
                notes.append(stalled(server, before))
    console = Console(width=100)
    console.print(table)
    for note in notes:
        console.print(note)
    come = "evenly" if options.even else "by chance"
    console.print(f"saturation {highest:,.0f} a second; calls come {come}; one machine: {machine()}")


if __name__ == "__main__":
    main()

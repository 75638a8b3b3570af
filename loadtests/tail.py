"""How long does the slowest caller wait, while the service learns?

    python loadtests/tail.py [--rates 500] [--shares 50] [--seconds 20] [--rounds 3]
        [--against ANOTHER_CHECKOUT/.venv/bin/python] [--settlements 2000] [--minutes 0]

Unary durable decisions at a fixed rate: half of them for known customers (10,000 by Zipf's law), two declared
features in each, an outcome for half of them 0.3 s later; each settles after a second and is learned.
`--rates` are decisions a second, `--shares` percents of saturation, which is measured first in the same run
(32 in flight).

A gRPC server that does nothing, this service and, where asked for, another checkout's take turns with the
same calls, round by round: what counts is the ratio, not the machine of the hour. Calls are due at times
known beforehand, by chance as customers come (Poisson, seeded) or evenly (`--even`), and a latency counts
from when its call was due, whether or not the client could send it then. The client runs in a process of its
own on the same machine, and how late it sent is in the table; so is the service's own p99 of a call, which
knows nothing of the time before it began to handle one.

`--settlements`: the same calls while so many decisions a second of another campaign, made before, settle and
are learned, beside the calls without them. `--minutes`: afterwards one long run at half of saturation, in a
service that is started anew for it, and how often and how long its event loop stalled, by its own metrics.
Checks that every call was answered OK and recorded, and that every decision was learned, once. Prints its
tables and the machine.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arriving import Calls, Seconds, arrivals, in_turn, when_due
from filling import await_learned, campaigns_in, learned, progress, question
from histograms import Seen
from questions import HALF, Traffic, batches, decisions, everyday_campaign, with_outcomes
from serving import (
    BATCH_DECIDE,
    CAMPAIGN,
    DECIDE,
    SEED,
    Server,
    accounted,
    echoing,
    machine,
    offers_campaign,
    parser_of,
    served,
)

OFFERS = 10
WARM = 2_000
IN_FLIGHT = 32
CONNECTIONS = 8
LOOKED_EVERY_S = 5.0
STALL_S = 0.01
QUANTILES = (0.5, 0.99, 0.999)
NOOP = "the no-op"
DUE = "due"
"""The campaign whose decisions are made before, and settle while another is measured."""
DUE_BATCH = 100
DUE_MARGIN_S = 3.0
_TURNS = itertools.count(1)
"""No two laps of a run may ask under the same ids."""


@dataclass(frozen=True, slots=True)
class Lap:
    """A run at one rate: what callers of Decide saw, what the service saw, and what it learned meanwhile."""

    latency_s: Seconds
    late_s: Seconds
    inside: Seen
    settlements_a_second: float
    lag_max_s: float
    cpu_us: float

    def quantile_ms(self, share: float) -> float:
        """Return the latency below which this share of the calls stayed."""
        return float(np.quantile(self.latency_s, share)) * 1e3


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


def strangers(campaign: str, due_s: Seconds) -> Traffic:
    """Return decisions for nobody known, and no outcomes."""
    message = (DECIDE, question(campaign).SerializeToString())
    return Traffic([message] * len(due_s), due_s, np.ones(len(due_s), np.bool_))


def at_rate(server: Server, pool: ProcessPoolExecutor, traffic: Traffic, *, campaign: str = CAMPAIGN) -> Lap:
    """Send calls when they are due, and watch the service meanwhile; a server without metrics is a no-op."""
    if not server.metrics_ports:
        return _lap(server, pool, traffic, campaign)
    counts = {"Decide": int(traffic.decides.sum()), "ReportOutcome": traffic.outcomes}
    calls = {method: count for method, count in counts.items() if count}
    with accounted(server, decisions=counts["Decide"], outcomes=traffic.outcomes, **calls):
        return _lap(server, pool, traffic, campaign)


def _lap(server: Server, pool: ProcessPoolExecutor, traffic: Traffic, campaign: str) -> Lap:
    inside, before = handled(server), learned(server, campaign)
    cpu_s, started = server.cpu_s(), time.perf_counter()
    running = pool.submit(when_due, server.port, traffic.messages, traffic.due_s, connections=CONNECTIONS)
    lag_max_s = _watch(server, running, float(traffic.due_s[-1]), campaign)
    calls = running.result()
    settled = (learned(server, campaign) - before) / (time.perf_counter() - started)
    return Lap(
        latency_s=calls.latency_s[traffic.decides],
        late_s=calls.sent_s - calls.due_s,
        inside=handled(server) - inside,
        settlements_a_second=settled,
        lag_max_s=lag_max_s,
        cpu_us=(server.cpu_s() - cpu_s) / len(traffic.messages) * 1e6,
    )


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


def all_learned(server: Server, campaign: str = CAMPAIGN) -> None:
    """Wait until every decision of a campaign is learned, no more and no less."""
    if server.metrics_ports:
        await_learned(server, server.counted("tilbud_decisions_total", campaign=campaign), campaign)


# Servers that take turns


@contextmanager
def in_turns(directory: Path, campaigns: Path, pythons: Mapping[str, str]) -> Iterator[dict[str, Server]]:
    """Serve the no-op, and the campaigns by each of these interpreters, by name; all are warm."""
    with ExitStack() as opened:
        servers = {NOOP: opened.enter_context(echoing())}
        for what, python in pythons.items():
            servers[what] = opened.enter_context(served(directory / what, campaigns=campaigns, python=python))
        for server in servers.values():
            warm = decisions(HALF, WARM, next(_TURNS))
            in_turn(server.port, warm, len(warm), IN_FLIGHT, connections=CONNECTIONS)
            all_learned(server)
        yield servers


def saturation(server: Server, calls: int, rounds: int) -> float:
    """Return the decisions a second the service answers at most, the median of some rounds."""
    rates = []
    for _ in range(rounds):
        messages = decisions(HALF, calls, next(_TURNS))
        with accounted(server, Decide=calls, decisions=calls):
            rates.append(in_turn(server.port, messages, calls, IN_FLIGHT, connections=CONNECTIONS).rate)
        all_learned(server)
    return statistics.median(rates)


def rows(
    table: Table, what: str, servers: Mapping[str, Server], pool: ProcessPoolExecutor, options: Options
) -> None:
    """Let the servers take turns at one rate, and show the medians of each; one that is overloaded leaves."""
    rate, laps = options.rate, defaultdict[str, list[Lap]](list)
    overloaded: set[str] = set()
    for _ in range(options.rounds):
        turn = next(_TURNS)
        due_s = arrivals(rate, options.seconds, SEED + turn, even=options.even)
        traffic = with_outcomes(HALF, due_s, turn)
        for name, server in servers.items():
            if name in overloaded:
                continue
            try:
                laps[name].append(at_rate(server, pool, traffic))
            except RuntimeError:  # a call was refused, as an overload is
                overloaded.add(name)
            else:
                all_learned(server)
    for name in servers:
        cells = ["overload"] if name in overloaded else _cells(laps[name], laps[NOOP])
        table.add_row(f"{name}, {what}", *cells)


@dataclass(frozen=True, slots=True)
class Options:
    """How the calls come: so many decisions a second, for so long, so often."""

    rate: float
    seconds: float
    rounds: int
    even: bool


def _cells(laps: Sequence[Lap], noop: Sequence[Lap] = ()) -> list[str]:
    ratios = [lap.quantile_ms(0.99) / other.quantile_ms(0.99) for lap, other in zip(laps, noop, strict=False)]
    return [
        *(f"{statistics.median(lap.quantile_ms(share) for lap in laps):.2f}" for share in QUANTILES),
        f"{max(lap.quantile_ms(1.0) for lap in laps):.1f}",
        f"{statistics.median(ratios):.2f}" if ratios else "",
        f"{statistics.median(lap.cpu_us for lap in laps):,.0f}",
        f"{statistics.median(float(np.quantile(lap.late_s, 0.99)) for lap in laps) * 1e3:.2f}",
        f"{statistics.median(lap.inside.quantile(0.99) for lap in laps) * 1e3:.2f}",
        f"{statistics.median(lap.settlements_a_second for lap in laps):,.0f}",
        f"{max(lap.lag_max_s for lap in laps):.2f}",
    ]


# Settlements beside


def make_due(server: Server, pool: ProcessPoolExecutor, rate: float, seconds: float) -> None:
    """Have decisions made, so many a second, which will settle at that pace."""
    [asked] = batches([question(DUE)] * DUE_BATCH, DUE_BATCH)
    due_s = np.arange(round(rate * seconds / DUE_BATCH)) * DUE_BATCH / rate
    pool.submit(when_due, server.port, [(BATCH_DECIDE, asked)], due_s, connections=1).result()


def disturbed(directory: Path, settlements: float, options: Options) -> Table:
    """Measure the everyday mix with and without settlements of another campaign beside it."""
    table = Table(
        "beside", "p50", "p99", "p99.9", "settled a second", "p99, of none",
        title=f"Decide since it was due, ms, at {options.rate:,.0f}/s (goal: p99 ≤ 1.2 of none)",
    )  # fmt: skip
    window_s = options.seconds + DUE_MARGIN_S
    campaigns = campaigns_in(
        directory,
        {
            CAMPAIGN: everyday_campaign(OFFERS),  # of these none settles
            DUE: offers_campaign(OFFERS, name=DUE, window=f"{window_s:.0f}s"),
        },
    )
    laps: list[tuple[Lap, Lap]] = []
    with served(directory / "settling", campaigns=campaigns) as server, client() as pool:
        in_turn(server.port, decisions(HALF, WARM, next(_TURNS)), WARM, IN_FLIGHT, connections=CONNECTIONS)

        def lap() -> Lap:
            turn = next(_TURNS)
            due_s = arrivals(options.rate, options.seconds, SEED + turn, even=options.even)
            return at_rate(server, pool, with_outcomes(HALF, due_s, turn), campaign=DUE)

        for _ in range(options.rounds):
            began_s = time.perf_counter()
            make_due(server, pool, settlements, options.seconds)
            time.sleep(max(0.0, began_s + window_s - time.perf_counter()))
            beside = lap()
            all_learned(server, DUE)
            laps.append((lap(), beside))
    ratio = statistics.median(beside.quantile_ms(0.99) / none.quantile_ms(0.99) for none, beside in laps)
    for number, what in enumerate(("nothing settles", "settlements")):
        own = [pair[number] for pair in laps]
        table.add_row(
            what,
            *(f"{statistics.median(lap.quantile_ms(share) for lap in own):.2f}" for share in QUANTILES),
            f"{statistics.median(lap.settlements_a_second for lap in own):,.0f}",
            f"{ratio:.2f}" if number else "1",
        )
    return table


# Stalls


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


def long_run(table: Table, directory: Path, campaigns: Path, options: Options) -> str:
    """Measure one long run in a service of its own; return what it says of its event loop."""
    with served(directory / "long", campaigns=campaigns) as server, client() as pool:
        before, turn = stalls(server), next(_TURNS)
        due_s = arrivals(options.rate, options.seconds, SEED + turn, even=options.even)
        lap = at_rate(server, pool, with_outcomes(HALF, due_s, turn))
        all_learned(server)
        table.add_row(f"this, {options.rate:,.0f}/s, long", *_cells([lap]))
        return stalled(server, before)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each lap")
    parser.add_argument("--rates", type=float, nargs="*", default=[500.0], help="decisions a second")
    parser.add_argument("--shares", type=float, nargs="*", default=[50.0], help="%% of saturation")
    parser.add_argument("--calls", type=int, default=10_000, help="of each round that finds saturation")
    parser.add_argument("--against", metavar="PYTHON", help="another checkout's interpreter")
    parser.add_argument("--settlements", type=float, default=0.0, help="a second, beside the first rate")
    parser.add_argument("--minutes", type=float, default=0.0, help="of a long run at 50 %% afterwards")
    parser.add_argument("--even", action="store_true", help="calls come evenly, not by chance")
    options = parser.parse_args()
    pythons = {"this": sys.executable} | ({"other": options.against} if options.against else {})
    console = Console(width=120)
    table = Table(
        "who", "p50", "p99", "p99.9", "max", "p99, of no-op", "CPU µs a call", "sent late, p99",
        "p99, service", "settled a second", "lag, s",
        title="Decide since it was due, ms, learning on (goals: p99 ≤ 2 × no-op's at 500/s, ≤ 5 ms at 50 %)",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        campaigns = campaigns_in(directory, {CAMPAIGN: everyday_campaign(OFFERS, window="1s")})

        def at(rate: float, seconds: float = options.seconds) -> Options:
            return Options(rate, seconds, options.rounds, options.even)

        highest = 0.0
        with in_turns(directory, campaigns, pythons) as servers, client() as pool:
            for rate in options.rates:
                rows(table, f"{rate:,.0f}/s", servers, pool, at(rate))
            if options.shares or options.minutes:
                highest = saturation(servers["this"], options.calls, options.rounds)
            for share in options.shares:
                rate = highest * share / 100
                rows(table, f"{share:g} % ({rate:,.0f}/s)", servers, pool, at(rate))
        if options.minutes:
            note = long_run(table, directory, campaigns, at(highest / 2, options.minutes * 60))
        console.print(table)
        if options.minutes:
            console.print(note)
        if options.settlements:
            beside = directory / "beside"
            console.print(disturbed(beside, options.settlements, at(options.rates[0])))
    come = "evenly" if options.even else "by chance"
    saturated = f"saturation {highest:,.0f} a second; " if highest else ""
    console.print(
        f"medians of {options.rounds} rounds; {saturated}calls come {come}; one machine: {machine()}"
    )


if __name__ == "__main__":
    main()

"""How does the cost of a decision grow?

    python loadtests/growth.py [--only offers|campaigns|ledger|eligible|workers]

 * offers: 2 to 1,000 in the campaign. p50 of Decide as its caller sees it, one call at a time (h2load), and
   as the service sees it, from question to recorded answer (its histogram: the mean is exact, p50 lies
   within a bucket);
 * campaigns: 1 to 100 in one process, calls spread evenly over all of them, and what it takes while nobody
   calls;
 * ledger: 10^4 to 10^6 decisions recorded before, all of them pending, beside an empty ledger in the same
   run, the two taking turns. What is measured stays in the ledger, so the empty one is not quite empty;
 * eligible: campaigns whose decisions each have their own eligible offers (a cap on each offer, asked by
   customers; lists of `include_offers`), beside a campaign of as many offers without rules, asked by the
   same customers or by nobody, in the same run, the two taking turns, by BatchDecide(100). Bytes are those of
   the ledger's file once the service has stopped, which empties its log into it;
 * workers: `--workers` 1 to 4 at 32 connections, one call in flight on each, since the kernel spreads
   connections over workers, not calls. One process uses more than one core, since gRPC and the ledger's
   writer have threads of their own: so the measure is one worker held on one core, h2load on another. Where
   all share the cores, with c of them used by h2load and n in all, "accounted for" is rate · n / (n - c)
   over that measure.

Durable decisions of ten offers where not said otherwise; nothing settles meanwhile. Checks that every call
was answered OK and recorded. Prints its tables and the machine.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arriving import Message, in_turn
from filling import FILL_BATCH, campaigns_in, fill, question
from histograms import Seen
from sending import send
from serving import (
    BATCH_DECIDE,
    BATCH_IN_FLIGHT,
    BATCH_SIZE,
    CAMPAIGN,
    DECIDE,
    QUESTION,
    Server,
    accounted,
    framed,
    h2load,
    machine,
    need_h2load,
    offers_campaign,
    parser_of,
    served,
    two_sides,
)
from tilbud.v1 import decisions_pb2 as pb

WARM = 500
IN_FLIGHT = 32
OFFERS = 10
OFFER_COUNTS = (2, 10, 50, 200, 1_000)
CAMPAIGN_COUNTS = (1, 10, 100)
IDLE_AFTER_S, IDLE_S = 3.0, 20.0
LEDGER_SIZES = (10_000, 100_000, 1_000_000)
WORKER_COUNTS = (1, 2, 4)
LISTED = 500  # offers that a call's `include_offers` names
ASKED_TIMES = 10  # decisions of one customer, or fewer where there are fewer decisions
SEED = 1


@dataclass(frozen=True, slots=True)
class Lap:
    """One side's turn: calls or decisions a second, the p50 of a call, CPU of the server for each."""

    rate: float
    p50_ms: float
    cpu_us: float


def median(laps: Sequence[Lap], of: Callable[[Lap], float]) -> float:
    """Return the median of one figure of some laps."""
    return statistics.median(map(of, laps))


def one_at_a_time(server: Server, body: Path, calls: int) -> Lap:
    """Measure Decide with one call in flight."""
    with accounted(server, Decide=calls, decisions=calls):
        before_s = server.cpu_s()
        load = h2load(server.port, DECIDE, body, calls, 1, logged=True)
        cpu_us = (server.cpu_s() - before_s) / calls * 1e6
    return Lap(load.rate, float(np.median(load.took_us)) / 1e3, cpu_us)


def in_batches(server: Server, body: Path, decisions: int) -> Lap:
    """Measure BatchDecide(100) with a few calls in flight; rate and CPU are of decisions."""
    calls = max(BATCH_IN_FLIGHT, decisions // BATCH_SIZE)
    with accounted(server, BatchDecide=calls, decisions=calls * BATCH_SIZE):
        before_s = server.cpu_s()
        load = h2load(server.port, BATCH_DECIDE, body, calls, BATCH_IN_FLIGHT, logged=True)
        cpu_us = (server.cpu_s() - before_s) / (calls * BATCH_SIZE) * 1e6
    return Lap(load.rate * BATCH_SIZE, float(np.median(load.took_us)) / 1e3, cpu_us)


def inside(server: Server) -> Seen:
    """Return how long decisions took inside the service so far."""
    name = "tilbud_decide_duration_seconds"
    return Seen.of([*server.samples(f"{name}_bucket"), *server.samples(f"{name}_sum")])


def by_offers(calls: int, rounds: int, counts: Sequence[int]) -> Table:
    """Measure campaigns of more and more offers."""
    table = Table(
        "offers", "p50, caller", "p50, in process", "mean, in process", "CPU of a call",
        title="Decide, one call at a time, ms (goal: 1,000 offers ≤ 3 ms p50 in process)",
    )  # fmt: skip
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            campaigns = campaigns_in(directory, {CAMPAIGN: offers_campaign(count)})
            body = framed(QUESTION, directory)
            with served(directory / "data", campaigns=campaigns) as server:
                one_at_a_time(server, body, min(WARM, calls))
                before = inside(server)
                laps = [one_at_a_time(server, body, calls) for _ in range(rounds)]
                seen = inside(server) - before
        table.add_row(
            f"{count:,}",
            f"{median(laps, lambda lap: lap.p50_ms):.2f}",
            f"{seen.quantile(0.5) * 1e3:.2f}",
            f"{seen.mean * 1e3:.2f}",
            f"{median(laps, lambda lap: lap.cpu_us) / 1e3:.2f}",
        )
    return table


def over_campaigns(server: Server, messages: Sequence[Message], calls: int, in_flight: int) -> Lap:
    """Measure Decide of all campaigns in turn."""
    with accounted(server, Decide=calls, decisions=calls):
        before_s = server.cpu_s()
        made = in_turn(server.port, messages, calls, in_flight, connections=min(8, in_flight))
        cpu_us = (server.cpu_s() - before_s) / calls * 1e6
    return Lap(made.rate, float(np.median(made.latency_s)) * 1e3, cpu_us)


def by_campaigns(calls: int, rounds: int) -> Table:
    """Measure more and more campaigns in one process."""
    table = Table(
        "campaigns", "p50, 1 in flight, ms", "a second, 32 in flight", "CPU of a call, µs", "memory, MB",
        "idle, % of a core",
        title="Decide, spread over campaigns of ten offers",
    )  # fmt: skip
    for count in CAMPAIGN_COUNTS:
        names = [f"{CAMPAIGN}-{number}" for number in range(count)]
        messages = [(DECIDE, question(name).SerializeToString()) for name in names]
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            files = {each: offers_campaign(OFFERS, name=each) for each in names}
            with served(directory / "data", campaigns=campaigns_in(directory, files)) as server:
                over_campaigns(server, messages, max(WARM, 10 * count), IN_FLIGHT)
                alone = [over_campaigns(server, messages, calls, 1) for _ in range(rounds)]
                many = [over_campaigns(server, messages, calls, IN_FLIGHT) for _ in range(rounds)]
                rss_bytes = server.rss_bytes()
                idle_percent = idle(server)
        table.add_row(
            str(count),
            f"{median(alone, lambda lap: lap.p50_ms):.2f}",
            f"{median(many, lambda lap: lap.rate):,.0f}",
            f"{median(many, lambda lap: lap.cpu_us):.0f}",
            f"{rss_bytes / 1e6:,.0f}",
            f"{idle_percent:.1f}",
        )
    return table


def idle(server: Server) -> float:
    """Return the percents of a core that a server takes while nobody calls."""
    time.sleep(IDLE_AFTER_S)
    before_s = server.cpu_s()
    time.sleep(IDLE_S)
    return (server.cpu_s() - before_s) / IDLE_S * 100


def by_ledger(calls: int, rounds: int, sizes: Sequence[int]) -> Table:
    """Measure a ledger that fills, and an empty one, in turn."""
    table = Table(
        "decisions before", "what", "a second", "of the empty", "CPU µs each", "of the empty", "p50, ms",
        title="A full ledger beside an empty one (goal: 10^6 within 15 %)",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        campaigns = campaigns_in(directory, {CAMPAIGN: offers_campaign(OFFERS)})
        single = framed(QUESTION, directory, "single")
        batch = framed(pb.BatchDecideRequest(requests=[QUESTION] * BATCH_SIZE), directory, "batch")
        kinds: tuple[tuple[str, Callable[[Server], Lap]], ...] = (
            ("Decide, 1 in flight", lambda server: one_at_a_time(server, single, calls)),
            (f"BatchDecide({BATCH_SIZE})", lambda server: in_batches(server, batch, 5 * calls)),
        )
        with served(directory / "full", campaigns=campaigns) as full:
            for size in sizes:
                fill(full, max(0, size - full.counted("tilbud_decisions_total")) // FILL_BATCH * FILL_BATCH)
                # A new empty one for each size, so that it is as empty at the last as at the first.
                with served(directory / f"empty-{size}", campaigns=campaigns) as empty:
                    for what, measure in kinds:
                        measure(full)  # to warm up, as the other
                        measure(empty)
                        pairs = [(measure(full), measure(empty)) for _ in range(rounds)]
                        own = [pair[0] for pair in pairs]
                        table.add_row(
                            f"{size:,}",
                            what,
                            f"{median(own, lambda lap: lap.rate):,.0f}",
                            f"{statistics.median(a.rate / b.rate for a, b in pairs):.2f}",
                            f"{median(own, lambda lap: lap.cpu_us):.0f}",
                            f"{statistics.median(a.cpu_us / b.cpu_us for a, b in pairs):.2f}",
                            f"{median(own, lambda lap: lap.p50_ms):.2f}",
                        )
    return table


@dataclass(frozen=True, slots=True)
class Kind:
    """What is asked of a campaign of so many offers: hardly two decisions may choose among the same."""

    name: str
    offers: int
    capped: bool  # each offer once a week; customers ask
    listed: int = 0  # offers that a call names

    def campaign(self, *, ruled: bool) -> str:
        """Return the campaign's file, with its rules or without."""
        lines = offers_campaign(self.offers).splitlines(keepends=True)
        if ruled and self.capped:
            cap = ", caps: [{times: 1, per: 7d}]}\n"
            lines = [f"{line[:-2]}{cap}" if line.startswith("  - ") else line for line in lines]
        return "".join(lines)

    def batches(self, decisions: int, *, ruled: bool) -> list[bytes]:
        """Return so many questions, a hundred to a message."""
        drawn = random.Random(SEED)
        ids = [f"offer-{number}" for number in range(self.offers)]
        asked = []
        for _ in range(decisions):
            each = question()
            if self.capped:
                each.customer_id = f"customer-{drawn.randrange(max(1, decisions // ASKED_TIMES))}"
                each.consent = pb.CONSENT_GRANTED
            if self.listed and ruled:
                each.include_offers.extend(drawn.sample(ids, self.listed))
            asked.append(each)
        return [
            pb.BatchDecideRequest(requests=asked[start : start + BATCH_SIZE]).SerializeToString()
            for start in range(0, decisions, BATCH_SIZE)
        ]


KINDS = (
    Kind("100 offers, a cap each, known customers", 100, capped=True),
    Kind(f"1,000 offers, lists of {LISTED}", 1_000, capped=False, listed=LISTED),
    Kind("1,000 offers, a cap each, known customers", 1_000, capped=True),
)


def by_eligible(decisions: int, rounds: int) -> Table:
    """Measure bytes and rate of decisions that each have their own eligible offers."""
    table = Table(
        "what", "decisions a second", "of the rule-free", "bytes a decision", "of the rule-free, bytes",
        title=f"Eligible sets of their own, BatchDecide({BATCH_SIZE}) (goals: ≥ 0.5; ≤ 1,500 bytes)",
    )  # fmt: skip
    decisions -= decisions % BATCH_SIZE
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            sides = {ruled: directory / ("ruled" if ruled else "free") for ruled in (True, False)}
            rates: dict[bool, list[float]] = {True: [], False: []}
            with ExitStack() as both:
                servers = {}
                for ruled, data in sides.items():
                    files = campaigns_in(data, {CAMPAIGN: kind.campaign(ruled=ruled)})
                    servers[ruled] = both.enter_context(served(data / "data", campaigns=files))
                for number in range(rounds):
                    for ruled in (True, False) if number % 2 else (False, True):
                        messages = kind.batches(decisions // rounds // BATCH_SIZE * BATCH_SIZE, ruled=ruled)
                        rates[ruled].append(all_of(servers[ruled], messages))
            made = rounds * (decisions // rounds // BATCH_SIZE * BATCH_SIZE)
            each = {ruled: ledger_bytes(data) / made for ruled, data in sides.items()}
        table.add_row(
            kind.name,
            f"{statistics.median(rates[True]):,.0f}",
            f"{statistics.median(a / b for a, b in zip(rates[True], rates[False], strict=True)):.2f}",
            f"{each[True]:,.0f}",
            f"{each[False]:,.0f}",
        )
    return table


def all_of(server: Server, messages: Sequence[bytes]) -> float:
    """Ask every message once, one at a time; return the decisions a second."""
    count = len(messages)
    with accounted(server, BatchDecide=count, decisions=count * BATCH_SIZE):
        return send(server.port, [[(BATCH_DECIDE, message) for message in messages]]).rate * BATCH_SIZE


def ledger_bytes(data: Path) -> int:
    """Return the bytes of a ledger's files."""
    return sum(file.stat().st_size for file in data.glob("data/ledger.sqlite3*"))


@dataclass(frozen=True, slots=True)
class Share:
    """A lap of workers: calls a second, and the cores that server and client used."""

    rate: float
    server_cores: float
    client_cores: float

    @property
    def rate_alone(self) -> float:
        """Return the calls a second there would be if the client took nothing of the machine."""
        return self.rate * _cores() / (_cores() - self.client_cores)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def shared(server: Server, body: Path, calls: int) -> Share:
    """Measure Decide over 32 connections, and who used the machine."""
    with accounted(server, Decide=calls, decisions=calls):
        before_s = server.cpu_s()
        load = h2load(server.port, DECIDE, body, calls, IN_FLIGHT, connections=IN_FLIGHT)
        cpu_s = server.cpu_s() - before_s
    return Share(load.rate, cpu_s / load.seconds, load.client_cpu_s / load.seconds)


def by_workers(calls: int, rounds: int, counts: Sequence[int]) -> Table:
    """Measure more and more worker processes on one port."""
    table = Table(
        "workers", "a second", "of one on one core", "cores, service", "cores, h2load", "accounted for",
        title=f"Decide over {IN_FLIGHT} connections, {_cores()} cores (goal: 2 workers ≥ 1.6, accounted for)",
    )  # fmt: skip
    measure = 0.0
    for count in (0, *counts):  # 0: one, held on one core
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            campaigns = campaigns_in(directory, {CAMPAIGN: offers_campaign(OFFERS)})
            options = ["--workers", str(count)] if count > 1 else []
            cores = two_sides()[0] if not count else None
            with served(directory / "data", campaigns=campaigns, cores=cores, options=options) as server:
                body = framed(QUESTION, directory)
                shared(server, body, max(WARM, calls // 4))
                laps = [shared(server, body, calls) for _ in range(rounds)]
        rate = statistics.median(lap.rate for lap in laps)
        alone = statistics.median(lap.rate_alone for lap in laps) if count else rate
        measure = measure or rate
        table.add_row(
            str(count) if count else "1, on one core",
            f"{rate:,.0f}",
            f"{rate / measure:.2f}",
            f"{statistics.median(lap.server_cores for lap in laps):.2f}",
            f"{statistics.median(lap.client_cores for lap in laps):.2f}",
            f"{alone / measure:.2f}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=("offers", "campaigns", "ledger", "eligible", "workers"))
    parser.add_argument(
        "--calls",
        type=int,
        default=4_000,
        help="calls a round; five times as many workers'; in all for eligible sets",
    )
    parser.add_argument("--offers-max", type=int, default=OFFER_COUNTS[-1], help="leave larger ones out")
    parser.add_argument("--decisions-max", type=int, default=LEDGER_SIZES[-1], help="leave fuller ones out")
    parser.add_argument("--workers-max", type=int, default=WORKER_COUNTS[-1], help="leave more out")
    options = parser.parse_args()
    if options.only != "eligible":
        need_h2load()
    calls, rounds = options.calls, options.rounds
    parts: dict[str, Callable[[], Table]] = {
        "offers": lambda: by_offers(calls, rounds, _up_to(OFFER_COUNTS, options.offers_max)),
        "campaigns": lambda: by_campaigns(calls, rounds),
        "ledger": lambda: by_ledger(calls, rounds, _up_to(LEDGER_SIZES, options.decisions_max)),
        "eligible": lambda: by_eligible(calls, rounds),
        "workers": lambda: by_workers(5 * calls, rounds, _up_to(WORKER_COUNTS, options.workers_max)),
    }
    console = Console(width=100)
    for name, part in parts.items():
        if options.only in {None, name}:
            console.print(part())
    console.print(f"medians of {rounds} rounds; server and client on one machine: {machine()}")


def _up_to(counts: Sequence[int], most: int) -> list[int]:
    return [count for count in counts if count <= most]


if __name__ == "__main__":
    main()

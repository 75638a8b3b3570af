"""What does a service carry with it: restarts, memory, and the settlements it has to learn?

    python loadtests/restart.py [--only restart|pending|settling|relearning|memory]

 * restart: seconds from exec to ready with 1,000,000 decisions in the ledger, nearly all settled and learned,
   the others pending; the service is killed (SIGKILL) before;
 * pending: memory (RSS) of a decision that waits for its deadline: what 200,000 of them add to a service,
   beside what the same decisions add where they settle at once;
 * settling: settlements learned a second in one process. 200,000 decisions are made, and the process is
   held (SIGSTOP) until all are due, so that nothing else is to be done (`tail.py --settlements` measures
   what settlements do to Decide);
 * relearning: Decide's p99 at a fixed rate before, while and after a model of 300,000 settlements is learned
   anew, once since a customer is erased, once since its file declares another feature; then seconds from exec
   to ready after SIGKILL, with the same file and with one that declares yet another;
 * memory: RSS over 2,000,000 decisions that settle and are learned, read whenever all are; the slope is that
   of least squares over the second half.

Ten offers, decisions made through BatchDecide(1000). Checks that every call was answered OK and recorded, and
that each decision that was due was learned, once, also after a kill. Prints its tables and the machine.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from arriving import arrivals
from filling import FILL_BATCH, await_learned, campaigns_in, fill, learned, progress
from serving import SEED, Server, machine, need_h2load, offers_campaign, parser_of, served
from tail import Lap, at_rate, client, strangers
from tilbud.v1 import campaigns_pb2, customers_pb2
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.campaigns_pb2_grpc import CampaignServiceStub
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

OFFERS = 10
QUICK, SLOW = "quick", "slow"  # settles within a second; not while it is measured
SETTLED_SHARE = 0.95
READY_WAITED_S = 600.0
FILLED_A_SECOND_AT_LEAST = 2_000
HOLD_LOOKED_EVERY_S = 1.0
PENDING_WARM = 100_000  # decisions, until the ledger's page cache is full and grows no more


def campaigns(directory: Path, quick: str = "1s") -> Path:
    """Write the two campaigns, and return their folder."""
    return campaigns_in(
        directory,
        {
            QUICK: offers_campaign(OFFERS, name=QUICK, window=quick),
            SLOW: offers_campaign(OFFERS, name=SLOW, window="30d"),
        },
    )


def thousands(count: float) -> int:
    """Return a number of decisions that can be made."""
    return max(FILL_BATCH, round(count / FILL_BATCH) * FILL_BATCH)


def await_pending(server: Server, count: int, campaign: str) -> None:
    """Wait until so many decisions of a campaign wait for settlement. Raises TimeoutError."""
    until = time.perf_counter() + READY_WAITED_S
    while (now := server.counted("tilbud_pending_decisions", campaign=campaign)) != count:
        if time.perf_counter() > until:
            raise TimeoutError(f"{now} decisions of {campaign} wait, and {count} should")
        time.sleep(0.25)


# Restart


def restarts(decisions: int, rounds: int) -> Table:
    """Measure how soon a killed service is ready again."""
    settled = thousands(decisions * SETTLED_SHARE)
    pending = thousands(decisions - settled)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files = campaigns(directory)
        with served(directory / "data", campaigns=files) as server:
            empty_s = server.ready_s
            fill(server, pending, [SLOW])
            fill(server, settled, [QUICK])
            await_learned(server, settled, QUICK)
            server.kill()
        ready_s = []
        for _ in range(rounds):
            with served(directory / "data", campaigns=files) as server:
                ready_s.append(server.ready_s)
                await_learned(server, settled, QUICK)
                await_pending(server, pending, SLOW)
                server.kill()
    table = Table(
        "settled and learned", "pending", "s to ready, median", "longest", "s, empty ledger",
        title="Restart after SIGKILL (goal: 1,000,000 decisions ≤ 5 s)",
    )  # fmt: skip
    table.add_row(
        f"{settled:,}",
        f"{pending:,}",
        f"{statistics.median(ready_s):.2f}",
        f"{max(ready_s):.2f}",
        f"{empty_s:.2f}",
    )
    return table


# Pending


def pending_memory(decisions: int) -> Table:
    """Measure what waiting decisions add to memory, beside such as settle at once."""
    table = Table(
        "what", "MB before", "MB after", "bytes a decision", title=f"Memory of {decisions:,} decisions"
    )
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files = campaigns(directory)
        added = []
        for campaign, what in ((QUICK, "settled and learned"), (SLOW, "pending")):
            with served(directory / campaign, campaigns=files) as server:
                fill(server, PENDING_WARM, [QUICK])
                await_learned(server, PENDING_WARM, QUICK)
                before_bytes = server.rss_bytes()
                fill(server, decisions, [campaign])
                if campaign == QUICK:
                    await_learned(server, PENDING_WARM + decisions, QUICK)
                else:
                    await_pending(server, decisions, SLOW)
                after_bytes = server.rss_bytes()
            added.append((after_bytes - before_bytes) / decisions)
            table.add_row(what, f"{before_bytes / 1e6:.1f}", f"{after_bytes / 1e6:.1f}", f"{added[-1]:.1f}")
    table.add_row("pending, beyond settled", "", "", f"{added[1] - added[0]:.1f}")
    return table


# Settling


def backlog(decisions: int) -> Table:
    """Measure how fast a backlog of due decisions is settled and learned."""
    window_s = max(5, round(decisions / FILLED_A_SECOND_AT_LEAST))
    with (
        tempfile.TemporaryDirectory() as name,
        served(Path(name) / "data", campaigns=campaigns(Path(name), f"{window_s}s")) as server,
    ):
        began_s = time.perf_counter()
        fill(server, decisions, [QUICK])
        filled_s = time.perf_counter()
        assert filled_s - began_s < window_s, f"the first are due before the last is made: {window_s} s"
        assert learned(server, QUICK) == 0, "some settled before they were held"
        held(server, window_s + 1.0)
        before_s, cpu_s = time.perf_counter(), server.cpu_s()
        await_learned(server, decisions, QUICK)
        seconds, cpu_s = time.perf_counter() - before_s, server.cpu_s() - cpu_s
        await_pending(server, 0, QUICK)
    table = Table(
        "decisions due", "s until all are learned", "learned a second", "CPU µs each",
        title="Settlements learned a second, one process (goal: ≥ 10,000)",
    )  # fmt: skip
    each_us = cpu_s / decisions * 1e6
    table.add_row(f"{decisions:,}", f"{seconds:.2f}", f"{decisions / seconds:,.0f}", f"{each_us:.0f}")
    return table


def held(server: Server, seconds: float) -> None:
    """Let a service do nothing for so long, while its clock goes on."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with progress() as shown:
            task = shown.add_task("waiting until all are due, s", total=round(seconds))
            until = time.perf_counter() + seconds
            while (left_s := until - time.perf_counter()) > 0:
                time.sleep(min(left_s, HOLD_LOOKED_EVERY_S))
                shown.advance(task)
    finally:
        os.kill(server.pid, signal.SIGCONT)


# Relearning


def declaring(features: int) -> str:
    """Return the file of a campaign that learns, with so many declared features: each makes another model."""
    declared = ", ".join(f"extra_{number}: flag" for number in range(features))
    return offers_campaign(OFFERS, name=QUICK, window="1s") + f"context: {{features: {{{declared}}}}}\n"


def relearning(decisions: int, rate: float, seconds: float) -> Table:
    """Measure what learning anew does to Decide's tail, and to a restart."""
    table = Table(
        "when", "calls a second", "p50", "p99", "p99, of before", "s it took",
        title=f"Decide since it was due, ms; {decisions:,} settlements relearned (goal: p99 within 20 %)",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name, client() as pool, ThreadPoolExecutor(1) as beside:
        directory = Path(name)
        files = campaigns(directory)

        def lap(server: Server) -> Lap:
            traffic = strangers(SLOW, arrivals(rate, seconds, SEED))
            return at_rate(server, pool, traffic, campaign=SLOW)

        def show(what: str, laps: list[Lap], before_ms: float = 0.0, took_s: float = 0.0) -> float:
            latency_s = np.concatenate([each.latency_s for each in laps])
            p50_ms, p99_ms = (float(np.quantile(latency_s, share)) * 1e3 for share in (0.5, 0.99))
            table.add_row(
                what, f"{rate:,.0f}", f"{p50_ms:.2f}", f"{p99_ms:.2f}",
                f"{p99_ms / before_ms:.2f}" if before_ms else "1", f"{took_s:.1f}" if took_s else "",
            )  # fmt: skip
            return p99_ms

        with served(directory / "data", campaigns=files) as server:
            fill(server, decisions, [QUICK])
            erased = "anna"
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                customers = CustomerServiceStub(channel)
                profile = customers_pb2.Customer(id=erased, consent=pb.CONSENT_GRANTED)
                customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=profile))
                DecisionServiceStub(channel).Decide(pb.DecideRequest(campaign=QUICK, customer_id=erased))
                await_learned(server, decisions + 1, QUICK)
                lap(server)  # to warm up
                before_ms = show("before", [lap(server)])

                def erase() -> float:
                    customers.EraseCustomer(customers_pb2.EraseCustomerRequest(customer_id=erased))
                    return time.perf_counter()

                def reload() -> float:
                    (files / f"{QUICK}.yaml").write_text(declaring(1))
                    CampaignServiceStub(channel).ReloadCampaigns(campaigns_pb2.ReloadCampaignsRequest())
                    return time.perf_counter()

                for what, begin in (("an erasure", erase), ("a declared feature", reload)):
                    began_s = time.perf_counter()
                    running = beside.submit(begin)
                    laps = []
                    while not running.done():
                        laps.append(lap(server))
                    took_s = running.result() - began_s
                    show(f"while it relearns after {what}", laps, before_ms, took_s)
                    show("after", [lap(server)], before_ms)
            server.kill()
        with served(directory / "data", campaigns=files) as server:
            table.add_row("ready after SIGKILL, same file", "", "", "", "", f"{server.ready_s:.2f}")
            server.kill()
        (files / f"{QUICK}.yaml").write_text(declaring(2))
        with served(directory / "data", campaigns=files) as server:
            table.add_row("ready after SIGKILL, another feature", "", "", "", "", f"{server.ready_s:.2f}")
            began_s = time.perf_counter()
            while server.counted("tilbud_stand_in", campaign=QUICK):
                time.sleep(0.25)
            took_s = time.perf_counter() - began_s
            table.add_row("until its model answers, idle", "", "", "", "", f"{took_s:.1f}")
    return table


# Memory


def memory(decisions: int, samples: int) -> Table:
    """Measure memory while decisions come, settle and are learned."""
    step = thousands(decisions / samples)
    made, rss_bytes = [], []
    with (
        tempfile.TemporaryDirectory() as name,
        served(Path(name) / "data", campaigns=campaigns(Path(name))) as server,
    ):
        for count in range(step, decisions + 1, step):
            fill(server, step, [QUICK])
            await_learned(server, count, QUICK)
            made.append(count)
            rss_bytes.append(server.rss_bytes())
    half = len(made) // 2
    slope = float(np.polyfit(made[half:], rss_bytes[half:], 1)[0])
    table = Table(
        "decisions", "MB", "bytes a decision since the line before",
        title=f"Memory: {slope:+.2f} bytes a decision, second half (goal: 0)",
    )  # fmt: skip
    before = 0
    for count, each in zip(made, rss_bytes, strict=True):
        since = f"{(each - before) / step:+.1f}" if before else ""
        table.add_row(f"{count:,}", f"{each / 1e6:.1f}", since)
        before = each
    return table


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=("restart", "pending", "settling", "relearning", "memory"))
    parser.add_argument("--decisions", type=int, default=1_000_000, help="in the ledger that is restarted")
    parser.add_argument("--pending-decisions", type=int, default=200_000, help="that wait")
    parser.add_argument("--backlog", type=int, default=200_000, help="decisions that are due at once")
    parser.add_argument("--relearned", type=int, default=300_000, help="settlements that are relearned")
    parser.add_argument("--relearning-rate", type=float, default=1_000.0, help="calls a second meanwhile")
    parser.add_argument("--lap-seconds", type=float, default=10.0, help="of each lap meanwhile")
    parser.add_argument("--memory-decisions", type=int, default=2_000_000, help="while memory is read")
    parser.add_argument("--samples", type=int, default=20, help="of memory")
    options = parser.parse_args()
    need_h2load()
    parts: dict[str, list[Callable[[], Table]]] = {
        "restart": [lambda: restarts(options.decisions, options.rounds)],
        "pending": [lambda: pending_memory(thousands(options.pending_decisions))],
        "settling": [
            lambda: backlog(thousands(options.backlog)),
        ],
        "relearning": [
            lambda: relearning(thousands(options.relearned), options.relearning_rate, options.lap_seconds)
        ],
        "memory": [lambda: memory(options.memory_decisions, options.samples)],
    }
    console = Console(width=100)
    for name, tables in parts.items():
        if options.only in {None, name}:
            for table in tables:
                console.print(table())
    console.print(f"rounds: {options.rounds}; server and client on one machine: {machine()}")


if __name__ == "__main__":
    main()

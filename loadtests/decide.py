"""How fast are decisions and outcomes, and what of it is gRPC itself?

    python loadtests/decide.py [--calls 20000] [--rounds 3] [--only unary|batch|everyday|outcomes|mixed]
        [--against ANOTHER_CHECKOUT/.venv/bin/python]

All durable, 10 offers, no rules; one table for each group, medians over rounds that take turns:

 * unary: Decide beside a no-op grpc.aio echo of the same messages, driven by h2load (Debian:
   nghttp2-client): 1 call in flight, 32 over 8 connections, 16 over one; all may use every core, as the
   client does. A second no-op listens as often as the service does, and in its event loop.
 * batch: BatchDecide of 1, 10, 100 and 1,000, driven by h2load; the server is held on one core.
 * everyday: Decide and BatchDecide(100) by who asks: a mix of 20 % strangers, 5 % calls that name one
   "guest", and else 10,000 customers by Zipf's law, each call with two declared features; beside it
   strangers, 32 customers and one. h2load sends one body only, so a client sends them whose frames are made
   beforehand (`arriving.py`): its CPU, about h2load's, stands beside. BatchDecide's server is held on one
   core. `--against`: another checkout's service takes turns with this one's.
 * outcomes: ReportOutcome, and BatchReportOutcomes of 100, each outcome for a decision of its own. h2load
   sends one body only, so a Python client in a process of its own sends them; its CPU stands beside.
   The server is held on one core.
 * mixed: decisions and outcomes 1:1 from the same client, while every decision settles after two seconds
   and is learned; every decision must be settled in the end.

CPU is that of the server's process, all threads. Each load ends with a comparison: calls = statuses OK =
decisions recorded = outcomes accepted, as the service counts them; else the benchmark fails.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from arriving import Message, in_turn
from questions import KINDS, STRANGERS, Kind, batches, decisions, everyday_campaign, questions
from sending import in_lines, send
from serving import (
    BATCH_DECIDE,
    BATCH_IN_FLIGHT,
    BATCH_REPORT_OUTCOMES,
    BATCH_SIZE,
    CAMPAIGN,
    DECIDE,
    QUESTION,
    REPORT_OUTCOME,
    Load,
    Server,
    accounted,
    echoing,
    framed,
    h2load,
    held_on,
    machine,
    need_h2load,
    offers_campaign,
    parser_of,
    served,
    turns,
    two_sides,
)
from tilbud.domain.limits import Limits
from tilbud.v1 import decisions_pb2 as pb

IN_FLIGHT = 32
STREAMS = Limits().streams_max  # h2load opens what it wants before it hears how many it may have
UNARY = ((1, 1, 4), (IN_FLIGHT, 8, 1), (STREAMS, 1, 1))
"""Calls in flight, connections, and the calls of --calls that one is sent for."""
OFFERS = 10
WARM_UP_CALLS = 2_000
BATCHES = ((1, 1, 32), (10, 4, 16), (100, 10, BATCH_IN_FLIGHT), (1_000, 10, BATCH_IN_FLIGHT))
"""Batch sizes, with the decisions for each of --calls, and the batches in flight."""
WINDOW = "2s"
BATCHED_TIMES = 5  # as many decisions in batches, since they take a fraction of the time
SETTLEMENTS = "tilbud_settlements_total"
SETTLED_WITHIN_S = 120.0


@dataclass(slots=True)
class Measured:
    """What one row of a table is the median of; each thing done is a call, a decision or an outcome."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    client_cpu_us: list[float] = field(default_factory=list)
    settled_rates: list[float] = field(default_factory=list)

    def add(self, server: Server, things: int, load: Callable[[], Load], **accounts: int) -> None:
        """Let a load do so many things, note what it took, and check it by the service's `accounts`."""
        if not server.metrics_ports:
            self._note(server, things, load)
            return
        with accounted(server, **accounts):
            settled = server.counted(SETTLEMENTS)
            seconds = self._note(server, things, load)
            self.settled_rates.append((server.counted(SETTLEMENTS) - settled) / seconds)

    def _note(self, server: Server, things: int, load: Callable[[], Load]) -> float:
        before_s = server.cpu_s()
        ran = load()
        self.cpu_us.append((server.cpu_s() - before_s) / things * 1e6)
        self.rates.append(things / ran.seconds)
        self.client_cpu_us.append(ran.client_cpu_s / things * 1e6)
        return ran.seconds

    def cells(self) -> tuple[str, str]:
        """Return things a second, and the server's CPU for each."""
        return _median(self.rates), _median(self.cpu_us)

    def client_cells(self) -> tuple[str, str, str]:
        """Return the same, and the client's CPU for each."""
        return (*self.cells(), _median(self.client_cpu_us))


def _median(figures: Sequence[float]) -> str:
    return f"{statistics.median(figures):,.0f}"


@contextlib.contextmanager
def shop(window: str = "1d", cores: Sequence[int] | None = None) -> Iterator[tuple[Server, Path]]:
    """Serve ten offers from an empty data directory; also yield a directory for files."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "shop.yaml"
        file.write_text(offers_campaign(OFFERS, window=window))
        with served(directory / "data", campaigns=file, cores=cores) as server:
            yield server, directory


# Decisions


def unary(calls: int, rounds: int) -> Table:
    """Measure Decide and the no-ops in turn."""
    table = Table(
        "what", "in flight", "connections", "a second", "CPU µs each", "of the no-op",
        title="Decide, beside a no-op",
    )  # fmt: skip
    with shop() as (service, directory), echoing() as plain, echoing("--like-service") as alike:
        body = framed(QUESTION, directory)
        servers = {"no-op echo": plain, "no-op, listening as often": alike, "Decide": service}
        for in_flight, connections, each in UNARY:
            rows = {what: Measured() for what in servers}
            sent = calls // each
            loads = {
                what: partial(h2load, server.port, DECIDE, body, sent, in_flight, connections=connections)
                for what, server in servers.items()
            }
            for server in servers.values():
                h2load(server.port, DECIDE, body, WARM_UP_CALLS, in_flight, connections=connections)
            for _ in turns(f"Decide, {in_flight} in flight over {connections}", rounds):
                for what, server in servers.items():
                    rows[what].add(server, sent, loads[what], Decide=sent, decisions=sent)
            for what, row in rows.items():
                ratios = [a / b for a, b in zip(row.rates, rows["no-op echo"].rates, strict=True)]
                share = f"{statistics.median(ratios):.2f}"
                table.add_row(what, str(in_flight), str(connections), *row.cells(), share)
    return table


def batch(calls: int, rounds: int) -> Table:
    """Measure BatchDecide of several sizes on one core; the client has another."""
    table = Table("what", "batches in flight", "decisions a second", "CPU µs each", title="On one core")
    own, others = two_sides()
    rows = {size: Measured() for size, _, _ in BATCHES}
    with shop(cores=own) as (service, directory):
        bodies = {
            size: framed(pb.BatchDecideRequest(requests=[QUESTION] * size), directory, f"batch-{size}")
            for size in rows
        }
        for number in turns("BatchDecide", rounds + 1):
            for size, share, in_flight in BATCHES:
                sent = max(in_flight, (calls * share if number else WARM_UP_CALLS) // size)
                load = partial(
                    h2load, service.port, BATCH_DECIDE, bodies[size], sent, in_flight, cores=others
                )
                row = rows[size] if number else Measured()  # the first round warms up
                row.add(service, sent * size, load, BatchDecide=sent, decisions=sent * size)
    for size, _, in_flight in BATCHES:
        table.add_row(f"BatchDecide({size:,})", str(in_flight), *rows[size].cells())
    return table


# Decisions and their outcomes


def pairs(ids: Sequence[str], size: int) -> list[tuple[Message, Message]]:
    """Return decisions under these ids and an outcome of each; `size` in a message, 0: each by itself."""
    asked = []
    for decision_id in ids:
        question = pb.DecideRequest()
        question.CopyFrom(QUESTION)
        question.decision_id = decision_id
        asked.append(question)
    told = [
        pb.ReportOutcomeRequest(campaign=CAMPAIGN, decision_id=decision_id, outcome="click")
        for decision_id in ids
    ]
    if not size:
        return [
            ((DECIDE, a.SerializeToString()), (REPORT_OUTCOME, b.SerializeToString()))
            for a, b in zip(asked, told, strict=True)
        ]
    return [
        (
            (BATCH_DECIDE, pb.BatchDecideRequest(requests=asked[i : i + size]).SerializeToString()),
            (
                BATCH_REPORT_OUTCOMES,
                pb.BatchReportOutcomesRequest(requests=told[i : i + size]).SerializeToString(),
            ),
        )
        for i in range(0, len(ids), size)
    ]


def numbered(round_number: int, kind: str, count: int) -> list[str]:
    """Return the ids of one turn's decisions."""
    return [f"d-{kind}-{round_number}-{number}" for number in range(1, count + 1)]


def outcomes(calls: int, rounds: int) -> Table:
    """Measure outcomes, each of a decision made before, one by one and in batches."""
    table = Table(
        "what", "in flight", "outcomes a second", "CPU µs each", "client's CPU µs",
        title="Outcomes on one core, from a Python client on another",
    )  # fmt: skip
    own, others = two_sides()
    single, batched = Measured(), Measured()
    with shop(cores=own) as (service, _):
        for number in turns("Outcomes", rounds):
            for kind, size, in_flight, row in (
                ("single", 0, IN_FLIGHT, single),
                ("batched", BATCH_SIZE, BATCH_IN_FLIGHT, batched),
            ):
                count = _in_batches(calls * BATCHED_TIMES if size else calls)
                ids = numbered(number, kind, count)
                with accounted(service, decisions=count):
                    send(service.port, in_lines([a for a, _ in pairs(ids, BATCH_SIZE)], BATCH_IN_FLIGHT))
                told = in_lines([b for _, b in pairs(ids, size)], in_flight)
                load = partial(send, service.port, told, others)
                if size:
                    row.add(service, count, load, BatchReportOutcomes=count // size, outcomes=count)
                else:
                    row.add(service, count, load, ReportOutcome=count, outcomes=count)
    table.add_row("ReportOutcome", str(IN_FLIGHT), *single.client_cells())
    name = f"BatchReportOutcomes({BATCH_SIZE})"
    table.add_row(name, str(BATCH_IN_FLIGHT), *batched.client_cells())
    return table


def mixed(calls: int, rounds: int) -> Table:
    """Measure decisions and outcomes 1:1, while all of them settle and are learned."""
    table = Table(
        "what, 1:1", "in flight", "both a second", "CPU µs each", "client's CPU µs", "settled a second",
        title=f"Mixed on one core, learning after {WINDOW}, from a Python client on another",
    )  # fmt: skip
    own, others = two_sides()
    single, batched = Measured(), Measured()
    for kind, size, in_flight, row in (
        ("single", 0, IN_FLIGHT, single),
        ("batched", BATCH_SIZE, BATCH_IN_FLIGHT, batched),
    ):
        count = _in_batches(calls * BATCHED_TIMES if size else calls)
        with shop(window=WINDOW, cores=own) as (service, _):
            for number in turns(f"Mixed, {kind}", rounds):
                each = pairs(numbered(number, kind, count), size)
                lines = [[part for pair in each[i::in_flight] for part in pair] for i in range(in_flight)]
                load = partial(send, service.port, lines, others)
                names = ("BatchDecide", "BatchReportOutcomes") if size else ("Decide", "ReportOutcome")
                accounts = dict.fromkeys(names, len(each))
                row.add(service, 2 * count, load, **accounts, decisions=count, outcomes=count)
            until_settled(service, rounds * count)
    for what, in_flight, row in (
        ("Decide, ReportOutcome", IN_FLIGHT, single),
        (f"the same in batches of {BATCH_SIZE}", BATCH_IN_FLIGHT, batched),
    ):
        table.add_row(what, str(in_flight), *row.client_cells(), _median(row.settled_rates))
    return table


def until_settled(service: Server, decisions: int) -> None:
    """Wait until so many decisions are settled and learned, and end the benchmark where they are not."""
    until = time.monotonic() + SETTLED_WITHIN_S
    while (settled := service.counted(SETTLEMENTS)) < decisions and time.monotonic() < until:
        time.sleep(0.1)
    if settled != decisions:
        sys.exit(f"{decisions:,} decisions were made, but {settled:,} settled")


# By who asks


@contextlib.contextmanager
def everyday_shops(
    pythons: Mapping[str, str], cores: Sequence[int] | None = None
) -> Iterator[dict[str, Server]]:
    """Serve the everyday campaign by each of these interpreters, by its name, from empty data directories."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        file = Path(name) / "shop.yaml"
        file.write_text(everyday_campaign(OFFERS))
        yield {
            what: opened.enter_context(served(Path(name) / what, campaigns=file, cores=cores, python=python))
            for what, python in pythons.items()
        }


def everyday(calls: int, rounds: int, against: str | None = None) -> Table:
    """Measure Decide and BatchDecide by who asks, beside the no-op from the same client."""
    table = Table(
        "call", "who asks", "service", "a second", "of the no-op", "CPU µs each", "of strangers'",
        "client's CPU",
        title="By who asks",
    )  # fmt: skip
    pythons = {"this": sys.executable} | ({"other": against} if against else {})
    _decide_by_kind(table, pythons, calls, rounds)
    table.add_section()
    _batch_by_kind(table, pythons, calls * BATCHED_TIMES, rounds)
    return table


def _decide_by_kind(table: Table, pythons: Mapping[str, str], calls: int, rounds: int) -> None:
    rows: dict[tuple[Kind, str], Measured] = defaultdict(Measured)
    noop = (STRANGERS, "no-op echo")
    with echoing() as echo, everyday_shops(pythons) as services:
        for turn in turns("Decide by who asks", rounds + 1):  # the first turn warms up
            for kind in KINDS:
                messages = decisions(kind, calls, turn)
                servers = services | ({"no-op echo": echo} if kind is STRANGERS else {})
                for what, server in servers.items():
                    load = partial(asked, server.port, messages, IN_FLIGHT, connections=8)
                    row = rows[kind, what] if turn else Measured()
                    row.add(server, calls, load, Decide=calls, decisions=calls)
    for (kind, what), row in rows.items():
        share = f"{_of(row.rates, rows[noop].rates):.2f}"
        stranger = rows[STRANGERS, what]
        table.add_row("Decide", kind.name, what, _median(row.rates), share, *_cpu_cells(row, stranger))


def _batch_by_kind(table: Table, pythons: Mapping[str, str], count: int, rounds: int) -> None:
    own, others = two_sides()
    rows: dict[tuple[Kind, str], Measured] = defaultdict(Measured)
    count = _in_batches(count)
    with everyday_shops(pythons, own) as services:
        for turn in turns("BatchDecide by who asks", rounds + 1):
            for kind in KINDS:
                bodies = batches(questions(kind, count, turn), BATCH_SIZE)
                messages = [(BATCH_DECIDE, body) for body in bodies]
                for what, server in services.items():
                    load = partial(asked, server.port, messages, BATCH_IN_FLIGHT, connections=1, cores=others)
                    row = rows[kind, what] if turn else Measured()
                    row.add(server, count, load, BatchDecide=len(bodies), decisions=count)
    for (kind, what), row in rows.items():
        stranger = rows[STRANGERS, what]
        table.add_row(
            f"BatchDecide({BATCH_SIZE})", kind.name, what, _median(row.rates), "", *_cpu_cells(row, stranger)
        )


def asked(
    port: int,
    messages: Sequence[Message],
    in_flight: int,
    *,
    connections: int,
    cores: Sequence[int] | None = None,
) -> Load:
    """Send every message once, so many in flight; return what the client did."""
    with held_on(cores):
        calls = in_turn(port, messages, len(messages), in_flight, connections=connections)
    return Load(calls.rate, len(messages) / calls.rate, calls.client_cpu_s)


def _of(figures: Sequence[float], others: Sequence[float]) -> float:
    """Return the median ratio, turn by turn."""
    return statistics.median(a / b for a, b in zip(figures, others, strict=True))


def _cpu_cells(row: Measured, stranger: Measured) -> tuple[str, str, str]:
    return _median(row.cpu_us), f"{_of(row.cpu_us, stranger.cpu_us):.2f}", _median(row.client_cpu_us)


def _in_batches(calls: int) -> int:
    """Return about so many, in whole batches and at least one for each line."""
    return max(calls // BATCH_SIZE, BATCH_IN_FLIGHT) * BATCH_SIZE


GROUPS: dict[str, Callable[..., Table]] = {
    "unary": unary, "batch": batch, "everyday": everyday, "outcomes": outcomes, "mixed": mixed,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--calls", type=int, default=20_000, help="calls a round at 32 in flight; other loads in proportion"
    )
    parser.add_argument("--only", choices=GROUPS, help="only this group")
    parser.add_argument("--against", metavar="PYTHON", help="another checkout's interpreter, for everyday")
    options = parser.parse_args()
    need_h2load()
    console = Console(width=100)
    for name in [options.only] if options.only else GROUPS:
        further = {"against": options.against} if name == "everyday" else {}
        console.print(GROUPS[name](options.calls, options.rounds, **further))
    console.print(f"medians of {options.rounds} rounds; servers and clients on one machine: {machine()}")


if __name__ == "__main__":
    main()

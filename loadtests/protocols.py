"""What does a decision cost over HTTP and JSON, beside the same over gRPC?

    python loadtests/protocols.py [--calls 10000] [--rounds 3] [--rate 200]

One service, asked by h2load (Debian: nghttp2-client) in turns: Decide over gRPC, over HTTP/1.1 as JSON and
as binary protobuf (Connect), and BatchDecide of 100 as each; all durable, ten offers, no rules, nobody known.
Beside them a no-op of each protocol that answers as long a message: grpc.aio, and uvicorn around a function.
An HTTP connection has one call at a time, so 32 calls in flight are 32 connections; over gRPC they share
eight.

The first table is as fast as it goes. The second is at `--rate` calls a second over eight connections, a
call every so often on each; h2load counts from when it sent, and as each waits its turn, that is when the
call was due. CPU is that of the server's process, all threads. What was called is compared with what the
service counted. Wants what `pip install -e .[loadtests]` installs.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from serving import (
    BATCH_DECIDE,
    BATCH_IN_FLIGHT,
    BATCH_SIZE,
    DECIDE,
    GRPC_HEADERS,
    QUESTION,
    Load,
    Server,
    accounted,
    echoing,
    framed,
    h2load,
    machine,
    need_h2load,
    offers_campaign,
    parser_of,
    running,
    served,
    turns,
)
from tilbud.v1 import decisions_pb2 as pb

OFFERS = 10
CONNECTIONS, IN_FLIGHT = 8, 32
RATE_S = 5.0  # of calls at a rate, in each round
MS = 1_000.0
GRPC, JSON, BINARY = "gRPC", "HTTP, JSON", "HTTP, binary"
HEADERS = {
    GRPC: GRPC_HEADERS,
    JSON: ("content-type: application/json",),
    BINARY: ("content-type: application/proto",),
}


@dataclass(slots=True)
class Row:
    """One server, asked one thing by one protocol, and what it took."""

    what: str
    protocol: str
    server: Server
    port: int
    body: Path
    size: int = 1  # decisions of a call
    noop: Row | None = None
    rates: list[float] = field(default_factory=list)  # of decisions
    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def closed_loop(self, calls: int, in_flight: int) -> None:
        """Ask so often, a call as soon as one is answered."""
        over_grpc = self.protocol == GRPC and in_flight >= CONNECTIONS
        load = self._load(calls, in_flight, CONNECTIONS if over_grpc else in_flight)
        self.rates.append(load.rate * self.size)

    def at(self, rate: float, calls: int) -> None:
        """Ask so often a second."""
        load = self._load(calls, CONNECTIONS, CONNECTIONS, rps=rate / CONNECTIONS)
        took_ms = load.took_us / MS
        self.p50_ms.append(float(np.percentile(took_ms, 50)))
        self.p99_ms.append(float(np.percentile(took_ms, 99)))

    def forget(self) -> None:
        """Forget what warmed it up."""
        for figures in (self.rates, self.cpu_us, self.p50_ms, self.p99_ms):
            figures.clear()

    def _load(self, calls: int, in_flight: int, connections: int, rps: float | None = None) -> Load:
        method = BATCH_DECIDE if self.size > 1 else DECIDE
        counted = {"BatchDecide" if self.size > 1 else "Decide": calls}
        checked = accounted(self.server, decisions=calls * self.size, **counted)
        with checked if self.server.metrics_ports else contextlib.nullcontext():
            before_s = self.server.cpu_s()
            load = h2load(
                self.port, method, self.body, calls, in_flight, connections=connections, rps=rps,
                logged=rps is not None, headers=HEADERS[self.protocol],
                options=[] if self.protocol == GRPC else ["--h1"],
            )  # fmt: skip
            self.cpu_us.append((self.server.cpu_s() - before_s) / calls / self.size * 1e6)
        return load


def written(message: Message, protocol: str, directory: Path) -> Path:
    """Write a message as a protocol sends it, and return its file."""
    name = f"{message.DESCRIPTOR.name}-{protocol}"
    if protocol == GRPC:
        return framed(message, directory, name)
    body = directory / name
    text = MessageToJson(message, indent=None).encode()
    body.write_bytes(text if protocol == JSON else message.SerializeToString())
    return body


@contextlib.contextmanager
def everybody() -> Iterator[tuple[list[Row], list[Row]]]:
    """Start the servers; return the rows of single decisions with their no-ops, and those of batches."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shop = directory / "shop.yaml"
        shop.write_text(offers_campaign(OFFERS))
        options = ("--http", "127.0.0.1:0")
        service = stack.enter_context(served(directory / "data", campaigns=shop, options=options))
        grpc_noop = stack.enter_context(echoing())
        script = str(Path(__file__).with_name("echo_http.py"))
        http_noop = stack.enter_context(running([sys.executable, script]))
        batch = pb.BatchDecideRequest(requests=[QUESTION] * BATCH_SIZE)

        def row(what: str, protocol: str, server: Server, noop: Row | None = None, size: int = 1) -> Row:
            body = written(batch if size > 1 else QUESTION, protocol, directory)
            port = server.http_port if protocol != GRPC and server.http_port else server.port
            return Row(what, protocol, server, port, body, size, noop)

        noops = [row("no-op", GRPC, grpc_noop), row("no-op", JSON, http_noop)]
        of = {GRPC: noops[0], JSON: noops[1], BINARY: noops[1]}
        singles = [row("Decide", protocol, service, noop) for protocol, noop in of.items()]
        name = f"BatchDecide({BATCH_SIZE})"
        yield [*noops, *singles], [row(name, protocol, service, size=BATCH_SIZE) for protocol in of]


def as_fast_as_it_goes(rows: Sequence[Row], calls: int, in_flight: int, rounds: int) -> Table:
    """Let all take turns, a call as soon as one is answered, and return the table."""
    what = f"As fast as it goes, {in_flight} in flight"
    for number in turns(what, rounds + 1):
        for row in rows:
            row.closed_loop(calls, in_flight)
            if not number:
                row.forget()
    table = _fast(what, rows)
    for row in rows:
        row.forget()
    return table


def at_a_rate(rows: Sequence[Row], rate: float, rounds: int) -> Table:
    """Let all take turns at so many calls a second, and return the table."""
    calls = max(1, round(rate * RATE_S / CONNECTIONS)) * CONNECTIONS
    for _ in turns(f"At {rate:g} a second", rounds):
        for row in rows:
            row.at(rate, calls)
    return _slow(f"At {rate:g} calls a second over {CONNECTIONS} connections", rows)


def _fast(title: str, rows: Sequence[Row]) -> Table:
    columns = ("what", "protocol", "decisions a second", "of gRPC", "of the no-op", "CPU µs each")
    table = Table(*columns, title=title)
    over_grpc = {row.what: row for row in rows if row.protocol == GRPC}
    for row in rows:
        noop = _ratio(row.rates, row.noop.rates) if row.noop else ""
        gone = _ratio(row.rates, over_grpc[row.what].rates)
        cpu = f"{statistics.median(row.cpu_us):,.0f}"
        table.add_row(row.what, row.protocol, f"{statistics.median(row.rates):,.0f}", gone, noop, cpu)
    return table


def _slow(title: str, rows: Sequence[Row]) -> Table:
    table = Table("what", "protocol", "p50 ms", "p99 ms", "p99 of the no-op's", "CPU µs each", title=title)
    for row in rows:
        noop = _ratio(row.p99_ms, row.noop.p99_ms) if row.noop else ""
        figures = (f"{statistics.median(each):.2f}" for each in (row.p50_ms, row.p99_ms))
        table.add_row(row.what, row.protocol, *figures, noop, f"{statistics.median(row.cpu_us):,.0f}")
    return table


def _ratio(figures: Sequence[float], others: Sequence[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(figures, others, strict=True)):.2f}"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="calls a round at 32 in flight")
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second of the second table")
    options = parser.parse_args()
    need_h2load()
    console = Console(width=100)
    calls, rounds = options.calls, options.rounds
    with everybody() as (singles, batches):
        console.print(as_fast_as_it_goes(singles, calls // 4, 1, rounds))
        console.print(as_fast_as_it_goes(singles, calls, IN_FLIGHT, rounds))
        console.print(as_fast_as_it_goes(batches, calls // 20, BATCH_IN_FLIGHT, rounds))
        console.print(at_a_rate(singles, options.rate, rounds))
    console.print(f"medians of {rounds} rounds; servers and clients on one machine: {machine()}")


if __name__ == "__main__":
    main()

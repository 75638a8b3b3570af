"""How fast are decisions beside others who do a part of the same work?

    python loadtests/peers.py [--calls 20000] [--rounds 3]

Ten offers, the same contexts as Tilbud encodes them, the same Vowpal Wabbit arguments, new models; each
server is held on one core, its client on the others, and they take turns in every round:

 * Tilbud: durable BatchDecide(100) and Decide, driven by h2load (Debian: nghttp2-client).
 * VW's own daemon, from its Python package, fed a hundred different examples over one connection, the next
   ones sent before the last are answered, up to 256 lines in flight (more stop it). It has a
   thread to read and one to predict, both on the core.
 * A FastAPI endpoint around the same model (endpoint.py), one uvicorn worker with uvloop and httptools,
   driven by h2load over HTTP/1.1, 32 connections.

BatchDecide and the daemon take turns through a hundred contexts; Decide and FastAPI are asked one question
again and again, as h2load does. Ratios are Tilbud's rate to the peer's within a round. Checked: Tilbud's
calls by its own counters; of a peer, that each prediction is as many probabilities as there are offers, and
that they sum to 1. Wants what `pip install -e .[loadtests]` installs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import vowpalwabbit
from rich.console import Console
from rich.table import Table

from same_work import OFFERS, SITUATIONS, TOLERANCE, Work, question
from serving import (
    BATCH_DECIDE,
    BATCH_IN_FLIGHT,
    BATCH_SIZE,
    DECIDE,
    Load,
    Server,
    accounted,
    framed,
    h2load,
    held_on,
    machine,
    need_h2load,
    offers_campaign,
    parser_of,
    running,
    served,
    turns,
    two_sides,
)
from tilbud.v1 import decisions_pb2 as pb

IN_FLIGHT = 32
BATCHED_TIMES = 5  # as many decisions in batches as single ones
LINES_IN_FLIGHT_MAX = 256
NEITHER = "rules, consent, ledger, safe retries, join, metrics"
JSON_HEADERS = ("content-type: application/json",)
_START_S = 30.0
_ANSWER_S = 30.0


@dataclass(slots=True)
class Side:
    """One who decides, what they do not do, and what a turn of theirs is."""

    name: str
    without: str
    server: Server
    decisions: int
    load: Callable[[], Load]
    accounts: dict[str, int] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Do it once, check it, and note what it took."""
        checked = accounted(self.server, **self.accounts) if self.accounts else contextlib.nullcontext()
        with checked:
            before_s = self.server.cpu_s()
            ran = self.load()
            self.cpu_us.append((self.server.cpu_s() - before_s) / self.decisions * 1e6)
        self.rates.append(self.decisions / ran.seconds)

    def to(self, other: Side) -> str:
        """Return the median ratio of its rate to another's."""
        if self is other:
            return "1"
        return f"{statistics.median(a / b for a, b in zip(self.rates, other.rates, strict=True)):.2f}"


# VW's daemon


@contextlib.contextmanager
def daemon(work: Work, directory: Path, cores: Collection[int]) -> Iterator[tuple[Server, socket.socket]]:
    """Run VW's daemon around a new model, with a connection to it."""
    model = directory / "model.vw"
    new = vowpalwabbit.Workspace(arg_list=[*work.vw_arguments, "--quiet", "--no_stdin"])
    new.save(str(model))
    new.finish()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Nothing tells when it listens, so the shell names the port first. Only with --passes does the
    # Python package read what the daemon is sent. One child: a connection is served by one of them.
    command = [
        "sh", "-c", f'echo 127.0.0.1:{port}; exec "$0" "$@"', sys.executable, "-m", "vowpalwabbit",
        "--daemon", "--foreground", "--port", str(port), "--num_children", "1", "--passes", "1",
        "--testonly", "--initial_regressor", str(model), "--quiet",
    ]  # fmt: skip
    with running(command, cores) as server, _connection(port) as connection:
        yield server, connection


def _connection(port: int) -> socket.socket:
    until = time.monotonic() + _START_S
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                sys.exit("VW's daemon did not start")
            time.sleep(0.05)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def pipeline(
    connection: socket.socket, examples: Sequence[bytes], count: int, cores: Collection[int]
) -> Load:
    """Send so many examples, the next while the last are answered; every answer is checked afterwards."""
    lines = max(example.count(b"\n") for example in examples)
    ahead = LINES_IN_FLIGHT_MAX // lines // 2  # two groups of so many are in flight
    each = list(islice(cycle(examples), count))
    groups = [b"".join(each[first : first + ahead]) for first in range(0, count, ahead)]
    received: list[bytes] = []
    sent = newlines = 0
    with held_on(cores):
        started, cpu_s = time.perf_counter(), time.process_time()
        while newlines < 2 * count:  # an answer is a line, and an empty one
            while sent < len(groups) and sent * ahead - newlines // 2 <= ahead:
                connection.sendall(groups[sent])
                sent += 1
            received.append(connection.recv(65_536))
            if not received[-1]:
                sys.exit("VW's daemon hung up")
            newlines += received[-1].count(b"\n")
        seconds = time.perf_counter() - started
    load = Load(count / seconds, seconds, time.process_time() - cpu_s)
    check(b"".join(received), count)
    return load


def check(received: bytes, count: int) -> None:
    """End the benchmark unless there are so many predictions, each a probability for every offer."""
    predictions = received.decode().split("\n\n")
    if len(predictions) != count + 1 or predictions.pop():
        sys.exit(f"{count:,} examples, but VW's daemon answered {len(predictions) - 1:,}")
    for prediction in predictions:
        pairs = [pair.split(":") for pair in prediction.split(",")]
        indexes = sorted(int(index) for index, _ in pairs)
        if indexes != list(range(OFFERS)) or abs(sum(float(p) for _, p in pairs) - 1.0) > TOLERANCE:
            sys.exit(f"not a probability for each of {OFFERS} offers: {prediction}")


# The comparison


@contextlib.contextmanager
def everybody(calls: int) -> Iterator[list[Side]]:
    """Start all of them; the first two are Tilbud."""
    work = Work()
    own, others = two_sides()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shop = directory / "shop.yaml"
        shop.write_text(offers_campaign(OFFERS))
        tilbud = stack.enter_context(served(directory / "data", campaigns=shop, cores=own))
        vw, connection = stack.enter_context(daemon(work, directory, own))
        script = str(Path(__file__).with_name("endpoint.py"))
        fastapi = stack.enter_context(running([sys.executable, script], own))

        single = framed(question(*SITUATIONS[0]), directory, "single")
        requests = [question(*situation) for situation in SITUATIONS]
        batch = framed(pb.BatchDecideRequest(requests=requests), directory, "batch")
        body = directory / "question.json"
        body.write_text(
            json.dumps(dict(zip(("device", "channel", "journey_stage"), SITUATIONS[0], strict=True)))
        )
        examples = [f"{work.example(*situation)}\n\n".encode() for situation in SITUATIONS]
        batches = max(BATCH_IN_FLIGHT, calls * BATCHED_TIMES // BATCH_SIZE)
        many = batches * BATCH_SIZE
        yield [
            Side(
                f"Tilbud, BatchDecide({BATCH_SIZE})", "", tilbud, many,
                partial(h2load, tilbud.port, BATCH_DECIDE, batch, batches, BATCH_IN_FLIGHT, cores=others),
                {"BatchDecide": batches, "decisions": many},
            ),
            Side(
                "Tilbud, Decide", "", tilbud, calls,
                partial(h2load, tilbud.port, DECIDE, single, calls, IN_FLIGHT, cores=others),
                {"Decide": calls, "decisions": calls},
            ),
            Side(
                "VW's daemon, pipelined", f"draw, {NEITHER}", vw, many,
                partial(pipeline, connection, examples, many, others),
            ),
            Side(
                "FastAPI around VW", f"learn, {NEITHER}", fastapi, calls,
                partial(
                    h2load, fastapi.port, "/decide", body, calls, IN_FLIGHT, connections=IN_FLIGHT,
                    cores=others, headers=JSON_HEADERS, options=["--h1"],
                ),
            ),
        ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="single decisions a round, of each")
    options = parser.parse_args()
    need_h2load()
    console = Console(width=100)
    with everybody(options.calls) as sides:
        for number in turns("Peers", options.rounds + 1):
            for side in sides:
                side.take_turn()
                if not number:  # the first round warms up
                    side.rates.clear()
                    side.cpu_us.clear()
    table = Table(
        "who", "a second", "CPU µs each", f"batch of {BATCH_SIZE} to it", "single to it", "does not do",
        title=f"Decisions, the same work: {OFFERS} offers, each server on one core",
    )  # fmt: skip
    table.columns[0].no_wrap = True
    batched, single, *_ = sides
    for side in sides:
        rate, cpu_us = statistics.median(side.rates), statistics.median(side.cpu_us)
        ratios = batched.to(side), single.to(side)
        table.add_row(side.name, f"{rate:,.0f}", f"{cpu_us:.0f}", *ratios, side.without)
    console.print(table)
    console.print(f"medians of {options.rounds} rounds after one to warm up; {machine()}")


if __name__ == "__main__":
    main()

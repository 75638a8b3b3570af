"""What do traces cost a decision?

    python loadtests/tracing.py [--calls 10000] [--rounds 3]

Decide over gRPC, 32 in flight over eight connections, by h2load (Debian: nghttp2-client); durable, ten
offers, no rules, nobody known. Three services take turns: without --otel; with it, every call traced and sent
to a collector here that throws all away; with it, and a caller who says by `traceparent` that a call is not
to be traced. CPU is that of the service's process, all threads, with the one that sends. What was called is
compared with what the service counted. Wants what `pip install -e .[otel]` installs.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from serving import (
    DECIDE,
    GRPC_HEADERS,
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
    turns,
)

OFFERS, IN_FLIGHT = 10, 32
NOT_TRACED = (*GRPC_HEADERS, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
OFF = "without --otel"


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """Take spans and throw them away; yield where."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def measure(calls: int, rounds: int) -> Table:
    """Let the services take turns, and return the table."""
    cpu_us: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shop = directory / "shop.yaml"
        shop.write_text(offers_campaign(OFFERS))
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.enter_context(collector())
        body = framed(QUESTION, directory)

        def service(name: str, *options: str) -> Server:
            return stack.enter_context(served(directory / name, campaigns=shop, options=options))

        plain, traced = service("off"), service("on", "--otel")
        sides = {
            OFF: (plain, GRPC_HEADERS),
            "every call traced": (traced, GRPC_HEADERS),
            "--otel, a caller who does not trace": (traced, NOT_TRACED),
        }
        for number in turns("Traces", rounds + 1):  # the first warms up
            for name, (server, headers) in sides.items():
                with accounted(server, Decide=calls, decisions=calls):
                    before_s = server.cpu_s()
                    load = h2load(server.port, DECIDE, body, calls, IN_FLIGHT, headers=headers)
                    took_us = (server.cpu_s() - before_s) / calls * 1e6
                if number:
                    cpu_us.setdefault(name, []).append(took_us)
                    rates.setdefault(name, []).append(load.rate)
    table = Table("Decide", "a second", "CPU µs each", "more than without", title="What traces cost")
    for name in sides:
        more = statistics.median(a - b for a, b in zip(cpu_us[name], cpu_us[OFF], strict=True))
        cells = (statistics.median(rates[name]), statistics.median(cpu_us[name]), more)
        table.add_row(name, *(f"{cell:,.0f}" for cell in cells))
    return table


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="calls of each in a round")
    options = parser.parse_args()
    need_h2load()
    console = Console(width=100)
    console.print(measure(options.calls, options.rounds))
    console.print(f"medians of {options.rounds} rounds; servers and clients on one machine: {machine()}")


if __name__ == "__main__":
    main()

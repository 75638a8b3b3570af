"""What is left of the capacity when far too much is asked?

    python loadtests/overload.py [--seconds 20] [--connections 1000] [--streams 100]

First the capacity: Decide, 32 in flight over 8 connections. Then as many connections as said, each wanting so
many calls at once and asking anew as soon as one ends, by h2load; meanwhile somebody else asks one question
after the other, with a deadline of 10 s. Prints decisions a second as the service counted them, their share
of the capacity, the memory (RSS) before, at its most and 20 s after, and how the other's calls ended.

h2load opens its first calls before it has heard how many a connection may have; those beyond are refused by
HTTP/2 and are no calls the service saw. It wants as many descriptors as connections: `ulimit -n`.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
from rich.console import Console

from serving import DECIDE, GRPC_HEADERS, QUESTION, Server, machine, need_h2load, served
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CALL_S = 10.0
AFTER_S = 20.0  # it is given back within 15, see runtime/memory.py
WARM_S = 3


def rss_mib(server: Server) -> float:
    """Return the resident memory of a server."""
    return server.rss_bytes() / 2**20


def answered(server: Server) -> float:
    """Return how many Decide were answered OK, as the service counts them."""
    samples = server.samples("tilbud_rpc_duration_seconds_count", method="Decide", code="OK")
    return sum(sample.value for sample in samples)


def load(server: Server, body: Path, connections: int, streams: int, seconds: int) -> float:
    """Ask for so long; return the decisions a second."""
    before, began = answered(server), time.perf_counter()
    headers = [word for header in GRPC_HEADERS for word in ("-H", header)]
    shape = ["-c", str(connections), "-m", str(streams), "-D", str(seconds), "-t", "1"]
    command = ["h2load", *shape, "-d", str(body), *headers, f"http://127.0.0.1:{server.port}{DECIDE}"]
    subprocess.run(command, check=True, capture_output=True)
    return (answered(server) - before) / (time.perf_counter() - began)


class Other(threading.Thread):
    """Somebody else, who asks one question after the other, and watches the memory."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.ended: Counter[str] = Counter()
        self.most_mib = 0.0
        self.over = threading.Event()
        self._server = server

    def run(self) -> None:
        """Ask until it is over."""
        target = f"127.0.0.1:{self._server.port}"
        with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = DecisionServiceStub(channel)
            while not self.over.wait(0.1):
                try:
                    stub.Decide(QUESTION, timeout=CALL_S)
                    self.ended["OK"] += 1
                except grpc.RpcError as error:
                    self.ended[error.code().name] += 1
                self.most_mib = max(self.most_mib, rss_mib(self._server))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--streams", type=int, default=100)
    chosen = parser.parse_args()
    need_h2load()
    console = Console()
    with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "data") as server:
        message = QUESTION.SerializeToString()
        body = Path(directory) / "body"
        body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        load(server, body, 8, 4, WARM_S)
        capacity = load(server, body, 8, 4, chosen.seconds)
        before_mib = rss_mib(server)
        other = Other(server)
        other.start()
        try:
            rate = load(server, body, chosen.connections, chosen.streams, chosen.seconds)
        finally:
            other.over.set()
            other.join()
        time.sleep(AFTER_S)
        console.print(f"capacity {capacity:,.0f}/s; overloaded {rate:,.0f}/s, {rate / capacity:.2f} of it")
        memory = f"{before_mib:.0f} MiB before, {other.most_mib:.0f} at most, {rss_mib(server):.0f} after"
        console.print(f"memory: {memory}; the other's calls: {dict(other.ended)}")
    console.print(machine())


if __name__ == "__main__":
    main()

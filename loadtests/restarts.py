"""Does a client with the published service config lose a call when the service restarts?

    python loadtests/restarts.py [--restarts 20] [--without waitForReady|retryThrottling|health]

Sixteen clients, each on a connection of its own, ask one question after the other with ids of their own,
while the service restarts on the same address: every third time killed (SIGKILL), else drained (SIGTERM).
Prints how their calls ended, and the longest of them, which waited for a restart. `--without` leaves a part
of the config out, to see what it is for. Status 1 where a call was lost.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from serving import QUESTION, machine
from tilbud.runtime.settings import SAMPLES
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CLIENTS = 16
CALL_S = 60.0
UP_S = 2.0


def config_without(part: str) -> str:
    """Return the published config, without a part of it."""
    config: dict[str, Any] = json.loads(files("tilbud.v1").joinpath("service_config.json").read_text())
    if part == "waitForReady":
        for methods in config["methodConfig"]:
            del methods["waitForReady"]
    elif part == "retryThrottling":
        del config["retryThrottling"]
    elif part == "health":
        del config["healthCheckConfig"], config["loadBalancingConfig"]
    return json.dumps(config)


class Client:
    """Asks one question after the other until it is told to stop."""

    def __init__(self, name: str, listen: str, config: str) -> None:
        self.ended: Counter[str] = Counter()
        self.longest_s = 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._ask, args=(name, listen, config))

    def _ask(self, name: str, listen: str, config: str) -> None:
        options = [
            ("grpc.service_config", config),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.insecure_channel(listen, options) as channel:
            stub = DecisionServiceStub(channel)
            number = 0
            while not self.stop.is_set():
                number += 1
                question = pb.DecideRequest()
                question.CopyFrom(QUESTION)
                question.decision_id = f"{name}-{number}"
                began = time.perf_counter()
                try:
                    stub.Decide(question, timeout=CALL_S)
                    self.ended["OK"] += 1
                except grpc.RpcError as error:
                    self.ended[error.code().name] += 1
                self.longest_s = max(self.longest_s, time.perf_counter() - began)


def serve(listen: str, data: Path) -> subprocess.Popen[str]:
    """Start a service and wait for its first line."""
    command = [sys.executable, "-m", "tilbud", "serve", "--campaigns", str(SAMPLES), "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--listen", listen, "--http", "off", "--metrics", "127.0.0.1:0", "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise RuntimeError("the service did not start")
    return process


def main() -> int:
    """Restart, and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--without", choices=["waitForReady", "retryThrottling", "health"], default="")
    chosen = parser.parse_args()
    console = Console()
    console.print(machine())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as data:
        process = serve(listen, Path(data))
        config = config_without(chosen.without)
        clients = [Client(f"client-{number}", listen, config) for number in range(CLIENTS)]
        try:
            for client in clients:
                client.thread.start()
            for restart in range(chosen.restarts):
                time.sleep(UP_S)
                process.send_signal(signal.SIGKILL if restart % 3 == 2 else signal.SIGTERM)
                process.wait()
                process = serve(listen, Path(data))
            time.sleep(UP_S)
        finally:
            for client in clients:
                client.stop.set()
            for client in clients:
                client.thread.join()
            process.kill()
            process.wait()
    ended = sum((client.ended for client in clients), Counter[str]())
    longest_s = max(client.longest_s for client in clients)
    console.print(f"{chosen.restarts} restarts: {dict(ended)}; the longest call {longest_s:.1f} s")
    return int(set(ended) != {"OK"})


if __name__ == "__main__":
    sys.exit(main())

"""A service restarts under load, and clients with the published service config lose no call."""

from __future__ import annotations

import threading
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Self

import grpc
import pytest
from tests.e2e.campaigns import SLOW
from tests.running import CALL_S, free_port, served, until

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CONFIG = files("tilbud.v1").joinpath("service_config.json").read_text()
OPTIONS = [
    ("grpc.service_config", CONFIG),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]
CLIENTS, CALLS, RESTARTS = 8, 20, 3


class _Load:
    """Clients that ask one question after the other, each on a connection of its own."""

    def __init__(self, target: str) -> None:
        self.ended: Counter[str] = Counter(OK=0)
        self._target = target
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Wait until some more calls have ended."""
        before = self.ended.total()
        until(lambda: self.ended.total() >= before + CLIENTS * CALLS)

    def _ask(self, client: int) -> None:
        with grpc.insecure_channel(self._target, OPTIONS) as channel:
            stub = DecisionServiceStub(channel)
            number = 0
            while not self._over.wait(0.002):
                number += 1
                request = pb.DecideRequest(campaign="slow", decision_id=f"{client}-{number}")
                try:
                    stub.Decide(request, timeout=2 * CALL_S)
                    self.ended["OK"] += 1
                except grpc.RpcError as error:
                    self.ended[f"{error.code()}: {error.details()}"] += 1


def test_restarts_under_load_lose_no_call(tmp_path: Path) -> None:
    """Drained or killed: whoever waits for the service and repeats with the same id gets every answer."""
    listen = f"127.0.0.1:{free_port()}"
    with served(tmp_path, {"slow.yaml": SLOW}, ["--listen", listen]) as service:
        with _Load(listen) as load:
            for restart in range(RESTARTS):
                load.go_on()
                if restart == 1:
                    service.kill()
                else:
                    service.stop()
                service.start()
            load.go_on()
        assert set(load.ended) == {"OK"}


@pytest.mark.parametrize("megabytes", [5, 20])
def test_a_request_too_large_is_tried_once(tmp_path: Path, megabytes: int) -> None:
    """It is refused where it is made: nothing is sent, and nothing repeated."""
    with served(tmp_path, {"slow.yaml": SLOW}) as service:
        with grpc.insecure_channel(service.target, OPTIONS) as channel:
            stub = DecisionServiceStub(channel)
            stub.Decide(pb.DecideRequest(campaign="slow"), timeout=CALL_S)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Decide(pb.DecideRequest(customer_id="x" * megabytes * 1_000_000), timeout=CALL_S)
        assert "larger than max" in str(refused.value.details())
        assert service.metric("tilbud_rpc_duration_seconds_count", method="Decide") == 1

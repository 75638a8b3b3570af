"""What the commands that ask send, against a service that fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from typer.testing import CliRunner

from tilbud.cli import cli
from tilbud.v1 import decisions_pb2, decisions_pb2_grpc


class Breaking(decisions_pb2_grpc.DecisionServiceServicer):
    """Decides, and loses its first answer."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def Decide(self, request, context):  # noqa: N802 - the contract's name
        self.ids.append(request.decision_id)
        if len(self.ids) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
        return decisions_pb2.DecideResponse(decision_id=request.decision_id, recorded=True)


@pytest.fixture
def breaking() -> Iterator[tuple[Breaking, str]]:
    """Such a service, and its address."""
    service = Breaking()  # type: ignore[abstract]  # nothing else is asked of it
    server = grpc.server(ThreadPoolExecutor(1))
    decisions_pb2_grpc.add_DecisionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_decision_that_is_asked_for_twice_is_made_once(breaking: tuple[Breaking, str]) -> None:
    """`decide` without an id makes one, so that what gRPC repeats is the same decision."""
    service, target = breaking
    result = CliRunner().invoke(cli, ["decide", "shop", "--target", target])
    assert result.exit_code == 0, result.output
    first, second = service.ids
    assert first
    assert first == second

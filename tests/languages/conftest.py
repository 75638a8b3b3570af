"""A service for programs in other languages to ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.conftest import Serve
from tests.running import Service

from tilbud.runtime.settings import SAMPLES
from tilbud.v1 import decisions_pb2

Understood = Callable[[str], None]


@pytest.fixture
def service(serve: Serve) -> Service:
    """What `make run` serves."""
    return serve(SAMPLES)


@pytest.fixture
def understood(service: Service) -> Understood:
    """Judges a program's line: an offer that the service drew, its probability, and an outcome it took."""

    def judge(line: str) -> None:
        offer_id, probability, status = line.split()
        assert 0 < float(probability) <= 1, line
        accepted = decisions_pb2.OutcomeStatus.Name(decisions_pb2.OUTCOME_STATUS_ACCEPTED)
        assert accepted.endswith(status), line  # connect-es cuts off what the names of an enum share
        assert service.metric("tilbud_decisions_total", campaign="shop", offer=offer_id) == 1
        assert service.metric("tilbud_outcomes_total", campaign="shop", status="accepted") == 1

    return judge

"""kill -9 around EraseCustomer: what was acknowledged is gone, and nothing stays half erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from tests.e2e.customers import erase, exported, found, rebuild, rows_of
from tests.e2e.lives import CAMPAIGNS, Life
from tests.running import PATIENCE_S, Service, served

KILLED_AFTER_S = (0.0, 0.002, 0.008, 0.02)  # an erasure takes some 30 ms
DECISIONS = 30


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves campaigns that learn; one customer is there all the time, for a rebuild to compare with."""
    with served(tmp_path_factory.mktemp("erase"), CAMPAIGNS) as started:
        _lived(started, "all-the-time")
        yield started


def _lived(service: Service, name: str) -> Life:
    life = Life(name)
    life.live(service, DECISIONS)
    life.settled(service)
    return life


def test_an_acknowledged_erasure_survives_kill_9(service: Service) -> None:
    """Killed the moment it was answered: nothing is left, before the restart and after it; rebuild agrees."""
    gone, stays = _lived(service, "acknowledged"), _lived(service, "beside")
    before = exported(service, stays.customer_id)
    assert found(gone.words(), service.data).keys() == set(gone.words()) - {gone.customer_id}
    erase(service, gone.customer_id)
    service.kill()
    assert found(gone.words(), service.data, service.log) == {}
    rebuild(service)
    service.start()
    assert found(gone.words(), service.data, service.log) == {}
    assert rows_of(service, gone.customer_id, "decision") == []
    assert exported(service, stays.customer_id) == before
    rebuild(service)


@pytest.mark.parametrize("killed_after_s", KILLED_AFTER_S)
def test_an_erasure_that_was_killed_is_whole_or_not_at_all(service: Service, killed_after_s: float) -> None:
    """Killed in the middle: all rows or none; rebuild agrees; called again, nothing is left."""
    life = _lived(service, f"killed-{killed_after_s}")
    rows = len(exported(service, life.customer_id))
    acknowledged = threading.Event()

    def erasing() -> None:
        try:
            erase(service, life.customer_id)
            acknowledged.set()
        except (grpc.RpcError, ValueError):
            pass

    thread = threading.Thread(target=erasing)
    thread.start()
    threading.Event().wait(killed_after_s)  # somewhere in the middle of it
    service.process.kill()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    service.kill()
    service.start()
    left = exported(service, life.customer_id) if rows_of(service, life.customer_id, "decision") else []
    assert len(left) in {0, rows}
    assert not (acknowledged.is_set() and left)
    rebuild(service)
    erase(service, life.customer_id)
    assert found(life.words(), service.data, service.log) == {}
    rebuild(service)

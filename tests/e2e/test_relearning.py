"""Learning anew beside the service: after an erasure, for a changed schema, whoever dies or gives up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

import grpc
import pytest
from tests import running
from tests.e2e.customers import decide, erase, grant, rebuild, report, sequence, situation
from tests.running import Service, served

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.customers_pb2 import EraseCustomerRequest

SETTLED = 21_000  # beyond what is learned before a service is ready
BATCH = 1_000
TRIES = 5
PATIENCE_S = 180.0
CAMPAIGN = """
campaign: bar
context:
  features: {tier: category}
offers: [{id: one}, {id: two}, {id: three}]
reward:
  window: 1h
  outcomes: {bought: {weight: 1, final: true}, left: {weight: 0, final: true}}
  learn: on_settlement
consent: not_required
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves a campaign that has learned a lot."""
    with served(tmp_path_factory.mktemp("relearning"), {"bar.yaml": CAMPAIGN}) as started:
        for _ in range(SETTLED // BATCH):
            asked = pb.BatchDecideRequest(requests=[pb.DecideRequest(campaign="bar")] * BATCH)
            answers = [each.decision for each in started.decisions.BatchDecide(asked).results]
            started.decisions.BatchReportOutcomes(
                pb.BatchReportOutcomesRequest(
                    requests=[
                        pb.ReportOutcomeRequest(
                            campaign="bar",
                            decision_id=each.decision_id,
                            outcome="bought" if each.offer_id == "two" else "left",
                        )
                        for each in answers
                    ]
                )
            )
        until(lambda: sequence(started, "bar") == SETTLED)
        yield started


def until(holds: Callable[[], object]) -> None:
    """Ask until it holds; what relearns gives way to whatever else the machine has to do."""
    running.until(holds, PATIENCE_S)


def _campaign(service: Service) -> campaigns_pb2.Campaign:
    return service.campaigns.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign="bar")).campaign


def _lineage(service: Service) -> str:
    return _campaign(service).model_version.rpartition(".")[0]


def _lived(service: Service, *customer_ids: str) -> None:
    """Let customers be shown something, and let it be learned."""
    learned = sequence(service, "bar")
    for customer_id in customer_ids:
        grant(service, customer_id)
        shown = decide(service, "bar", customer_id)
        report(service, "bar", shown.decision_id, "bought")
    until(lambda: sequence(service, "bar") == learned + len(customer_ids))


def _declare(service: Service, feature: str) -> None:
    """Change the file so that its model is another; nothing is loaded yet."""
    text = CAMPAIGN.replace("{tier: category}", f"{{tier: category, {feature}: flag}}")
    (service.files / "bar.yaml").write_text(text)


def _impatiently(service: Service) -> None:
    """Ask for a reload, and give up at once."""
    request = campaigns_pb2.ReloadCampaignsRequest()
    with pytest.raises(grpc.RpcError) as raised:
        service.campaigns.ReloadCampaigns(request, timeout=0.1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _begun(service: Service) -> int:
    return len(service.events("relearning_began"))


def _hold(service: Service, begun: int) -> int:
    """Wait for the next process that relearns and stop it; return its pid, 0 where it was done already."""
    until(lambda: _begun(service) > begun)
    pid = int(service.events("relearning_began")[begun]["pid"])
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        if _runs(pid) and _campaign(service).HasField("relearning"):
            return pid
        os.kill(pid, signal.SIGCONT)
    return 0


def _changing(service: Service, feature: str) -> tuple[int, str]:
    """Declare a feature, load that and give up; return the process that relearns, held, and the feature."""
    for number in range(TRIES):  # this machine may be slower than what relearns
        name, begun = f"{feature}_{number}", _begun(service)
        _declare(service, name)
        _impatiently(service)
        if pid := _hold(service, begun):
            return pid, name
        until(lambda name=name: _features(service) == ["tier", name])
    pytest.fail("it is done each time before it can be held")


def _features(service: Service) -> list[str]:
    return [each.name for each in _campaign(service).features]


def _runs(pid: int) -> bool:
    try:
        return b"relearning" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_decisions_go_on_while_erased_customers_are_unlearned(service: Service) -> None:
    """The old model answers; several erasures are one relearning, or two; then the new one agrees."""
    ids = [f"Customer<{number}>" for number in range(6)]
    _lived(service, *ids)
    old, answered = _lineage(service), 0
    with ThreadPoolExecutor(len(ids)) as pool:
        erasing = [pool.submit(erase, service, customer_id) for customer_id in ids]
        while not all(each.done() for each in erasing):
            assert decide(service, "bar").reason == pb.DECISION_REASON_PERSONALIZED
            answered += 1
            sleep(running.POLL_S)  # it gives way to whoever decides
    assert all(each.result() > 0 for each in erasing)
    assert answered > 0
    assert _lineage(service) != old
    assert 1 <= len(service.events("relearning_done")) <= 3
    assert service.metric("tilbud_relearning_settlements_left") == 0
    rebuild(service)


def test_a_reload_outlives_its_caller_and_says_how_far_it_is(service: Service) -> None:
    """Meanwhile the old file is served; then, though nobody waits, the new one; whoever asks again joins."""
    pid, extra = _changing(service, "extra")
    assert _campaign(service).relearning.settlements_left > 0
    assert extra not in _features(service)
    again = service.campaigns.ReloadCampaigns.future(campaigns_pb2.ReloadCampaignsRequest())
    assert _campaign(service).HasField("relearning")
    os.kill(pid, signal.SIGCONT)
    assert list(again.result(PATIENCE_S).changed) == ["bar"]
    assert _features(service) == ["tier", extra]
    assert not _campaign(service).HasField("relearning")
    decide(service, "bar", context=situation({extra: True}))
    rebuild(service)


def test_a_relearning_that_is_killed_is_begun_again(service: Service) -> None:
    """Its end is logged and counted, and the new file is served all the same."""
    pid, killed = _changing(service, "killed")
    os.kill(pid, signal.SIGKILL)
    until(lambda: _features(service) == ["tier", killed])
    assert service.metric("tilbud_relearning_failures_total", campaign="bar") == 1
    assert "status -9" in service.events("relearning_process_failed")[0]["reason"]


def test_a_restart_with_a_changed_schema_is_ready_as_fast_as_any(service: Service) -> None:
    """A drain leaves no process behind; the last good model answers until the new one is there."""
    pid, _ = _changing(service, "other")
    [_, feature] = _features(service)
    assert service.stop() == 0
    assert not _runs(pid)
    _declare(service, feature)
    service.start()
    assert not _campaign(service).stand_in

    old, pid, latest = _restarted(service)
    service.wait_ready()
    campaign = _campaign(service)
    assert campaign.stand_in
    assert campaign.relearning.settlements_left > 0
    assert campaign.model_version.startswith(f"{old}.")
    shown = decide(service, "bar", context=situation({latest: True}), include_ranking=True)
    assert shown.model_version == campaign.model_version
    assert max(shown.ranking, key=lambda each: each.probability).offer_id == "two"
    report(service, "bar", shown.decision_id, "bought")
    os.kill(pid, signal.SIGCONT)
    until(lambda: not _campaign(service).stand_in)
    assert _lineage(service) != old
    assert service.metric("tilbud_stand_in", campaign="bar") == 0
    decide(service, "bar", context=situation({latest: True}))
    rebuild(service)


def _restarted(service: Service) -> tuple[str, int, str]:
    """Restart with a changed schema; return the lineage of before, who relearns, held, and the feature."""
    for number in range(TRIES):
        latest, begun, old = f"latest_{number}", _begun(service), _lineage(service)
        service.stop()
        _declare(service, latest)
        service.start()
        if pid := _hold(service, begun):
            return old, pid, latest
        until(lambda: not _campaign(service).stand_in)
    pytest.fail("it has learned each time before it can be held")


def test_a_kill_leaves_no_process_behind(service: Service) -> None:
    """What relearns ends with the service, and an erasure that was cut short is done at the next start."""
    pid, erasing = _erasing(service)
    old, begun = _lineage(service), _begun(service)
    service.kill()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        erasing.result(PATIENCE_S)
    os.kill(pid, signal.SIGCONT)
    until(lambda: not _runs(pid))
    service.start()
    until(lambda: _begun(service) > begun)
    until(lambda: not _campaign(service).stand_in)
    assert _lineage(service) != old
    decide(service, "bar")
    rebuild(service)


def _erasing(service: Service) -> tuple[int, Any]:
    """Begin to erase a customer; return who relearns, held, and the call."""
    for number in range(TRIES):
        name, begun = f"Customer<cut short, {number}>", _begun(service)
        _lived(service, name)
        erasing = service.customers.EraseCustomer.future(EraseCustomerRequest(customer_id=name))
        if pid := _hold(service, begun):
            return pid, erasing
        erasing.result(PATIENCE_S)
    pytest.fail("it is done each time before it can be held")

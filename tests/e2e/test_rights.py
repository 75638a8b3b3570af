"""The customer's rights: everything stored is exported, and erased it is nowhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from tests.e2e.customers import (
    customer,
    decide,
    deny,
    erase,
    exported,
    found,
    grant,
    happens,
    known,
    rebuild,
    refused,
    report,
    rows_of,
    sequence,
    update,
)
from tests.e2e.lives import CAMPAIGNS, Life
from tests.running import Service, served

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import customers_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb

UNKNOWN_DECISION = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_DECISION")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves two campaigns that learn from customers."""
    with served(tmp_path_factory.mktemp("rights"), CAMPAIGNS) as started:
        yield started


def test_an_export_holds_every_row_of_the_customer_and_of_nobody_else(service: Service) -> None:
    """Profile, events, decisions, outcomes, settlements, exposures, repeats; page by page the same."""
    mine, other = Life("exporting"), Life("not-exporting")
    mine.live(service, 12)
    other.live(service, 5)
    first = decide(service, "shop", mine.customer_id, decision_id="exporting-last")
    mine.settled(service)
    rows = exported(service, mine.customer_id)
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["customer"] == 1
    (profile,) = (row for row in rows if row["kind"] == "customer")
    assert (profile["consent"], profile["language"]) == ("GRANTED", "da")
    assert {name: each["value"] for name, each in profile["traits"].items()} == mine.traits
    assert {row["event_id"] for row in rows if row["kind"] == "event"} == set(mine.event_ids)
    decided = {row["decision_id"]: row for row in rows if row["kind"] == "decision"}
    assert decided.keys() == {*mine.decision_ids, first.decision_id}
    assert all(
        decided[each]["context"]["place"] == mine.place
        for campaign in ("shop", "mail")
        for each in mine.decision_ids_of[campaign]
    )
    outcomes = [row["decision_id"] for row in rows if row["kind"] == "outcome"]
    assert sorted(outcomes) == sorted(mine.rewarded)
    assert sorted(row["decision_id"] for row in rows if row["kind"] == "settlement") == sorted(mine.rewarded)
    assert [row["decision_id"] for row in rows if row["kind"] == "repeat"] == mine.repeat_ids
    scopes = {"one": 2, "two": 3, "three": 2}  # the offer, its group, the channel
    assert kinds["exposure"] == sum(scopes[row["offer"]] for row in decided.values())
    last = [row for row in rows if row["kind"] == "last"]
    assert [row["event"] for row in last if "event" in row] == ["cart"]
    assert [row["sticky_decision_of"] for row in last if "sticky_decision_of" in row] == ["voice"]
    dated = {(decided[each]["campaign"], decided[each]["offer"]) for each in mine.rewarded}
    assert {(row["campaign"], row["offer"]) for row in last if "outcome" in row} == dated
    assert found_in(rows, other.words()) == []
    paged = exported(service, mine.customer_id, page_size=1)
    assert paged == rows
    assert exported(service, mine.customer_id, page_size=7) == rows
    bad = cpb.ExportCustomerRequest(customer_id=mine.customer_id, page_token="?")  # noqa: S106
    assert refused(lambda: service.customers.ExportCustomer(bad))[1] == "INVALID_FIELD"
    assert refused(lambda: exported(service, "nobody"))[1] == "UNKNOWN_CUSTOMER"


def found_in(rows: list[dict[str, object]], words: list[str]) -> list[str]:
    """Return the words that stand in the rows."""
    text = str(rows)
    return [word for word in words if word in text]


def test_an_erased_customer_is_found_nowhere_and_the_models_are_learned_without_them(
    service: Service,
) -> None:
    """No byte in the data directory names them; what others did stays; rebuild agrees, now and later."""
    gone, stays = Life("erasable"), Life("staying")
    for _ in range(3):
        gone.live(service, 24)
        stays.live(service, 24)
    gone.settled(service)
    stays.settled(service)
    service.stop()
    service.start()
    old = _checkpoints(service)
    assert old
    words = gone.words()
    assert found([gone.customer_id], service.data) == {}
    assert found(words, service.data).keys() == set(words) - {gone.customer_id}
    before, versions = exported(service, stays.customer_id), _versions(service)

    assert erase(service, gone.customer_id) > len(gone.decision_ids) * 3
    assert found(words, service.data, service.log) == {}
    assert refused(lambda: known(service, gone.customer_id)) == (
        grpc.StatusCode.NOT_FOUND,
        "UNKNOWN_CUSTOMER",
    )
    assert _only_a_tombstone(service, gone.customer_id)
    for campaign in ("shop", "mail"):
        for decision_id in gone.decision_ids_of[campaign][:5]:
            refusal = refused(lambda of=campaign, id_=decision_id: report(service, of, id_, "bought"))
            assert refusal == UNKNOWN_DECISION
    assert exported(service, stays.customer_id) == before
    assert not old & _checkpoints(service)
    after = _versions(service)
    for campaign in ("shop", "mail"):
        (lineage, learned), (new_lineage, relearned) = versions[campaign], after[campaign]
        assert lineage != new_lineage
        assert learned == relearned
    rebuild(service)

    stays.live(service, 24)
    stays.settled(service)
    service.stop()
    assert found(words, service.data, service.log) == {}
    rebuild(service)
    service.start()
    assert _only_a_tombstone(service, gone.customer_id)
    assert found(words, service.data, service.log) == {}
    assert len(rows_of(service, stays.customer_id, "decision")) == len(stays.decision_ids)


def _only_a_tombstone(service: Service, customer_id: str) -> bool:
    try:
        rows = exported(service, customer_id)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND
    return [sorted(row) for row in rows] == [["erase_time", "erased", "kind"]]


def _checkpoints(service: Service) -> set[str]:
    """Return digests of the model files."""
    files = [file for file in service.data.rglob("*") if file.is_file() and "ledger" not in file.name]
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.stat().st_size > 0}


def _versions(service: Service) -> dict[str, tuple[str, int]]:
    listed = service.campaigns.ListCampaigns(campaigns_pb2.ListCampaignsRequest()).campaigns
    versions = {each.id: each.model_version.rpartition(".") for each in listed}
    return {name: (lineage, int(number)) for name, (lineage, _, number) in versions.items()}


def test_an_erased_customer_is_one_who_denied_until_they_come_back(service: Service) -> None:
    """Whatever a call says of consent; only UpdateCustomer with a grant lifts the tombstone."""
    life = Life("returning")
    life.live(service, 6)
    erase(service, life.customer_id)
    answer = decide(service, "shop", life.customer_id, consent=pb.CONSENT_GRANTED)
    assert answer.reason == pb.DECISION_REASON_FALLBACK_NO_CONSENT
    assert _only_a_tombstone(service, life.customer_id)
    for profile in (
        customer(life.customer_id, time_zone="Asia/Tokyo"),
        customer(life.customer_id, {"tier": "gold"}),
    ):
        code, _ = refused(lambda profile=profile: update(service, profile))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
    refusal = refused(lambda: happens(service, life.customer_id, "cart", consent=pb.CONSENT_GRANTED))
    assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "CUSTOMER_ERASED")
    assert _only_a_tombstone(service, life.customer_id)
    profile = grant(service, life.customer_id)
    assert not profile.traits
    answer = decide(service, "shop", life.customer_id)
    assert answer.reason == pb.DECISION_REASON_PERSONALIZED
    assert [row["decision_id"] for row in rows_of(service, life.customer_id, "decision")] == [
        answer.decision_id
    ]
    assert rows_of(service, life.customer_id, "event") == []


def test_erasing_twice_or_whom_nobody_knows_is_safe(service: Service) -> None:
    """Nothing is removed, nothing fails, and the tombstone of one unknown counts too."""
    life = Life("twice")
    life.live(service, 4)
    assert erase(service, life.customer_id) > 4
    assert erase(service, life.customer_id) == 0
    assert erase(service, "never-seen") == 0
    answer = decide(service, "shop", "never-seen", consent=pb.CONSENT_GRANTED)
    assert answer.reason == pb.DECISION_REASON_FALLBACK_NO_CONSENT


def test_what_waits_of_an_erased_customer_never_settles(service: Service) -> None:
    """Pending and active decisions go too, and nobody else's settlements are held up."""
    life, other = Life("waiting"), Life("going-on")
    grant(service, life.customer_id)
    shown = decide(service, "shop", life.customer_id)
    deferred = decide(service, "shop", life.customer_id, defer_activation=True)
    erase(service, life.customer_id)
    activate = pb.ActivateRequest(campaign="shop", decision_id=deferred.decision_id)
    assert refused(lambda: service.decisions.Activate(activate)) == UNKNOWN_DECISION
    assert refused(lambda: report(service, "shop", shown.decision_id, "bought")) == UNKNOWN_DECISION
    learned = sequence(service, "shop")
    other.live(service, 6)
    other.settled(service)
    assert sequence(service, "shop") > learned
    deny(service, other.customer_id)

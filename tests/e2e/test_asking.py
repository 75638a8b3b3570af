"""The commands that ask a running service: what they answer, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.running import Service, served

from tilbud.runtime.settings import SAMPLES


class Asking:
    """`tilbud` against one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def ran(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [sys.executable, "-m", "tilbud", *words], check=False, capture_output=True, text=True, timeout=60,
            env={"COLUMNS": "100", "TILBUD_TARGET": self._service.target},
        )  # fmt: skip

    def answer(self, *words: str) -> Any:
        """Return what a command answers where no person reads."""
        ran = self.ran(*words)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def table(self, *words: str) -> str:
        """Return what a person reads."""
        ran = self.ran(*words, "--format", "table")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def refused(self, status: int, *words: str) -> str:
        """Return the sentences that a command ends with."""
        ran = self.ran(*words)
        assert (ran.returncode, ran.stdout) == (status, ""), ran
        assert "Traceback" not in ran.stderr
        return ran.stderr


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """Ask what `make run` serves; each test has decisions of its own."""
    samples = {file.name: file.read_text(encoding="utf-8") for file in SAMPLES.iterdir()}
    with served(tmp_path_factory.mktemp("asking"), samples) as service:
        yield Asking(service)


def test_a_decision_is_asked_for_and_followed(asking: Asking) -> None:
    """Decide, outcome and explain in JSON: one decision, with the contract's own names."""
    asked = ["decide", "shop", "--device", "mobile", "--decision-id", "order-1", "--ranking"]
    decided = asking.answer(*asked)
    assert decided["decision_id"] == "order-1"
    assert decided["recorded"] is True
    assert decided["probability"] == next(
        each["probability"] for each in decided["ranking"] if each["offer_id"] == decided["offer_id"]
    )
    assert asking.answer(*asked) == decided
    for status in ("ACCEPTED", "DUPLICATE"):
        assert asking.answer("outcome", "shop", "order-1", "purchase") == {
            "status": f"OUTCOME_STATUS_{status}"
        }
    explained = asking.answer("explain", "shop", "order-1")
    assert explained["used"]["device"] == {"category": "mobile"}
    assert len(explained["offers"]) == 10


def test_people_read_tables(asking: Asking) -> None:
    """The same in words: the offer, its probability, and what to say next."""
    shown = asking.table("decide", "shop", "--decision-id", "order-2")
    for word in ("offer", "probability", "personalized", "tilbud outcome shop order-2 OUTCOME"):
        assert word in shown
    assert "accepted" in asking.table("outcome", "shop", "order-2", "leave")
    assert "removed by" in asking.table("explain", "shop", "order-2")
    shown = asking.table("campaigns")
    assert all(name in shown for name in ("homepage-hero", "shop", "hillstrom"))
    assert "purchase (1)" in asking.table("campaigns", "shop")


def test_what_is_deferred_is_activated(asking: Asking) -> None:
    """`--defer-activation` names `activate` as what comes next, which opens the window."""
    shown = asking.table("decide", "shop", "--decision-id", "order-3", "--defer-activation")
    assert "tilbud activate shop order-3" in shown
    assert asking.answer("outcome", "shop", "order-3", "purchase")["status"] == "OUTCOME_STATUS_HELD"
    assert asking.answer("activate", "shop", "order-3")["reward_deadline"]


def test_offers_and_campaigns_are_paused_and_resumed(asking: Asking) -> None:
    """A pause is told with its reason and end, and gone after `resume`."""
    paused = asking.answer("pause", "shop", "pay-later", "--reason", "the bank is down", "--for", "2h")[
        "pauses"
    ]
    assert [(pause["offer_id"], pause["reason"]) for pause in paused] == [("pay-later", "the bank is down")]
    assert paused[0]["end_time"]
    assert "all of it" in asking.table("pause", "shop", "--reason", "stock-taking")
    decided = asking.answer("decide", "shop")
    assert decided["reason"] == "DECISION_REASON_FALLBACK_CAMPAIGN_PAUSED"
    asking.answer("resume", "shop")
    assert "nothing" in asking.table("resume", "shop", "pay-later")


def test_a_customer_is_told_changed_exported_and_erased(asking: Asking) -> None:
    """What `customer update` said, decisions, `show` and `export` know; after `erase` nobody does."""
    wishes = ["--block-topic", "sale", "--quiet-hours", "21:00-08:00"]
    asking.answer(
        "customer", "update", "anna", "--consent", "granted", "--trait", "loyalty_tier=gold", *wishes
    )
    assert (
        asking.answer("customer", "event", "anna", "add_to_cart")["status"]
        == "CUSTOMER_EVENT_STATUS_ACCEPTED"
    )
    kept = asking.answer("customer", "update", "anna", "--block-topic", "")
    assert kept["preferences"]["blocked_topics"] == []
    assert kept["preferences"]["quiet_hours"] == "21:00-08:00"
    shown = asking.table("customer", "show", "anna")
    assert "trait loyalty_tier" in shown
    assert "gold" in shown
    asked = ["decide", "homepage-hero", "--customer-id", "anna", "--decision-id", "a", "--channel", "email"]
    asking.answer(*asked, "--time", "2026-12-01T12:00", "--feature", "basket_value=0.1")
    used = asking.answer("explain", "homepage-hero", "a")
    assert {**used["used"], **used["rules_only"]}["basket_value"] == {"number": 0.1}
    assert used["used"]["loyalty_tier"] == {"category": "gold"}
    exported = asking.ran("customer", "export", "anna").stdout.splitlines()
    assert {json.loads(line)["kind"] for line in exported} >= {"customer", "decision"}
    assert int(asking.answer("customer", "erase", "anna")["removed_rows"]) > 0
    assert "customer" in asking.refused(2, "customer", "show", "anna")


def test_mistakes_end_with_a_sentence_and_2(asking: Asking) -> None:
    """The field and what helps, as the service says it; nothing of gRPC's own."""
    unknown = asking.refused(2, "decide", "shopp")
    assert unknown == "campaign 'shopp' is not served here; `tilbud campaigns` lists those that are\n"
    asking.answer("decide", "shop", "--decision-id", "order-4")
    assert "purchase, leave" in asking.refused(2, "outcome", "shop", "order-4", "purchased")
    assert "basket_value=12.5" in asking.refused(
        2, "decide", "homepage-hero", "--feature", "basket_value=much"
    )
    assert "decision_id" in asking.refused(2, "decide", "shop", "--decision-id", "no spaces")
    assert "--reason" in asking.refused(2, "pause", "shop")
    assert "HOST:PORT" in asking.refused(2, "campaigns", "--target", "nonsense")


def test_a_feature_that_is_not_declared_is_told(asking: Asking) -> None:
    """The decision is made without it, and whoever asked hears which ones there are."""
    ran = asking.ran("decide", "homepage-hero", "--feature", "basket=12.5", "--feature", "returning=true")
    assert ran.returncode == 0
    assert ran.stderr.startswith("--feature basket is not used: the campaign declares ")
    assert "basket_value" in ran.stderr


def test_without_a_service_it_ends_with_1(asking: Asking) -> None:
    """Where nobody answers the sentence says where, and how to start one."""
    said = asking.refused(1, "decide", "shop", "--target", "127.0.0.1:1")
    assert said.startswith("127.0.0.1:1: no service answers there; start one with `tilbud serve`")


def test_only_named_variables_of_the_environment_count() -> None:
    """A TILBUD_VERSION or TILBUD_CHECK_SCHEMA of somebody else's changes nothing."""
    theirs = {"TILBUD_VERSION": "1", "TILBUD_HELP": "1", "TILBUD_CHECK_SCHEMA": "1", "TILBUD_CHECK_HELP": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tilbud", "check", SAMPLES / "shop.yaml"],
        check=True, capture_output=True, text=True, timeout=60, env={"COLUMNS": "100", **theirs},
    )  # fmt: skip
    assert "2 valid" in ran.stdout

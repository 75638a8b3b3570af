"""A real Prometheus scrapes a live service under load: every panel and rule has data, and no label explodes.

Once with one process and once with two workers, since a query must be right for both.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml
from tests.deploy.prometheus import Prometheus, running
from tests.running import PATIENCE_S, Service, served, until

from asking import Asker, filled, load, panels
from tilbud.campaigns.source import load_campaigns
from tilbud.domain.context import OTHER, UNKNOWN
from tilbud.domain.decision.admission import REASONS as BAD_VALUES
from tilbud.domain.decision.eligibility import RULES
from tilbud.domain.limits import Limits
from tilbud.learning.learner import NO_CAMPAIGNS
from tilbud.runtime.settings import SAMPLES
from tilbud.simulator.driver import Pacing
from tilbud.simulator.simulate import run_simulation
from tilbud.telemetry.decisions import REASONS
from tilbud.v1 import campaigns_pb2 as cpb
from tilbud.v1 import customers_pb2, decisions_pb2, insights_pb2
from tilbud.v1.customers_pb2 import EraseCustomerRequest
from visitors import CAMPAIGN as HERO
from visitors import Visitors, hurried_samples

pytestmark = pytest.mark.alone  # its visitors have deadlines, and every decision is counted

ROOT = Path(__file__).parents[2]
SHOP = "shop"
SHOP_DECISIONS = Limits().checkpoint_every_settlements + 1_000  # so that a checkpoint is written
VISITS = 500
PACING = Pacing(batch=500, unlearned_max=None)  # nothing is measured: no need to wait for the learner
CHOSEN = {
    "job": "tilbud",
    "instance": ".+",
    "window": "30m",
    "__rate_interval": "10m",
}  # as slow as it may be
SELECTOR = re.compile(r"\b([a-z_]+:tilbud\w+:\w+|tilbud_\w+|process_\w+|up)\b(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
NOTHING_WENT_WRONG = {
    "tilbud_learning_errors_total",
    "tilbud_relearning_settlements_left",
    "tilbud_relearning_due_timestamp_seconds",
    "tilbud_unserved_decisions",
}
"""What has no series in a service of which no model is relearned and no file is away, and nothing fails."""


@dataclass(frozen=True, slots=True)
class Live:
    """A service that had visitors, the Prometheus that watched, and how often a visitor got an offer."""

    service: Service
    prometheus: Prometheus
    decided: int

    def asker(self, campaign: str) -> Asker:
        """Ask as a reader who chose this campaign."""
        return Asker(self.prometheus.url, CHOSEN | {"campaign": campaign})


def _config(service: Service, directory: Path) -> Path:
    """The configuration of deploy/prometheus with this service's processes, scraped every other second."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(ROOT / "deploy/prometheus/rules/*.yml")]
    [job] = config["scrape_configs"]
    job["scrape_timeout"] = "2s"
    job["static_configs"] = [{"targets": [side.removeprefix("http://") for side in service.metrics_sides]}]
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


async def _visited(service: Service) -> Visitors:
    stop = asyncio.Event()
    visitors = Visitors(service.target, seed=1)
    _, result = await asyncio.gather(
        visitors.run(visits=VISITS, per_second=None, stop=stop),
        run_simulation(service.target, SHOP, run="live", decisions=SHOP_DECISIONS, pacing=PACING, stop=stop),
    )
    assert result.counts.decisions_answered == SHOP_DECISIONS
    return visitors


def _drive(service: Service) -> int:
    """Let happen what there are panels and rules for; return how many decisions a visitor got."""
    asked = asyncio.run(_visited(service))
    service.campaigns.PauseOffer(cpb.PauseOfferRequest(campaign=HERO, offer_id="winter-sale", reason="test"))
    service.campaigns.PauseCampaign(cpb.PauseCampaignRequest(campaign="hillstrom", reason="test"))
    service.customers.EraseCustomer(EraseCustomerRequest(customer_id="visitor-1"))
    shop = service.files / "shop.yaml"
    good = shop.read_text()
    shop.write_text("campaign: [")
    with pytest.raises(grpc.RpcError):
        service.campaigns.ReloadCampaigns(cpb.ReloadCampaignsRequest())
    shop.write_text(good)
    nowhere = decisions_pb2.DecideRequest(campaign=HERO, consent=decisions_pb2.CONSENT_GRANTED)
    nowhere.include_offers.append("finish-your-order")  # which requires an event, of nobody
    service.decisions.Decide(nowhere)
    return asked.decided + 1


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def live(
    request: pytest.FixtureRequest, prometheus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """Serve the samples with short windows, watch them, and send them visitors."""
    directory = tmp_path_factory.mktemp("live")
    samples = hurried_samples(directory / "samples", window="1s")
    files = {file.name: file.read_text() for file in samples.iterdir()}
    with (
        served(directory / "served", files, ("--workers", str(request.param))) as service,
        running(prometheus, _config(service, directory), directory / "prometheus") as watching,
    ):
        watching.wait_for(f"sum(up) == {request.param}")
        decided = _drive(service)
        watching.wait_for(f'sum(tilbud_settlements_total{{campaign="{SHOP}"}}) == {SHOP_DECISIONS}')
        yield Live(service, watching, decided)


def _of_panels() -> list[tuple[str, str]]:
    """Where each query stands, and the query."""
    return [
        (f"{name}: {panel['title']}", target["expr"])
        for name in ("service", "learning", "campaign")
        for panel in panels(load(name))
        for target in panel["targets"]
    ]


def _assert_answered(live: Live, wanted: list[tuple[str, str]]) -> None:
    """Each of (where, query) gives a number for some campaign, at once or after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        wanted = [
            (where, expr)
            for where, expr in wanted
            if not any(
                math.isfinite(value)
                for campaign in (SHOP, HERO)
                for series in live.asker(campaign).ask(expr, "")
                for _, value in series.points
            )
        ]
        if not wanted:
            return
        told = "".join(f"\n{where}: {query}" for where, query in wanted)
        assert time.monotonic() < deadline, f"nothing comes of{told}"
        time.sleep(0.2)


def test_every_panel_has_data(live: Live) -> None:
    """Each query gives at least one number."""
    assert len(_of_panels()) > 50
    _assert_answered(live, _of_panels())


def test_no_two_lines_of_a_panel_share_a_legend(live: Live) -> None:
    """With several processes too: what a panel does not add up, it tells apart."""
    for name in ("service", "learning", "campaign"):
        for panel in panels(load(name)):
            legends = [
                series.legend
                for target in panel["targets"]
                for series in live.asker(SHOP).ask(target["expr"], target["legendFormat"])
            ]
            assert len(legends) == len(set(legends)), (name, panel["title"], legends)


def test_every_rule_has_data(live: Live) -> None:
    """Each recording rule gives a number but where it looks back to yesterday, and none is an error."""
    rules = [rule for group in live.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
    recorded = [(rule["name"], rule["query"]) for rule in rules if rule["type"] == "recording"]
    assert len(recorded) > 5
    _assert_answered(live, recorded)


def test_what_queries_ask_for_is_there(live: Live) -> None:
    """Each metric of a panel or an alert has series with the labels asked for, which could have the value.

    So a query whose `or 0` hides a mistake is found too, and an alert that could never fire.
    """
    words, known = _vocabulary(live), live.prometheus.get("metadata")
    rules = [rule for group in live.prometheus.get("rules")["groups"] for rule in group["rules"]]
    queries = [(rule["name"], rule["query"]) for rule in rules if rule["type"] == "alerting"]
    assert len(queries) > 10
    queries += [(where, filled(expr, CHOSEN | {"campaign": SHOP})) for where, expr in _of_panels()]
    wanted: dict[str, str] = {}
    for where, query in queries:
        for metric, braces in SELECTOR.findall(query):
            matchers = [matcher for matcher in MATCHER.findall(braces) if matcher[2]]
            for label, sign, value in matchers:
                possible = words[label]
                if sign in {"=", "=~"} and not isinstance(possible, re.Pattern):
                    pattern = re.compile(value if sign == "=~" else re.escape(value))
                    assert any(map(pattern.fullmatch, possible)), f"{where}: no {label} is {value}"
            if metric in NOTHING_WENT_WRONG:
                assert metric.removesuffix("_total") in known, f"{where}: nothing exports {metric}"
            else:
                labels = ", ".join(f'{label}!=""' for label, _, _ in matchers)
                wanted.setdefault(f"{metric}{{{labels}}}", where)
    _assert_answered(live, [(where, selector) for selector, where in wanted.items()])


def _vocabulary(live: Live) -> Mapping[str, set[str] | re.Pattern[str]]:
    """What may stand in each label, by the campaign files and the contract."""
    campaigns = [file.campaign for file in load_campaigns([SAMPLES], Limits())]
    contexts = [campaign.context for campaign in campaigns]
    methods = [
        method.name
        for file in (cpb, customers_pb2, decisions_pb2, insights_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    beyond = {OTHER, UNKNOWN}
    number = re.compile(r"[0-9.e-]+|\+Inf")
    return {
        "campaign": {campaign.campaign for campaign in campaigns} | NO_CAMPAIGNS,
        "offer": {offer.id for campaign in campaigns for offer in (*campaign.offers, campaign.fallback)}
        | {""},  # a paused campaign
        "variant": {"personalized", "control"},
        "reason": {*REASONS.values(), "full", "closed", "no_space", "failed"},
        "rule": set(RULES),
        "outcome": {outcome for campaign in campaigns for outcome in campaign.reward.outcomes}
        | {UNKNOWN},  # one that no file declares
        "status": {
            "accepted", "duplicate", "late", "held", "orphan", "refused", "activated", "void", "repeated",
            "no_consent", "403", "404", "405", "415", "501",
        },
        "device": {word for context in contexts for word in context.devices} | beyond,
        "channel": {word for context in contexts for word in context.channels} | beyond,
        "journey_stage": {word for context in contexts for word in context.journey_stages} | beyond,
        "method": set(methods),
        "protocol": {"grpc", "connect", "ofrep"},
        "code": {code.name for code in grpc.StatusCode},
        "result": {"loaded", "refused"},
        "file": {"database", "log"},
        "customer": {"known", "unknown"},
        "kind": {"lost", "damaged", "not_committing", "not_reading"},
        "field": {
            "features", "include_offers", "exclude_offers",
            "device", "channel", "journey_stage", "place", "language", "country", "time_zone",
        }
        | {name for campaign in campaigns for name in campaign.vocabulary().features},
        "why": set(BAD_VALUES),
        "le": number,
        "lineage": re.compile(r"[0-9a-f]{12}"),
        "version": re.compile(r"[\w.+-]+"),
        "vw_version": re.compile(r"[\w.+-]+"),
        "job": {"tilbud"},
        "instance": {side.removeprefix("http://") for side in live.service.metrics_sides},
    }  # fmt: skip


def test_no_label_has_an_undeclared_value(live: Live) -> None:
    """However odd the visitors: each label of each series is one of the words that bound their number."""
    words = _vocabulary(live)
    series = live.prometheus.get("series", {"match[]": '{__name__=~"tilbud_.+"}'})
    assert len(series) > 500
    for each in series:
        for label, value in each.items():
            if label == "__name__":
                continue
            possible = words.get(label, set())
            told = possible.fullmatch(value) if isinstance(possible, re.Pattern) else value in possible
            assert told, f"{each['__name__']}: {label}={value!r} is undeclared"
    models = [each["metric"] for each in live.prometheus.query("tilbud_model_sequence")]  # as they are now
    assert len(models) == len({(each["campaign"], each["instance"]) for each in models})


def test_what_was_sent_is_what_is_shown(live: Live) -> None:
    """Decisions, settlements and outcomes add up over processes, and nothing is counted twice."""
    for metric in ("decisions", "context_decisions", "settlements", "context_settlements", "outcomes"):
        _comes_to(live, f'sum(tilbud_{metric}_total{{campaign="{SHOP}"}})', SHOP_DECISIONS)
    _comes_to(live, "sum(tilbud_settling_lease)", 1)
    kept = sum(live.service.metrics("tilbud_sticky_decisions_total", campaign=HERO))
    _comes_to(live, f'sum(tilbud_decisions_total{{campaign="{HERO}"}})', live.decided - kept)


def _comes_to(live: Live, expression: str, number: float) -> None:
    """Ask until it is this number, with the next scrape of all processes, and not more."""
    until(lambda: live.prometheus.value(expression) >= number)
    assert live.prometheus.value(expression) == number, expression

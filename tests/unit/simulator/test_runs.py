"""Whole runs, as the command line starts them, against a fake service in this process."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from rich.console import Console

from tilbud.client.refusals import Refusal
from tilbud.simulator.driver import Pacing
from tilbud.simulator.errors import CampaignError, LogError
from tilbud.simulator.logged import Columns
from tilbud.simulator.replay import replay
from tilbud.simulator.shop import Shop, ShopConfig
from tilbud.simulator.simulate import run_simulation, simulate
from tilbud.v1 import campaigns_pb2, decisions_pb2

PACING = Pacing(batch=20, in_flight=2)
COLUMNS = Columns("segment", "visit", features={"purchase_channel": "channel"})
OFFERS = ("mens-e-mail", "no-e-mail")


@pytest.fixture
def console() -> Console:
    """A console that remembers."""
    return Console(file=io.StringIO(), width=160)


def printed(console: Console) -> str:
    """What it was told."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Forty rows; men's visit every time, the others never."""
    rows = [f"{n},Web,{'Mens' if n % 2 else 'No'} E-Mail,{n % 2},{n % 2 * 12.5}" for n in range(40)]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["recency,channel,segment,visit,spend", *rows]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def hillstrom(service):
    """The fake service with a campaign that fits the log; it always draws the men's e-mail."""
    service.campaign = campaigns_pb2.Campaign(
        id="hillstrom",
        offers=OFFERS,
        outcomes=[
            campaigns_pb2.CampaignOutcome(name="visit", weight=1, final=True),
            campaigns_pb2.CampaignOutcome(name="no_visit", weight=0, final=True),
        ],
        channels=["email"],
        features=[
            campaigns_pb2.CampaignFeature(name="recency", kind="number"),
            campaigns_pb2.CampaignFeature(name="purchase_channel", kind="category"),
        ],
    )
    service.policy = lambda _: "mens-e-mail"
    return service


async def replayed(service, log: Path, console: Console, **changed):
    """Replay as most tests do, but for what is changed."""
    arguments: dict[str, Any] = {
        "console": console,
        "run": "a",
        "columns": COLUMNS,
        "pacing": PACING,
    }
    return await replay(service.target, "hillstrom", log, **(arguments | changed))


async def test_a_simulation_tells_what_it_achieved(service, console: Console):
    """The result's rates are those of the truth, and the table shows them."""
    result = await simulate(service.target, console=console, run="a", decisions=200, pacing=PACING)
    config = ShopConfig(
        tuple(service.campaign.offers), tuple(service.campaign.devices), tuple(service.campaign.channels), ()
    )
    shop = Shop(config, 1)
    uniform = sum(shop.uniform(shop.visitor(n)) for n in range(200)) / 200
    assert result.everyone.uniform == pytest.approx(uniform)
    assert result.everyone.decisions == result.personalized.decisions == 200
    assert f"{result.share_of_uplift:.3f}" in printed(console)
    assert "200 outcomes sent = 200 accepted + 0 duplicate + 0 late + 0 held + 0 refused" in printed(console)


async def test_questions_carry_the_visitor(service):
    """A question has the declared words, the visitor's time and the zone the truth is in; no empty axis."""
    await run_simulation(service.target, "shop", run="a", decisions=20, pacing=PACING)
    contexts = [request.context for request in service.asked]
    assert {context.device for context in contexts} == {"mobile", "desktop"}
    assert {context.channel for context in contexts} == {"web"}
    assert {context.journey_stage for context in contexts} == {""}
    assert {context.time_zone for context in contexts} == {"UTC"}
    assert all(context.HasField("time") for context in contexts)


async def test_another_run_is_not_a_retry(service):
    """Two runs of one seed ask under different ids; one run asked twice would not."""
    for run in ("a", "b"):
        await run_simulation(service.target, "shop", run=run, decisions=20, pacing=PACING)
    assert len(service.decisions) == 40


async def test_an_interrupt_ends_a_run_with_its_table(service, console: Console):
    """Ctrl-C stops asking; what was answered is finished and shown."""
    interrupt_at = 100

    def interrupt() -> None:
        if len(service.decisions) == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    service.on_batch = interrupt
    pacing = Pacing(batch=20, in_flight=1)
    result = await simulate(service.target, console=console, run="a", decisions=100_000, pacing=pacing)
    assert interrupt_at <= result.everyone.decisions < 1000
    assert result.counts.balanced
    assert "interrupted" in printed(console)
    assert asyncio.get_running_loop().remove_signal_handler(signal.SIGINT) is False


async def test_a_campaign_that_is_no_shop_is_refused(hillstrom):
    """A campaign without the shop's outcomes is refused before the first decision, with a remedy."""
    with pytest.raises(CampaignError, match=r"purchase nor leave.*shop\.yaml"):
        await run_simulation(hillstrom.target, "hillstrom", run="a")
    assert not hillstrom.asked


async def test_an_unknown_campaign_is_told_at_once(service):
    """A campaign that is not served is refused with the service's own words."""
    with pytest.raises(Refusal, match="NOT_FOUND: no campaign nowhere"):
        await run_simulation(service.target, "nowhere", run="a")


async def test_only_matched_rows_are_activated(hillstrom, log: Path, console: Console):
    """Every row is asked, deferred; only where the drawn offer was the given one is it activated and told."""
    result = await replayed(hillstrom, log, console)
    mens = {f"replay-file-a-{number}" for number in range(1, 40, 2)}
    assert len(hillstrom.asked) == 40
    assert all(request.defer_activation for request in hillstrom.asked)
    assert sorted(hillstrom.activated) == sorted(mens)
    assert {decision_id for decision_id, _, _ in hillstrom.reported} == mens
    assert (result.matched.rows, result.matched.rate) == (20, 1)
    assert result.counts.balanced


async def test_a_row_is_activated_before_its_outcome(hillstrom, log: Path, console: Console):
    """No outcome has to be held: each is reported after its decision's activation."""
    await replayed(hillstrom, log, console)
    order: dict[str, list[str]] = {}
    for name, decision_id in hillstrom.story:
        order.setdefault(decision_id, []).append(name)
    assert {tuple(names) for names in order.values()} == {("decided", "activated", "visit"), ("decided",)}


async def test_features_and_channel_are_sent_as_declared(hillstrom, log: Path, console: Console):
    """Each row's features go by the campaign's names and kinds, with its only channel."""
    await replayed(hillstrom, log, console)
    context = next(r.context for r in hillstrom.asked if r.decision_id == "replay-file-a-7")
    assert context.channel == "email"
    assert context.features["recency"].number == 7
    assert context.features["purchase_channel"].category == "Web"
    assert not context.HasField("time")


async def test_nothing_happening_is_told_too(hillstrom, log: Path, console: Console):
    """Where the logged outcome is 0, the campaign's no_<outcome> is reported."""
    hillstrom.policy = lambda _: "no-e-mail"
    result = await replayed(hillstrom, log, console)
    assert {outcome for _, outcome, _ in hillstrom.reported} == {"no_visit"}
    assert (result.matched.rows, result.matched.rate) == (20, 0)


async def test_a_logged_amount_is_the_outcomes_value(hillstrom, log: Path, console: Console):
    """An outcome column that is not 0 or 1 is reported with its number as value."""
    result = await replayed(
        hillstrom, log, console, columns=replace(COLUMNS, outcome="spend"), outcome="visit"
    )
    assert {value for _, _, value in hillstrom.reported} == {12.5}
    assert result.matched.rate == 12.5


async def test_a_refused_activation_gets_no_outcome(hillstrom, log: Path, console: Console):
    """A decision that could not be activated is not matched, and nothing is reported for it."""
    hillstrom.faults["Activate"] = deque([grpc.StatusCode.FAILED_PRECONDITION])
    result = await replayed(hillstrom, log, console)
    assert result.matched.rows == 19
    assert result.counts.activations_refused == 1
    assert sum(hillstrom.reported.values()) == 19
    assert "FAILED_PRECONDITION" in printed(console)


async def test_a_replay_shows_the_log_beside_the_service(hillstrom, log: Path, console: Console):
    """The table has each offer's logged rate, what was drawn, and uniform and best of the log."""
    result = await replayed(hillstrom, log, console)
    assert (result.uniform.rate, result.best.rate) == (0.5, 1.0)
    assert [(row.offer, row.logged.rows, row.drawn) for row in result.offers] == [
        ("mens-e-mail", 20, 40),
        ("no-e-mail", 20, 0),
    ]
    assert "offers given by chance, in the log" in printed(console)


async def test_a_replay_says_which_rows_it_used_and_what_they_bear(hillstrom, log: Path, console: Console):
    """How many, why not the others, and that twenty outcomes are too few to conclude anything."""
    result = await replayed(hillstrom, log, console)
    assert dict(result.unused) == {"given an offer that rules do not allow there": 20}
    shown = printed(console)
    assert "40 rows; used 20, where the service drew the offer that was given." in shown
    assert "Not used: 20 given an offer that rules do not allow there." in shown
    assert "Not enough to conclude anything: 20 of the 20 rows used have an outcome" in shown


async def test_what_a_row_says_is_sent(hillstrom, log: Path, console: Console):
    """Words, time, customer and consent; a channel of the row's own goes before the campaign's only one."""
    columns = replace(COLUMNS, customer="recency", words={"channel": "channel", "place": "segment"})
    await replayed(hillstrom, log, console, columns=columns, consent=True)
    asked = next(r for r in hillstrom.asked if r.decision_id == "replay-file-a-7")
    assert (asked.customer_id, asked.context.channel, asked.context.place) == ("7", "Web", "Mens E-Mail")
    assert asked.consent == decisions_pb2.CONSENT_GRANTED
    assert "40 rows have a channel that the campaign does not declare (Web)" in printed(console)


def with_propensities(log: Path) -> None:
    """Say of each row that nine of ten got the men's e-mail."""
    lines = log.read_text().splitlines()
    rows = [f"{line},{0.9 if 'Mens' in line else 0.1}" for line in lines[1:]]
    log.write_text("\n".join([f"{lines[0]},p", *rows]) + "\n")


async def test_weighted_rows_say_so(hillstrom, log: Path, console: Console):
    """With propensities the log's own policy is a row of its own, and clipping is told."""
    with_propensities(log)
    await replayed(hillstrom, log, console, columns=replace(COLUMNS, propensity="p"), weight_max=5.0)
    shown = printed(console)
    assert "the log's own" in shown
    assert "at most 5; 20 rows are clipped" in shown
    assert "its propensities do not fit how often offers were given" in shown


async def test_a_seed_replays_another_order(hillstrom, log: Path, console: Console):
    """By default rows come in the file's order; a seed shuffles them and is part of their ids."""
    await replayed(hillstrom, log, console, pacing=Pacing(batch=40, in_flight=1))
    await replayed(hillstrom, log, console, pacing=Pacing(batch=40, in_flight=1), seed=5)
    recency = [request.context.features["recency"].number for request in hillstrom.asked]
    assert recency[:40] == list(range(40))
    assert sorted(recency[40:]) == list(range(40))
    assert recency[40:] != list(range(40))
    assert hillstrom.asked[40].decision_id == "replay-5-a-0"


async def test_an_outcome_the_campaign_does_not_take_is_refused(hillstrom, log: Path, console: Console):
    """Replaying for an undeclared outcome is refused before the first decision, naming the declared ones."""
    with pytest.raises(CampaignError, match="takes visit, no_visit; not the outcome 'spend'"):
        await replayed(hillstrom, log, console, outcome="spend")
    assert not hillstrom.asked


async def test_a_bad_log_is_refused_before_the_first_decision(hillstrom, log: Path, console: Console):
    """The whole file is checked first: an error in its last row leaves the service untouched."""
    with log.open("a") as file:
        file.write("x,Web,No E-Mail,0,0\n")
    with pytest.raises(LogError, match="line 42, column 'recency'"):
        await replayed(hillstrom, log, console)
    assert not hillstrom.asked

"""Erasures are told without the id; those of strangers are bounded, and cost nothing but their row.

A page of an export keeps decisions waiting for no longer than a few of them take.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.wiring import Wired

from tilbud.domain.context import TIME_US_MAX, Consent
from tilbud.domain.customer.customer import CustomerEventStatus
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.errors import IdReused, InvalidField, Overloaded, UnknownCustomer
from tilbud.service.customers import EventReport

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {outcomes: {click: 1}}
consent: not_required
"""


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN, tmp_path).start()


async def test_each_erasure_is_told_without_the_id(wired: Wired) -> None:
    """How many rows, of which campaigns' models, whether there was anything: and nothing of whom."""
    await wired.decide.decide(DecideRequest("c", customer_id="anna-of-old", consent=Consent.GRANTED))
    with capture_logs() as logged:
        rows = await wired.customers.erase("anna-of-old")
        await wired.customers.erase("nobody-at-all")
    told = [each for each in logged if each["event"] == "customer_erased"]
    assert [(each["known"], each["removed_rows"]) for each in told] == [(True, rows), (False, 0)]
    assert "anna-of-old" not in str(logged)
    assert "nobody-at-all" not in str(logged)


async def test_erasing_strangers_is_bounded_and_nobody_known_is_kept_waiting(wired: Wired) -> None:
    """Beyond so many at once it is refused, with a delay; the known are erased all the same, again too."""
    await wired.decide.decide(DecideRequest("c", customer_id="anna", consent=Consent.GRANTED))
    for number in range(wired.limits.erasures_of_strangers_at_once):
        await wired.customers.erase(f"stranger-{number}")
    with pytest.raises(Overloaded, match="of whom nothing is kept") as refused:
        await wired.customers.erase("one-too-many")
    assert refused.value.retry_after_s == 1 / wired.limits.erasures_of_strangers_per_s
    for name in ("anna", "anna", "stranger-0"):
        await wired.customers.erase(name)
    wired.clock.pass_s(refused.value.retry_after_s)
    assert await wired.customers.erase("one-too-many") == 0


async def test_erasing_a_stranger_learns_nothing_anew(wired: Wired) -> None:
    """No model can have learned from them; one that was known before is seen to each time."""
    await wired.customers.erase("stranger")
    assert wired.relearned == 0
    await wired.customers.erase("stranger")  # as it may be a retry of one that a crash cut short
    assert wired.relearned == 1


async def test_a_page_of_an_export_is_short_however_large_its_rows_are(tmp_path: Path) -> None:
    """Decisions among a thousand offers come a few at a time, since other calls wait for a page; all come."""
    offers = ", ".join(f"{{id: offer-{number}}}" for number in range(1_000))
    wired = await Wired(CAMPAIGN.replace("{id: a}, {id: b}", offers), tmp_path).start()
    for _ in range(10):
        await wired.decide.decide(DecideRequest("c", customer_id="anna", consent=Consent.GRANTED))
    pages = [await wired.customers.export("anna", 1_000, "")]
    while pages[-1].next_page_token:
        pages.append(await wired.customers.export("anna", 1_000, pages[-1].next_page_token))
    assert max(len(page.json_lines) for page in pages) <= 128 * 1024
    assert "".join(page.json_lines for page in pages).count('"kind":"decision"') == 10


@pytest.mark.parametrize(
    ("field", "report"),
    [
        ("customer_id", EventReport("", "visit", "e")),
        ("event", EventReport("anna", "", "e")),
        ("event", EventReport("anna", "9lives", "e")),
        ("event", EventReport("anna", "x" * 65, "e")),
        ("event", EventReport("anna", "visit\n", "e")),
        ("event_id", EventReport("anna", "visit", "")),
        ("time", EventReport("anna", "visit", "e", -1)),
        ("time", EventReport("anna", "visit", "e", TIME_US_MAX)),
    ],
)
async def test_a_malformed_event_is_refused_by_its_field(
    wired: Wired, field: str, report: EventReport
) -> None:
    """Nothing is stored or counted of it."""
    with pytest.raises(InvalidField) as refused:
        await wired.customers.report_event(report)
    assert refused.value.field == field
    assert wired.metric("customer_events_total") == 0
    with pytest.raises(UnknownCustomer):
        await wired.customers.export("anna", 0, "")


async def test_each_event_is_counted_under_one_status(wired: Wired) -> None:
    """Accepted, repeated, or refused where its id was another event's."""
    first = EventReport("anna", "x" * 64, "e", consent=Consent.GRANTED)
    assert await wired.customers.report_event(first) is CustomerEventStatus.ACCEPTED
    assert await wired.customers.report_event(first) is CustomerEventStatus.DUPLICATE
    with pytest.raises(IdReused):
        await wired.customers.report_event(EventReport("anna", "visit", "e", consent=Consent.GRANTED))
    assert wired.metric("customer_events_total") == 3
    assert wired.metric("customer_events_total", status="refused") == 1


async def test_an_export_refuses_a_page_that_cannot_be(wired: Wired) -> None:
    """Sizes out of range and tokens that are too long, by their field; of a stranger there is nothing."""
    sizes_max = wired.limits.export_page_rows_max
    too_long = "x" * (wired.limits.page_token_chars_max + 1)
    for field, size, token in (
        ("page_size", -1, ""),
        ("page_size", sizes_max + 1, ""),
        ("page_token", 0, too_long),
    ):
        with pytest.raises(InvalidField) as refused:
            await wired.customers.export("anna", size, token)
        assert refused.value.field == field
    for size in (0, sizes_max):
        with pytest.raises(UnknownCustomer):
            await wired.customers.export("anna", size, "")


async def test_a_customer_without_a_profile_has_none(wired: Wired) -> None:
    """Who was only decided for has rows, and no profile; nobody's id is refused."""
    await wired.decide.decide(DecideRequest("c", customer_id="anna", consent=Consent.GRANTED))
    with pytest.raises(UnknownCustomer):
        await wired.customers.get("anna")
    with pytest.raises(InvalidField):
        await wired.customers.get("")

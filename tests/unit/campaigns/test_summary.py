"""What `tilbud check` says of a campaign tells a marketer every rule in it."""

from __future__ import annotations

import pytest
from tests.unit.campaigns.test_source import DESIGN, SMALL, parse

from tilbud.bandit.memory import model_bytes
from tilbud.bandit.presets import PRESETS, arguments
from tilbud.campaigns.summary import campaign_summary, contact_summary
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.campaign.contact_policy import ContactPolicy


def summary(campaign: Campaign) -> dict[str, str]:
    """What is said of a campaign."""
    return campaign_summary(campaign)


def test_every_rule_has_its_line():
    """Each kind of rule that looks at the customer is told in words, with its offer and its time."""
    told = summary(parse(DESIGN))
    expected = {
        "rules": "free-shipping: channels [web, app]; valid 2026-11-01 … 2026-12-24; "
        "when {basket_value: {gt: 30}}",
        "reward": "click 0.1, purchase 1 (final), dismiss -0.2 (final); sum within -1 … 1, 0 where nothing "
        "came; learned when the window is over",
        "window": "outcomes count for 30m after the offer was shown, and may be 10s on their way; "
        "a deferred decision waits 1h to be activated",
        "languages": "da, en; en where no other fits",
        "explanations": "one sentence for the customer, in en",
        "stored facts": "loyalty_tier (if known for at most 180d), lifetime_value (if known for at most 30d)",
        "events": "add_to_cart, purchase, support_case",
        "journey": "purchase leads to retention, add_to_cart leads to purchase",
        "segments": "big_spender",
        "sticky": "a customer is shown the same offer again for 1d "
        "(outcomes count for 30m after the first time)",
        "topics": "fashion: free-shipping; a customer can block it\n"
        "family: free-shipping; a customer can block it",
        "sensitive": "free-shipping: only for customers who opted in to family",
        "requires": "free-shipping: only after add_to_cart (within 2h)",
        "suppressed": "free-shipping: not after purchase (for 30d), dismiss (for 14d)",
        "caps": "free-shipping: at most 3 times in 7d\n"
        "discounts together (free-shipping): at most 2 times in 7d",
    }
    assert {subject: told.get(subject) for subject in expected} == expected


def test_what_is_not_declared_has_no_line():
    """A campaign without rules that look at the customer is told in the eleven lines every campaign has."""
    assert list(summary(parse(SMALL))) == [
        "offers", "rules", "fallback", "reward", "window", "exploration", "control", "consent", "wishes",
        "arguments", "memory",
    ]  # fmt: skip


def test_a_language_that_is_lacking_is_told_with_its_offers():
    """Who has payloads, but none in a language that others have, is named; who has one for all is not."""
    campaign = parse(
        DESIGN.replace("offers:", "offers:\n"
            "  - {id: deal, payloads: {en: {a: 1}}}\n"
            "  - {id: sale, payloads: {en: {a: 1}, de: {a: 1}, da: {a: 1}}}\n"
            "  - {id: british, payloads: {en: {a: 1}, en-GB: {a: 1}, da: {a: 1}}}", 1)
    )  # fmt: skip
    assert summary(campaign)["languages"] == (
        "da, de, en, en-GB; en where no other fits; deal lacks da; deal, british, welcome lack de"
    )


def test_a_fallback_without_a_name_can_lack_a_language():
    """A fallback needs no id; it is told as what it is."""
    nameless = DESIGN.replace("fallback: {id: welcome, payloads: {en: {title: Welcome back}, da: {title: "
        "Velkommen tilbage}}}", "fallback: {payloads: {en: {}}}").replace(
        "payload: {title: Free shipping this week}", "payloads: {en: {}, da: {}}")  # fmt: skip
    assert summary(parse(nameless))["languages"].endswith("; the fallback lacks da")


def test_an_explanation_in_a_language_without_payloads_is_remarked():
    """`dk` is most likely a slip; a kind of a language that is there is none."""
    words = DESIGN[DESIGN.index("    sentence") : DESIGN.index("reward:")]
    slipped = DESIGN.replace("reward:\n", f"  dk:\n{words}  da-DK:\n{words}reward:\n", 1)
    assert summary(parse(slipped))["explanations"] == (
        "one sentence for the customer, in da-DK, dk, en (no payload is in dk)"
    )
    plain = slipped.replace("payloads: {en: {title: Welcome back}, da: {title: Velkommen tilbage}}", "")
    assert "no payload" not in summary(parse(plain))["explanations"]


def test_a_contact_policy_is_told_in_words():
    """Each channel's caps are told, with a hint where no campaign has it, and where quiet is kept."""
    policy = ContactPolicy.model_validate(
        {
            "channels": {
                "push": {"caps": [{"times": 1, "per": "24h"}, {"times": 3, "per": "7d"}]},
                "psuh": {"caps": [{"times": 2, "per": "1d"}]},
                "web": {"caps": []},
            },
            "quiet_channels": ["push", "emial"],
        }
    )
    told = contact_summary(policy, [parse(DESIGN)])
    assert told == {
        "push": "a customer is contacted at most once in 1d, 3 times in 7d",
        "psuh": "a customer is contacted at most 2 times in 1d (no campaign here declares this channel)",
        "web": "a customer is contacted as often as campaigns like",
        "quiet hours": "what a customer set is heeded in push, "
        "emial (no campaign here declares this channel)",
    }
    assert "declares" not in "".join(contact_summary(policy, []).values())


def test_quiet_hours_are_told_where_none_or_all_channels_keep_them():
    """Absent means every channel; an empty list means none."""
    everywhere, nowhere = ContactPolicy(), ContactPolicy(quiet_channels=())
    assert contact_summary(everywhere, [])["quiet hours"].endswith("in every channel")
    assert contact_summary(nowhere, [])["quiet hours"].endswith("nowhere")


def test_hours_are_told_with_the_clocks_that_count():
    """An offer with hours says whose they are; with days too, whose those are; and what a night is."""
    campaign = parse(
        SMALL.replace("- id: a", '- {id: a, hours: "22:00-04:00", valid: {until: 2026-12-24}}', 1)
    )
    assert summary(campaign)["hours"] == (
        "a: 22:00-04:00 on the customer's clock; `valid` counts days on the campaign's (UTC); "
        "a night belongs to the day on which it begins"
    )


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ("{}", "none"),
        ("{control: {share: 0.005}, split: decision}", "0.5% of decisions see any offer, with equal chance"),
        (
            "{control: {share: 0.05}}",
            "5% of customers see any offer, with equal chance, in every session and channel; ",
        ),
    ],
)
def test_the_summary_says_who_is_in_control(variants, told):
    """How many of whom, and whether a customer stays there."""
    assert summary(parse(f"{SMALL}\nvariants: {variants}\n"))["control"].startswith(told)


@pytest.mark.parametrize(
    ("fallback", "told"),
    [
        ("", "none: where no offer may be shown, the answer has neither an id nor a payload"),
        ("fallback: {id: welcome}", "welcome"),
        ("fallback: {payload: {title: Welcome}}", "a payload without an id"),
    ],
)
def test_the_summary_says_what_is_answered_without_an_offer(fallback, told):
    """Its id, or what an answer lacks where the file declares none."""
    assert summary(parse(f"{SMALL}\n{fallback}\n"))["fallback"] == told


@pytest.mark.parametrize(
    ("time", "line"),
    [
        ("[weekday, hour]", "the model reads hour, weekday"),
        ("[]", "the model reads nothing"),
        ("[part_of_day, weekend]", None),
    ],
)
def test_what_is_read_of_the_time_is_told_where_the_file_says_another(time, line):
    """It has a line of its own only where it is not as in every campaign that says nothing."""
    assert (
        summary(parse(SMALL.replace("offers:", f"context: {{time: {time}}}\noffers:", 1))).get("time") == line
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_told_with_its_sentence_and_its_arguments(preset):
    """What it does, in words, and all that Vowpal Wabbit is given for it."""
    campaign = parse(f"{SMALL}\nexploration: {{preset: {preset}}}\n")
    told = summary(campaign)
    assert told["exploration"] == f"{preset}, 2% discovery. {PRESETS[preset].purpose}"
    assert told["arguments"].startswith(arguments(campaign.exploration, len(campaign.offers)))


@pytest.mark.parametrize(
    ("own", "second"),
    [("", True), ("--cubic dco", False), ("--squarecb", False)],
    ids=["of the preset", "own crossings", "own exploration"],
)
def test_a_second_model_is_told_where_there_is_one(own, second):
    """It costs as much as the first, and its crossings are no arguments of the file's."""
    campaign = parse(f"{SMALL}\nexploration: {{arguments: {own!r}}}\n")
    assert ("a second model" in summary(campaign)["arguments"]) is second


def test_the_memory_of_a_model_is_told():
    """In MB, as `memory.py` reckons it: more with more offers."""
    small = parse(SMALL)
    offers = "\n".join(f"  - {{id: more-{number}}}" for number in range(200))
    large = parse(SMALL.replace("offers:\n", f"offers:\n{offers}\n", 1))
    for campaign in (small, large):
        expected = model_bytes(campaign, PERSONALIZED) / 1e6
        told = summary(campaign)["memory"]
        assert told == f"its model takes about {expected:.1f} MB in each process at most"
    assert summary(small)["memory"] != summary(large)["memory"]

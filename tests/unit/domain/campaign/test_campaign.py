"""A campaign that exists is valid; its schema says what a file may hold."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.unit.domain.builders import campaign

from tilbud.domain.campaign.campaign import Campaign, Offer
from tilbud.domain.decision.records import payload_text
from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.v1 import decisions_pb2


def refused(*offers: dict[str, Any], **said: Any) -> list[tuple[str, str]]:
    """Return where and why a campaign is refused; the place as pydantic and the error's path tell it."""
    with pytest.raises(ValidationError) as error:
        campaign(*offers, **said)
    return [
        (".".join(map(str, (*each["loc"], *each.get("ctx", {}).get("path", ())))), each["msg"])
        for each in error.value.errors()
    ]


def test_defaults_are_the_designs():
    """A campaign that says only what it must gets the design's defaults."""
    made = campaign(context={})
    assert (made.time_zone, made.exploration.preset, made.exploration.discovery) == ("UTC", "balanced", 0.02)
    reward = made.reward
    assert (reward.window_us, reward.activation_window_us, reward.grace_us) == (
        1_800_000_000, 3_600_000_000, 10_000_000,
    )  # fmt: skip
    assert (reward.default, reward.aggregate, reward.range, reward.learn) == (0, "sum", (0, 1), "at_deadline")
    assert made.variants.control is None
    assert made.fallback.id == ""
    assert made.context.devices == ("mobile", "desktop", "tablet")


def test_a_campaign_is_frozen():
    """Nothing of a campaign changes while it is served."""
    made = campaign()
    with pytest.raises(ValidationError, match="frozen"):
        made.consent = "required"  # type: ignore[misc]


@pytest.mark.parametrize("written", [0.1, 1, {"weight": 0.1}, {"weight": 1, "final": False}])
def test_a_bare_number_is_a_weight(written):
    """An outcome written as a number is short for its weight."""
    rule = campaign(reward={"outcomes": {"click": written}}).reward.outcomes["click"]
    assert rule.weight == (written["weight"] if isinstance(written, dict) else written)
    assert not rule.final


@pytest.mark.parametrize(
    "key", ["group", "sensitive_topic", "caps", "requires", "suppress_after", "payloads"]
)
def test_an_empty_key_is_not_an_absent_one(key):
    """A rule whose value was forgotten is refused, not taken for no rule."""
    [(where, _)] = refused({"id": "a", key: None})
    assert where == f"offers.0.{key}"


@pytest.mark.parametrize(
    ("said", "where", "why"),
    [
        ({"campaign": "a b"}, "campaign", "match"),
        ({"campaign": ""}, "campaign", "match"),
        ({"campaign": "a\n"}, "campaign", "match"),
        ({"campaign": "x" * 129}, "campaign", "128"),
        ({"campaign": 7}, "campaign", "string"),
        ({"time_zone": "Mars/Base"}, "time_zone", "Europe/Copenhagen"),
        ({"consent": "yes"}, "consent", "'required' or 'not_required'"),
        ({"offers": []}, "offers", "at least 1"),
        ({"offers": [{"id": str(number)} for number in range(1001)]}, "offers", "at most 1000"),
        ({"context": {"devices": ["a", "a"]}}, "context.devices", "twice"),
        ({"context": {"channels": ["other"]}}, "context.channels", "leave them out"),
        ({"context": {"channels": ["a\nb"]}}, "context.channels.0", "control"),
        ({"context": {"devices": [""]}}, "context.devices.0", "at least 1"),
        (
            {"context": {"journey_stages": [str(n) for n in range(51)]}},
            "context.journey_stages",
            "at most 50",
        ),
        ({"context": {"time": ["hour", "hour"]}}, "context.time", "twice"),
        ({"context": {"time": ["minute"]}}, "context.time.0", "'hour' or 'weekday'"),
        ({"context": {"time": "hour"}}, "context.time", "tuple"),
        ({"context": {"features": {"hour": "number"}}}, "context.features", "hour"),
        ({"context": {"features": {"any_of": "number"}}}, "context.features", "any_of"),
        ({"context": {"features": {"x": "text"}}}, "context.features.x", "category"),
        ({"context": {"features": {f"f{n}": "flag" for n in range(101)}}}, "context.features", "at most 100"),
        (
            {"context": {"features": {"last_event": "category"}}},
            "context.features",
            "`last_event` is built in; ",
        ),
        (
            {"context": {"features": {"x": "flag"}, "traits": {"x": "flag"}}},
            "context.traits",
            "`x` is declared already; choose another name",
        ),
        (
            {"context": {"traits": {"hour": "number", "any_of": "flag"}}},
            "context.traits",
            "`any_of`, `hour` are built in; choose another name",
        ),
        ({"context": {"traits": {"x": "text"}}}, "context.traits.x.kind", "category"),
        (
            {"context": {"traits": {"x": {"kind": "flag", "max_age": "1y"}}}},
            "context.traits.x.max_age",
            "30m",
        ),
        (
            {"context": {"traits": {"x": {"kind": "flag", "max_age": None}}}},
            "context.traits.x.max_age",
            "value",
        ),
        ({"context": {"traits": {f"t{n}": "flag" for n in range(101)}}}, "context.traits", "at most 100"),
        ({"context": {"max_age": "0s"}}, "context.max_age", "longer than 0s"),
        ({"context": {"events": ["a", "a"]}}, "context.events", "twice"),
        ({"context": {"events": ["a b"]}}, "context.events.0", "match"),
        ({"context": {"events": [f"e{n}" for n in range(51)]}}, "context.events", "at most 50"),
        ({"journey": {"bought": "purchase"}}, "journey.bought", "not declared under context.events: bought"),
        (
            {"context": {"events": ["bought"]}, "journey": {"bought": "x"}},
            "journey.bought",
            "not declared under context.journey_stages: x",
        ),
        ({"segments": {"basket": {"hour": {"gt": 1}}}}, "segments", "`basket` is declared already; "),
        ({"segments": {"hour": {"hour": {"gt": 1}}}}, "segments", "`hour` is built in; "),
        ({"segments": {"x": {}}}, "segments.x", "write a condition"),
        ({"segments": {"x": {"hour": {"gt": "1"}}}}, "segments.x.hour.gt", "number"),
        (
            {"segments": {"x": {"hour": {"gt": 1}}, "y": {"x": {"eq": True}}}},
            "segments.y.x",
            "unknown feature",
        ),
        ({"segments": {"x": {"last_event": {"eq": "a"}}}}, "segments.x.last_event", "context.events"),
        ({"segments": {f"s{n}": {"hour": {"gt": 1}} for n in range(51)}}, "segments", "at most 50"),
        ({"groups": {"g": {"caps": [{"times": 0, "per": "1d"}]}}}, "groups.g.caps.0.times", "equal to 1"),
        ({"groups": {"g": {"caps": [{"times": 101, "per": "1d"}]}}}, "groups.g.caps.0.times", "equal to 100"),
        ({"groups": {"g": {"caps": [{"times": 1, "per": "401d"}]}}}, "groups.g.caps.0.per", "at most 400d"),
        ({"groups": {"g": {"caps": [{"times": 1, "per": "1d"}] * 11}}}, "groups.g.caps", "at most 10"),
        ({"sticky": "0s"}, "sticky", "longer than 0s"),
        ({"sticky": None}, "sticky", "no value"),
        ({"fallback_language": "english!"}, "fallback_language", "match"),
        ({"fallback": {"payloads": {"en": {}}}}, "fallback_language", "is required where `payloads` stands"),
        (
            {"fallback_language": "en", "fallback": {"payloads": {"da": {}}}},
            "fallback.payloads",
            "lacks the fallback_language; add `en: …`",
        ),
        ({"fallback": {"payloads": {}}}, "fallback.payloads", "at least 1"),
        ({"fallback": {"payload": {}, "payloads": {"en": {}}}}, "fallback.payload", "keep one of them"),
        ({"fallback": {"id": "a"}}, "fallback.id", "differ"),
        ({"variants": {"control": {"share": 0.1, "serves": "z"}}}, "variants.control.serves", "offer's id"),
        (
            {"offers": [{"id": "uniform"}], "variants": {"control": {"share": 0.1}}},
            "variants.control.serves",
            "an offer's id",
        ),
        ({"variants": {"control": {"share": 1.1}}}, "variants.control.share", "less than or equal to 1"),
        ({"exploration": {"discovery": -0.1}}, "exploration.discovery", "greater than or equal to 0"),
        ({"exploration": {"preset": "bold"}}, "exploration.preset", "'balanced'"),
    ],
)
def test_what_is_wrong_is_refused_where_it_stands(said, where, why):
    """Each broken rule names the key at fault and what would be right."""
    [(found, message)] = refused(**said)
    assert found == where
    assert why in message


@pytest.mark.parametrize(
    ("said", "where", "why"),
    [
        ({"outcomes": {}}, "reward.outcomes", "at least 1"),
        ({"outcomes": {"bad name": 1}}, "reward.outcomes.bad name.[key]", "match"),
        ({"outcomes": {"click": "1"}}, "reward.outcomes.click", "dictionary"),
        ({"outcomes": {"click": 1e39}}, "reward.outcomes.click.weight", "less than"),
        ({"outcomes": {"click": 10**400}}, "reward.outcomes.click.weight", "number"),
        ({"outcomes": {"click": float("nan")}}, "reward.outcomes.click.weight", "finite"),
        ({"window": "0s"}, "reward.window", "longer than 0s"),
        ({"window": "401d"}, "reward.window", "at most 400d"),
        ({"window": 30}, "reward.window", "30m"),
        ({"activation_window": "1 hour"}, "reward.activation_window", "30m"),
        ({"grace": "999999999d"}, "reward.grace", "at most 400d"),
        ({"range": [1, 1]}, "reward.range", "low < high"),
        ({"range": [1, -1]}, "reward.range", "low < high"),
        ({"range": [0]}, "reward.range.1", "required"),
        ({"default": 2}, "reward.default", "within `range`"),
        ({"aggregate": "mean"}, "reward.aggregate", "'sum' or 'max'"),
        ({"learn": "on_settlement"}, "reward.learn", "final: true"),
    ],
)
def test_a_wrong_reward_is_refused_where_it_stands(said, where, why):
    """Each broken rule of the reward names its key and what would be right."""
    [(found, message)] = refused(reward={"outcomes": {"click": 1}, **said})
    assert found == where
    assert why in message


@pytest.mark.parametrize(
    ("said", "where", "why"),
    [
        ({"id": "a/b"}, "offers.0.id", "match"),
        ({"channels": ["tv", "web"]}, "offers.0.channels", "not declared under context.channels: tv"),
        ({"devices": ["unknown"]}, "offers.0.devices", "context.devices"),
        ({"journey_stages": ["x"]}, "offers.0.journey_stages", "context.journey_stages"),
        ({"places": "Odense"}, "offers.0.places", "tuple"),
        ({"hours": "8-21"}, "offers.0.hours", "08:00-21:00"),
        ({"hours": None}, "offers.0.hours", "08:00-21:00"),
        ({"valid": {"from": date(2026, 2, 1), "until": date(2026, 1, 1)}}, "offers.0.valid.until", "from"),
        ({"valid": {"from": datetime(2026, 2, 1)}}, "offers.0.valid.from", "is no day"),  # noqa: DTZ001
        ({"valid": {"from": "2026-02-30"}}, "offers.0.valid.from", "is no day"),
        ({"when": {}}, "offers.0.when", "condition"),
        ({"when": {"any_of": [{"cart": {"gt": 1}}]}}, "offers.0.when.any_of.0.cart", "declare it"),
        ({"features": {"x": [1]}}, "offers.0.features.x", "finite number"),
        ({"features": {"x": 1e39}}, "offers.0.features.x", "finite number"),
        ({"features": {"x": "y" * 129}}, "offers.0.features.x", "128"),
        ({"features": {"x": "a\nb"}}, "offers.0.features.x", "control"),
        ({"features": {"x": date(2026, 2, 1)}}, "offers.0.features.x", "dates in quotes"),
        ({"group": "g"}, "offers.0.group", "not declared under groups: g"),
        ({"topics": ["a", "a"]}, "offers.0.topics", "twice"),
        ({"topics": [""]}, "offers.0.topics.0", "at least 1"),
        ({"sensitive_topic": ""}, "offers.0.sensitive_topic", "at least 1"),
        ({"caps": [{"times": 1}]}, "offers.0.caps.0.per", "required"),
        ({"caps": [{"times": 1, "per": "0s"}]}, "offers.0.caps.0.per", "longer than 0s"),
        ({"caps": [{"times": True, "per": "1d"}]}, "offers.0.caps.0.times", "integer"),
        ({"requires": {"bought": "1d"}}, "offers.0.requires.bought", "not declared under context.events"),
        ({"requires": {"bought": 1}}, "offers.0.requires.bought", "30m"),
        ({"suppress_after": {"bought": "1d"}}, "offers.0.suppress_after.bought", "neither an outcome nor"),
        ({"suppress_after": {"click": "500d"}}, "offers.0.suppress_after.click", "at most 400d"),
        ({"payloads": {"en": {}}}, "fallback_language", "add `fallback_language: en`"),
        ({"payloads": {"e": {}}}, "offers.0.payloads.e.[key]", "match"),
        ({"payloads": {"en": {}, "EN": {}}}, "offers.0.payloads.EN", "have no case"),
        ({"payloads": {"en": {"x": date(2026, 2, 1)}}}, "offers.0.payloads.en.x", "quotes, such as '2026-"),
        ({"payload": {"x": [1, {"y": 2**53 + 1}]}}, "offers.0.payload.x.1.y", "2^53 in quotes"),
        ({"payload": {"x": {"y": float("inf")}}}, "offers.0.payload.x.y", "finite numbers"),
        ({"payload": {"x": {"y": b"z"}}}, "offers.0.payload.x.y", "plain JSON: text"),
        ({"payload": {}, "payloads": {"en": {}}}, "offers.0.payload", "keep one of them"),
        (
            {"when": {"last_event": {"eq": "a"}}},
            "offers.0.when.last_event",
            "declare them under context.events",
        ),
    ],
)
def test_a_wrong_offer_is_refused_where_it_stands(said, where, why):
    """Each broken rule of an offer names its key and what would be right, once."""
    [(found, message)] = refused({"id": "a", **said})
    assert found == where
    assert why in message


def test_two_offers_of_one_id_are_refused():
    """The second of two offers with one id is at fault."""
    [(found, message)] = refused({"id": "a"}, {"id": "b"}, {"id": "a"})
    assert found == "offers.2.id"
    assert "twice" in message


def test_every_mistake_is_told_at_once():
    """Mistakes in several sections are all told, not the first alone."""
    found = refused({"id": "a b"}, consent="?", time_zone="?", reward={"outcomes": {"x": "y"}})
    assert {where for where, _ in found} == {"offers.0.id", "consent", "time_zone", "reward.outcomes.x"}


@pytest.mark.parametrize("serves", ["uniform", "fallback", "b"])
def test_control_may_serve_the_uniform_the_fallback_or_an_offer(serves):
    """The control group's policy is one of these three."""
    control = campaign(variants={"control": {"share": 0.5, "serves": serves}}).variants.control
    assert control is not None
    assert control.serves == serves


def test_offer_features_keep_their_kinds():
    """Text, numbers and flags stay what they are; whole numbers become floats."""
    [offer] = campaign({"id": "a", "features": {"t": "x", "n": 2, "f": 2.5, "yes": True}}).offers
    assert [(name, repr(value)) for name, value in offer.features.items()] == [
        ("t", "'x'"), ("n", "2.0"), ("f", "2.5"), ("yes", "True"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        date(2026, 2, 1), b"x", {1, 2}, float("nan"), float("inf"), 2**53 + 1, -(2**60), 10**400, {1: 2},
        object(),
    ],
)  # fmt: skip
def test_a_payload_that_cannot_be_sent_is_refused(value):
    """What JSON or a Struct cannot carry unchanged is refused where it stands when the file is read."""
    [(where, _)] = refused({"id": "a", "payload": {"x": value}})
    assert where == "offers.0.payload.x"
    [(where, _)] = refused(fallback={"payload": {"x": [value]}})
    assert where == "fallback.payload.x.0"


def test_a_payload_that_is_too_large_is_refused():
    """A payload has its bytes counted as a whole."""
    [(where, _)] = refused({"id": "a", "payload": {"x": "x" * 65_536}})
    assert where == "offers.0.payload"


def nested(levels: int) -> dict[str, Any]:
    """Return maps in maps."""
    payload: dict[str, Any] = {"x": 1}
    for _ in range(levels - 1):
        payload = {"x": payload}
    return payload


def test_a_payload_nests_only_so_deep():
    """Sixteen levels pass, and are read back even out of a batch; seventeen are refused."""
    payload = campaign({"id": "a", "payload": nested(16)}).offers[0].payload
    response = decisions_pb2.BatchDecideResponse()
    json_format.ParseDict(payload, response.results.add().decision.payload)
    again = decisions_pb2.BatchDecideResponse.FromString(response.SerializeToString())
    assert json_format.MessageToDict(again.results[0].decision.payload) == payload
    refused({"id": "a", "payload": nested(17)})
    refused({"id": "a", "payload": nested(5_000)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_an_accepted_payload_is_sent_unchanged(payload):
    """Whatever payload is accepted comes back the same from the answer's Struct."""
    try:
        accepted = campaign({"id": "a", "payload": payload}).offers[0].payload
    except ValidationError:
        return
    struct = json_format.ParseDict(json.loads(payload_text(accepted).body), struct_pb2.Struct())
    assert json_format.MessageToDict(struct) == payload


def test_the_vocabulary_is_what_the_file_declares():
    """The vocabulary of a campaign's contexts is that of its file."""
    vocabulary = campaign(
        time_zone="Europe/Oslo", context={"devices": ["tv"], "features": {"x": "flag"}}
    ).vocabulary()
    assert (vocabulary.devices, vocabulary.features, vocabulary.time_zone) == (
        frozenset({"tv"}), {"x": "flag"}, "Europe/Oslo",
    )  # fmt: skip


WORDS: dict[str, Any] = {
    "sentence": "Because of {factors}.",
    "otherwise": "By chance.",
    "and": " and ",
    "factors": {},
}


@pytest.mark.parametrize(
    ("said", "where", "why"),
    [
        ({"sentence": "Because."}, "sentence", "must contain {factors} once"),
        ({"sentence": "{factors} {factors}"}, "sentence", "must contain {factors} once"),
        ({"sentence": "{factors}, {name}"}, "sentence", "remove other braces"),
        ({"otherwise": "{factors}"}, "otherwise", "remove other braces"),
        ({"and": "\n"}, "and", "control"),
        ({"and": ""}, "and", "at least 1"),
        ({"factors": {"hours": "the hour"}}, "factors.hours", "no feature, trait or segment; use one of"),
        ({"factors": {"last_event": "x"}}, "factors.last_event", "declare them under context.events"),
        ({"factors": {"hour": ""}}, "factors.hour", "at least 1"),
    ],
)
def test_a_wrong_explanation_is_refused_where_it_stands(said, where, why):
    """Each broken rule of an explanation names its language and key and what would be right."""
    [(found, message)] = refused(fallback_language="en", explanations={"en": {**WORDS, **said}})
    assert found == f"explanations.en.{where}"
    assert why in message


@pytest.mark.parametrize("key", ["sentence", "otherwise", "and", "factors"])
def test_an_explanation_needs_all_its_words(key):
    """Nothing of an explanation is English by default."""
    words = {name: text for name, text in WORDS.items() if name != key}
    [(found, _)] = refused(fallback_language="en", explanations={"en": words})
    assert found == f"explanations.en.{key}"


@pytest.mark.parametrize("said", [{}, {"fallback_language": "da"}])
def test_explanations_need_the_fallback_language(said):
    """Where there are explanations, one of them is in the fallback language."""
    [(found, _)] = refused(explanations={"en": WORDS}, **said)
    assert found == ("explanations" if said else "fallback_language")


FULL: dict[str, Any] = {
    "fallback_language": "EN",
    "context": {
        "features": {"basket": "number"},
        "traits": {"tier": "category", "value": {"kind": "number", "max_age": "30d"}},
        "events": ["bought", "looked"],
    },
    "segments": {"rich": {"value": {"gt": 500}}, "early": {"hour": {"lt": 9}}},
}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, ("part_of_day", "weekend")),
        ({"time": []}, ()),
        ({"time": ["weekday", "hour", "part_of_day"]}, ("part_of_day", "hour", "weekday")),
    ],
)
def test_what_is_read_of_the_time_is_declared(written, read):
    """Part of day and weekend where nothing is said; the order in which it is written says nothing."""
    assert campaign(context=written).context.time == read


def test_everything_known_of_a_customer_is_in_the_feature_schema():
    """Features, traits, segments and the last event are what a model may see, by name with their kinds."""
    assert campaign(**FULL).feature_schema() == [
        ("basket", "number"), ("early", "flag"), ("last_event", "category"),
        ("last_event_recency", "category"), ("rich", "flag"), ("tier", "category"), ("value", "number"),
    ]  # fmt: skip


def test_a_plain_campaigns_feature_schema_is_its_features():
    """Where nothing of customers is declared the schema is what it was before there was anything."""
    made = campaign()
    assert made.feature_schema() == sorted(made.context.features.items())


def test_callers_may_say_traits_but_no_segments():
    """A declared trait may be said like a feature; segments and the last event may not."""
    assert campaign(**FULL).vocabulary().features == {
        "basket": "number",
        "tier": "category",
        "value": "number",
    }


def test_conditions_know_traits_segments_and_the_last_event():
    """`when` may ask for all that is known, and for the last event in declared words only."""
    wanted: list[dict[str, Any]] = [
        {"tier": {"eq": "gold"}, "rich": {"eq": True}},
        {"last_event": {"in": ["bought", "looked"]}, "last_event_recency": {"eq": "older"}},
    ]
    for when in wanted:
        made = campaign({"id": "a", "when": when}, **FULL)
        assert made.condition(made.offers[0]) is not None
    unwanted: list[tuple[dict[str, Any], str]] = [
        ({"last_event": {"eq": "bougth"}}, "last_event.eq"),
        ({"last_event_recency": {"in": ["older", "yesterday"]}}, "last_event_recency.in"),
        ({"rich": {"eq": "yes"}}, "rich.eq"),
    ]
    for when, where in unwanted:
        [(found, _)] = refused({"id": "a", "when": when}, **FULL)
        assert found == f"offers.0.when.{where}"


def test_traits_say_how_old_they_may_be():
    """A trait has its own age, or None where that of all traits holds, 400 days unless said."""
    context = campaign(**FULL).context
    assert {name: (rule.kind, rule.max_age_us) for name, rule in context.traits.items()} == {
        "tier": ("category", None), "value": ("number", 30 * 86_400_000_000),
    }  # fmt: skip
    assert context.max_age_us == 400 * 86_400_000_000


def test_payloads_are_read_in_the_readers_language():
    """A payload is found by the nearest language, then the fallback language; or is the one."""
    made = campaign(
        {"id": "a", "payloads": {"en": {"t": 1}, "da": {"t": 2}, "pt-BR": {"t": 3}}},
        {"id": "b", "payload": {"t": 4}},
        fallback={"payloads": {"en": {"t": 5}}},
        **FULL,
    )
    of = {
        language: made.payload(made.offers[0], language)["t"]
        for language in ("", "da", "da-dk", "DA-DK-x", "sv", "pt-br", "pt", "en-GB", "-", "d")
    }
    assert of == {
        "": 1, "da": 2, "da-dk": 2, "DA-DK-x": 2, "sv": 1, "pt-br": 3, "pt": 3, "en-GB": 1, "-": 1, "d": 1,
    }  # fmt: skip
    assert [made.payload(shown, "da")["t"] for shown in (made.offers[1], made.fallback)] == [4, 5]


def test_one_language_in_two_spellings_is_there_twice():
    """`iw` and `he`, or `da-DK` and `da_dk`, name one text; `*` names none."""
    for first, second in (("iw", "he"), ("da-DK", "da_dk")):
        with pytest.raises(ValidationError, match="is there twice"):
            campaign({"id": "a", "payloads": {first: {}, second: {}}}, fallback_language=first)
    with pytest.raises(ValidationError, match="stands for no language"):
        campaign({"id": "a", "languages": ["*"]})


def test_explanations_are_read_in_the_readers_language():
    """Explanations are found as payloads are; a campaign without any has none."""
    made = campaign(explanations={"en": WORDS, "da": {**WORDS, "otherwise": "Af vanvare."}}, **FULL)
    read = [made.explanation(language) for language in ("da-DK", "sv", "")]
    assert [each and each.otherwise for each in read] == ["Af vanvare.", "By chance.", "By chance."]
    assert [each and each.and_ for each in read] == [" and "] * 3
    assert campaign().explanation("da") is None


def test_the_schema_names_keys_as_files_do():
    """The JSON Schema has the keys that files write, refuses others, and asks for what is required."""
    schema = Campaign.model_json_schema(by_alias=True)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["required"] == ["campaign", "offers", "reward", "consent"]
    assert schema["additionalProperties"] is False
    definitions = schema["$defs"]
    assert {"window", "activation_window", "grace"} <= set(definitions["RewardSection"]["properties"])
    assert set(definitions["Validity"]["properties"]) == {"from", "until"}
    for name, default in (("window", "30m"), ("activation_window", "1h"), ("grace", "10s")):
        duration = definitions["RewardSection"]["properties"][name]
        assert (duration["type"], duration["default"]) == ("string", default)
    assert set(definitions["Cap"]["properties"]) == {"times", "per"}
    assert set(definitions["TraitRule"]["properties"]) == {"kind", "max_age"}
    assert set(definitions["Explanation"]["properties"]) == {"sentence", "otherwise", "and", "factors"}
    assert {"sticky", "fallback_language", "journey", "segments", "groups"} <= set(schema["properties"])
    hours = definitions["Offer"]["properties"]["hours"]
    assert hours["type"] == "string"
    assert set(Offer.model_fields) == set(definitions["Offer"]["properties"])


def test_problems_say_where_and_what():
    """A problem reads as file, line, key and what is wrong, as far as each is known."""
    problems = (Problem("a.yaml", 3, "reward.range", "no"), Problem("b.yaml", 0, "", "gone"))
    assert str(CampaignInvalid(problems)) == "a.yaml:3: reward.range: no\nb.yaml: gone"

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

from tilbud.domain.campaign import Campaign, Offer
from tilbud.domain.decisions import payload_text
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


@pytest.mark.parametrize("key", ["caps", "suppress_after", "sensitive_topic"])
def test_keys_of_later_issues_are_unknown(key):
    """A key that does not work yet is refused, not ignored."""
    [(where, _)] = refused({"id": "a", key: {}})
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
        ({"context": {"features": {"hour": "number"}}}, "context.features", "hour"),
        ({"context": {"features": {"any_of": "number"}}}, "context.features", "any_of"),
        ({"context": {"features": {"x": "text"}}}, "context.features.x", "category"),
        ({"context": {"features": {f"f{n}": "flag" for n in range(101)}}}, "context.features", "at most 100"),
        ({"fallback": {"id": "a"}}, "fallback.id", "differ"),
        ({"variants": {"control": {"share": 0.1, "serves": "z"}}}, "variants.control.serves", "offer's id"),
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
        ({"valid": {"from": datetime(2026, 2, 1)}}, "offers.0.valid.from", "date"),  # noqa: DTZ001
        ({"valid": {"from": "2026-02-01"}}, "offers.0.valid.from", "date"),
        ({"when": {}}, "offers.0.when", "condition"),
        ({"when": {"any_of": [{"cart": {"gt": 1}}]}}, "offers.0.when.any_of.0.cart", "declare it"),
        ({"features": {"x": [1]}}, "offers.0.features.x", "finite number"),
        ({"features": {"x": 1e39}}, "offers.0.features.x", "finite number"),
        ({"features": {"x": "y" * 129}}, "offers.0.features.x", "128"),
        ({"features": {"x": "a\nb"}}, "offers.0.features.x", "control"),
        ({"features": {"x": date(2026, 2, 1)}}, "offers.0.features.x", "dates in quotes"),
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
        "x" * 65_536, object(),
    ],
)  # fmt: skip
def test_a_payload_that_cannot_be_sent_is_refused(value):
    """What JSON or a Struct cannot carry unchanged is refused when the file is read."""
    [(where, _)] = refused({"id": "a", "payload": {"x": value}})
    assert where == "offers.0.payload"
    [(where, _)] = refused(fallback={"payload": {"x": [value]}})
    assert where == "fallback.payload"


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
    hours = definitions["Offer"]["properties"]["hours"]
    assert hours["type"] == "string"
    assert set(Offer.model_fields) == set(definitions["Offer"]["properties"])


def test_problems_say_where_and_what():
    """A problem reads as file, line, key and what is wrong, as far as each is known."""
    problems = (Problem("a.yaml", 3, "reward.range", "no"), Problem("b.yaml", 0, "", "gone"))
    assert str(CampaignInvalid(problems)) == "a.yaml:3: reward.range: no\nb.yaml: gone"

"""ExplainDecision: what was known, what became of every offer, what spoke for it, and one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import timestamp_pb2
from tests.e2e.customers import (
    decide,
    dropped,
    explain,
    grant,
    question,
    refused,
    removed,
    sequence,
    situation,
    used,
)
from tests.running import Service, served, until

from tilbud.v1 import decisions_pb2 as pb

TAUGHT = 300
PHRASES = {
    "en": {"colour": "your favourite colour", "place": "where you are", "device": "the device you use"},
    "da": {"colour": "din yndlingsfarve", "place": "hvor du er", "device": "den enhed du bruger"},
}
COLOURS = """
campaign: colours
fallback_language: en
context:
  features: {colour: category}
  traits: {tier: category}
offers:
  - {id: red-shoes}
  - {id: blue-shoes}
  - {id: app-shoes, channels: [app]}
  - {id: gold-shoes, when: {tier: {eq: gold}}}
fallback: {id: welcome}
explanations:
  en:
    sentence: We show you this because of {factors}.
    otherwise: We show this to everyone now and then.
    and: and
    factors: {colour: your favourite colour, place: where you are, device: the device you use}
  da:
    sentence: Vi viser dig dette på grund af {factors}.
    otherwise: Det viser vi alle en gang imellem.
    and: og
    factors: {colour: din yndlingsfarve, place: hvor du er, device: den enhed du bruger}
reward:
  window: 1h
  outcomes: {bought: {weight: 1, final: true}, left: {weight: 0, final: true}}
  learn: on_settlement
consent: not_required
"""
EVERYONE = COLOURS.replace("campaign: colours", "campaign: everyone").replace(
    "consent: not_required", "variants: {control: {share: 1.0, serves: uniform}}\nconsent: required"
)
CLOCK = COLOURS.replace("campaign: colours", "campaign: clock").replace(
    "context:\n", "context:\n  time: [weekday, hour]\n"
)
FILES = {"colours.yaml": COLOURS, "everyone.yaml": EVERYONE, "clock.yaml": CLOCK}
OTHERWISE = {"en": "We show this to everyone now and then.", "da": "Det viser vi alle en gang imellem."}
SHOES = {"red": "red-shoes", "blue": "blue-shoes", "green": "blue-shoes"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves a campaign whose model was taught that the colour decides."""
    with served(tmp_path_factory.mktemp("explain"), FILES) as started:
        _teach(started)
        yield started


def _teach(service: Service) -> None:
    """Let those who like red buy the red shoes, and the others the blue; wait until that is learned."""
    colours = ["red", "blue", "green"] * (TAUGHT // 3)
    for start in range(0, TAUGHT, 100):
        lesson = colours[start : start + 100]
        asked = [
            question(
                "colours",
                decision_id=f"lesson-{number}",  # draws are hashes of ids: every run learns the same
                context=situation(
                    {"colour": colour}, device="mobile", channel="web", place=("Aarhus", "Odense")[number % 2]
                ),
            )
            for number, colour in enumerate(lesson, start)
        ]
        answers = service.decisions.BatchDecide(pb.BatchDecideRequest(requests=asked)).results
        reports = [
            pb.ReportOutcomeRequest(
                campaign="colours",
                decision_id=answer.decision.decision_id,
                outcome="bought" if answer.decision.offer_id == SHOES[colour] else "left",
            )
            for colour, answer in zip(lesson, answers, strict=True)
        ]
        service.decisions.BatchReportOutcomes(pb.BatchReportOutcomesRequest(requests=reports))
        until(lambda start=start: sequence(service, "colours") == start + 100)


def _red(service: Service, **fields: object) -> pb.DecideResponse:
    """Return a decision for one who likes red, and was given it."""
    context = situation({"colour": "red"}, device="mobile", channel="web", place="Aarhus", **fields)
    for _ in range(20):
        answer = decide(service, "colours", "Rosa", context=context)
        if answer.offer_id == "red-shoes":
            return answer
    pytest.fail("the model has not learned what decides")


def test_an_explanation_tells_what_became_of_every_offer(service: Service) -> None:
    """Eligible ones with their probabilities, then removed ones with their rule; the answer as it was."""
    answer = decide(service, "colours", context=pb.Context(channel="web"), include_ranking=True)
    explained = explain(service, "colours", answer.decision_id)
    assert explained.decision == answer
    assert [fate.offer_id for fate in explained.offers] == [
        "red-shoes",
        "blue-shoes",
        "app-shoes",
        "gold-shoes",
    ]
    assert removed(explained) == {"app-shoes": "channels", "gold-shoes": "when"}
    ranked = {each.offer_id: each.probability for each in answer.ranking}
    assert {fate.offer_id: fate.probability for fate in explained.offers if not fate.removed_by} == ranked
    assert math.isclose(sum(fate.probability for fate in explained.offers), 1.0, abs_tol=1e-9)
    assert explained.decision_time.seconds > 0


def test_factors_are_values_that_were_used_and_the_one_that_decides_comes_first(service: Service) -> None:
    """After 300 lessons the colour speaks most for the red shoes; of one offer alone nothing speaks."""
    explained = explain(service, "colours", _red(service).decision_id)
    strongest = explained.factors[0]
    assert (strongest.name, strongest.value.category) == ("colour", "red")
    assert strongest.effect > 0.5
    known_then = used(explained)
    assert explained.rules_only.keys() == {"hour", "weekday"}, "of which the model reads these:"
    assert {"part_of_day", "weekend"} <= known_then.keys()
    assert not explained.rules_only.keys() & known_then.keys()
    assert all(known_then[factor.name] is not None for factor in explained.factors)
    effects = [abs(factor.effect) for factor in explained.factors]
    assert effects == sorted(effects, reverse=True)
    assert explained.factors_model_version == explained.decision.model_version
    alone = decide(
        service, "colours", context=situation({"colour": "red"}, channel="web"), include_offers=["red-shoes"]
    )
    assert list(explain(service, "colours", alone.decision_id).factors) == []


def test_what_is_read_of_the_time_is_what_the_file_says(service: Service) -> None:
    """A campaign that declares hour and weekday decides by them, and by no other word for the time."""
    context = pb.Context(device="mobile", time=timestamp_pb2.Timestamp(seconds=1_796_000_400))
    explained = explain(service, "clock", decide(service, "clock", context=context).decision_id)
    assert {name: value for name, value in used(explained).items() if name != "device"} == {
        "hour": 1.0, "weekday": "monday"
    }  # fmt: skip
    assert explained.rules_only.keys() == {"part_of_day", "weekend"}


@pytest.mark.parametrize("language", ["en", "da"])
def test_the_customers_sentence_names_what_spoke_for_the_offer_and_nothing_else(
    service: Service, language: str
) -> None:
    """In the asked language, the decision's own, or the fallback: factors above zero with a phrase."""
    answer = _red(service, language=language)
    explained = explain(service, "colours", answer.decision_id, language)
    phrases = PHRASES[language]
    spoke = [factor.name for factor in explained.factors if factor.effect > 0 and factor.name in phrases]
    sentence = explained.customer_explanation
    assert phrases["colour"] in sentence
    named = {name for name, phrase in phrases.items() if phrase in sentence}
    assert named == set(spoke[:3])
    assert explain(service, "colours", answer.decision_id).customer_explanation == sentence
    assert explain(service, "colours", answer.decision_id, "fi").customer_explanation.startswith(
        "We show you"
    )


def test_without_consent_no_personal_value_is_a_factor(service: Service) -> None:
    """What was dropped is named as dropped, is no factor, and stands in no sentence."""
    context = situation({"colour": "red"}, device="mobile", channel="web", place="Aarhus")
    grant(service, "Ines", traits={"tier": "gold"})
    answer = decide(service, "colours", "Ines", context=context, consent=pb.CONSENT_DENIED)
    explained = explain(service, "colours", answer.decision_id)
    assert answer.reason == pb.DECISION_REASON_PERSONALIZED
    assert dropped(explained).items() >= dict.fromkeys(("colour", "place"), "no_consent").items()
    assert "tier" not in dropped(explained), "what the profile has is not told of in the record"
    assert not {"colour", "place", "tier"} & {*used(explained), *(each.name for each in explained.factors)}
    for phrase in (PHRASES["en"]["colour"], PHRASES["en"]["place"], "red", "Aarhus"):
        assert phrase not in explained.customer_explanation
    assert removed(explained)["gold-shoes"] == "when"


@pytest.mark.parametrize("language", ["en", "da"])
def test_control_is_explained_otherwise_and_a_fallback_not_at_all(service: Service, language: str) -> None:
    """Where no bandit chose there are no factors; where nothing was chosen there is no sentence either."""
    context = situation({"colour": "red"}, channel="web", language=language)
    control = decide(service, "everyone", context=context, consent=pb.CONSENT_GRANTED)
    assert control.reason == pb.DECISION_REASON_CONTROL
    refusing = decide(service, "everyone", context=context)
    nothing = decide(service, "colours", context=context, include_offers=["app-shoes"])
    for campaign, answer, sentence in (
        ("everyone", control, OTHERWISE[language]),
        ("everyone", refusing, ""),
        ("colours", nothing, ""),
    ):
        explained = explain(service, campaign, answer.decision_id, language)
        assert list(explained.factors) == []
        assert explained.factors_model_version == ""
        assert explained.customer_explanation == sentence
    fates = removed(explain(service, "everyone", refusing.decision_id))
    assert fates["red-shoes"] == "no_consent"
    fates = removed(explain(service, "colours", nothing.decision_id))
    assert fates["app-shoes"] == "channels"
    assert fates["red-shoes"] == "include_offers"


def test_what_is_not_known_cannot_be_explained(service: Service) -> None:
    """Unknown campaigns and decisions, and dry runs, are NOT_FOUND."""
    dry = decide(service, "colours", dry_run=True, decision_id="only-dry")
    for campaign, decision_id, reason in (
        ("nowhere", "x", "UNKNOWN_CAMPAIGN"),
        ("colours", "nothing", "UNKNOWN_DECISION"),
        ("colours", dry.decision_id, "UNKNOWN_DECISION"),
    ):
        refusal = refused(lambda campaign=campaign, id_=decision_id: explain(service, campaign, id_))
        assert refusal == (grpc.StatusCode.NOT_FOUND, reason)

"""Why a decision fell as it did, and what its customer is told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import decision, fallback
from tests.unit.bandit.samples import LIMITS, context, model, offer_set, settlement

from tilbud.bandit.features import encode_context, without
from tilbud.bandit.model import Model
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.context import (
    BUILT_IN_FEATURES,
    EVENT_FEATURES,
    TIME_FEATURES,
    UNKNOWN,
    Context,
)
from tilbud.domain.decision.draw import draw
from tilbud.domain.decision.records import Decision, InternedText, Reason
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.versions import version_of
from tilbud.insight.explain import (
    EFFECT_MIN,
    Explained,
    Factor,
    OfferFate,
    explain,
)

ENCODED = sorted(BUILT_IN_FEATURES.keys() - {"hour", "weekday"})
FREE = {"tier": "category", "basket": "number", "returning": "flag", "spare": "category"}
PHRASES = {"device": "your device", "tier": "your tier", "basket": "your basket", "returning": "your visits"}
SPOKEN = "Chosen for {factors}."
OTHERWISE = "Chosen by chance."
ENGLISH = {"sentence": SPOKEN, "otherwise": OTHERWISE, "and": "and", "factors": PHRASES}


def campaign(explanations: Any = (), **changes: Any) -> Campaign:
    """A campaign that explains itself in English, or as said."""
    written = {
        "campaign": "shop",
        "context": {"features": FREE},
        "offers": [{"id": f"offer-{number}"} for number in range(5)],
        "reward": {"outcomes": {"purchase": 1.0}},
        "consent": "not_required",
        "fallback_language": "en",
        "explanations": explanations or {"en": ENGLISH},
        **changes,
    }
    return Campaign.model_validate(written)


def decided(known: Context, asked: Model, offers: int = 5, drawn: int = 2, **said: Any) -> Decision:
    """A decision of that model in that context."""
    chosen = offer_set(offers)
    scores = asked.predict(encode_context(known), chosen)
    return decision(
        **{
            "campaign": "shop",
            "offers": chosen,
            "probabilities": draw(scores, offers, 0.02, 0.0).probabilities,
            "drawn": drawn,
            "lineage": asked.lineage,
            "features": encode_context(known),
            "context": json.dumps(known.known()),
            **said,
        }
    )


class Opinions:
    """A model that scores offers by a rule, and counts how often it was asked."""

    lineage = "c0ffee"

    def __init__(self, scores: Callable[[str, int], list[float]]) -> None:
        self.sequence = 7
        self.asked = 0
        self._scores = scores

    def predict(self, features: str, offers: Any) -> list[float]:
        self.asked += 1
        return self._scores(features, len(offers.ids))

    def new(self, offers: Any) -> dict[str, int]:  # noqa: ARG002 - none is
        return {}


def opinions(seed: int) -> Model:
    """A model with an opinion on every context, each as unlike any other as can be."""

    def scores(features: str, count: int) -> list[float]:
        drawn = random.Random(f"{seed} {features}")
        return [drawn.random() + 0.001 for _ in range(count)]

    return cast(Model, Opinions(scores))


def taught() -> Model:
    """A model that learned: offer 2 sells on mobiles, offer 0 on desktops."""
    learned = model()
    situations = [(encode_context(context("mobile")), 2), (encode_context(context("desktop")), 0)]
    for sequence in range(1, 1_001):
        features, best = situations[sequence % 2]
        drawn = sequence // 2 % 5
        learned.learn(settlement(sequence, drawn, reward=float(drawn == best), features=features))
    return learned


async def _no_wait() -> None:
    pass


def story(
    told: Decision, asked: Model, explained_by: Campaign | None = None, language: str = ""
) -> Explained:
    """What is explained of a decision."""
    return asyncio.run(explain(told, explained_by or campaign(), asked, language, _no_wait))


words = st.text(min_size=1, max_size=8).filter(str.isprintable)
contexts = st.builds(
    replace,
    st.just(context()),
    device=st.sampled_from(["mobile", "desktop", UNKNOWN]),
    place=words | st.just(""),
    language=st.sampled_from(["", "en", "da"]),
    features=st.fixed_dictionaries(
        {},
        optional={
            "tier": words,
            "basket": st.floats(-1e9, 1e9),
            "returning": st.booleans(),
            "spare": words,
        },
    ),
)


def test_every_offer_has_its_fate():
    """The eligible offers come with their probabilities, then the removed ones with their rules."""
    removed = InternedText.of(json.dumps({"late": "valid", "loud": "blocked_topic"}))
    asked = model()
    told = decided(context(), asked, offers=3, removed=removed)
    assert story(told, asked).fates == (
        *(OfferFate(f"offer-{number}", told.probabilities[number], "", 0) for number in range(3)),
        OfferFate("late", 0.0, "valid"),
        OfferFate("loud", 0.0, "blocked_topic"),
    )


def test_new_offers_are_told_with_what_was_learned_of_them():
    """Those that still have a part of an even share, by the model of the decision's lineage alone."""
    asked = taught()
    asked.learn(settlement(1_001, 5, offers=offer_set(7)))
    told = decided(context(), asked, offers=7)
    learned = [fate.new_settlements for fate in story(told, asked).fates]
    assert learned == [None] * 5 + [1, 0]
    assert {fate.new_settlements for fate in story(told, model(erasures=1)).fates} == {None}


def test_a_fallback_shows_what_kept_each_offer_back():
    """Of a fallback every offer was removed, by a rule or by the reason; no model is asked."""
    told = fallback(
        removed=InternedText.of('{"a":"hours","b":"no_consent"}'),
        dropped=InternedText.of('{"place":"no_consent"}'),
    )
    explained = story(told, opinions(1))
    assert explained.fates == (OfferFate("a", 0.0, "hours"), OfferFate("b", 0.0, "no_consent"))
    assert explained.dropped == {"place": "no_consent"}
    assert explained.factors == ()
    assert explained.factors_model_version == ""
    assert explained.customer_explanation == ""


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.PERSONALIZED])
def test_where_no_offer_was_chosen_the_customer_is_told_nothing(reason):
    """Whatever the reason, control that serves the fallback too: no sentence, in no language."""
    told = fallback(reason=reason)
    both = campaign({"en": ENGLISH, "da": DANISH})
    assert {story(told, opinions(1), both, each).customer_explanation for each in ("", "en", "da")} == {""}


def test_what_was_used_is_told_whole():
    """Every value the decision's record holds is told, and apart from others those no model can see."""
    known = context(place="Aarhus", tier="gold", basket=12.5, returning=False)
    asked = model()
    told = story(decided(known, asked), asked)
    assert {**told.used, **told.rules_only} == known.known()
    assert told.rules_only == {"hour": known.moment.hour, "weekday": known.moment.weekday}
    assert (told.used["part_of_day"], told.used["weekend"]) == (
        known.moment.part_of_day,
        known.moment.weekend,
    )


@given(
    known=contexts,
    time=st.sets(st.sampled_from(TIME_FEATURES)).map(
        lambda read: tuple(name for name in TIME_FEATURES if name in read)
    ),
)
def test_what_was_used_is_what_the_model_read(known, time):
    """Of the time what the campaign declared when it was decided, of the rest all there is."""
    told = decided(known, opinions(1), features=encode_context(known, time))
    used = story(told, opinions(1)).used
    assert used.keys() == (known.known().keys() - TIME_FEATURES) | set(time)
    assert used.items() <= known.known().items()


def test_an_hour_that_was_read_can_be_a_reason():
    """It is asked about as any value is, and named with its phrase."""
    known = context("mobile")
    features = encode_context(known, ("hour",))
    lacking = without(features, "hour", known.moment.hour)

    def scores(features: str, count: int) -> list[float]:
        return [1.0 if features == lacking else 50.0, *[1.0] * (count - 1)]

    asked = cast(Model, Opinions(scores))
    told = campaign({"en": {**ENGLISH, "factors": {"hour": "the hour"}}})
    explained = story(decided(known, asked, drawn=0, features=features), asked, told)
    assert [(factor.name, factor.value) for factor in explained.factors] == [("hour", known.moment.hour)]
    assert explained.customer_explanation == "Chosen for the hour."


def test_a_version_is_left_out_whole():
    """Of a version all that a model reads is one value, told as text, and is one factor."""
    version = version_of("v10.2")
    assert version is not None
    known = replace(context("mobile"), features={"app": version, "tier": "10.2.0"})
    bare = encode_context(replace(known, features={"tier": "10.2.0"}))

    def scores(features: str, count: int) -> list[float]:
        return [1.0 if features == bare else 50.0, *[1.0] * (count - 1)]

    asked = cast(Model, Opinions(scores))
    explained = story(decided(known, asked, drawn=0), asked)
    assert (explained.used["app"], explained.used["tier"]) == ("10.2.0", "10.2.0")
    assert [(factor.name, factor.value) for factor in explained.factors] == [("app", "10.2.0")]


def test_numbers_of_older_decisions_were_read_too():
    """A decision recorded when numbers were encoded as logarithms is told with them."""
    known = context(basket=50.0)
    index = encode_context(known).rpartition(" ")[2].split(":")[0]
    features = f"{encode_context(replace(known, features={}))} |f {index}:0.982956"
    assert story(decided(known, opinions(1), features=features), opinions(1)).used["basket"] == 50.0


def test_nothing_is_a_number_too():
    """An empty basket is known to be empty, which a model reads."""
    told = story(decided(context(basket=0.0), opinions(1)), opinions(1))
    assert told.used["basket"] == 0.0


def without_value(known: Context, name: str) -> Context:
    """The context as it would be, had that value not been known."""
    if name in known.features:
        return replace(
            known, features={each: known.features[each] for each in known.features if each != name}
        )
    unknown: dict[str, Any] = {name: "" if name in ("place", "language", "country") else UNKNOWN}
    return replace(known, **unknown)


def test_an_effect_is_the_probability_with_minus_without():
    """A factor's effect is the drawn offer's probability in the context, minus that without the value."""
    asked, known = taught(), context("mobile", tier="gold", basket=30.0)
    told = decided(known, asked, discovery=0.1)

    def probability(of: Context) -> float:
        return draw(asked.predict(encode_context(of), told.offers), 5, 0.1, 0.0).probabilities[2]

    effects = {factor.name: factor.effect for factor in story(told, asked).factors}
    assert effects["device"] > 0.1
    for name, effect in effects.items():
        if name not in ("part_of_day", "weekend"):  # time is always known
            assert effect == probability(known) - probability(without_value(known, name))
    others = {factor.name: factor.effect for factor in story(told._replace(drawn=0), asked).factors}
    assert others["device"] < 0 < effects["device"]


def test_explaining_leaves_the_model_as_it_was():
    """After explanations a model predicts to the last digit what it did before."""
    asked, known = taught(), context("mobile", tier="gold", basket=30.0)
    told = decided(known, asked)
    before = asked.predict(told.features, told.offers), asked.sequence
    explained = story(told, asked)
    assert explained.factors_model_version == f"{asked.lineage}.{asked.sequence}"
    assert (asked.predict(told.features, told.offers), asked.sequence) == before
    assert story(told, asked) == explained


@settings(deadline=None)
@given(known=contexts, seed=st.integers(), offers=st.integers(2, 4))
def test_factors_are_the_strongest_of_what_was_used(known, seed, offers):
    """Factors are values that were used and seen, strongest first, at most five for and five against."""
    asked = opinions(seed)
    told = decided(known, asked, offers, drawn=0)
    factors = story(told, asked).factors
    strengths = [abs(factor.effect) for factor in factors]
    assert strengths == sorted(strengths, reverse=True)
    assert min(strengths, default=1.0) >= EFFECT_MIN
    assert all(known.known()[factor.name] == factor.value for factor in factors)
    assert {factor.name for factor in factors} <= {*ENCODED, *FREE}
    for way in (1, -1):
        assert sum(factor.effect * way > 0 for factor in factors) <= LIMITS.explained_factors_each_way_max
    effects = {
        name: told.probabilities[0]
        - draw(
            asked.predict(encode_context(without_value(known, name)), told.offers), offers, 0.02, 0.0
        ).probabilities[0]
        for name in known.features
    }
    shown = {factor.name: factor.effect for factor in factors}
    for name, effect in effects.items():
        if name in shown:
            assert shown[name] == effect
        else:  # too weak, or five others that way are as strong
            rivals = [each for each in shown.values() if each * effect > 0]
            assert abs(effect) < EFFECT_MIN or (
                len(rivals) == LIMITS.explained_factors_each_way_max and min(map(abs, rivals)) >= abs(effect)
            )


@settings(deadline=None)
@given(
    known=contexts,
    seed=st.integers(),
    dropped=st.dictionaries(st.sampled_from([*ENCODED, *FREE]), st.just("no_consent"), max_size=3),
    phrased=st.sets(st.sampled_from([*ENCODED, *FREE])),
)
def test_the_customer_is_told_only_what_was_used_and_spoke_for_the_offer(known, seed, dropped, phrased):
    """What a sentence names was used, has a phrase, and raised the probability; nothing dropped is named."""
    words_for = {name: f"<{name}>" for name in phrased}
    asked = opinions(seed)
    told = decided(known, asked, drawn=0, dropped=InternedText.of(json.dumps(dropped)))
    english = {**ENGLISH, "factors": words_for}
    explained = story(told, asked, campaign({"en": english}), "en")
    named = [name for name in [*ENCODED, *FREE] if f"<{name}>" in explained.customer_explanation]
    effects = {factor.name: factor.effect for factor in explained.factors}
    for name in named:
        assert name in explained.used
        assert name not in dropped
        assert effects[name] > 0
        assert explained.used[name] is not False, "a flag that is not set is no reason"
    sayable = {name for name in phrased - dropped.keys() if explained.used.get(name) is not False}
    could = [name for name, effect in effects.items() if effect > 0 and name in sayable]
    assert sorted(named) == sorted(could[: LIMITS.explained_factors_named_max])
    if not named:
        assert explained.customer_explanation == OTHERWISE


def speaks_for(**weights: float) -> tuple[Model, Context]:
    """A model to which each of these features is worth so much, and a context that has them all."""
    known = replace(context(""), channel=UNKNOWN, features=dict.fromkeys(weights, "yes"))
    bare = replace(known, features={})
    tokens = {
        encode_context(replace(bare, features={name: "yes"})).rpartition(" ")[2]: weight
        for name, weight in weights.items()
    }

    def scores(features: str, count: int) -> list[float]:
        return [10.0 + sum(tokens.get(each, 0.0) for each in features.split()), *[10.0] * (count - 1)]

    return cast(Model, Opinions(scores)), known


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({}, OTHERWISE),
        ({"tier": -3.0}, OTHERWISE),  # it spoke against
        ({"spare": 3.0}, OTHERWISE),  # it has no phrase
        ({"tier": 3.0}, "Chosen for your tier."),
        ({"tier": 3.0, "basket": 5.0}, "Chosen for your basket and your tier."),
        ({"tier": 3.0, "basket": -5.0, "returning": 1.0}, "Chosen for your tier and your visits."),
        ({"tier": 3.0, "basket": 5.0, "returning": 1.0, "spare": 9.0},
         "Chosen for your basket, your tier and your visits."),
    ],
)  # fmt: skip
def test_a_sentence_names_the_strongest_phrases(weights, sentence):
    """Phrases stand strongest first, with commas and the language's own "and"."""
    asked, known = speaks_for(**weights)
    assert story(decided(known, asked, drawn=0), asked).customer_explanation == sentence


def test_the_last_phrase_is_joined_by_a_word_with_its_spaces_or_without():
    """Who writes `and: " and "` reads one space on each side, as who writes `and: and` does."""
    asked, known = speaks_for(tier=3.0, basket=5.0)
    told = campaign({"en": {**ENGLISH, "and": " and "}})
    sentence = story(decided(known, asked, drawn=0), asked, told).customer_explanation
    assert sentence == "Chosen for your basket and your tier."


def test_at_most_three_phrases_and_each_once():
    """Two values of one phrase are one phrase, and a fourth phrase is left out."""
    asked, known = speaks_for(a=5.0, b=4.0, c=3.0, d=2.0, e=1.0)
    phrases = {"a": "A", "b": "A", "c": "C", "d": "D", "e": "E"}
    told = campaign(
        {"en": {**ENGLISH, "factors": phrases}},
        context={"features": dict.fromkeys(phrases, "category")},
    )
    assert story(decided(known, asked, drawn=0), asked, told).customer_explanation == "Chosen for A, C and D."


def test_a_phrase_is_told_as_it_is_written():
    """A phrase that looks like a place for factors is not filled once more."""
    asked, known = speaks_for(tier=3.0)
    told = campaign({"en": {**ENGLISH, "factors": {"tier": "{factors}, \\1"}}})
    assert story(decided(known, asked, drawn=0), asked, told).customer_explanation == (
        "Chosen for {factors}, \\1."
    )


DANISH = {
    "sentence": "Valgt på grund af {factors}.",
    "otherwise": "Valgt tilfældigt.",
    "and": "og",
    "factors": {"tier": "dit niveau", "basket": "din kurv"},
}


@pytest.mark.parametrize(
    ("asked_for", "decided_in", "sentence"),
    [
        ("", "", "Chosen for your basket and your tier."),
        ("da", "", "Valgt på grund af din kurv og dit niveau."),
        ("da-DK", "", "Valgt på grund af din kurv og dit niveau."),
        ("DA", "", "Valgt på grund af din kurv og dit niveau."),
        ("", "da", "Valgt på grund af din kurv og dit niveau."),
        ("", "da-dk", "Valgt på grund af din kurv og dit niveau."),
        ("en", "da", "Chosen for your basket and your tier."),
        ("fi", "da", "Chosen for your basket and your tier."),
        ("", "fi", "Chosen for your basket and your tier."),
    ],
)
def test_the_language_is_the_callers_then_the_decisions_then_the_campaigns(asked_for, decided_in, sentence):
    """A language the campaign does not have is answered in its fallback language."""
    asked, known = speaks_for(tier=3.0, basket=5.0)
    told = decided(replace(known, language=decided_in), asked, drawn=0)
    both = campaign({"en": ENGLISH, "da": DANISH})
    assert story(told, asked, both, asked_for).customer_explanation == sentence


def test_a_campaign_without_explanations_tells_its_customers_nothing():
    """Without templates there is no sentence, while factors are told all the same."""
    asked, known = speaks_for(tier=3.0)
    silent = campaign().model_copy(update={"explanations": {}, "fallback_language": ""})
    explained = story(decided(known, asked, drawn=0), asked, silent)
    assert explained.customer_explanation == ""
    assert [factor.name for factor in explained.factors] == ["tier"]


@pytest.mark.parametrize(
    "said",
    [
        {"reason": Reason.CONTROL, "variant": "control"},
        {"lineage": "another"},
        {"offers": offer_set(1), "probabilities": (1.0,), "drawn": 0},
    ],
)
def test_where_no_model_chose_nothing_spoke(said):
    """Control, another lineage and a single offer have no factors, and no model is asked."""
    asked, known = speaks_for(tier=3.0)
    told = decided(known, asked, drawn=0)._replace(**said)
    before = cast(Opinions, asked).asked
    explained = story(told, asked)
    assert (explained.factors, explained.factors_model_version) == ((), "")
    assert explained.customer_explanation == OTHERWISE
    assert cast(Opinions, asked).asked == before


def test_a_model_that_cannot_answer_leaves_the_rest_of_the_story():
    """Where the model fails, also half-way, everything but the factors is told."""
    asked, known = speaks_for(tier=3.0, basket=5.0)
    told = decided(known, asked, drawn=0)
    whole = story(told, asked)
    answers = iter([[2.0, 1.0, 1.0, 1.0, 1.0]] * 2)

    def fails(_features: str, _count: int) -> list[float]:
        for scores in answers:
            return scores
        raise ModelUnavailable("gone")

    explained = story(told, cast(Model, Opinions(fails)))
    assert (explained.factors, explained.factors_model_version) == ((), "")
    assert explained.customer_explanation == OTHERWISE
    assert (explained.fates, explained.used) == (whole.fates, whole.used)


def test_a_campaign_that_changed_since_can_still_explain():
    """Offers and features that are gone from the file are told from the record."""
    asked, known = speaks_for(tier=3.0)
    told = decided(known, asked, drawn=0)
    changed = campaign(
        {"en": {**ENGLISH, "factors": {"device": "your device"}}},
        context={"features": {}},
        offers=[{"id": "new"}],
    )
    explained = story(told, asked, changed)
    assert [fate.offer_id for fate in explained.fates] == list(told.offers.ids)
    assert [factor.name for factor in explained.factors] == ["tier"]
    assert explained.customer_explanation == OTHERWISE


def test_so_many_values_are_asked_about_and_others_run_between():
    """Of more values the built-in ones and the first by name are asked about; others may run before each."""
    names = [f"f{number:03}" for number in range(LIMITS.features_max)]
    known = replace(context("mobile"), features=dict.fromkeys(names, "yes"))
    asked: list[str] = []
    steps: list[int] = []

    def scores(features: str, count: int) -> list[float]:
        asked.append(features)
        return [1.0] * count

    opinion = cast(Model, Opinions(scores))
    told = decided(replace(known, features=dict.fromkeys(reversed(names), "yes")), opinion)
    asked.clear()

    async def give_way() -> None:
        steps.append(len(asked))

    asyncio.run(explain(told, campaign(), opinion, "", give_way))
    assert steps == list(range(1, LIMITS.explained_values_max + 1))
    expected = ["device", "channel", "part_of_day", "weekend", *names][: LIMITS.explained_values_max]
    assert asked[1:] == [without(told.features, name, known.known()[name]) for name in expected]


def test_an_effect_too_small_to_tell_is_not_told():
    """What float32 could make up by itself is no factor."""
    asked, known = speaks_for(tier=1e-4, basket=EFFECT_MIN)
    factors = story(decided(known, asked, drawn=0), asked).factors
    assert [factor.name for factor in factors] == ["tier"]


@pytest.mark.parametrize("name", [*ENCODED, *EVENT_FEATURES])
def test_built_in_values_are_asked_about_first(name):
    """However many features there are, built-in values are among those asked about."""
    many = {f"a{number:03}": "yes" for number in range(LIMITS.features_max)}
    said: dict[str, Any] = dict.fromkeys(("journey_stage", "place", "language", "country"), "x")
    known = replace(context("mobile"), **said, features=many | dict.fromkeys(EVENT_FEATURES, "x"))
    lacking = without(encode_context(known), name, known.known()[name])

    def scores(features: str, count: int) -> list[float]:
        return [1.0 if features == lacking else 50.0, *[1.0] * (count - 1)]

    asked = cast(Model, Opinions(scores))
    assert [factor.name for factor in story(decided(known, asked, drawn=0), asked).factors] == [name]


def test_a_model_that_learns_meanwhile_is_compared_with_itself():
    """Every effect compares predictions of one model, also where it learned between two of them."""
    _, known = speaks_for(tier=1.0, basket=1.0)
    asked = Opinions(lambda _features, count: [float(asked.sequence), *[1.0] * (count - 1)])
    told = decided(known, cast(Model, asked), drawn=0)

    async def learn() -> None:
        asked.sequence += 1

    explained = asyncio.run(explain(told, campaign(), cast(Model, asked), "", learn))
    assert asked.sequence > 7
    assert explained.factors == ()  # no value matters to this one, however its mind changes
    assert explained.factors_model_version == f"{asked.lineage}.{asked.sequence}"


def test_values_are_told_with_their_kind():
    """A flag stays a flag and a number a number on the way through the record."""
    values: dict[str, Any] = {"returning": True, "basket": 1.0, "tier": "1"}
    asked = opinions(3)
    explained = story(decided(context(**values), asked), asked)
    for told in (explained.used, {factor.name: factor.value for factor in explained.factors}):
        for name in values.keys() & told.keys():
            assert (type(told[name]), told[name]) == (type(values[name]), values[name])
    assert values.keys() <= explained.used.keys()
    assert isinstance(explained.factors[0], Factor)

"""One campaign's model: it predicts, learns in sequence, and cannot be hurt."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.bandit.samples import (
    LIMITS,
    NOW_US,
    campaign,
    context,
    encoded,
    erased,
    model,
    offer_set,
    settlement,
    teach,
)

from tilbud.bandit import presets
from tilbud.bandit.features import ENCODER, encode_context
from tilbud.bandit.model import Model, lineage_of
from tilbud.bandit.vw import VW_VERSION, Workspace
from tilbud.domain.context import TIME_FEATURES, moment_at, time_zone
from tilbud.domain.decision.records import NO_OFFERS, OfferSet
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.versions import Version, version_of

BAD_SETTLEMENTS: dict[str, dict[str, Any]] = {
    "nothing drawn": {"drawn": -1},
    "drawn beyond the set": {"drawn": 5},
    "propensity 0": {"probability": 0.0},
    "propensity negative": {"probability": -0.5},
    "propensity NaN": {"probability": math.nan},
    "propensity infinite": {"probability": math.inf},
    "propensity below float32": {"probability": 1e-39},
    "propensity above 1": {"probability": 1.5},
    "reward NaN": {"reward": math.nan},
    "reward infinite": {"reward": math.inf},
    "context not ours": {"features": "|d 1\n|o 2"},
    "a label in the context": {"features": "|d 1\n0:nan:1 |o 2"},
    "offer not ours": {"offers": OfferSet.of(("a", "b"), ("|o x:inf", "|o 2"))},
    "no offers": {"offers": NO_OFFERS},
}

FEATURES = {"tier": "category", "basket": "number", "returning": "flag"}
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
WHOLE = offer_set()
SUBSETS = (WHOLE, WHOLE.only((0, 1)), WHOLE.only((1, 2)))


def probability_of_best(taught: Model, best: int = 2) -> float:
    """The share that the offer `teach` rewards gets."""
    scores = taught.predict(encoded(), offer_set())
    return scores[best] / math.fsum(scores)


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_prediction_has_one_score_for_each_offer(count):
    """A prediction is as long as the set of offers, from one offer to a thousand."""
    scores = model().predict(encoded(), offer_set(count))
    assert len(scores) == count
    assert math.fsum(scores) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("preset", ["balanced", "cautious", "fast_changing", "epsilon_greedy"])
def test_learns_a_simple_preference(preset):
    """After 500 settlements the one rewarded offer gets most of the probability."""
    taught = model(campaign(exploration={"preset": preset}))
    teach(taught, 500)
    assert probability_of_best(taught) > 0.6


@pytest.mark.parametrize(
    "own", ["", "--regcb", "--regcbopt", "--softmax --lambda 100", "--coin", "-l 0.5", "--regcb --coin"]
)
def test_every_algorithm_answers_from_the_first_question_on(own):
    """Knowing nothing or much, each allowed algorithm gives probabilities that can be drawn from."""
    taught = model(campaign(exploration={"arguments": own}))
    for _ in range(100):
        assert len(taught.predict(encoded(), offer_set())) == 5
        assert len(taught.predict(encoded("desktop"), offer_set(20))) == 20
        teach(taught, 3)


def test_learns_who_wants_what():
    """Two devices that want different offers get different offers."""
    taught = model()
    for sequence in range(1, 1001):
        device = "mobile" if sequence % 2 else "desktop"
        drawn = sequence // 2 % 5
        reward = float(drawn == (1 if device == "mobile" else 3))
        taught.learn(settlement(sequence, drawn, reward, features=encoded(device)))
    for device, wanted in (("mobile", 1), ("desktop", 3)):
        scores = taught.predict(encoded(device), offer_set())
        assert scores.index(max(scores)) == wanted


@pytest.mark.parametrize("bad", BAD_SETTLEMENTS.values(), ids=BAD_SETTLEMENTS.keys())
def test_unsound_settlement_takes_its_turn_and_teaches_nothing(bad):
    """What must not reach VW leaves predictions as they were, and learning goes on after it."""
    taught = model()
    teach(taught, 20)
    before = taught.predict(encoded(), offer_set())
    for _ in range(20):
        assert taught.learn(settlement(taught.sequence + 1, **bad)) is False
    assert taught.sequence == 40
    assert taught.predict(encoded(), offer_set()) == before
    teach(taught, 300)
    assert probability_of_best(taught) > 0.5


def test_erased_settlement_takes_its_turn_and_teaches_nothing():
    """A model that meets places of erased settlements equals, bit for bit, one that met only the others."""
    taught, others = model(), model()
    for sequence in range(1, 301):
        if sequence % 3 == 0:
            assert taught.learn(erased(sequence)) is False
            continue
        drawn, reward = sequence % 5, float(sequence % 5 == 2)
        assert taught.learn(settlement(sequence, drawn, reward)) is True
        others.learn(settlement(others.sequence + 1, drawn, reward))
    assert (taught.sequence, others.sequence) == (300, 200)
    assert taught.predict(encoded(), offer_set()) == others.predict(encoded(), offer_set())


@pytest.mark.parametrize("probability", [1e-30, 1e-9, 1.0, 1.0 + 2**-52])
def test_sound_propensities_are_learned(probability):
    """The smallest probability that can be drawn and a hair above 1, as sums give it, are learned."""
    assert model().learn(settlement(1, probability=probability)) is True


@pytest.mark.parametrize("number", [3.4028234e38, -3.4028234e38, 5e-324, -0.0])
def test_extreme_numbers_do_not_stop_learning(number):
    """After a hundred extreme numbers with extreme rewards, 300 good examples move the prediction."""
    taught = model()
    for sequence in range(1, 101):
        reward = 1e300 if sequence % 2 else -1e300
        taught.learn(settlement(sequence, sequence % 5, reward, features=encoded(basket=number)))
    taught.predict(encoded(basket=number), offer_set())
    before = probability_of_best(taught)
    teach(taught, 300)
    assert probability_of_best(taught) > max(0.5, before)


@settings(max_examples=30, deadline=None)
@given(
    rewards=st.lists(st.floats(width=32), min_size=1, max_size=30),
    number=st.floats(-LIMITS.number_abs_max, LIMITS.number_abs_max),
)
def test_any_rewards_and_numbers_leave_a_usable_model(rewards, number):
    """Whatever is learned, the next prediction is sound: predict itself checks it."""
    taught = model()
    for reward in rewards:
        sequence = taught.sequence + 1
        taught.learn(settlement(sequence, sequence % 5, reward, features=encoded(basket=number)))
    assert len(taught.predict(encoded(basket=number), offer_set())) == 5
    taught.close()


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 100), (0, 10_000)])
def test_the_range_does_not_matter(bounds):
    """The same rewards in a range that is far too wide teach the same, to a thousandth of probability."""
    tight, wide = model(), model(campaign(reward={"outcomes": {"purchase": 1.0}, "range": list(bounds)}))
    for each in (tight, wide):
        teach(each, 300)
    for device in ("mobile", "desktop"):
        expected = tight.predict(encoded(device), offer_set())
        assert wide.predict(encoded(device), offer_set()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.5, 1.0])
def test_an_unseen_offer_has_about_an_even_share(rate):
    """Whatever the campaign's rate, an offer that nobody has seen is neither flooded nor starved."""
    taught = model()
    for number in range(2_000):
        reward = float(number % 100 < 100 * rate)
        taught.learn(settlement(taught.sequence + 1, number // 100 % 5, reward))
    scores = taught.predict(encoded(), offer_set(6))
    assert 0.5 / 6 <= scores[5] / math.fsum(scores) <= 2 / 6
    assert taught.new(offer_set(6)) == {"offer-5": 0}


def test_a_worthless_new_offer_is_dropped_and_a_better_one_found():
    """By its own settlements: 200 without a reward, or 200 with more than the others have."""
    for reward, least, most in ((0.0, 0.0, 0.02), (1.0, 0.5, 1.0)):
        taught = model()
        for number in range(2_000):
            taught.learn(settlement(taught.sequence + 1, number % 5, float(number % 7 < 2)))
        for _ in range(200):
            taught.learn(settlement(taught.sequence + 1, 5, reward, offers=offer_set(6)))
        scores = taught.predict(encoded(), offer_set(6))
        assert least <= scores[5] / math.fsum(scores) <= most


@pytest.mark.parametrize(
    "two", [(0.0, None), (1985.0, 2005.0), (55.6, 57.0), (1_790_000_000.0, 1_792_592_000.0), (-3.0, 3.0)]
)
def test_learns_who_wants_what_by_a_number(two):
    """Two groups told by a number, however little it differs, get different offers."""
    taught = model()
    situations = [encoded() if number is None else encoded(basket=number) for number in two]
    for number in range(2_000):
        drawn = number // 2 % 5
        reward = float(drawn == (1 if number % 2 else 3))
        taught.learn(settlement(taught.sequence + 1, drawn, reward, features=situations[number % 2]))
    for situation, wanted in zip(situations, (3, 1), strict=True):
        scores = taught.predict(situation, offer_set())
        assert scores.index(max(scores)) == wanted


def test_settlement_out_of_turn_is_our_own_mistake():
    """A gap or a repeat stops at once: it would make replicas differ."""
    taught = model()
    taught.learn(settlement(1))
    for sequence in (1, 3):
        with pytest.raises(AssertionError):
            taught.learn(settlement(sequence))
    assert taught.learn(settlement(2)) is True


@pytest.mark.parametrize(
    "exploration",
    [{"preset": "balanced"}, {"preset": "epsilon_greedy"}, {"arguments": "--regcbopt"},
     {"arguments": "--softmax --lambda 10"}, {"arguments": "--coin"}, {"arguments": "-l 0.1"}],
    ids=str,
)  # fmt: skip
def test_saving_loading_and_going_on_changes_no_prediction(exploration, tmp_path):
    """A model that was saved and loaded half-way predicts like one that was not, and like a replay."""
    sample = campaign(exploration=exploration)
    straight, replayed, first = model(sample), model(sample), model(sample)
    for each, count in ((straight, 400), (replayed, 400), (first, 200)):
        teach(each, count)
    first.save(tmp_path / "model")
    second = Model(sample, limits=LIMITS, sequence=200, saved=tmp_path / "model")
    teach(second, 200)
    expected = straight.predict(encoded(), offer_set())
    assert second.predict(encoded(), offer_set()) == expected
    assert replayed.predict(encoded(), offer_set()) == expected


def test_predicting_does_not_change_what_is_learned():
    """A replica that answers and one that does not end in the same model."""
    busy, idle = model(), model()
    for _ in range(100):
        teach(busy, 1)
        teach(idle, 1)
        busy.predict(encoded("desktop", basket=3.0), offer_set(3))
    assert busy.predict(encoded(), offer_set()) == idle.predict(encoded(), offer_set())


@pytest.fixture(name="asked")
def count_predictions(monkeypatch):
    """How often VW was asked."""
    asked, predict = [], Workspace.predict

    def counted(workspace, examples):
        asked.append(examples)
        return predict(workspace, examples)

    monkeypatch.setattr(Workspace, "predict", counted)
    return asked


def test_between_two_lessons_a_question_is_worked_out_once(asked):
    """Every other context, and every other set of offers, is; after a lesson the answer is a new one."""
    taught = model()
    teach(taught, 20)
    questions = [(encoded(device), offers) for device in ("mobile", "tablet") for offers in SUBSETS]
    answers = [taught.predict(*question) for question in questions]
    assert len(asked) == len(questions)
    assert [taught.predict(*question) for question in questions] == answers
    assert len(asked) == len(questions)
    teach(taught, 1)
    assert [taught.predict(*question) for question in questions] != answers
    assert len(asked) == 2 * len(questions)


def test_what_was_worked_out_is_kept_within_a_bound(asked):
    """Whoever asks ever other questions makes the oldest answers go."""
    predicting = model()
    questions = [encoded(basket=float(number)) for number in range(Limits.scores_cached_max // 5 + 1)]
    for _ in range(2):
        for question in questions:
            predicting.predict(question, offer_set())
    assert len(asked) > len(questions)


def test_kept_offers_predict_like_fresh_ones():
    """Offers parsed once give the prediction that newly parsed ones give, whatever sets they were in."""
    kept = model(limits=Limits(offer_set_cache_entries_max=3))
    teach(kept, 50)
    for round_number in range(40):
        count = 1 + round_number % 5
        fresh = model()
        teach(fresh, kept.sequence)
        assert kept.predict(encoded(), offer_set(count)) == fresh.predict(encoded(), offer_set(count))
        fresh.close()
        teach(kept, 1)


def test_equal_offers_in_one_set_are_scored_one_by_one():
    """Two offers that look the same to the model still get a score each."""
    twins = OfferSet.of(("a", "b", "c"), ("|o 1", "|o 1", "|o 2"))
    scores = model().predict(encoded(), twins)
    assert len(scores) == 3
    assert min(scores) > 0


@pytest.mark.parametrize(
    "offers", [NO_OFFERS, OfferSet.of(("a",), ("",)), OfferSet.of(("a",), ("|o 1\n|o 2",))]
)
def test_a_set_that_cannot_be_scored_is_model_unavailable(offers):
    """No offers, or one that was not encoded here: no prediction instead of a wrong one."""
    with pytest.raises(ModelUnavailable):
        model().predict(encoded(), offers)


@pytest.mark.parametrize("features", ["|d 1\n|o 2", "|d 1\n", "\n\n|o 1", "|d x", "|d 1 |x 2"])
def test_a_context_that_was_not_encoded_here_is_model_unavailable(features):
    """Should text ever get into a context, there is no prediction instead of a wrong one."""
    predicting = model()
    with pytest.raises(ModelUnavailable):
        predicting.predict(features, offer_set())
    assert len(predicting.predict(encoded(), offer_set())) == 5


def test_failures_inside_vw_leave_a_working_model(monkeypatch):
    """VW failing at any step costs that call alone: no crash, and the next calls work."""
    taught, untroubled = model(), model()
    teach(taught, 50)
    teach(untroubled, 50)

    def fail(_workspace, _given):
        raise RuntimeError("VW failed")

    for number in range(200):
        for name in ("parse", "predict"):
            with monkeypatch.context() as fault:
                fault.setattr(Workspace, name, fail)
                with pytest.raises(ModelUnavailable):
                    taught.predict(encoded("desktop"), offer_set(3))
        situation = encoded(basket=float(number))
        assert taught.predict(situation, offer_set()) == untroubled.predict(situation, offer_set())
    for name in ("parse", "learn"):
        with monkeypatch.context() as fault:
            fault.setattr(Workspace, name, fail)
            assert taught.learn(settlement(taught.sequence + 1)) is False
    teach(taught, 50)
    assert probability_of_best(taught) > 0.2


@pytest.mark.parametrize(
    ("preset", "predicted"),
    [
        *[
            (preset, predicted)
            for preset in ("balanced", "epsilon_greedy")
            for predicted in (
                [0.2] * 4,
                [0.2] * 6,
                [math.nan] * 5,
                [math.inf] * 5,
                [math.inf, -math.inf, 0.5, 0.2, 0.3],
            )
        ],
        ("epsilon_greedy", [0.0] * 5),  # which as costs would be sound
        ("epsilon_greedy", [-0.1, *[0.3] * 4]),
    ],
)
def test_unsound_predictions_are_not_handed_out(preset, predicted, monkeypatch):
    """What is not one finite cost, or one finite probability, for each offer is ModelUnavailable."""
    predicting = model(campaign(exploration={"preset": preset}))
    monkeypatch.setattr(Workspace, "predict", lambda _workspace, _examples: predicted)
    with pytest.raises(ModelUnavailable):
        predicting.predict(encoded(), offer_set())


def test_closed_model_is_unavailable():
    """After close, also twice, a prediction is ModelUnavailable and not a crash."""
    closed = model()
    closed.warm(offer_set())
    closed.close()
    closed.close()
    with pytest.raises(ModelUnavailable):
        closed.predict(encoded(), offer_set())


def test_memory_stays_flat():
    """50,000 predictions and 10,000 lessons, failing ones among them, leave memory where it was."""
    taught = model(limits=Limits(offer_set_cache_entries_max=8))
    sets = [offer_set(count) for count in range(1, 11)]
    bad = list(BAD_SETTLEMENTS.values())
    refused = OfferSet.of(("a",), ("|x",))

    def work(rounds: int) -> None:
        for number in range(rounds):
            for basket in range(5):
                taught.predict(encoded(basket=float(basket)), sets[number % 10])
            sequence = taught.sequence + 1
            taught.learn(settlement(sequence, **(bad[number % len(bad)] if number % 3 == 0 else {})))
            if number % 10 == 0:
                with pytest.raises(ModelUnavailable):
                    taught.predict(encoded(), refused)
                with pytest.raises(ModelUnavailable):
                    taught.predict("|d 1\n|o 2", sets[5])

    work(1_000)
    gc.collect()
    before_kib = resident_kib()
    work(10_000)
    gc.collect()
    assert resident_kib() - before_kib < 8 * 1024


def test_a_model_that_nobody_uses_any_more_is_freed():
    """Models that are replaced, as every erasure does, do not pile up; nobody needs to close them."""

    def replace_models(count: int) -> None:
        for erasures in range(count):
            taught = model(erasures=erasures)
            teach(taught, 5)
            taught.predict(encoded(), offer_set(100))

    replace_models(20)
    gc.collect()
    before = resident_kib()
    replace_models(40)
    gc.collect()
    assert resident_kib() - before < 40 * 100


def test_a_small_campaigns_model_takes_little():
    """Ten offers and what is usual of a visitor: at most 4 MB a model, so a thousand campaigns fit."""

    def taught() -> Model:
        each = model()
        for number in range(200):
            situation = encoded(basket=float(number), tier=f"tier {number % 5}")
            each.learn(settlement(each.sequence + 1, number % 10, float(number % 3), features=situation,
                                  offers=offer_set(10, family="f")))  # fmt: skip
        each.predict(encoded(), offer_set(10, family="f"))
        return each

    taught()
    gc.collect()
    before = resident_kib()
    models = [taught() for _ in range(10)]
    assert (resident_kib() - before) / len(models) < 4 * 1024


def resident_kib() -> int:
    """The memory this process has, as Linux counts it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"exploration": {"preset": "cautious"}},
        {"exploration": {"arguments": "-l 0.1"}},
        {"context": {"features": {"tier": "category"}}},
        {"context": {"features": {"tier": "flag", "basket": "number", "returning": "flag"}}},
        {"context": {"features": {"tier": "version", "basket": "number", "returning": "flag"}}},
        {"context": {"features": FEATURES, "time": []}},
        {"context": {"features": FEATURES, "time": ["weekend"]}},
        {"context": {"features": FEATURES, "time": ["part_of_day", "weekend", "hour"]}},
        {"reward": {"outcomes": {"purchase": 1.0}, "range": [-1, 1]}},
    ],
    ids=str,
)
def test_lineage_changes_with_what_shapes_the_model(changes):
    """Arguments, declared features and time, and the range of rewards begin another lineage."""
    assert lineage_of(campaign(**changes)) != lineage_of(campaign())


def test_every_reading_of_the_time_has_a_lineage_of_its_own():
    """Two campaigns share a lineage only where their models read the same of the time, in whatever order."""
    readings = [names for size in range(5) for names in itertools.combinations(TIME_FEATURES, size)]
    lineages = {
        lineage_of(campaign(context={"features": FEATURES, "time": list(order)}))
        for names in readings
        for order in (names, names[::-1])
    }
    assert len(lineages) == len(readings)


def test_lineage_changes_with_every_erasure():
    """Each erasure begins a lineage of its own, which the model bears with its count."""
    assert len({lineage_of(campaign(), erasures) for erasures in range(5)}) == 5
    taught = model(erasures=2)
    assert (taught.erasures, taught.lineage) == (2, lineage_of(campaign(), 2))


def test_lineage_is_a_hash_of_what_shapes_the_model():
    """Nothing else is in it, so that checkpoints and decisions keep their lineage from version to version."""
    sample = campaign()
    shaping = [
        presets.arguments(sample.exploration, len(sample.offers)),
        VW_VERSION,
        ENCODER,
        sorted(sample.context.features.items()),
        sample.reward.range,
        [0.1, 0.15],
    ]
    text = json.dumps(shaping, separators=(",", ":")).encode()
    assert lineage_of(sample) == hashlib.blake2b(text, digest_size=6).hexdigest()


def test_lineage_changes_with_vw_and_the_encoder(monkeypatch):
    """Another VW, or another encoding, begins another lineage."""
    before = lineage_of(campaign())
    for name in ("VW_VERSION", "ENCODER"):
        monkeypatch.setattr(f"tilbud.bandit.model.{name}", "0")
        assert lineage_of(campaign()) != before
        monkeypatch.undo()


@pytest.mark.parametrize(
    "changes",
    [
        {"offers": [{"id": "another", "payload": {"title": "x"}, "features": {"margin": 1.5}}]},
        {"offers": [{"id": "offer-0", "channels": ["web"], "hours": "08:00-21:00"}]},
        {"reward": {"outcomes": {"purchase": 2.0, "click": 0.1}, "window": "2h", "default": 0.5}},
        {"exploration": {"discovery": 0.5}},
        {"variants": {"control": {"share": 0.5}}},
        {"context": {"features": {"returning": "flag", "basket": "number", "tier": "category"}}},
        {"context": {"features": FEATURES, "time": ["weekend", "part_of_day"]}},
        {"fallback": {"id": "welcome"}},
        {"consent": "required"},
    ],
    ids=str,
)
def test_lineage_stays_with_the_rest(changes):
    """Offers, payloads, rules, weights, discovery and variants keep the model and its lineage."""
    assert lineage_of(campaign(**changes)) == lineage_of(campaign())


def test_an_hour_is_learned_with_those_beside_it():
    """What sells at 23 is shown at 1 too, of which nothing was learned, and not at noon."""
    read = campaign(context={"features": FEATURES, "time": ["hour"]})
    taught = model(read)

    def at(hour: int) -> str:
        moment = moment_at(NOW_US // DAY_US * DAY_US + hour * HOUR_US, time_zone("UTC"))
        return encode_context(replace(context(), moment=moment), read.context.time)

    for sequence in range(1, 1_501):
        drawn, (hour, best) = sequence % 5, ((23, 2), (12, 0))[sequence // 5 % 2]
        taught.learn(settlement(sequence, drawn, reward=float(drawn == best), features=at(hour)))
    offers = offer_set()
    shown = {hour: taught.predict(at(hour), offers) for hour in (23, 1, 12)}
    assert [scores.index(max(scores)) for scores in map(list, shown.values())] == [2, 2, 0]


def test_versions_are_learned_in_their_order():
    """What sells from 10.2 on is shown to 10.15 and 12 too, of which nothing was learned, and not to 9.12."""
    taught = model(campaign(context={"features": {"app": "version"}}))
    versions = [version(f"{major}.{minor}.1") for major in (8, 9, 10, 11) for minor in range(12)]
    random.Random(5).shuffle(versions)

    def known(of: Version) -> str:
        return encode_context(replace(context(), features={"app": of}))

    for sequence in range(1, 4_001):
        of, drawn = versions[sequence // 5 % len(versions)], sequence % 5
        best = 2 if of >= version("10.2") else 0
        taught.learn(settlement(sequence, drawn, reward=float(drawn == best), features=known(of)))
    shown = [taught.predict(known(version(text)), offer_set()) for text in ("8.20", "9.12", "10.15", "12")]
    assert [list(scores).index(max(scores)) for scores in shown] == [0, 0, 2, 2]


def version(text: str) -> Version:
    """The version that a text is."""
    read = version_of(text)
    assert read is not None
    return read


def test_learning_from_an_evolved_catalogue_works():
    """Settlements of offers that are gone are learned, and new offers are scored."""
    taught = model()
    gone = offer_set(3, colour="red")
    assert taught.learn(replace(settlement(1, offers=gone), offer_id="gone")) is True
    assert len(taught.predict(encoded(), offer_set(8))) == 8

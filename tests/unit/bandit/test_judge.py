"""Which of two regressions answers."""

from __future__ import annotations

import json
import random

import pytest
from tests.unit.bandit.samples import LIMITS, campaign, context, model, settlement

from tilbud.bandit.features import encode_context
from tilbud.bandit.judge import CHALLENGER, PLAIN, Judge
from tilbud.bandit.model import Model, Shape
from tilbud.bandit.presets import arguments, challenger
from tilbud.domain.campaign.campaign import Exploration
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits


def judged(plain: float, challenger: float, settlements: int, judge: Judge | None = None) -> Judge:
    """A judge that saw errors of these deviations."""
    judge, generator = judge or Judge(), random.Random(1)
    for _ in range(settlements):
        cost = generator.gauss(0, 1)
        judge.see([cost + generator.gauss(0, plain), cost + generator.gauss(0, challenger)], cost)
    return judge


def test_the_plain_one_answers_until_another_is_better():
    """Of two that predict as well as each other the plain one stays; a better one takes over, and back."""
    assert judged(0.0, 0.0, 1_000).answering == PLAIN
    assert judged(1.0, 1.2, 5_000).answering == PLAIN
    taken_over = judged(1.0, 0.9, 5_000)
    assert taken_over.answering == CHALLENGER
    assert judged(0.9, 1.0, 20_000, taken_over).answering == PLAIN


def test_state_is_all_there_is():
    """Taken down as JSON and taken up again, a judge goes on to the last bit."""
    straight = judged(1.0, 0.98, 500)
    again = Judge.of(json.loads(json.dumps(straight.state())))
    for each in (straight, again):
        judged(1.0, 0.95, 300, each)
    assert again.state() == straight.state()
    for bad in ([2, 0.0, 0.0], [0, 1.0], [0.5, 1.0, 1.0]):
        with pytest.raises(ValueError, match="damaged"):
            Judge.of(bad)


def learned(count: int, taught: Model) -> Model:
    """Taught that two words together, and neither alone, tell who wants which of two offers."""
    for _ in range(count):
        number = taught.sequence + 1
        one, other = number % 2, number // 2 % 2
        drawn = number // 4 % 2
        wanted = (one + other) % 2
        features = encode_context(context(("mobile", "desktop")[one], tier=("gold", "silver")[other]))
        taught.learn(settlement(number, drawn, float(drawn == wanted), features=features))
    return taught


def test_tastes_for_pairs_are_found_without_being_asked_for(tmp_path):
    """What turns on two things at once is learned, by whoever asks, and as well after a save and a load."""
    straight, first = learned(3_000, model()), learned(1_000, model())
    first.save(tmp_path / "model")
    second = Model(campaign(), limits=LIMITS, sequence=1_000, saved=tmp_path / "model")
    learned(2_000, second)
    for one, device in enumerate(("mobile", "desktop")):
        for other, tier in enumerate(("gold", "silver")):
            features = encode_context(context(device, tier=tier))
            scores = straight.predict(features, settlement(1).offers)
            assert scores.index(max(scores[:2])) == (one + other) % 2
            assert second.predict(features, settlement(1).offers) == scores


def test_who_crosses_by_itself_is_not_challenged():
    """Pairs are tried beside the service's own way of trying, where few features are declared."""
    plain, *others = (
        arguments(Exploration(arguments=text), 10)
        for text in ("", "--squarecb", "--epsilon 0.1", "--cubic dco", "--interactions dcjo")
    )
    assert challenger(plain, Limits.paired_features_max).startswith(f"{plain} --cubic ")
    assert challenger(plain, Limits.paired_features_max + 1) == ""
    assert [challenger(other, 0) for other in others] == [""] * 4


def test_a_file_of_other_regressions_is_refused(tmp_path):
    """What was saved without a challenger is not taken for a model with one, but it may stand in."""
    many = {"features": {f"flag_{number}": "flag" for number in range(Limits.paired_features_max + 1)}}
    taught = learned(10, Model(campaign(context=many), limits=LIMITS))
    taught.save(tmp_path / "model")
    with pytest.raises(ModelUnavailable, match="other regressions"):
        Model(campaign(), limits=LIMITS, sequence=10, saved=tmp_path / "model")
    shape = Shape(taught.lineage, taught.arguments)
    standing_in = Model(campaign(), limits=LIMITS, sequence=10, saved=tmp_path / "model", stand_in=shape)
    features = encode_context(context("mobile"))
    offers = settlement(1).offers
    assert standing_in.predict(features, offers) == taught.predict(features, offers)

"""The service's own learner: a campaign file, its encoder, model, reward rules and draw, as they are wired.

What is left out is what cannot change what is learned: the wire, the ledger, rules that are tested
elsewhere. What may be shown is the world's business, as it is the eligibility's in the service.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

import tilbud.bandit
import tilbud.domain.decision.draw
from learning_bench.worlds import DISCOVERY, SHOP_AXES, World
from tilbud.bandit.features import encode_context, encode_offer
from tilbud.bandit.model import Model
from tilbud.campaigns.source import parse_campaign
from tilbud.deciding.policies import Bandit
from tilbud.domain.context import ContextInput, FeatureValue, read_context
from tilbud.domain.decision.draw import Choice
from tilbud.domain.decision.records import OfferSet, Settlement
from tilbud.domain.decision.rewards import CountedOutcome
from tilbud.domain.limits import Limits

LIMITS = Limits()
MONDAY_US = 1_772_409_600_000_000  # 2 March 2026, 00:00 UTC
HOUR_US = 3_600_000_000
DAY_HOURS = 24
PURCHASE = "purchase"
BUILT_IN = ("device", "channel", "journey_stage")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return 8 hex digits for the code that decides what is learned: figures of other code are others.

    What is said about it, in comments and docstrings, is no part of it.
    """
    files = sorted(Path(str(tilbud.bandit.__file__)).parent.glob("*.py"))
    digest = hashlib.blake2b(digest_size=4)
    for file in (*files, Path(str(tilbud.domain.decision.draw.__file__))):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()


def campaign_file(world: World, preset: str, arguments: str = "") -> bytes:
    """Return the world's campaign as a shop would write it."""
    names = [axis for axis in world.words if axis not in SHOP_AXES]
    features = {
        **dict.fromkeys(names, "category"),
        **dict.fromkeys(world.numbers, "number"),
        **dict.fromkeys(world.flags, "flag"),
    }
    written = {
        "campaign": "bench",
        "time_zone": "UTC",
        "context": {
            "devices": _words(world, "device"),
            "channels": _words(world, "channel"),
            "journey_stages": _words(world, "journey_stage"),
            "features": features,
        },
        "offers": [
            {"id": f"offer-{index}", "features": dict(attributes)} if attributes else {"id": f"offer-{index}"}
            for index, attributes in enumerate(world.offers)
        ],
        "reward": {"outcomes": {PURCHASE: 1.0}, "range": list(world.reward_range)},
        "exploration": {"preset": preset, "arguments": arguments, "discovery": DISCOVERY},
        "consent": "not_required",
    }
    return yaml.safe_dump(written, sort_keys=False).encode()


class ServiceLearner:
    """One campaign's model in a world."""

    def __init__(self, world: World, preset: str, arguments: str = "") -> None:
        self._visitors = _Visitors(world)
        self.campaign = CampaignLearner(campaign_file(world, preset, arguments))
        self._open: dict[int, str] = {}

    def encode(self, decision: int) -> str:
        """Return a decision's context as the model reads it."""
        return self.campaign.encode(self._visitors.context(decision))

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        """Return a score for each of these offers."""
        features = self._open[decision] = self.encode(decision)
        return self.campaign.scores(features, offers)

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        """Settle a decision that was scored, and learn of it."""
        self.campaign.learn(self._open.pop(decision), offers, choice, reward)

    def close(self) -> None:
        """Free the model."""
        self.campaign.close()


class CampaignLearner:
    """A campaign's model, for contexts from wherever."""

    def __init__(self, content: bytes) -> None:
        campaign = parse_campaign(content, "bench.yaml")
        self._vocabulary = campaign.vocabulary()
        ids = tuple(offer.id for offer in campaign.offers)
        self._offers = OfferSet.of(ids, tuple(map(encode_offer, campaign.offers)))
        self._sets: dict[tuple[int, ...], OfferSet] = {}
        self._model = Model(campaign, limits=LIMITS)
        self._policy = Bandit(self._model, campaign.exploration.discovery)

    def encode(self, said: ContextInput) -> str:
        """Return a context as the model reads it."""
        return encode_context(read_context(said, self._vocabulary, MONDAY_US, LIMITS))

    def scores(self, features: str, offers: tuple[int, ...]) -> Sequence[float]:
        """Return the policy's scores for the offers at these indexes."""
        return self._policy.scores(features, self.offer_set(offers))

    def offer_set(self, offers: tuple[int, ...]) -> OfferSet:
        """Return the offers at these indexes, the same object for the same ones while there are few."""
        if len(offers) == len(self._offers.ids):
            return self._offers
        if len(self._sets) >= LIMITS.offer_set_cache_entries_max:
            self._sets.clear()
        return self._sets.setdefault(offers, self._offers.only(offers))

    def learn(self, features: str, offers: tuple[int, ...], choice: Choice, value: float) -> None:
        """Learn what came of a decision: nothing (0), or a purchase of this value."""
        outcomes = [CountedOutcome(PURCHASE, value, 0, f"o:{PURCHASE}")] if value else []
        reward = self._model.rules.reward(outcomes)
        self._model.learn(
            Settlement(
                campaign="bench", sequence=self._model.sequence + 1, decision_id="", variant="", offer_id="",
                device="", channel="", journey_stage="", offers=self.offer_set(offers), drawn=choice.drawn,
                probability=choice.probability, features=features, reward=reward.value,
                clipped=reward.clipped, due_service_us=0, settled_us=0,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class _Visitors:
    """What a shop says of its visitors."""

    def __init__(self, world: World) -> None:
        self._words = {
            axis: [f"{axis}-{word}" if word >= 0 else "" for word in which.tolist()]
            for axis, which in world.words.items()
            if axis != "part_of_day"
        }
        hours = world.hours
        if hours is None:  # Wednesday, at any minute of the part of the day
            hours = 2 * DAY_HOURS + 6 * world.words["part_of_day"] + np.arange(world.decisions) % 6
        self._times_us = (MONDAY_US + HOUR_US * hours).tolist()
        self._numbers = {name: numbers.tolist() for name, numbers in world.numbers.items()}
        self._flags = {name: flags.tolist() for name, flags in world.flags.items()}
        self._categories = [axis for axis in self._words if axis not in BUILT_IN]

    def context(self, decision: int) -> ContextInput:
        features: dict[str, FeatureValue] = {
            name: word for name in self._categories if (word := self._words[name][decision])
        }
        features |= {
            name: number for name, numbers in self._numbers.items() if (number := numbers[decision]) == number
        }
        features |= {name: flags[decision] for name, flags in self._flags.items()}
        device, channel, journey_stage = (self._words[axis][decision] for axis in BUILT_IN)
        return ContextInput(device, channel, journey_stage, self._times_us[decision], features=features)


def _words(world: World, axis: str) -> list[str]:
    return [f"{axis}-{word}" for word in range(int(world.words[axis].max()) + 1)]

"""The model of one policy of a campaign: predicts scores for offers, learns settlements in sequence.

What always holds:
 * One thread owns a model. VW is neither thread-safe nor does it release the GIL.
 * A prediction is one finite score ≥ 0 for each offer, in the set's order, not all 0; else ModelUnavailable.
 * A settlement is applied once, in its turn. What is not sound — its propensity, reward, index or
   encoding — or was erased takes its turn and teaches nothing. No label but a cost in [0, 1] with weight 1
   reaches VW.
 * A stand-in answers as it is, until the policy's own model is there, and learns nothing.
 * The same settlements in the same order give the same predictions, also through save and load.
 * Parsed offers are kept for predictions only. Learning parses what it learns from, each time.

Learned is a plain regression of the cost on (context, drawn offer): SquareCB's theory wants one without
importance weights (Foster and Rakhlin, 2020, "Beyond UCB", ICML, algorithm 1), and weights cost quality
in every measurement. So VW sees the drawn offer alone, with label probability 1, and learning costs the
same with 10 offers and 1,000. The true propensity stays in the ledger.

What it does not do: draw, mix in discovery, read a clock or store itself (see `checkpoints/`).
"""

from __future__ import annotations

import hashlib
import json
import math
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from tilbud.bandit import presets
from tilbud.bandit.features import ENCODER, is_encoding
from tilbud.bandit.vw import VW_VERSION, Example, Workspace
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.decision.records import OfferSet, Settlement
from tilbud.domain.decision.rewards import RewardRules
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits

_PROPENSITY_MIN = 2.0**-126  # below it a float32 loses digits, then becomes 0
_PROPENSITY_MAX = 1.0 + 1e-9  # float64 sums of probabilities end a few units in the last place off 1
_LINEAGE_BYTES = 6
_NOWHERE = "|t 0"  # a context to warm up with


def lineage_of(campaign: Campaign, erasures: int = 0, policy: str = PERSONALIZED) -> str:
    """Return 12 hex digits for all that shapes the model of a policy: another lineage, another model.

    Those are the VW arguments and version, the encoder, the declared features, the range of rewards,
    how many `erasures` took settlements out of what is learned, and the policy's name, so that no two of a
    campaign share one; not offers, rules, payloads or outcomes' weights. ValueError where the arguments are
    not allowed.
    """
    shaping: list[object] = [
        presets.arguments(campaign.policies[policy]),
        VW_VERSION,
        ENCODER,
        campaign.feature_schema(),
        campaign.reward.range,
    ]
    if erasures:
        shaping.append(erasures)
    if policy != PERSONALIZED:  # whose lineages are those from before a campaign could have others
        shaping.append(policy)
    text = json.dumps(shaping, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=_LINEAGE_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model is made as; of a saved one, by its manifest."""

    lineage: str
    arguments: str


def shape_of(campaign: Campaign, erasures: int, policy: str) -> Shape:
    """Return what the model of a policy is made as."""
    return Shape(lineage_of(campaign, erasures, policy), presets.arguments(campaign.policies[policy]))


class Model:
    """One VW workspace, the last settlement it has learned, and how many erasures it knows of."""

    def __init__(
        self,
        campaign: Campaign,
        *,
        limits: Limits,
        policy: str = PERSONALIZED,
        sequence: int = 0,
        saved: Path | None = None,
        erasures: int = 0,
        stand_in: Shape | None = None,
    ) -> None:
        """Start empty, or from a `saved` model, as of `sequence`; ModelUnavailable where VW refuses.

        `erasures` is the ledger's count when learning began: what was erased until then is not learned. A
        `stand_in` answers for the policy's own model, and may be of another lineage.
        """
        self.campaign = campaign.campaign
        self.policy = policy
        self.stand_in = stand_in is not None
        shape = stand_in or shape_of(campaign, erasures, policy)
        self.arguments = shape.arguments
        self.lineage = shape.lineage
        self.erasures = erasures
        self.rules = RewardRules.of(campaign.reward)
        self.sequence = sequence
        try:
            self._workspace = Workspace(self.arguments, saved)
        except RuntimeError as error:
            raise ModelUnavailable(f"VW refused: {error}") from error
        self._offers = _ParsedOffers(self._workspace, limits.offer_set_cache_entries_max)
        # A replaced model is closed by nobody: a decision in flight may still ask it.
        self._free = weakref.finalize(self, _free, self._workspace, self._offers)
        self._free.atexit = False
        self._closed = False

    def predict(self, features: str, offers: OfferSet) -> list[float]:
        """Return a score for each offer of the set; `features` is an encoded context."""
        if self._closed:
            raise ModelUnavailable("the model is closed")
        if not is_encoding(features):
            raise ModelUnavailable("the context was not encoded here")
        try:
            parsed = self._offers.of(offers)
            shared = self._workspace.parse(f"shared {features}")
            try:
                scores = self._workspace.predict([*shared, *parsed])
            except BaseException:
                self._workspace.discard(shared)
                raise
            self._workspace.finish(shared)
        except RuntimeError as error:
            self._offers.clear()  # VW may have stopped half-way through one of them
            raise ModelUnavailable(f"VW failed to predict: {error}") from error
        if len(scores) != len(offers.ids):
            raise ModelUnavailable(f"{len(scores)} scores for {len(offers.ids)} offers")
        total = sum(scores)  # finite only if all are: NaN and infinities survive it
        if not math.isfinite(total) or total <= 0.0 or min(scores) < 0.0:
            raise ModelUnavailable("scores are not finite, not negative and not all zero")
        return scores

    def learn(self, settlement: Settlement) -> bool:
        """Learn the next settlement; False where there was nothing sound to learn.

        It is our mistake to hand over any but the one after `sequence`, or to teach a stand-in.
        """
        assert not self.stand_in, self.lineage
        assert settlement.sequence == self.sequence + 1, (settlement.sequence, self.sequence)
        lesson = self._lesson(settlement)
        learned = lesson is not None and self._learn(lesson)
        self.sequence = settlement.sequence
        return learned

    def teaches(self, settlement: Settlement) -> bool:
        """Say whether there is something sound to learn from a settlement."""
        return self._lesson(settlement) is not None

    def warm(self, offers: OfferSet) -> None:
        """Parse a set's offers and predict once, so that the first caller does not pay for it."""
        if offers.ids:
            self.predict(_NOWHERE, offers)

    def save(self, path: Path) -> None:
        """Write VW's part of the model; OSError where that fails."""
        try:
            self._workspace.save(path)
        except RuntimeError as error:
            raise OSError(f"VW failed to save: {error}") from error

    def close(self) -> None:
        """Free the memory, as also happens when nobody uses the model any more. Safe to call twice."""
        self._closed = True
        self._free()

    def _lesson(self, settlement: Settlement) -> str | None:
        """Return the two lines VW learns from, or None where a settlement is not sound."""
        offers, drawn = settlement.offers.features, settlement.drawn
        if not 0 <= drawn < len(offers) or not math.isfinite(settlement.reward):
            return None
        if not _PROPENSITY_MIN <= settlement.probability <= _PROPENSITY_MAX:
            return None
        cost = self.rules.cost(settlement.reward)
        if not 0.0 <= cost <= 1.0 or not is_encoding(settlement.features) or not is_encoding(offers[drawn]):
            return None
        return f"shared {settlement.features}\n0:{cost:.9f}:1 {offers[drawn]}"

    def _learn(self, lesson: str) -> bool:
        try:
            examples = self._workspace.parse(lesson)
            try:
                self._workspace.learn(examples)
            except BaseException:
                self._workspace.discard(examples)
                raise
            self._workspace.finish(examples)
        except RuntimeError:
            return False
        return True


class _ParsedOffers:
    """Offers as VW examples: parsed once per text, shared by the sets they are in; a bounded LRU of sets."""

    def __init__(self, workspace: Workspace, sets_max: int) -> None:
        self._workspace = workspace
        self._sets_max = sets_max
        self._sets: OrderedDict[int, tuple[list[Example], list[tuple[str, int]]]] = OrderedDict()
        self._examples: dict[tuple[str, int], list[Example]] = {}
        self._users: dict[tuple[str, int], int] = {}

    def of(self, offers: OfferSet) -> list[Example]:
        """Return an example for each offer; ModelUnavailable where one is not an encoding."""
        parsed = self._whole(offers.whole or offers)
        if offers.indexes is None:
            return parsed
        if not offers.indexes:
            raise ModelUnavailable("no offers")
        return [parsed[index] for index in offers.indexes]

    def _whole(self, offers: OfferSet) -> list[Example]:
        digest = offers.text.digest
        if (cached := self._sets.get(digest)) is not None:
            self._sets.move_to_end(digest)
            return cached[0]
        if not offers.features or not all(map(is_encoding, offers.features)):
            raise ModelUnavailable("no offers, or one that was not encoded here")
        while len(self._sets) >= self._sets_max:
            self._forget(next(iter(self._sets)))
        keys = _numbered(offers.features)
        parsed: list[Example] = []
        self._sets[digest] = (parsed, keys)
        for key in keys:
            self._users[key] = self._users.get(key, 0) + 1
        try:
            for key in keys:
                if key not in self._examples:
                    self._examples[key] = self._workspace.parse(key[0])
                parsed.append(self._examples[key][0])
        except BaseException:
            self._forget(digest)
            raise
        return parsed

    def clear(self) -> None:
        """Give every example back."""
        for digest in list(self._sets):
            self._forget(digest)

    def _forget(self, digest: int) -> None:
        for key in self._sets.pop(digest)[1]:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._workspace.discard(self._examples.pop(key, []))


def _free(workspace: Workspace, offers: _ParsedOffers) -> None:
    offers.clear()
    workspace.close()


def _numbered(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """Tell equal texts of one set apart: VW must not meet one example twice in a list."""
    seen: dict[str, int] = {}
    numbered = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        numbered.append((text, seen[text]))
    return numbered

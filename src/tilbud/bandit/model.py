"""The model of one policy of a campaign: predicts scores for offers, learns settlements in sequence.

What always holds:
 * One thread owns a model. VW is neither thread-safe nor does it release the GIL.
 * A prediction is one finite score ≥ 0 for each offer, in the set's order, not all 0; else ModelUnavailable.
 * A settlement is applied once, in its turn. What is not sound — its propensity, reward, index or
   encoding — or was erased takes its turn and teaches nothing. No label but a finite cost within ±10, with
   weight 1, reaches VW: in deviations below the mean reward (`scale.py`), or in [0, 1] where VW's own
   algorithm wants that.
 * A stand-in answers as it is, until the policy's own model is there, and learns nothing.
 * The same settlements in the same order give the same predictions, also through save and load.
 * All it has learned, in VW and beside it, is a function of the settlements in order, and one file.
 * Parsed offers are kept for predictions only. Learning parses what it learns from, each time.
 * What was predicted is kept until the next lesson, a bounded number of scores.

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
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from tilbud.bandit import presets
from tilbud.bandit.counts import Counts
from tilbud.bandit.features import ENCODER, NOTHING, Parts, is_encoding, parts_of
from tilbud.bandit.hats import Feature, Hats
from tilbud.bandit.judge import Judge
from tilbud.bandit.parsed import ParsedSet, group, offer_key, offer_line
from tilbud.bandit.regression import Regression
from tilbud.bandit.saved import pack, unpack
from tilbud.bandit.scale import Scale
from tilbud.bandit.scores import beliefs, is_new, with_new
from tilbud.bandit.vw import VW_VERSION
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.context import TIME_READ
from tilbud.domain.decision.records import OfferSet, Settlement
from tilbud.domain.decision.rewards import RewardRules
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits

_PROPENSITY_MIN = 2.0**-126  # below it a float32 loses digits, then becomes 0
_PROPENSITY_MAX = 1.0 + 1e-9  # float64 sums of probabilities end a few units in the last place off 1
_LINEAGE_BYTES = 6


def lineage_of(campaign: Campaign, erasures: int = 0, policy: str = PERSONALIZED) -> str:
    """Return 12 hex digits for all that shapes the model of a policy: another lineage, another model.

    Those are the VW arguments and version, the encoder, the declared features and time, the range of
    rewards, how predicted costs become scores, how many `erasures` took settlements out of what is learned,
    and the policy's name, so that no two of a campaign share one; not which offers there are, rules,
    payloads or outcomes' weights. ValueError where the arguments are not allowed.
    """
    exploration = campaign.policies[policy]
    given = presets.arguments(exploration, len(campaign.offers))
    shaping: list[object] = [
        given,
        VW_VERSION,
        ENCODER,
        campaign.feature_schema(),
        campaign.reward.range,
    ]
    if (trying := presets.trying(exploration, given)) is not None:
        shaping.append([trying.wide, trying.up])
    if campaign.context.time != TIME_READ:
        shaping.append({"time": campaign.context.time})
    if erasures:
        shaping.append(erasures)
    if policy != PERSONALIZED:  # whose lineages are those from before a campaign could have others
        shaping.append(policy)
    text = json.dumps(shaping, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=_LINEAGE_BYTES).hexdigest()


class _Read(NamedTuple):
    """An encoded context as it is read at a moment: with the hats that its numbers have by then."""

    line: str  # for VW
    words: tuple[int, ...]  # the indexes of what is no number
    numbers: list[Feature]  # the features of those


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model is made as; of a saved one, by its manifest."""

    lineage: str
    arguments: str


def shape_of(campaign: Campaign, erasures: int, policy: str) -> Shape:
    """Return what the model of a policy is made as."""
    arguments = presets.arguments(campaign.policies[policy], len(campaign.offers))
    return Shape(lineage_of(campaign, erasures, policy), arguments)


class Model:
    """VW's regressions and what is known beside them, up to the last settlement learned."""

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
        self._trying = presets.trying(campaign.policies[policy], self.arguments)
        self._in_deviations = presets.learns_deviations(self.arguments)
        self._scale, self._hats, self._counts, self._judge = Scale(), Hats(), Counts(), Judge()
        self._scored: dict[Hashable, list[float]] = {}  # since the last lesson, by context and offers
        self._scores_kept = 0
        every = [self.arguments]
        # Whether a stand-in has a challenger is its file's to say: it may have been of other features.
        features = 0 if stand_in else len(campaign.context.features)
        if challenger := presets.challenger(self.arguments, features):
            every.append(challenger)
        contents = self._restore(saved) if saved is not None else []
        if stand_in:
            del every[max(len(contents), 1) :]
        if contents and not self._judge.answering < len(contents) == len(every):
            raise ModelUnavailable("the model's file is damaged: it has other regressions")
        sets_max = limits.offer_set_cache_entries_max
        self._regressions = [
            Regression(arguments, sets_max, content) for arguments, content in zip_longest(every, contents)
        ]
        # A replaced model is closed by nobody: a decision in flight may still ask it.
        self._free = weakref.finalize(self, _free, self._regressions)
        self._free.atexit = False
        self._closed = False

    def predict(self, features: str, offers: OfferSet) -> Sequence[float]:
        """Return a score for each offer of the set; `features` is an encoded context.

        Between two lessons a context and a set of offers have one answer, which is worked out once.
        """
        if self._closed:
            raise ModelUnavailable("the model is closed")
        key = features, (offers.whole or offers).text.digest, offers.indexes
        scores = self._scored.get(key)
        if scores is None:
            scores = self._predict(features, offers)
            self._scores_kept += len(scores)
            if self._scores_kept > Limits.scores_cached_max:
                self._scored.clear()
                self._scores_kept = len(scores)
            self._scored[key] = scores
        return scores

    def _predict(self, features: str, offers: OfferSet) -> list[float]:
        parts = parts_of(features)
        if parts is None:
            raise ModelUnavailable("the context was not encoded here")
        read = self._read(parts)
        predicted, parsed = self._regressions[self._judge.answering].predict(read.line, offers)
        total = sum(predicted)  # finite only if all are: NaN and infinities survive it
        if not math.isfinite(total):
            raise ModelUnavailable("predictions are not finite")
        scores = self._scores(predicted, read, parsed)
        total = sum(scores)
        if not math.isfinite(total) or total <= 0.0 or min(scores) < 0.0:
            raise ModelUnavailable("scores are not finite, not negative and not all zero")
        return scores

    def new(self, offers: OfferSet) -> dict[str, int]:
        """Return how many settlements of each offer were learned that still has a part of an even share."""
        if self._trying is None:
            return {}
        settled = self._counts.settled([offer_key(text) for text in offers.features])
        count = len(settled)
        return {name: n for name, n in zip(offers.ids, settled, strict=True) if is_new(n, count)}

    def learn(self, settlement: Settlement) -> bool:
        """Learn the next settlement; False where there was nothing sound to learn.

        It is our mistake to hand over any but the one after `sequence`, or to teach a stand-in.
        """
        assert not self.stand_in, self.lineage
        assert settlement.sequence == self.sequence + 1, (settlement.sequence, self.sequence)
        self._scored.clear()
        self._scores_kept = 0
        learned = self._is_sound(settlement) and self._learn(settlement)
        self.sequence = settlement.sequence
        return learned

    def teaches(self, settlement: Settlement) -> bool:
        """Say whether there is something sound to learn from a settlement."""
        return self._is_sound(settlement)

    def warm(self, offers: OfferSet) -> None:
        """Parse a set's offers and predict once, so that the first caller does not pay for it."""
        if offers.ids:
            self.predict(NOTHING, offers)

    def save(self, path: Path) -> None:
        """Write the model; OSError where that fails."""
        settled, table = self._counts.state()
        state = {
            "scale": self._scale.state(),
            "hats": self._hats.state(),
            "settled": settled,
            "judge": self._judge.state(),
        }
        contents = [regression.content(path) for regression in self._regressions]
        path.write_bytes(pack(state, [table, *contents]))

    def _restore(self, path: Path) -> list[bytes]:
        """Take up the state beside VW, and return what VW wrote of each regression."""
        try:
            state, (table, *contents) = unpack(path.read_bytes())
            self._scale, self._hats = Scale.of(state["scale"]), Hats.of(state["hats"])
            self._counts, self._judge = Counts.of(state["settled"], table), Judge.of(state["judge"])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ModelUnavailable(f"the model's file is damaged: {error}") from error
        return contents

    def close(self) -> None:
        """Free the memory, as also happens when nobody uses the model any more. Safe to call twice."""
        self._closed = True
        self._free()

    def _is_sound(self, settlement: Settlement) -> bool:
        offers, drawn = settlement.offers.features, settlement.drawn
        return (
            0 <= drawn < len(offers)
            and math.isfinite(settlement.reward)
            and _PROPENSITY_MIN <= settlement.probability <= _PROPENSITY_MAX
            and 0.0 <= self.rules.cost(settlement.reward) <= 1.0
            and is_encoding(settlement.features)
            and is_encoding(offers[drawn])
        )

    def _learn(self, settlement: Settlement) -> bool:
        """Learn a sound settlement, and take note of it."""
        offer = settlement.offers.features[settlement.drawn]
        parts = parts_of(settlement.features)
        assert parts is not None, "it is sound"
        read = self._read(parts)
        cost = self.rules.cost(settlement.reward)
        if self._in_deviations:
            cost = self._scale.cost(1.0 - cost)
        lesson = f"shared {read.line}\n0:{cost:.9f}:1 {offer_line(offer)}"
        self._counts.add(offer_key(offer), read.words, read.numbers)
        self._hats.see([(number.name, number.value) for number in parts.numbers])
        before = [told for each in self._regressions if (told := each.learn(lesson)) is not None]
        if len(before) < len(self._regressions):
            return False
        if len(before) > 1:
            self._judge.see(before, cost)
        return True

    def _read(self, parts: Parts) -> _Read:
        """Return an encoded context as VW and the counts read it now."""
        if not parts.numbers:
            return _Read(parts.rest, parts.words, [*parts.hour])
        lines = [parts.rest] if parts.rest else []
        numbers = [*parts.hour]
        for number in parts.numbers:
            hat = self._hats.read(number.name, number.value)
            lines.append(group(number.namespace, hat))
            numbers += hat
        return _Read(" ".join(lines), parts.words, numbers)

    def _scores(self, predicted: list[float], read: _Read, parsed: ParsedSet) -> list[float]:
        """Return scores from what VW predicted: its own probabilities, or costs."""
        if self._trying is None:
            return predicted
        settled = self._counts.settled(parsed.offers)
        variances = self._counts.variances(parsed.keys, settled, read.words, read.numbers)
        return with_new(beliefs(predicted, variances, self._trying), settled)


def _free(regressions: list[Regression]) -> None:
    for regression in regressions:
        regression.close()

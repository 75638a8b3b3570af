"""Offers as VW examples, parsed once and kept for predictions.

What holds: an example belongs to one workspace and goes back to it; two equal offers of one set have an
example each; so many sets are kept and no more. Of an offer's own numbers VW reads hats between powers of
two: they are the campaign file's, and an offer must not become another while it is shown.

What it does not do: learn. What is learned is parsed anew each time (`vw.py` says why).
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple

from tilbud.bandit.counts import Keys, keys_of
from tilbud.bandit.features import is_encoding, parts_of
from tilbud.bandit.hats import Feature, octaves, written
from tilbud.bandit.vw import Example, Workspace
from tilbud.domain.decision.records import OfferSet
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits


class ParsedSet(NamedTuple):
    """The offers of a set, in its order."""

    examples: list[Example]
    offers: list[int]  # what each is known by, whatever its attributes
    keys: Keys  # what each is counted by


class ParsedOffers:
    """Offers as VW examples: parsed once per text, shared by the sets they are in; a bounded LRU of sets."""

    def __init__(self, workspace: Workspace, sets_max: int) -> None:
        self._workspace = workspace
        self._sets_max = sets_max
        self._sets: OrderedDict[int, tuple[ParsedSet, list[tuple[str, int]]]] = OrderedDict()
        self._examples: dict[tuple[str, int], list[Example]] = {}
        self._users: dict[tuple[str, int], int] = {}

    def of(self, offers: OfferSet) -> ParsedSet:
        """Return an example for each offer; ModelUnavailable where one is not an encoding."""
        parsed = self._whole(offers.whole or offers)
        if offers.indexes is None:
            return parsed
        if not offers.indexes:
            raise ModelUnavailable("no offers")
        examples, known_by = parsed.examples, parsed.offers
        return ParsedSet(
            [examples[index] for index in offers.indexes],
            [known_by[index] for index in offers.indexes],
            parsed.keys[list(offers.indexes)],
        )

    def _whole(self, offers: OfferSet) -> ParsedSet:
        digest = offers.text.digest
        if (cached := self._sets.get(digest)) is not None:
            self._sets.move_to_end(digest)
            return cached[0]
        if not offers.features or not all(map(is_encoding, offers.features)):
            raise ModelUnavailable("no offers, or one that was not encoded here")
        while len(self._sets) >= self._sets_max:
            self._forget(next(iter(self._sets)))
        keys = _numbered(offers.features)
        examples: list[Example] = []
        own = [offer_key(text) for text in offers.features]
        parsed = ParsedSet(examples, own, keys_of(own))
        self._sets[digest] = (parsed, keys)
        for key in keys:
            self._users[key] = self._users.get(key, 0) + 1
        try:
            for key in keys:
                if key not in self._examples:
                    self._examples[key] = self._workspace.parse(offer_line(key[0]))
                examples.append(self._examples[key][0])
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


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def offer_key(encoded: str) -> int:
    """Return the number an encoded offer is known by: that of its id, which comes first."""
    parts = parts_of(encoded)
    return parts.words[0] if parts is not None and parts.words else 0


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def offer_line(encoded: str) -> str:
    """Return an encoded offer as VW reads it."""
    parts = parts_of(encoded)
    if parts is None or not parts.numbers:
        return encoded
    hats = [group(number.namespace, octaves(number.name, number.value)) for number in parts.numbers]
    return " ".join([*([parts.rest] if parts.rest else []), *hats])


def group(namespace: str, features: list[Feature]) -> str:
    """Return features in VW's language."""
    return f"|{namespace} {written(features)}"


def _numbered(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """Tell equal texts of one set apart: VW must not meet one example twice in a list."""
    seen: dict[str, int] = {}
    numbered = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        numbered.append((text, seen[text]))
    return numbered

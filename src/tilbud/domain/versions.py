"""Versions of apps and systems, as they are written, in their order.

    10.10 > 10.9    v10.2 = 10.2.0    10.2-beta.1 < 10.2-beta.2 < 10.2-rc.1 < 10.2    10.2+build.7 = 10.2

That is Semantic Versioning's precedence (2.0.0, section 11), for what apps and systems write as well: a "v"
in front, fewer parts than three or more, zeros in front of a number, capital letters. PEP 440, which a
library would bring, knows Python's own words for what comes before a release, and no others.

What holds: versions are in one total order, in which those that say the same are equal; the text of one is
read as that one. What is no version, or longer than a version is, is None. Pure and bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tilbud.domain.limits import Limits

_VERSION = re.compile(
    r"[vV]?([0-9]{1,15}(?:\.[0-9]{1,15}){0,7})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_WRITTEN = 3  # parts, of a version that has fewer
_PLACED = 4  # parts that count in a place, as Windows and Chrome have them
_HALF_WAY = 16.0  # the number of a part that lies half-way to the next of the part before it


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version; compares as versions do."""

    release: tuple[int, ...]  # without zeros at its end
    final: bool  # whether it is the release, and not before it
    before: tuple[tuple[bool, int, str], ...]  # of what is before it: (is a word, the number, the word)

    def __str__(self) -> str:
        """Return it with at least three parts, in small letters."""
        parts = [*self.release, *[0] * (_WRITTEN - len(self.release))]
        text = ".".join(map(str, parts))
        if self.final:
            return text
        return f"{text}-" + ".".join(
            [word if is_word else str(number) for is_word, number, word in self.before]
        )

    @property
    def major(self) -> str:
        """The first part, such as "10"."""
        return str(self._part(0))

    @property
    def minor(self) -> str:
        """The first two parts, such as "10.2"."""
        return f"{self._part(0)}.{self._part(1)}"

    def place(self) -> float:
        """Return a number ≥ 0 that is greater for a later version, or as great where they hardly differ.

        Its whole part is the major version but for the largest; each further part lies within the one before.
        """
        place = 0.5 if self.final or len(self.release) > _PLACED else 0.0
        for part in reversed(range(1, _PLACED)):
            place += self._part(part)
            place /= place + _HALF_WAY
        return self._part(0) + place

    def _part(self, number: int) -> int:
        return self.release[number] if number < len(self.release) else 0


@lru_cache(maxsize=Limits.versions_cached_max)
def version_of(text: str) -> Version | None:
    """Return the version that a text is; None where it is none."""
    if len(text) > Limits.version_chars_max or (found := _VERSION.fullmatch(text)) is None:
        return None
    release = [int(part) for part in found[1].split(".")]
    while release and not release[-1]:
        release.pop()
    before = found[2].lower().split(".") if found[2] else []
    return Version(tuple(release), not before, tuple(map(_identifier, before)))


def _identifier(text: str) -> tuple[bool, int, str]:
    """Return what a part of a pre-release is compared by: numbers come before words."""
    return (False, int(text), "") if text.isdigit() else (True, 0, text)

"""Languages as devices, browsers and systems write them, read as tags of BCP 47, and which reads which.

    da_DK.UTF-8, da-DK, DA-dk      da-dk          iw_IL                  he-il
    zh_TW, zh-Hant-TW, zh_TW_#Hant zh-tw          da, en;q=0.8           da
    sr_RS@latin                    sr-latn-rs     C, POSIX, *, und       "", nothing is known

What holds: a tag is in small letters, without encodings, extensions and a script that the region implies.
What is no tag is a word that stands for itself. A range (a rule's language) covers a tag where language,
script and region are the same as far as the range names them: `no` covers nb and nn, `zh-hant` covers zh-tw,
`da-dk` does not cover da. Which texts a reader can do with is CLDR's word. The tables are langcodes'; its
caches have no bound, so they are emptied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from langcodes import Language, language_distance
from langcodes.data_dicts import MACROLANGUAGES
from langcodes.tag_parser import LanguageTagError

from tilbud.domain.limits import Limits

_UNKNOWN = frozenset({"", "*", "c", "posix", "root", "und", "mul", "mis", "zxx"})
_WRITTEN_OTHERWISE = {"no-no-ny": "nn-no", "zh-chs": "zh-hans", "zh-cht": "zh-hant"}  # Java's, .NET's
_SCRIPTS = {"latin": "latn", "iqtelif": "latn", "cyrillic": "cyrl", "devanagari": "deva", "arabic": "arab"}
_SCRIPT, _REGION = re.compile(r"[a-z]{4}"), re.compile(r"[a-z]{2}|[0-9]{3}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_VARIANT = re.compile(r"[a-z0-9]{5,8}|[0-9][a-z0-9]{3}")
_BEGINNING = re.compile(r"[a-z]{2,8}(-|$)|[ix]-")
_RANGE = re.compile(r"\*|[A-Za-z]{1,8}([-_][A-Za-z0-9]{1,8})*")
_QUALITY = re.compile(r"q=(1(?:\.0{0,3})?|0(?:\.[0-9]{0,3})?)")
_WORLD = "001"  # of UN M.49: a region that leaves none out
_ONE_LANGUAGE_MAX = 1  # CLDR's distance of nb and no, of es-mx and es-419
_UNDERSTOOD_MAX = 10  # those who speak the one read the other: gsw and de
_SIBLINGS_MAX = 20  # kinds of one language: nn and nb
_LAST_RESORT = 1_000  # of the same name, in another script


class _Meant(NamedTuple):
    """What a tag says, and what goes without saying of it."""

    language: str
    script: str  # "" where there is none
    region: str
    has_variants: bool
    full: tuple[str, str, str]  # language, script and region, the likely ones where there is none


@lru_cache(maxsize=Limits.language_tags_cached_max)
def canonical(text: str) -> str:
    """Return the tag of a language, or of the first wanted one of an Accept-Language header.

    "" where it says that none is known; in small letters what is no tag at all.
    """
    wanted = _wanted(text) if "," in text or ";" in text else text.strip()
    base, _, modifier = wanted.partition(":")[0].partition("@")
    base = base.partition(".")[0].lower().replace("_", "-").replace("#", "")
    parts = [part for part in base.split("-") if part]
    if wanted.lower() in _UNKNOWN or (parts and parts[0] in _UNKNOWN):
        return ""
    if not parts:
        return wanted.lower()
    if modifier.lower() in _SCRIPTS:
        parts.insert(1, _SCRIPTS[modifier.lower()])
    elif modifier.lower() == "valencia":
        parts.append("valencia")
    language = _parsed("-".join(parts))
    return wanted.lower() if language is None else _short(language)


def cased(tag: str) -> str:
    """Return a canonical tag as people write it, da-DK and zh-Hant (RFC 5646, 2.1.1), for them to read."""
    language, *others = tag.split("-")
    if not _LANGUAGE.fullmatch(language):
        return tag
    regions = (subtag.upper() if _REGION.fullmatch(subtag) else subtag for subtag in others)
    return "-".join(
        [language, *(subtag.title() if _SCRIPT.fullmatch(subtag) else subtag for subtag in regions)]
    )


@lru_cache(maxsize=Limits.language_tags_cached_max)
def covers(wider: str, tag: str) -> bool:
    """Say whether a language, as a rule names it, is that of `tag`; both canonical."""
    if tag == wider or tag.startswith(f"{wider}-"):
        return True
    range_, meant = _meant(wider), _meant(tag)
    if range_ is None or meant is None or range_.has_variants:
        return False
    same = range_.language in (meant.language, _kind_of(meant.language))
    if not same and {range_.language, meant.language} != {"nb", "no"}:
        return False
    if range_.region in ("", _WORLD):
        return range_.script in ("", meant.full[1])
    regions = range_.region == meant.region or (bool(meant.region) and _is_one(range_, meant))
    return regions and range_.full[1] == meant.full[1]


@lru_cache(maxsize=Limits.language_tags_cached_max)
def nearest(tag: str, languages: Sequence[str]) -> str | None:
    """Return the one of `languages` that a reader of `tag` reads best; None where they read none of them.

    All are canonical; of equally near ones that which says most, then the first.
    """
    readable = [
        (distance, not covers(language, tag), -len(language), language)
        for language in languages
        if (distance := _distance(tag, language)) is not None
    ]
    return min(readable, key=lambda ranked: ranked[:3])[3] if readable else None


def _wanted(header: str) -> str:
    """Return what an Accept-Language header wants most; of equals the first, "*" only where nothing else.

    What is no such header is returned as it is.
    """
    wanted: list[tuple[float, str]] = []
    for entry in header.split(","):
        language, *parameters = (part.strip() for part in entry.split(";"))
        match = _QUALITY.fullmatch("".join(parameters).replace(" ", "").lower()) if parameters else None
        quality = float(match[1]) if match else 1.0
        if language and not _RANGE.fullmatch(language):
            return header.strip()
        if language and quality:
            wanted.append((quality if language != "*" else 0.0, language))
    return max(wanted, key=lambda weighted: weighted[0])[1] if wanted else ""


def _parsed(tag: str) -> Language | None:
    """Return what langcodes reads in a tag, its subtags in any order; None where it is none."""
    if not _BEGINNING.match(tag):
        return None
    _empty_the_librarys_caches()
    for written in (_WRITTEN_OTHERWISE.get(tag, tag), _in_order(tag)):
        try:
            return Language.get(written)
        except LanguageTagError:
            continue
    return None


def _in_order(tag: str) -> str:
    """Return language, script, region and variants of a tag in their order, without what is none of them."""
    language, *others = tag.split("-")
    scripts = [subtag for subtag in others if _SCRIPT.fullmatch(subtag)][:1]
    regions = [subtag for subtag in others if _REGION.fullmatch(subtag)][:1]
    return "-".join(
        [language, *scripts, *regions, *(subtag for subtag in others if _VARIANT.fullmatch(subtag))]
    )


def _short(language: Language) -> str:
    simplest = language.prefer_macrolanguage()
    if not simplest.language:
        return ""
    script = simplest.script
    if (
        simplest.territory
        and script
        == Language.make(language=simplest.language, territory=simplest.territory).maximize().script
    ):
        script = None
    subtags = (simplest.language, script, simplest.territory, *sorted(simplest.variants or ()))
    return "-".join(filter(None, subtags)).lower()


@lru_cache(maxsize=Limits.language_tags_cached_max)
def _meant(tag: str) -> _Meant | None:
    language = _parsed(tag)
    if language is None or not language.language:
        return None
    full = language.maximize()
    return _Meant(
        language.language,
        language.script or "",
        language.territory or "",
        bool(language.variants),
        (full.language or "", full.script or "", full.territory or ""),
    )


def _kind_of(language: str) -> str | None:
    """Return the language of which another is a kind: no of nb and nn, but not Malay of Indonesian."""
    wider = MACROLANGUAGES.get(language)
    return None if wider == "ms" else wider


def _is_one(range_: _Meant, meant: _Meant) -> bool:
    return language_distance.tuple_distance_cached(meant.full, range_.full) <= _ONE_LANGUAGE_MAX


def _distance(tag: str, language: str) -> int | None:
    """Return how far a text in `language` is from a reader of `tag`; None where they cannot read it."""
    desired, supported = _meant(tag), _meant(language)
    if desired is None or supported is None:
        return 0 if covers(language, tag) else None
    distance = language_distance.tuple_distance_cached(desired.full, supported.full)
    if distance <= _UNDERSTOOD_MAX:
        return distance
    siblings = {
        MACROLANGUAGES.get(tag_meant.language, tag_meant.language) for tag_meant in (desired, supported)
    }
    if len(siblings) == 1 and distance <= _SIBLINGS_MAX:
        return distance
    return _LAST_RESORT if covers(language, tag) else None


def _empty_the_librarys_caches() -> None:
    """Keep what callers write from filling the memory: langcodes remembers every tag it was ever asked of."""
    caches = (Language._INSTANCES, Language._PARSE_CACHE, language_distance._DISTANCE_CACHE)  # noqa: SLF001
    for cache in caches:
        if len(cache) > Limits.langcodes_cached_max:
            cache.clear()

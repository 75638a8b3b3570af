"""Texts in several languages, and which of them a customer reads.

What holds: a reader finds the text that is nearest to their language, as `language_tags.py` reads them, else
the fallback's. Keys of texts are canonical tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from tilbud.domain.campaign.fields import Misplaced
from tilbud.domain.language_tags import canonical, nearest
from tilbud.domain.limits import Limits

T = TypeVar("T")


def in_language(texts: Mapping[str, T], language: str, fallback: str) -> T:
    """Return the text for a reader of `language`; "" reads the fallback's, which must be there.

    Keys of `texts` are canonical.
    """
    tag = canonical(language)
    if tag in texts:
        return texts[tag]
    closest = nearest(tag, tuple(texts)) if tag else None
    return texts[canonical(fallback) if closest is None else closest]


def _once(written: Any) -> Any:
    seen: set[str] = set()
    for language in written if isinstance(written, dict) else ():
        tag = canonical(str(language))
        if tag in seen:
            raise Misplaced((language,), "is there twice: languages have no case, and old names are new ones")
        seen.add(tag)
    return written


def _some(language: str) -> str:
    tag = canonical(language)
    if not tag:
        raise ValueError("stands for no language; write one such as en or da-DK")
    return tag


Language = Annotated[
    str,
    Field(pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$", max_length=64),
    AfterValidator(_some),
]
ByLanguage = Annotated[
    dict[Language, T], Field(min_length=1, max_length=Limits.labels_max), BeforeValidator(_once)
]

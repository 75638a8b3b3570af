"""Texts in several languages, and which of them a customer reads.

What holds: a language finds its own text, else that of the language it is a kind of (`da-DK` reads `da`),
else the fallback's. Languages have no case; they are kept in small letters, as a context has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from tilbud.domain.fields import LABELS_MAX, Misplaced

T = TypeVar("T")


def in_language(texts: Mapping[str, T], language: str, fallback: str) -> T:
    """Return the text for `language`; "" reads the fallback's, which must be there (RFC 4647, 3.4).

    The keys of `texts` are in small letters.
    """
    language = language.lower()
    while language:
        if language in texts:
            return texts[language]
        language = language.rpartition("-")[0]
    return texts[fallback.lower()]


def _once(written: Any) -> Any:
    seen: set[str] = set()
    for language in written if isinstance(written, dict) else ():
        if str(language).lower() in seen:
            raise Misplaced((language,), "is there twice; languages have no case")
        seen.add(str(language).lower())
    return written


Language = Annotated[
    str, Field(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length=64), AfterValidator(str.lower)
]
ByLanguage = Annotated[dict[Language, T], BeforeValidator(_once), Field(min_length=1, max_length=LABELS_MAX)]

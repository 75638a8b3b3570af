"""Text as the world writes it: one form for what reads the same, and what no text may hold.

What holds: text comes in by `nfc`, once, where a message or a campaign file is read, so that an "é" is one
character everywhere behind it, whether a phone sent it as one or as two. Any text may be sent but control
characters, halves of surrogate pairs and noncharacters: no-break spaces, ideographic spaces, joiners of
scripts and of emoji are text. Nothing is trimmed, and no look-alikes are made equal.
"""

from __future__ import annotations

import re
from unicodedata import normalize

UNCLEAN = "must not contain control characters, lone surrogates or noncharacters"
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
)
_UNCLEAN = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff{_NONCHARACTERS}]")
_NFC_SHORTENS_MAX = 4  # no character stands for more than four


def nfc(text: str, chars_max: int = 128) -> str:
    """Return `text` in Normalization Form C; what is longer than `chars_max` in any form stays as it is."""
    if text.isascii() or len(text) > chars_max * _NFC_SHORTENS_MAX:
        return text
    return normalize("NFC", text)


def nfd(text: str) -> str:
    """Return `text` in Normalization Form D."""
    return text if text.isascii() else normalize("NFD", text)


def is_clean(text: str) -> bool:
    """Say whether nothing in `text` is a control character, half a surrogate pair or a noncharacter."""
    return text.isprintable() if text.isascii() else _UNCLEAN.search(text) is None

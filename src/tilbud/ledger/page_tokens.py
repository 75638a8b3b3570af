"""Where a page of an export ended, written so that its reader learns nothing from it.

What holds: whoever has the ledger's key goes on from a token, in whichever process; to everybody else it is
noise, of a length that tells no number; what no page of this ledger gave is refused. It does not say whose
rows they are: a token only says where to go on among the rows of whom is asked about.
"""

from __future__ import annotations

import base64
import json
from hashlib import blake2b, shake_256
from hmac import compare_digest
from typing import Any

from tilbud.domain.errors import InvalidField

Place = tuple[Any, ...]  # of a row among those of its kind: numbers and texts

_PERSON = b"tilbud export 1"  # the number changes when what a place is made of does
_TAG_BYTES = 16
_BLOCK_BYTES = 32


class PageTokens:
    """Tokens under one key: encryption with a synthetic nonce (RFC 5297, section 1.3)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, kind: str, place: Place) -> str:
        """Return what says that a page ended with this row."""
        text = json.dumps([kind, *place], ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _BLOCK_BYTES)
        tag = self._tag(text)
        return base64.urlsafe_b64encode(tag + self._hidden(tag, text)).decode()

    def parse(self, token: str) -> tuple[str, Place]:
        """Return the kind and place of a token; raises InvalidField where it is none of ours."""
        try:
            written = base64.b64decode(token, altchars=b"-_", validate=True)
        except ValueError:
            written = b""
        tag, hidden = written[:_TAG_BYTES], written[_TAG_BYTES:]
        text = self._hidden(tag, hidden)
        if not compare_digest(tag, self._tag(text)):
            raise InvalidField("page_token", "is none that an earlier page gave")
        kind, *place = json.loads(text)
        return kind, tuple(place)

    def _tag(self, text: bytes) -> bytes:
        return blake2b(text, digest_size=_TAG_BYTES, key=self._key, person=_PERSON).digest()

    def _hidden(self, tag: bytes, text: bytes) -> bytes:
        """Return the text hidden, or a hidden one as it was."""
        stream = shake_256(_PERSON + self._key + tag).digest(len(text))
        return bytes(byte ^ other for byte, other in zip(text, stream, strict=True))

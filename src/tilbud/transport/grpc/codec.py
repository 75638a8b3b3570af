"""Bytes in: reads a message, or says which field cannot be read.

grpcio answers RESOURCE_EXHAUSTED, as if it were worth another try, to a message beyond its own limit; so that
is several times ours, and a bad or too large message becomes an `Unreadable` value, which is answered as
INVALID_ARGUMENT. Protobuf says only that a message is bad; the walk here finds the field whose text is not
UTF-8. Bytes out: `field` frames bytes that are already serialized, so that a payload is serialized once and
not for every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tilbud.domain.limits import Limits

M = TypeVar("M", bound=Message)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10
_DEPTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that cannot be read, and where."""

    field: str
    problem: str


def reader(message_type: type[M], bytes_max: int) -> Callable[[bytes], M | Unreadable]:
    """Return what reads messages of at most `bytes_max`, and never raises."""
    descriptor = cast(Descriptor, message_type.DESCRIPTOR)

    def read(data: bytes) -> M | Unreadable:
        if len(data) > bytes_max:
            return Unreadable(
                "request", f"holds {len(data):,} bytes, more than {bytes_max:,}; send less at once"
            )
        try:
            return message_type.FromString(data)
        except DecodeError:
            field = bad_text(descriptor, data)
            if field is not None:
                return Unreadable(field, "must be UTF-8")
            return Unreadable("request", f"is not a {descriptor.full_name} message")

    return read


def bad_text(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the path of the first text field of a serialized message that is not UTF-8.

    None where there is none, where the message is broken before it, or where it lies too far in.
    """
    return _bad_text(descriptor, data, _DEPTH_MAX, iter(range(Limits.text_walk_fields_max)))


def _bad_text(descriptor: Descriptor, data: bytes, depth: int, budget: Iterator[int]) -> str | None:
    counts: dict[int, int] = {}
    try:
        for (number, content), _ in zip(_fields(data), budget, strict=False):
            field = descriptor.fields_by_number.get(number)
            if field is None or content is None:
                continue
            position = counts[number] = counts.get(number, -1) + 1
            name = f"{field.name}[{position}]" if field.is_repeated else field.name
            if field.type == FieldDescriptor.TYPE_STRING:
                try:
                    content.decode()
                except UnicodeDecodeError:
                    return name
            elif field.message_type is not None and depth and not content.isascii():
                below = _bad_text(field.message_type, content, depth - 1, budget)
                if below is not None:
                    return f"{name}.{below}"
    except ValueError:
        return None
    return None


def _fields(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield (field number, content of a length-delimited field or None); ValueError on broken framing."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        content: bytes | None = None
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            content = data[at : at + length]
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("unknown wire type")
        if at > len(data):
            raise ValueError("truncated")
        yield tag >> 3, content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more bytes follow
            return value, at + count + 1
    raise ValueError("truncated varint")


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field as it stands in a serialized message."""
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(content)) + content


@lru_cache(maxsize=Limits.varints_cached_max)
def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

"""Every kind of nonsense that a field can be sent, and what may come of it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

TEXTS = [
    "", " ", "\n", "a\nb", "|", "a|b", "|o 1", "a b", "14:30", "t=14:30", "a:1e39", "shared |d 1", "0:1:0.5",
    "\0", "\r\n\r\n", "\x1b[31m", "x" * 128, "x" * 129, "x" * 200, "x" * 100_000, "é", "𝕏" * 128, "İ" * 128,
    "Aarhus\u00a0C", "東京都\u3000新宿区", "می\u200cخواهم", "👨\u200d👩", "e\u0301" * 128,
    "\ufdd0", "\U0001ffff",
    "\u202eabc", "\ufeff", "| d:1 \u2028x", "\x85", "_label_cost", "_label_probability",
    "'; DROP TABLE decisions; --", "../../etc/passwd", "-f /tmp/x", "NaN", "null", "true", "1e39", "{}", "[]",
    "\ud7ff\uffff", '"\\ud800"',
]  # fmt: skip
NUMBERS = [math.nan, math.inf, -math.inf, 1e39, -1e39, 3.4e38, -3.4e38, 1e-45, -0.0, 0.0, 5e-324, 1.7e308]
FLOAT32_MAX = 3.4028234e38
BAD_TIMES = [
    Timestamp(seconds=2**62),
    Timestamp(seconds=-(2**62)),
    Timestamp(seconds=253_402_300_800),
    Timestamp(seconds=-1),
    Timestamp(nanos=-1),
    Timestamp(nanos=2**31 - 1),
]
MARK = "\N{EURO SIGN}"
NOT_UTF8 = (b"\xed\xa0\x80", b"\xff\xfe\xfd", b"a\xc3\x28")  # a lone surrogate comes first; as long as MARK
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip


def answer_or_clear_error(call: Callable[[], Any], field: str = "") -> Any:
    """Call; return the answer, or None after checking that the error names the field."""
    try:
        return call()
    except grpc.RpcError as error:
        assert error.code() in ALLOWED, f"{error.code()}: {error.details()}"
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            assert field in named_field(error)
        return None


def refuses(call: Callable[[], Any], field: str) -> None:
    """Check that the call is refused for what is in this field, or in a part of it."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, raised.value
    assert named_field(raised.value).startswith(field)


def named_field(error: grpc.RpcError) -> str:
    """Return the field that the error says to mend."""
    status = rpc_status.from_call(error)
    violations = error_details_pb2.BadRequest()
    assert status is not None
    assert status.details[1].Unpack(violations)
    violation = violations.field_violations[0]
    assert violation.description
    return violation.field


def is_clean(text: str, chars_max: int = 128) -> bool:
    """Say whether a field for words takes it; it may be empty."""
    return len(composed(text)) <= chars_max and not any(_is_unclean(each) for each in text)


def composed(text: str) -> str:
    """Return a text as the service reads it."""
    return unicodedata.normalize("NFC", text)


def _is_unclean(character: str) -> bool:
    """Say whether it is a control character, half a surrogate pair or a noncharacter."""
    point = ord(character)
    noncharacter = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return noncharacter or unicodedata.category(character) in ("Cc", "Cs")


def is_id(text: str) -> bool:
    """Say whether a field for ids takes it."""
    return re.fullmatch("[A-Za-z0-9._:-]{1,128}", text) is not None


def messages_with_one_text(descriptor: Descriptor, new: Callable[[], Message]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, serialized message) with MARK in one text field, for each there is, however deep."""
    for path, fill in _texts(descriptor):
        message = new()
        fill(message)
        yield path, message.SerializeToString()


def _texts(descriptor: Descriptor) -> Iterator[tuple[str, Callable[[Any], None]]]:
    for field in descriptor.fields:
        name, below = field.name, field.message_type
        if below is None:
            if field.type == FieldDescriptor.TYPE_STRING and field.is_repeated:
                yield f"{name}[0]", lambda message, name=name: getattr(message, name).append(MARK)
            elif field.type == FieldDescriptor.TYPE_STRING:
                yield name, lambda message, name=name: setattr(message, name, MARK)
        elif below.GetOptions().map_entry:
            yield f"{name}[0].key", lambda message, name=name: getattr(message, name)[MARK].SetInParent()
            for path, fill in _texts(below.fields_by_name["value"].message_type):
                yield (
                    f"{name}[0].value.{path}",
                    lambda message, name=name, fill=fill: fill(getattr(message, name)["key"]),
                )
        elif field.is_repeated:
            for path, fill in _texts(below):
                yield (
                    f"{name}[0].{path}",
                    lambda message, name=name, fill=fill: fill(getattr(message, name).add()),
                )
        else:
            for path, fill in _texts(below):
                yield f"{name}.{path}", lambda message, name=name, fill=fill: fill(getattr(message, name))

"""Bytes become a message, or the name of the field that cannot be read."""

from __future__ import annotations

from time import process_time
from typing import Any, cast

import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tilbud.transport.grpc.codec import Unreadable, bad_text, field, reader
from tilbud.v1 import campaigns_pb2, decisions_pb2

BAD = b"caf\xe9"
BYTES_MAX = 4 * 1024 * 1024
REQUEST = decisions_pb2.DecideRequest
CONTEXT, INCLUDE = REQUEST.CONTEXT_FIELD_NUMBER, REQUEST.INCLUDE_OFFERS_FIELD_NUMBER
DEVICE = decisions_pb2.Context.DEVICE_FIELD_NUMBER
FEATURES = decisions_pb2.Context.FEATURES_FIELD_NUMBER


def found(message: type[Message], data: bytes) -> str | None:
    """Return the path of the first bad text of a message."""
    return bad_text(cast(Descriptor, message.DESCRIPTOR), data)


def good() -> bytes:
    """Return a serialized request with some of everything."""
    request = REQUEST(campaign="c", decision_id="d", include_offers=["a", "æ"], dry_run=True)
    request.context.device = "mobile"
    request.context.time.seconds = 1_790_000_000
    request.context.features["tier"].category = "guld"
    request.context.features["basket"].number = 30.5
    return request.SerializeToString(deterministic=True)


def entry(name: bytes, value: bytes) -> bytes:
    """Return one serialized feature of a context."""
    return field(FEATURES, field(1, name) + field(2, value))


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (field(1, BAD), "campaign"),
        (good() + field(1, BAD), "campaign"),
        (good() + field(3, BAD), "customer_id"),
        (field(INCLUDE, b"a") + field(INCLUDE, BAD), "include_offers[1]"),
        (good() + field(INCLUDE, BAD), "include_offers[2]"),
        (field(CONTEXT, field(DEVICE, BAD)), "context.device"),
        (field(CONTEXT, entry(BAD, field(1, b"x"))), "context.features[0].key"),
        (field(CONTEXT, entry(b"a", field(1, b"x")) + entry(b"b", field(1, BAD))),
         "context.features[1].value.category"),
        (field(1, b"\xed\xa0\x80"), "campaign"),  # half a surrogate pair
        (field(1, b"\xc0\xaf"), "campaign"),  # more bytes than needed
        (field(1, b"\xf4\x90\x80\x80"), "campaign"),  # beyond Unicode
        (field(1, b"a\xe2\x82"), "campaign"),  # cut short
        (field(900, BAD) + field(2, BAD), "decision_id"),  # an unknown field may hold anything
        (b"\x55\xff\xff\xff\xff" + field(2, BAD), "decision_id"),  # an unknown fixed32
        (b"\x51" + b"\xff" * 8 + field(2, BAD), "decision_id"),  # a known number, as a fixed64
        (b"\x40\x01" + field(2, BAD), "decision_id"),  # defer_activation
    ],
)  # fmt: skip
def test_bad_text_is_found(data, path):
    """InternedText that is not UTF-8 is named with its path through messages, lists and maps."""
    with pytest.raises(DecodeError):
        REQUEST.FromString(data)
    assert reader(REQUEST, BYTES_MAX)(data) == Unreadable(path, "must be UTF-8")


def test_bad_text_in_a_batch_names_its_request():
    """In a batch, the path begins with the number of the request."""
    data = field(1, good()) + field(1, good()) + field(1, good() + field(CONTEXT, field(DEVICE, BAD)))
    unreadable = reader(decisions_pb2.BatchDecideRequest, BYTES_MAX)(data)
    assert unreadable == Unreadable("requests[2].context.device", "must be UTF-8")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a" + b"\xff" * 9 + b"\x7f",
        b"\x0a" + b"\xff" * 20,
        b"\x09\x01",
        b"\x0f",
        b"\x22\x01\xff",
        good()[:-1],
    ],
)
def test_broken_framing_is_told_as_such(data):
    """Bytes that are no such message at all are told without naming a field."""
    assert reader(REQUEST, BYTES_MAX)(data) == Unreadable(
        "request", "is not a tilbud.v1.DecideRequest message"
    )


def test_good_bytes_are_read():
    """A good message is read, text beyond ASCII and unknown fields included."""
    for data in (b"", good(), good() + field(900, BAD)):
        assert reader(REQUEST, BYTES_MAX)(data) == REQUEST.FromString(data)
        assert found(REQUEST, data) is None


def test_text_is_looked_for_only_so_deep():
    """Messages within messages are followed a hundred deep, not for ever."""
    value = field(struct_pb2.Value.STRING_VALUE_FIELD_NUMBER, BAD)
    for _ in range(2_000):
        value = field(struct_pb2.Value.LIST_VALUE_FIELD_NUMBER, field(1, value))
    assert reader(struct_pb2.Value, BYTES_MAX)(value) == Unreadable(
        "request", "is not a google.protobuf.Value message"
    )


def test_a_hostile_message_costs_little():
    """Four megabytes of the smallest fields before the bad one are not walked to their end."""
    data = field(1, b"") * 2_000_000 + field(1, BAD)
    started = process_time()
    assert found(decisions_pb2.BatchDecideRequest, data) is None
    assert process_time() - started < 5  # 10 s and more if walked to the end, 0.2 s if not
    within = field(1, b"") * 1_000 + field(1, field(1, BAD))
    assert found(decisions_pb2.BatchDecideRequest, within) == "requests[1000].campaign"


MESSAGES: list[type[Message]] = [
    REQUEST,
    decisions_pb2.BatchDecideRequest,
    decisions_pb2.ReportOutcomeRequest,
    decisions_pb2.DecideResponse,
    campaigns_pb2.GetCampaignRequest,
]
BYTES = st.binary(max_size=80) | st.lists(
    st.builds(field, st.integers(1, 12), st.binary(max_size=12)) | st.binary(max_size=4), max_size=6
).map(b"".join).flatmap(lambda data: st.sampled_from([data, field(1, data), field(4, data)]))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MESSAGES), BYTES)
@example(REQUEST, field(1, BAD))
def test_no_bytes_make_the_reader_raise(message: type[Message], data: bytes):
    """Any bytes are a message or Unreadable, and where text is named, it is what protobuf refused."""
    read: Any = reader(message, BYTES_MAX)(data)
    try:
        expected = message.FromString(data)
    except DecodeError:
        assert isinstance(read, Unreadable)
        return
    assert read.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert found(message, data) is None


@settings(deadline=None)
@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=5))
def test_fields_are_framed_as_protobuf_does(text, texts):
    """A framed field is, byte for byte, what protobuf writes, whatever its number and length."""
    request = REQUEST(campaign=text or "x")
    assert field(1, (text or "x").encode()) == request.SerializeToString()
    framed = b"".join(field(INCLUDE, each.encode()) for each in texts)
    assert framed == REQUEST(include_offers=texts).SerializeToString()


@pytest.mark.parametrize("number", [1, 15, 16, 2047, 2048, 2**29 - 1])
@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_tags_and_lengths_are_varints(number, length):
    """Numbers and lengths at the edges of a varint's bytes are read back by protobuf."""
    framed = field(number, b"x" * length)
    message = struct_pb2.Struct.FromString(b"")  # knows one field, keeps what it does not know
    if number != 1:
        message.MergeFromString(framed)
        assert message.SerializeToString() == framed
    assert framed.endswith(b"x" * length)
    assert len(framed) - length == len(field(number, b"")) - 1 + max(1, -(-length.bit_length() // 7))


def test_a_payload_may_be_appended():
    """A field appended to a serialized message is read as part of it."""
    payload = struct_pb2.Struct()
    payload.update({"title": "æ", "n": 1})
    head = decisions_pb2.DecideResponse(offer_id="a").SerializeToString()
    number = decisions_pb2.DecideResponse.PAYLOAD_FIELD_NUMBER
    read = decisions_pb2.DecideResponse.FromString(head + field(number, payload.SerializeToString()))
    assert read == decisions_pb2.DecideResponse(offer_id="a", payload=payload)


def test_what_is_too_large_is_not_read():
    """A message beyond the limit is refused by its size, in words that say what to do."""
    unreadable = reader(REQUEST, 10)(field(1, b"c" * 9))
    assert unreadable == Unreadable("request", "holds 11 bytes, more than 10; send less at once")

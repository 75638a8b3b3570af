"""JSON to messages and back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from time import process_time
from typing import Any

import pytest

from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.transport.call import Method
from tilbud.transport.connect.json_codec import Json
from tilbud.v1 import customers_pb2
from tilbud.v1 import decisions_pb2 as pb

BY_HAND, BY_STUB = Json(Limits(), lenient=False), Json(Limits(), lenient=True)


async def _handle(_message: Any, _call: Any) -> bytes:
    raise NotImplementedError


DECIDE = Method("Decide", "tilbud.v1.DecisionService", pb.DecideRequest, pb.DecideResponse, _handle)
UPDATE = Method(
    "UpdateCustomer",
    "tilbud.v1.CustomerService",
    customers_pb2.UpdateCustomerRequest,
    customers_pb2.Customer,
    _handle,
)
BATCH = Method(
    "BatchDecide", "tilbud.v1.DecisionService", pb.BatchDecideRequest, pb.BatchDecideResponse, _handle
)


async def _read(text: str | bytes, codec: Json = BY_HAND, method: Method = DECIDE) -> Any:
    return await codec.read(method, text if isinstance(text, bytes) else text.encode())


async def test_names_of_the_contract_and_of_json_are_taken() -> None:
    """`decision_id` and `decisionId` are one field, as ProtoJSON has it."""
    expected = pb.DecideRequest(campaign="shop", decision_id="d", include_ranking=True)
    assert await _read('{"campaign": "shop", "decision_id": "d", "includeRanking": true}') == expected
    assert await _read('{"campaign": "shop", "decisionId": "d", "include_ranking": true}') == expected


async def test_every_kind_of_value_is_read() -> None:
    """Text, numbers, flags, enums by name and number, maps, lists, times; null is what was not said."""
    read = await _read(
        '{"campaign": "høst", "consent": "CONSENT_GRANTED", "includeOffers": ["a", "b"], '
        '"excludeOffers": null, "context": {"time": "2026-11-29T12:00:00.5Z", "features": '
        '{"a": {"number": 1}, "b": {"flag": false}}}}'
    )
    assert read.campaign == "høst"
    assert read.consent == pb.CONSENT_GRANTED
    assert list(read.include_offers) == ["a", "b"]
    assert read.context.time.ToNanoseconds() % 10**9 == 500_000_000
    assert read.context.features["a"].number == 1.0
    assert read.context.features["b"].WhichOneof("kind") == "flag"
    assert (await _read('{"consent": 2}')).consent == pb.CONSENT_DENIED


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("", "request", "is empty; send {} for a request without fields"),
        ("{", "request", "is not JSON: line 1, column 2 cannot be read"),
        (b'{"campaign": "\xff"}', "request", "must be UTF-8"),
        ("[" * 100_000, "request", "is JSON of numbers too long, or of too many levels"),
        ('{"consent": ' + "9" * 5_000 + "}", "request", "is JSON of numbers too long, or of too many levels"),
        ("[]", "request", "must be an object, such as {}"),
        ("3", "request", "must be an object, such as {}"),
        ('{"campaign": "a", "campaign": "b"}', "campaign", "stands twice in one object"),
        ('{"decisionId": "a", "decision_id": "b"}', "decision_id", "cannot stand beside decisionId"),
        (
            '{"context": {"journey_stage": "a", "journeyStage": "b"}}',
            "context.journey_stage",
            "cannot stand beside journeyStage",
        ),
        ('{"campaign": 3}', "campaign", "must be text"),
        ('{"campaign": "\\ud800"}', "campaign", "must be text"),
        ('{"dryRun": "yes"}', "dry_run", "must be true or false"),
        ('{"includeOffers": "a"}', "include_offers", "must be a list, such as []"),
        ('{"includeOffers": [null]}', "include_offers[0]", "must not be null"),
        ('{"context": "x"}', "context", "must be an object, such as {}"),
        ('{"context": {"device": 3}}', "context.device", "must be text"),
        ('{"context": {"time": "now"}}', "context.time", 'must be a time such as "2026-11-29T12:00:00Z"'),
        ('{"context": {"features": []}}', "context.features", "must be an object, such as {}"),
        *(
            (
                f'{{"context": {{"features": {{"a": {written}}}}}}}',
                "context.features.a",
                f"must be an object, such as {meant}",
            )
            for written, meant in (
                ("3", '{"number": 42.5}'),
                ("true", '{"flag": true}'),
                ('"x"', '{"category": "gold"}'),
            )
        ),
        (
            '{"context": {"features": {"a": {"number": "x"}}}}',
            "context.features.a.number",
            "must be a number",
        ),
        (
            '{"context": {"features": {"a": {"number": NaN}}}}',
            "context.features.a.number",
            "must be a number",
        ),
        (
            '{"context": {"features": {"a": {"number": 1, "flag": true}}}}',
            "context.features.a.flag",
            "cannot stand beside number",
        ),
        (
            '{"consent": "CONSENT_DENEID"}',
            "consent",
            "must be one of CONSENT_UNSPECIFIED, CONSENT_GRANTED, CONSENT_DENIED",
        ),
    ],
)
@pytest.mark.parametrize("codec", [BY_HAND, BY_STUB], ids=["by hand", "by stub"])
async def test_what_cannot_be_read_is_named(codec: Json, text: str | bytes, field: str, problem: str) -> None:
    """The field, and what it must be; never the words of a library."""
    with pytest.raises(InvalidField) as refused:
        await _read(text, codec)
    assert (refused.value.field, refused.value.problem) == (field, problem)


async def test_a_slip_in_a_name_is_refused_by_hand_and_passed_over_by_a_stub() -> None:
    """A stub of a newer contract is answered by an older service; whoever writes by hand hears of it."""
    text = '{"campaign": "shop", "context": {"divice": "tv", "device": "tv"}, "more": {"a": []}}'
    with pytest.raises(InvalidField, match=r"^context\.divice: is no field here; the fields are device,"):
        await _read(text)
    assert await _read(text, BY_STUB) == pb.DecideRequest(campaign="shop", context=pb.Context(device="tv"))


async def test_a_bad_item_of_a_batch_is_named_by_its_place() -> None:
    """As over gRPC, a message that cannot be read is none of its items."""
    with pytest.raises(InvalidField, match=r"^requests\[1\]\.context\.device: must be text$"):
        await _read('{"requests": [{}, {"context": {"device": []}}]}', method=BATCH)
    with pytest.raises(InvalidField, match=r"^requests\[1\]\.decision_id: cannot stand beside decisionId$"):
        await _read('{"requests": [{}, {"decision_id": "a", "decisionId": "a"}]}', method=BATCH)
    with pytest.raises(InvalidField, match=r"^requests\[0\]: must be an object"):
        await _read('{"requests": [null]}', method=BATCH)


async def test_a_batch_is_read_and_written_whole() -> None:
    """Item by item, in slices, which nobody can tell from the result."""
    requests = [{"campaign": "shop", "decisionId": f"d{number}"} for number in range(1_000)]
    read = await _read(json.dumps({"requests": requests}), method=BATCH)
    assert [each.decision_id for each in read.requests] == [f"d{number}" for number in range(1_000)]
    answer = pb.BatchDecideResponse()
    for number in range(1_000):
        answer.results.add().decision.offer_id = f"offer-{number}"
    sliced = await BY_HAND.write(BATCH, answer)
    assert sliced == await Json(replace(Limits(), json_sliced_bytes=10**9), lenient=False).write(
        BATCH, answer
    )
    assert json.loads(sliced)["results"][999] == {"decision": {"offerId": "offer-999"}}


async def test_long_messages_take_turns() -> None:
    """However many there are, each turn of the loop has one slice of them, and short ones wait for none."""
    codec = Json(replace(Limits(), loop_slice_s=0.0), lenient=False)
    text = json.dumps({"requests": [{"campaign": "shop", "decisionId": "d"}] * 1_000})
    ended: dict[str, int] = {}
    turns = 0

    async def read(name: str, text: str) -> None:
        await _read(text, codec, BATCH)
        ended[name] = turns

    reading = [
        asyncio.ensure_future(read(name, text))
        for name, text in (("first", text), ("second", text), ("short", "{}"))
    ]
    while not all(each.done() for each in reading):
        turns += 1
        await asyncio.sleep(0)
    assert ended["short"] <= 2
    assert ended["second"] - ended["first"] > 900


async def test_answers_are_proto_json() -> None:
    """Names in lowerCamelCase, text as it is, times as RFC 3339, payloads as any JSON."""
    answer = pb.DecideResponse(offer_id="ø", recorded=True, reason=pb.DECISION_REASON_CONTROL)
    answer.payload.update({"title": "Ævle", "list": [1.5, None, {"deep": True}]})
    answer.reward_deadline.FromJsonString("2026-11-29T12:00:00Z")
    written = await BY_HAND.write(DECIDE, answer.SerializeToString())
    assert "Ævle".encode() in written
    assert json.loads(written) == {
        "offerId": "ø",
        "recorded": True,
        "reason": "DECISION_REASON_CONTROL",
        "payload": {"title": "Ævle", "list": [1.5, None, {"deep": True}]},
        "rewardDeadline": "2026-11-29T12:00:00Z",
    }


async def test_a_message_too_large_is_refused_as_over_grpc() -> None:
    """By its size, before it is read."""
    limits = replace(Limits(), message_bytes_max=10)
    with pytest.raises(InvalidField, match="holds 11 bytes, more than 10; send less at once"):
        await _read(b" " * 11, Json(limits, lenient=False))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"requests": [' + "{}," * 400_000 + "{}]}", "request: may have at most 350,000 values"),
        ('{"context": {"features": ' + "[" * 400_000, "request: may have at most 350,000 values"),
        ('{"requests": [' + "{}," * 1_000 + "{}]}", "requests: at most 1000, got 1001"),
        (
            '{"requests": [{"includeOffers": [' + '"a",' * 1_000 + '"a"]}]}',
            r"requests\[0\].include_offers: at most 1000, got 1001",
        ),
        (
            '{"requests": [{"context": {"features": {'
            + ",".join(f'"{number}": {{}}' for number in range(1_001))
            + "}}}]}",
            r"requests\[0\].context.features: at most 1000, got 1001",
        ),
    ],
    ids=["objects", "lists", "items", "items of an item", "names"],
)
async def test_what_is_small_but_many_is_refused_before_it_is_read(text: str, said: str) -> None:
    """Else four megabytes of `{}` would be hundreds of them in memory, and hold everybody up."""
    with pytest.raises(InvalidField, match=f"^{said}"):
        await _read(text, method=BATCH)


async def test_the_largest_batch_has_no_more_values_than_may_be() -> None:
    """A thousand decisions, each with a hundred features."""
    features = {f"f{number}": {"number": 1} for number in range(Limits.features_max)}
    asked = {"campaign": "c", "decisionId": "d", "context": {"device": "tv", "features": features}}
    read = await _read(json.dumps({"requests": [asked] * Limits().batch_items_max}), method=BATCH)
    assert len(read.requests) == Limits().batch_items_max


async def test_a_walk_for_what_is_wrong_ends() -> None:
    """However much stands before it."""
    lists = ["blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics"]
    customer = {
        "preferences": {name: ["a"] * 1_000 for name in lists},
        "traits": {f"t{number}": {"value": {"number": 1}} for number in range(1_000)},
        "language": 3,
    }
    with pytest.raises(InvalidField, match="cannot be read, or something after it"):
        await _read(json.dumps({"customer": customer}), method=UPDATE)


@pytest.mark.parametrize("codec", [BY_HAND, BY_STUB], ids=["by hand", "by stub"])
async def test_a_name_that_stands_twice_is_found_at_once(codec: Json) -> None:
    """However many names stand before it: all others would wait for a search that compares each with each."""
    names = ",".join(f'"k{number}": 1' for number in range(100_000))
    began_s = process_time()
    with pytest.raises(InvalidField, match=r"^last: stands twice in one object$"):
        await _read(f'{{{names}, "last": 1, "last": 2}}', codec)
    assert process_time() - began_s < 5

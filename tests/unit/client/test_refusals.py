"""What a refused call means, in sentences."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from tilbud.client.refusals import Refusal, refusal, refusal_of_status


def _refused(code: str, message: str, *details) -> Refusal:
    status = status_pb2.Status(message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return refusal(code, message, status.SerializeToString(), target="here:1", timeout_s=2.5)


def _info(reason: str):
    return error_details_pb2.ErrorInfo(domain="tilbud", reason=reason)


def test_each_field_has_a_line() -> None:
    """Violations are lines that begin with their field; another question is wanted, not another try."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="context.time", description="write a year from 1970 to 9998")
    bad.field_violations.add(
        field="decision_id", description="decision_id 'a' was used before; choose a new id"
    )
    refused = _refused("INVALID_ARGUMENT", "two problems", _info("INVALID_FIELD"), bad)
    assert refused.lines == (
        "context.time: write a year from 1970 to 9998",
        "decision_id 'a' was used before; choose a new id",
    )
    assert not refused.later


def test_what_is_unknown_says_where_to_look() -> None:
    """An unknown campaign names the command that lists them."""
    refused = _refused("NOT_FOUND", "campaign 'x' is not served here", _info("UNKNOWN_CAMPAIGN"))
    assert refused.lines == ("campaign 'x' is not served here; `tilbud campaigns` lists those that are",)


def test_what_may_be_tried_again_says_when() -> None:
    """RetryInfo is told in seconds."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1_500)
    refused = _refused("RESOURCE_EXHAUSTED", "too many calls", _info("OVERLOADED"), retry)
    assert refused.lines == ("too many calls; try again in 1.5 s",)
    assert refused.later


def test_what_grpc_says_is_told_in_other_words() -> None:
    """No sentence about sockets: where, what is likely, and what helps."""
    raw = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: connect: refused (111)"
    away = refusal("UNAVAILABLE", raw, None, target="here:1", timeout_s=2.5, option="--target")
    assert away.lines == (
        "here:1: no service answers there; start one with `tilbud serve`, or name it with --target",
    )
    late = "Deadline Exceeded"
    slow = refusal("DEADLINE_EXCEEDED", late, b"\xff", target="here:1", timeout_s=2.5, option="--target")
    assert slow.lines == ("here:1: no answer within 2.5 s; try again, or wait longer with --timeout",)
    assert away.later
    assert slow.later


def test_a_program_is_told_without_options() -> None:
    """Who asks by no command line reads of no option."""
    for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        assert "--" not in str(refusal(code, "", None, target="here:1", timeout_s=2.5))


def test_an_item_of_a_batch_has_its_own_fields() -> None:
    """Not those of the batch: its position says nothing to who reported it alone."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="requests[7].outcome", description="must be one that is declared")
    status = status_pb2.Status(code=3, message="one problem")
    for detail in (_info("INVALID_FIELD"), bad):
        status.details.add().Pack(detail)
    refused = refusal_of_status(status)
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refused.fields == {"outcome": "must be one that is declared"}
    assert str(refused) == "outcome: must be one that is declared"


def test_details_that_cannot_be_read_are_passed_over() -> None:
    """They are another server's, and must not end the thread that reads them."""
    status = status_pb2.Status(code=14, message="away")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    assert refusal_of_status(status).later

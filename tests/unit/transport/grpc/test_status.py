"""Every expected error becomes a gRPC status that helps to mend it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from tilbud.domain import errors
from tilbud.domain.errors import CampaignInvalid, InvalidField, Problem, TilbudError
from tilbud.ledger.answers import StillCommitting
from tilbud.runtime.backup import BackupRefused
from tilbud.runtime.supervisor import WorkerEnded
from tilbud.transport.grpc.status import (
    CODES,
    EXPECTED,
    internal_status,
    status_of,
    trailers_of,
    unimplemented_status,
)

ROOT = Path(__file__).resolve().parents[4]

M = TypeVar("M", bound=Message)
EXAMPLES: dict[type[TilbudError], tuple[TilbudError, StatusCode]] = {
    type(error): (error, code)
    for error, code in (
        (InvalidField("context.device", "too long"), StatusCode.INVALID_ARGUMENT),
        (errors.AnswersTooLarge(4_000_000), StatusCode.INVALID_ARGUMENT),
        (errors.RequestMissing("the call ended without one"), StatusCode.INVALID_ARGUMENT),
        (errors.UnknownCampaign("c"), StatusCode.NOT_FOUND),
        (errors.UnknownDecision("c", "d"), StatusCode.NOT_FOUND),
        (errors.IdReused("decision_id", "d"), StatusCode.ALREADY_EXISTS),
        (errors.TooManyOutcomes(1_000), StatusCode.INVALID_ARGUMENT),
        (errors.DecisionExpired("d"), StatusCode.FAILED_PRECONDITION),
        (errors.UnknownCustomer("profile"), StatusCode.NOT_FOUND),
        (errors.CustomerChanged(), StatusCode.ABORTED),
        (errors.ConsentMissing("customer.traits"), StatusCode.FAILED_PRECONDITION),
        (errors.CustomerErased(), StatusCode.FAILED_PRECONDITION),
        (errors.Overloaded("the ledger", 0.25), StatusCode.RESOURCE_EXHAUSTED),
        (errors.LedgerUnavailable("disk full"), StatusCode.UNAVAILABLE),
        (errors.ModelUnavailable("no scores"), StatusCode.UNAVAILABLE),
        (CampaignInvalid((Problem("a.yaml", 3, "reward", "no"),)), StatusCode.INVALID_ARGUMENT),
    )
}


def concrete(kind: type[TilbudError]) -> list[type[TilbudError]]:
    """Return the errors below one that have no errors below them."""
    below = [each for child in kind.__subclasses__() for each in concrete(child)]
    return below or [kind]


def detail(status: status_pb2.Status, kind: type[M]) -> M:
    """Return the one detail of that kind."""
    [packed] = [each for each in status.details if each.TypeName() == kind.DESCRIPTOR.full_name]
    message = kind()
    packed.Unpack(message)
    return message


OPERATORS_ONLY = {
    BackupRefused,
    errors.CheckpointInvalid,
    errors.LeaseLost,
    errors.LedgerInvalid,
    WorkerEnded,
}
AS_OTHERS = {errors.UndeclaredOutcome, StillCommitting}  # to a caller there is no difference
CALLERS = [kind for kind in concrete(TilbudError) if kind not in OPERATORS_ONLY | AS_OTHERS]


@pytest.mark.parametrize("kind", CALLERS, ids=lambda kind: kind.__name__)
def test_every_error_a_caller_can_meet_has_a_code(kind):
    """Each error a caller can do something about has its code, its message and an ErrorInfo of tilbud."""
    error, expected = EXAMPLES[kind]
    code, status = status_of(error)
    assert code is expected
    assert status.code == code.value[0]
    assert status.message == str(error)
    info = detail(status, error_details_pb2.ErrorInfo)
    assert info.domain == "tilbud"
    assert info.reason.replace("_", "").isupper()


@pytest.mark.parametrize("error", [errors.UndeclaredOutcome(["click"])])
def test_an_error_of_a_field_is_shown_as_one(error):
    """With the code and the reason of an invalid field, and the field."""
    code, status = status_of(error)
    assert code is StatusCode.INVALID_ARGUMENT
    assert detail(status, error_details_pb2.ErrorInfo).reason == "INVALID_FIELD"
    [violation] = detail(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == error.field


def test_reasons_differ():
    """A program can tell every error from any other by its reason."""
    reasons = [
        detail(status_of(error)[1], error_details_pb2.ErrorInfo).reason for error, _ in EXAMPLES.values()
    ]
    assert len(set(reasons)) == len(reasons)


def test_the_contract_lists_every_reason():
    """Whoever reads `decisions.proto` knows all that ErrorInfo.reason can say."""
    text = (ROOT / "proto/tilbud/v1/decisions.proto").read_text(encoding="utf-8")
    sentence = text[text.index("ErrorInfo.reason is one of") :].partition("the last with")[0]
    listed = set(re.findall(r"\b[A-Z_]{5,}\b", sentence))
    assert listed == {reason for _, _, reason in CODES} | {"NOT_IMPLEMENTED_YET", "INTERNAL"}


def test_an_error_without_a_code_is_our_mistake():
    """An error that nobody gave a code is a TypeError that says where to add it."""
    with pytest.raises(TypeError, match="add it to the table"):
        status_of(TilbudError("?"))
    assert not OPERATORS_ONLY & set(EXPECTED)


def violations(error: TilbudError) -> list[tuple[str, str]]:
    """Return the violations of an error's BadRequest."""
    bad_request = detail(status_of(error)[1], error_details_pb2.BadRequest)
    return [(each.field, each.description) for each in bad_request.field_violations]


def test_an_invalid_field_is_named():
    """An invalid field is a violation of its name, also within a batch."""
    error = InvalidField("context.device", "too long")
    assert violations(error) == [("context.device", "too long")]
    assert violations(error.under("requests[3]")) == [("requests[3].context.device", "too long")]
    assert str(error.under("requests[3]")) == "requests[3].context.device: too long"


def test_a_reused_id_is_named():
    """An id that was used before is a violation of its field."""
    [(field, problem)] = violations(errors.IdReused("event_id", "e1"))
    assert field == "event_id"
    assert "e1" in problem


def test_every_problem_of_campaign_files_is_a_violation():
    """Problems are violations of their keys, or of the file where they have none."""
    problems = (Problem("a.yaml", 3, "reward.range", "no"), Problem("b.yaml", 0, "", "gone"))
    assert violations(CampaignInvalid(problems)) == [
        ("reward.range", "a.yaml:3: reward.range: no"),
        ("b.yaml", "b.yaml: gone"),
    ]


@pytest.mark.parametrize(
    ("error", "seconds"), [(errors.Overloaded("x", 0.25), 0.25), (errors.LedgerUnavailable("x"), 0.1)]
)
def test_who_may_try_again_is_told_when(error, seconds):
    """An error that passes has RetryInfo with a delay."""
    delay = detail(status_of(error)[1], error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta().total_seconds() == seconds


@pytest.mark.parametrize("kind", list(EXAMPLES), ids=lambda kind: kind.__name__)
def test_only_what_passes_asks_to_try_again(kind):
    """Errors that repeating would not help have no RetryInfo."""
    _, status = status_of(EXAMPLES[kind][0])
    asks = any(each.TypeName() == "google.rpc.RetryInfo" for each in status.details)
    assert asks is (kind in (errors.Overloaded, errors.LedgerUnavailable))


def trailers_bytes(status: status_pb2.Status) -> int:
    """Return about what a status takes in trailers: the message percent-encoded, the details in base64."""
    encoded = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in status.message.encode())
    return encoded + status.ByteSize() * 4 // 3


@pytest.mark.parametrize("text", ["x" * 100_000, "æ" * 100_000, "%" * 100_000, "\ud800" * 100_000])
def test_a_status_fits_into_trailers(text: Any):
    """However long an error is, its status stays below the 8 KiB that clients accept, and valid."""
    problems = tuple(Problem("a.yaml", line, f"k{line}", text[:200]) for line in range(1, 1_000))
    for error in (
        InvalidField(text, text),
        errors.LedgerUnavailable(text),
        CampaignInvalid(problems),
        CampaignInvalid((Problem(text, 1, text, text),)),
    ):
        _, status = status_of(error)
        assert trailers_bytes(status) < 7_500
        assert status_pb2.Status.FromString(status.SerializeToString()) == status
        assert status.message.endswith("…")


def test_the_first_problems_are_the_ones_told():
    """Where not every problem fits, the first ones do."""
    problems = tuple(Problem("a.yaml", line, f"k{line}", "x" * 50) for line in range(1, 1_000))
    told = violations(CampaignInvalid(problems))
    assert [field for field, _ in told] == [f"k{line}" for line in range(1, len(told) + 1)]
    assert len(told) > 10


def test_the_unexpected_shows_a_correlation_id_only():
    """An unexpected error tells the caller an id to quote, and nothing else."""
    code, status = internal_status("abc123")
    assert (code, status.code) == (StatusCode.INTERNAL, 13)
    assert status.message == "internal error; correlation id abc123"
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason, dict(info.metadata)) == (
        "tilbud",
        "INTERNAL",
        {"correlation_id": "abc123"},
    )
    assert len(status.details) == 1


def test_what_does_not_work_yet_says_so():
    """A method of a later version is UNIMPLEMENTED by name."""
    code, status = unimplemented_status("ExplainDecision")
    assert (code, status.code) == (StatusCode.UNIMPLEMENTED, 12)
    assert "ExplainDecision" in status.message
    assert detail(status, error_details_pb2.ErrorInfo).domain == "tilbud"


def test_what_may_be_tried_again_says_when_to_grpc_too():
    """RetryInfo's delay is gRPC's own pushback, in milliseconds; without RetryInfo there is none."""
    assert dict(trailers_of(status_of(errors.Overloaded("it", 0.25))[1]))["grpc-retry-pushback-ms"] == "250"
    assert "grpc-retry-pushback-ms" not in dict(trailers_of(status_of(InvalidField("a", "b"))[1]))

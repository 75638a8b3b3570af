"""OpenFeature: a campaign as a flag, by its remote evaluation protocol (OFREP).

`POST /ofrep/v1/evaluate/flags/{campaign}` decides: the value is the payload of the drawn offer, the variant
its id. The targeting key is the customer; attributes named as fields of a context are those, `consent` says
yes or no, every other text, number or flag is a feature.

What holds: each evaluation is a decision like any other, recorded and learned from, shown at once; whoever
evaluates a flag several times for one view says `decisionId`, or has a campaign that is `sticky`. Its id is
in the metadata, to report outcomes by. A campaign's rules for consent hold here too.

What it does not do: evaluate all flags at once, which would record a decision in every campaign. Attributes
that are lists or objects are passed over: applications share one context among all their flags.

Source: https://github.com/open-feature/protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from grpc import StatusCode

from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.transport.call import Method
from tilbud.transport.connect.errors import STATUSES, refused
from tilbud.transport.connect.json_codec import dumped, loaded, too_large
from tilbud.transport.connect.responses import Response
from tilbud.transport.grpc.unary import Refusal
from tilbud.v1 import decisions_pb2 as pb

EVALUATE = b"/ofrep/v1/evaluate/flags/"
ALL_FLAGS = b"/ofrep/v1/evaluate/flags"
_FIELDS = {
    name: field.name
    for field in pb.Context.DESCRIPTOR.fields
    if field.name != "features"
    for name in (field.json_name, field.name)
}
_REASONS = {
    pb.DECISION_REASON_PERSONALIZED: "TARGETING_MATCH",
    pb.DECISION_REASON_CONTROL: "SPLIT",
    pb.DECISION_REASON_FALLBACK_CAMPAIGN_PAUSED: "DISABLED",
}
_ERRORS = {StatusCode.NOT_FOUND: "FLAG_NOT_FOUND", StatusCode.INVALID_ARGUMENT: "INVALID_CONTEXT"}


class Evaluation:
    """How one flag's evaluation is written: as a call of Decide."""

    def __init__(self, target: bytes, limits: Limits) -> None:
        self._key = unquote(target.removeprefix(EVALUATE).partition(b"?")[0].decode("latin-1"))
        self._limits = limits

    async def read(self, _method: Method, data: bytes) -> Message:
        if len(data) > self._limits.message_bytes_max:
            raise too_large(f"{len(data):,}", self._limits)
        asked = loaded(data, self._limits) if data else {}
        if not isinstance(asked, dict):
            raise InvalidField("request", "must be an object, such as {}")
        context = asked.get("context")
        if not isinstance(context, dict | None):
            raise InvalidField("context", "must be an object, such as {}")
        if context and len(context) > self._limits.batch_items_max:
            raise InvalidField("context", f"at most {self._limits.batch_items_max}, got {len(context)}")
        return _request(self._key, context or {})

    async def write(self, _method: Method, answer: Message | bytes) -> bytes:
        data = answer if isinstance(answer, bytes) else answer.SerializeToString()
        decision = pb.DecideResponse.FromString(data)
        metadata = {
            "decisionId": decision.decision_id,
            "reason": pb.DecisionReason.Name(decision.reason),
            "experiment": decision.variant,
            "probability": decision.probability,
            "modelVersion": decision.model_version,
            "recorded": decision.recorded,
        }
        return dumped({
            "key": self._key,
            "value": MessageToDict(decision.payload),
            "variant": decision.offer_id,
            "reason": _REASONS.get(decision.reason, "DEFAULT"),
            "metadata": metadata,
        })  # fmt: skip

    def refused(self, refusal: Refusal) -> Response:
        """Return why there is no value, as OpenFeature's providers read it."""
        code, status = refusal
        error = {"key": self._key, "errorCode": _ERRORS.get(code, "GENERAL"), "errorDetails": status.message}
        return Response(STATUSES[code], dumped(error), headers=refused(refusal).headers)


def all_flags() -> Response:
    """Return why they are not evaluated at once."""
    details = "evaluate one flag at a time: each evaluation records a decision"
    return Response(501, dumped({"errorCode": "GENERAL", "errorDetails": details}))


def _request(campaign: str, context: Mapping[str, Any]) -> pb.DecideRequest:
    request = pb.DecideRequest(campaign=campaign)
    for name, value in context.items():
        if name in {"targetingKey", "decisionId"}:
            if not isinstance(value, str):
                raise InvalidField(f"context.{name}", "must be text")
            if name == "targetingKey":
                request.customer_id = value
            else:
                request.decision_id = value
        elif name == "consent":
            if not isinstance(value, bool):
                raise InvalidField("context.consent", "must be true or false")
            request.consent = pb.CONSENT_GRANTED if value else pb.CONSENT_DENIED
        elif name in _FIELDS:
            _set(request.context, _FIELDS[name], value)
        else:
            _add_feature(request.context, name, value)
    return request


def _set(context: pb.Context, field: str, value: Any) -> None:
    try:
        ParseDict({field: value}, context)
    except (ParseError, TypeError, ValueError):
        kind = 'a time such as "2026-11-29T12:00:00Z"' if field == "time" else "text"
        raise InvalidField(f"context.{field}", f"must be {kind}") from None


def _add_feature(context: pb.Context, name: str, value: Any) -> None:
    try:
        if isinstance(value, bool):
            context.features[name].flag = value
        elif isinstance(value, int | float):
            context.features[name].number = value
        elif isinstance(value, str):
            context.features[name].category = value
    except (ValueError, OverflowError):  # half a character, a number of hundreds of digits
        raise InvalidField(f"context.{name[: Limits.text_chars_max]}", "cannot be read") from None

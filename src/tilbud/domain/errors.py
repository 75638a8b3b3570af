"""Every way a call can fail that a caller or an operator should understand.

    TilbudError                     has a message for people
    ├── RequestError                the caller can mend it
    │   ├── InvalidField            a field breaks its limit: names it
    │   │   ├── UndeclaredOutcome   neither its decision's rules nor today's file name it
    │   │   └── AnswersTooLarge     a batch whose answers the caller could not receive
    │   ├── RequestMissing          the call's message did not come
    │   ├── UnknownCampaign
    │   ├── UnknownDecision
    │   ├── IdReused                one id, two different requests
    │   ├── TooManyOutcomes         a decision has as many as it may
    │   ├── DecisionExpired         activated after its activation window
    │   ├── UnknownCustomer
    │   ├── CustomerChanged         the etag is not the newest
    │   ├── ConsentMissing          what needs consent was to be stored without it
    │   └── CustomerErased          only UpdateCustomer with consent brings them back
    ├── Overloaded                  try again a little later
    ├── LedgerUnavailable           nothing was recorded; try again
    ├── ModelUnavailable            no usable prediction; the fallback answers
    ├── CampaignInvalid             campaign files with problems, each with file, line, key, remedy
    ├── LeaseLost                   another process settles now; nothing was settled here
    ├── CheckpointInvalid           a checkpoint that must not be loaded
    └── LedgerInvalid               a data directory this version cannot serve

What holds: messages never contain customer data. How an error becomes a gRPC status is
`transport/grpc/status.py`'s business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


class TilbudError(Exception):
    """The root of every expected error."""


class RequestError(TilbudError):
    """The caller can mend it; repeating the call unchanged will not help."""


class InvalidField(RequestError):
    """A request field breaks its limit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def under(self, prefix: str) -> InvalidField:
        """Return the same error with the field's path below `prefix`, as in `requests[3]`."""
        return InvalidField(f"{prefix}.{self.field}", self.problem)


class UndeclaredOutcome(InvalidField):
    """An outcome that neither its decision's rules nor today's file name."""

    def __init__(self, declared: Collection[str], then: Collection[str] = ()) -> None:
        """`then` is what the decision's own rules name, where others are `declared` by now."""
        self.declared = tuple(declared)
        older = ", ".join(name for name in then if name not in self.declared)
        problem = f"must be one the campaign declares: {', '.join(self.declared)}"
        super().__init__("outcome", f"{problem}; of this decision also: {older}" if older else problem)


class AnswersTooLarge(InvalidField):
    """The answers of a batch take more bytes than a caller can receive; nothing of them was recorded."""

    def __init__(self, bytes_max: int, field: str = "requests") -> None:
        super().__init__(field, f"the answers take more than {bytes_max:,} bytes; ask for fewer at once")
        self._bytes_max = bytes_max

    def under(self, prefix: str) -> AnswersTooLarge:
        """Return the same error of one question of the batch."""
        return AnswersTooLarge(self._bytes_max, prefix)


class RequestMissing(RequestError):
    """A call ended, or waited too long, without its request message."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the request message is missing: {problem}")


class UnknownCampaign(RequestError):
    """No campaign of that id is served."""

    def __init__(self, campaign: str) -> None:
        super().__init__(f"campaign {campaign!r} is not served here")


class UnknownDecision(RequestError):
    """The campaign has no decision of that id, or its retention is over."""

    def __init__(self, campaign: str, decision_id: str) -> None:
        super().__init__(f"campaign {campaign!r} has no decision {decision_id!r}")


class IdReused(RequestError):
    """One id was used for two different requests."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"{field} {value!r} was used before for a different request; choose a new id")
        self.field = field


class TooManyOutcomes(RequestError):
    """A decision has as many outcomes as it may; this one was not stored."""

    def __init__(self, outcomes_max: int) -> None:
        self.field = "event_id"
        super().__init__(f"{self.field}: the decision has {outcomes_max:,} outcomes, as many as one may have")


class DecisionExpired(RequestError):
    """The decision was not activated within its campaign's activation window."""

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"decision {decision_id!r} was not activated in time and has expired; decide again")


class UnknownCustomer(RequestError):
    """What was asked for is not kept of the customer, or was erased."""

    def __init__(self, asked_for: str) -> None:
        super().__init__(f"this customer has no {asked_for}")


class CustomerChanged(RequestError):
    """The profile was changed since the caller read it."""

    def __init__(self) -> None:
        super().__init__("etag: the profile was changed since; read it again, then update")


class ConsentMissing(RequestError):
    """Something personal was to be stored without the customer's consent."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is stored only with the customer's consent; set consent to GRANTED first")
        self.field = field


class CustomerErased(RequestError):
    """The customer was erased, and has not come back."""

    def __init__(self) -> None:
        super().__init__("this customer was erased; UpdateCustomer with consent GRANTED brings them back")


class Overloaded(TilbudError):
    """A bounded queue or table is full; the call was refused before it changed anything."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(f"{what} is full; try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class LedgerUnavailable(TilbudError):
    """The ledger could not commit; nothing of the call was recorded."""


class ModelUnavailable(TilbudError):
    """The model could not give a usable prediction."""


class LeaseLost(TilbudError):
    """The lease to settle is another's, or nobody's: it ran out while this process was held up."""

    def __init__(self, token: int) -> None:
        super().__init__(f"the settling lease is no longer that of token {token}; another process may settle")
        self.token = token


class CheckpointInvalid(TilbudError):
    """A checkpoint differs from its manifest, or belongs to another model."""


class LedgerInvalid(TilbudError):
    """The data directory was written by a newer version, or is damaged."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a campaign file, worded so that it can be mended."""

    file: str
    line: int
    key: str
    problem: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.problem}" if self.key else f"{where}: {self.problem}"


class CampaignInvalid(TilbudError):
    """Campaign files cannot be loaded; `problems` says all that is wrong with them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

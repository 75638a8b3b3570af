"""The words of questions and answers, as enumerations of texts.

What holds: a word is the contract's constant without its prefix, in small letters. A constant of a newer
service that is not known here is `unknown`, and no error.
"""

from __future__ import annotations

from enum import StrEnum


class Consent(StrEnum):
    """May this customer's data be used to choose an offer?"""

    GRANTED = "granted"
    DENIED = "denied"
    UNSPECIFIED = "unspecified"
    """What the customer's profile says."""


class Reason(StrEnum):
    """Why a decision fell as it did."""

    PERSONALIZED = "personalized"
    """The bandit chose."""
    CONTROL = "control"
    """The control group's policy chose."""
    FALLBACK_NO_ELIGIBLE_OFFER = "fallback_no_eligible_offer"
    FALLBACK_NO_CONSENT = "fallback_no_consent"
    FALLBACK_NO_TIME = "fallback_no_time"
    FALLBACK_MODEL_UNAVAILABLE = "fallback_model_unavailable"
    FALLBACK_CAMPAIGN_PAUSED = "fallback_campaign_paused"
    DEFAULT = "default"
    """The service did not answer in time: this is the caller's own default."""
    UNKNOWN = "unknown"
    """A reason of a newer service."""


class OutcomeStatus(StrEnum):
    """What the service says of an outcome that it has."""

    ACCEPTED = "accepted"
    """It counts towards the decision's reward."""
    DUPLICATE = "duplicate"
    """It was reported before; nothing changed."""
    LATE = "late"
    """The decision takes no outcomes any more."""
    HELD = "held"
    """It will count once the decision is activated."""
    UNKNOWN = "unknown"
    """A status of a newer service."""


class Delivery(StrEnum):
    """Where a reported outcome is."""

    BUFFERED = "buffered"
    """Here, on its way or waiting for the service."""
    DELIVERED = "delivered"
    """With the service, durably."""
    REFUSED = "refused"
    """The service will not have it: a mistake of the caller."""
    DROPPED = "dropped"
    """Lost: the buffer was full, it waited too long, or the client was closed."""
    SKIPPED = "skipped"
    """Not sent: it names no decision, as that of a default or of an answer without a record."""

"""Which side of the experiment answers a decision.

What holds: the side depends on the key, the campaign and who or what is split alone, never on rules, model
or the draw's random number, so a retry lands on the same side, and within a variant every offer keeps its
exact probability. Where customers are split, one of them is on one side in every session, channel and
process; each campaign splits for itself. All lie on one line from 0 to 1, control from its beginning: a
share that changes moves those between the old and the new one, and nobody else.
"""

from __future__ import annotations

from typing import NamedTuple

from tilbud.domain.campaign.campaign import BY_CUSTOMER, BY_DECISION, CONTROL, PERSONALIZED, Variants
from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.draw import keyed_uniform

SPLIT = b"tilbud split"
SPLIT_PEOPLE = b"tilbud split who"  # apart: a caller's decision_id may look like a customer's key
DRAW = b"tilbud draw"


class Side(NamedTuple):
    """A side of the experiment, as it was assigned before any rule was asked."""

    variant: str
    share: float  # of those who are split that this side gets, in [0, 1]
    split: str  # what was split: BY_CUSTOMER or BY_DECISION


def side_of(
    variants: Variants, key: bytes, campaign: str, decision_id: str, customer: CustomerKey = b""
) -> Side:
    """Return the side of a decision; `customer` is ANONYMOUS where nobody was named, or may not be used."""
    split = BY_CUSTOMER if customer and variants.split == BY_CUSTOMER else BY_DECISION
    control = variants.control
    if control is None:
        return Side(PERSONALIZED, 1.0, split)
    place = (
        keyed_uniform(key, SPLIT_PEOPLE, campaign, customer.hex())
        if split == BY_CUSTOMER
        else keyed_uniform(key, SPLIT, campaign, decision_id)
    )
    if place < control.share:
        return Side(CONTROL, control.share, split)
    return Side(PERSONALIZED, 1.0 - control.share, split)

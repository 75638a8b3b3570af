"""Which side of the experiment answers a decision.

What holds: the split depends on the key and the ids alone, never on the draw's random number, so a
retry lands on the same side, and within a variant every offer keeps its exact probability.
"""

from __future__ import annotations

from tilbud.domain.campaign import CONTROL, PERSONALIZED, Variants
from tilbud.domain.choice import keyed_uniform

SPLIT = b"tilbud split"
DRAW = b"tilbud draw"


def variant_of(variants: Variants, key: bytes, campaign: str, decision_id: str) -> str:
    """Return `control` for the control group's share of decisions, else `personalized`."""
    control = variants.control
    if control is None or keyed_uniform(key, SPLIT, campaign, decision_id) >= control.share:
        return PERSONALIZED
    return CONTROL

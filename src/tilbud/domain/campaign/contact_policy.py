"""The contact policy: how often a customer may be contacted in a channel, whatever the campaign.

It stands in `contact.yaml` beside the campaigns:

    channels:
      push: {caps: [{times: 2, per: 1d}]}
    quiet_channels: [push, email]

What holds: it counts the exposures of all campaigns together. Whose quiet hours it are is the customer's own
word; here stands only where they are heeded. How caps remove offers is `frequency_caps.py`'s business.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tilbud.domain.campaign.fields import Caps, Given, Section, Word, Words, different
from tilbud.domain.limits import Limits


class ChannelRule(Section):
    """The limits of one channel."""

    caps: Caps
    """How often one customer may be shown something in this channel, by all campaigns together, such as
    `[{times: 2, per: 1d}]`. Every one of them must hold. Only customers who are named and may be recognised
    are counted."""


class ContactPolicy(Section):
    """How often a customer may be contacted in a channel, by all campaigns together."""

    channels: Annotated[dict[Word, ChannelRule], Field(max_length=Limits.labels_max)] = Field(
        default_factory=dict
    )
    """The rules of a channel, by its name as calls say it. A channel that is not listed has no limit here."""
    quiet_channels: Annotated[Words | None, AfterValidator(different), Given] = None
    """The channels that are silent during the quiet hours a customer asked for. Left out: every channel;
    `[]`: none."""


NO_CONTACT_POLICY = ContactPolicy()

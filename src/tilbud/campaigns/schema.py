"""The JSON Schemas of what people write: of campaign files, and of `contact.yaml`.

What holds: each says of every key what it is for, and of every value what shape it has. What several keys
must agree on is in neither; `tilbud check` says that.
"""

from __future__ import annotations

from typing import Any

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.campaign.fields import Section

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def campaign_schema() -> dict[str, Any]:
    """Return the schema of a campaign file."""
    return _schema(Campaign, "A campaign of Tilbud")


def contact_schema() -> dict[str, Any]:
    """Return the schema of `contact.yaml`."""
    return _schema(ContactPolicy, "The contact policy of Tilbud: contact.yaml")


def _schema(section: type[Section], title: str) -> dict[str, Any]:
    return {"$schema": _DIALECT, "title": title, **section.model_json_schema(by_alias=True)}

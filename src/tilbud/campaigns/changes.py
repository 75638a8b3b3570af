"""What a reload of the campaign files did, campaign by campaign.

What holds: a campaign is the same where its file's content and the contact policy beside it are. Pure: files
are compared as they were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilbud.campaigns.source import CampaignFile


@dataclass(frozen=True, slots=True)
class Changes:
    """Campaign ids by what a reload did to them, each sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    under_older_rules: Mapping[str, int]  # open decisions that settle by other rules than the file's
    rewards_not_converted: tuple[str, ...]  # whose settled rewards are perhaps of another unit


def is_same(before: CampaignFile, after: CampaignFile) -> bool:
    """Say whether two readings of a campaign's file serve the same."""
    return (before.sha256, before.contact) == (after.sha256, after.contact)


def changes_between(
    before: Mapping[str, CampaignFile],
    after: Mapping[str, CampaignFile],
    under_older_rules: Mapping[str, int],
    not_converted: tuple[str, ...],
) -> Changes:
    """Return what differs between the files that were served and those that are, by campaign."""
    both = sorted(before.keys() & after.keys())
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(name for name in both if not is_same(before[name], after[name])),
        removed=tuple(sorted(before.keys() - after.keys())),
        unchanged=tuple(name for name in both if is_same(before[name], after[name])),
        under_older_rules={name: under_older_rules[name] for name in sorted(under_older_rules)},
        rewards_not_converted=not_converted,
    )

"""What is served where nothing is said."""

from tilbud.campaigns.source import load_campaigns
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import Settings


def test_the_samples_are_served_where_no_campaign_is_named():
    """The campaigns of a service that was told of none are the package's samples."""
    served = load_campaigns(Settings().campaigns, Limits())
    assert {file.campaign.campaign for file in served} == {"hillstrom", "homepage-hero", "newsletter", "shop"}

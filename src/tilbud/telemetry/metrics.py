"""Every metric the service exports, in one registry, under the names dashboards and alerts rely on.

What holds: what a campaign may count is there at 0 while it is served and gone with it, whatever part counts
it. What is counted, and by whom: `decisions.py`, `learning.py`, `process.py`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, disable_created_metrics

from tilbud.domain.campaign.campaign import Campaign
from tilbud.telemetry.decisions import DecisionMetrics
from tilbud.telemetry.families import Families
from tilbud.telemetry.learning import LearningMetrics
from tilbud.telemetry.process import ProcessMetrics


class Metrics:
    """The metrics of one process, in one registry; each part goes to who counts into it."""

    def __init__(self, registry: CollectorRegistry, *, version: str, vw_version: str) -> None:
        # Creation times double the samples and say nothing a scrape does not know.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
        self.registry = registry
        families = Families(registry)
        self.decisions = DecisionMetrics(families)
        self.learning = LearningMetrics(families)
        self.process = ProcessMetrics(families, version=version, vw_version=vw_version)
        self._offers: dict[str, frozenset[str]] = {}  # of the file that is served, by campaign

    def served(self, campaign: Campaign, contexts_max: int) -> None:
        """Begin at 0 all that a campaign may count; by context only where that is at most so many series.

        Offers that are neither in this file nor in the one served before it have their series no more: what
        is open of the one before may settle yet.
        """
        self._keep_offers(campaign)
        self.decisions.served(campaign, contexts_max)
        self.learning.served(campaign, contexts_max)

    def _keep_offers(self, campaign: Campaign) -> None:
        name = campaign.campaign
        offers = frozenset((*(offer.id for offer in campaign.offers), campaign.fallback.id))
        before = self._offers.get(name)
        self._offers[name] = offers
        if before is not None:
            self.decisions.keep_offers(name, offers | before)
            self.learning.keep_offers(name, offers | before)

    def forget(self, campaign: str) -> None:
        """Drop what is shown of a campaign that is served no more; what ends of it later begins at 0."""
        self.decisions.forget(campaign)
        self.learning.forget(campaign)
        self._offers.pop(campaign, None)

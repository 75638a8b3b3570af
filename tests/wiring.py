"""The service without processes: a ledger in memory, clocks moved by hand, the real model."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.builders import START_SERVICE_US, START_WALL_US

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.campaigns.source import CampaignFile, parse_campaign
from tilbud.deciding.pipeline import DecideService
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.clock import Now
from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.limits import Limits
from tilbud.learning.learner import Learner
from tilbud.learning.replica import open_model
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.ports import Ledger
from tilbud.service.customers import CustomerService
from tilbud.service.outcomes import ReportService
from tilbud.service.pauses import PauseService
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics

DRAW_KEY = bytes(range(32))


class HandClock:
    """Both clocks, moved by hand; the wall may jump alone."""

    def __init__(self) -> None:
        self.wall_us = START_WALL_US
        self.service_us = START_SERVICE_US
        self.wrong_us = 0  # by which the wall is ahead, and the steady clock not

    def now(self) -> Now:
        return Now(self.wall_us + self.wrong_us, self.service_us, self.wall_us)

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.wall_us += int(seconds * 1e6)
        self.service_us += int(seconds * 1e6)


class Record:
    """What is stored of customers in a ledger, each page read by a reader of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        async with self._ledger.reader() as reader:
            return await reader.export(key, after, limit, bytes_max)


class Wired:
    """One campaign, served from memory."""

    def __init__(
        self,
        yaml: str,
        checkpoints: Path,
        ledger: Ledger | None = None,
        *,
        holder: str = "only",
        clock: HandClock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.clock = clock or HandClock()
        self.ledger: Ledger = ledger or MemoryLedger(limits=self.limits)
        self.metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
        self.directory = checkpoints
        self.checkpoints = Checkpoints(checkpoints, self.limits.checkpoint_generations)
        self.catalog = Catalog()
        self.campaign: Campaign = parse_campaign(yaml.encode(), "test.yaml")
        self.lease = SettlingLease(
            holder=holder,
            coordination=self.ledger,
            clock=self.clock,
            metrics=self.metrics.learning,
            limits=self.limits,
            log=logger("test"),
        )
        self.learner = Learner(
            lease=self.lease,
            campaigns=self.catalog.all,
            settlement_log=self.ledger,
            retention=self.ledger,
            coordination=self.ledger,
            pauses=self.ledger,
            checkpoints=self.checkpoints,
            clock=self.clock,
            metrics=self.metrics.learning,
            limits=self.limits,
            log=logger("test"),
        )
        numbers = itertools.count()
        self.decide = DecideService(
            catalog=self.catalog,
            decisions=self.ledger,
            clock=self.clock,
            draw_key=DRAW_KEY,
            ledger_key=DRAW_KEY,
            metrics=self.metrics.decisions,
            limits=self.limits,
            new_id=lambda _now_us: f"made-{next(numbers)}",
        )
        self.report = ReportService(
            catalog=self.catalog,
            outcomes=self.ledger,
            clock=self.clock,
            metrics=self.metrics.decisions,
            limits=self.limits,
            wake=self.learner.wake,
        )

        self.pauses = PauseService(
            catalog=self.catalog,
            pauses=self.ledger,
            clock=self.clock,
            limits=self.limits,
            log=logger("test"),
        )
        self.customers = CustomerService(
            customers=self.ledger,
            record=Record(self.ledger),
            clock=self.clock,
            ledger_key=DRAW_KEY,
            metrics=self.metrics.decisions,
            limits=self.limits,
            relearn=self._relearn,
            log=logger("test"),
        )
        self.relearned = 0

    async def _relearn(self) -> None:
        self.relearned += 1

    async def start(self) -> Wired:
        """Open the ledger and serve the campaign."""
        await self.ledger.start(lambda _seconds, _rows: None)
        await self.serve()
        return self

    async def turn_after(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        """Have the learner take a turn as if it were so much later: a heartbeat is due after each second."""
        monkeypatch.setattr("tilbud.learning.learner.monotonic", lambda: time.monotonic() + seconds)
        await self.learner.turn()

    async def serve(self) -> None:
        """Serve the campaign with a model opened anew, as a start does."""
        file = CampaignFile(self.campaign, "test.yaml", "sha")
        models = {policy: await self.open(policy) for policy in self.campaign.policies}
        for model in models.values():
            self.learner.opened(model)
        self.catalog.replace([ServedCampaign(file, models, self.limits)])

    def serve_also(self, yaml: str) -> ServedCampaign:
        """Serve another campaign beside."""
        campaign = parse_campaign(yaml.encode(), "other.yaml")
        models = {PERSONALIZED: Model(campaign, limits=self.limits)}
        other = ServedCampaign(CampaignFile(campaign, "other.yaml", "sha"), models, self.limits)
        self.catalog.replace([*self.catalog.all(), other])
        return other

    async def open(self, policy: str = PERSONALIZED) -> Model:
        """Open the model of a policy of the campaign."""
        return await open_model(
            self.campaign,
            policy,
            history=self.ledger,
            checkpoints=self.checkpoints,
            limits=self.limits,
            log=logger("test"),
        )

    @property
    def served(self) -> ServedCampaign:
        """The campaign as it is served now."""
        return self.catalog.all()[0]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels."""
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"tilbud_{name}" and labels.items() <= sample.labels.items()
        )

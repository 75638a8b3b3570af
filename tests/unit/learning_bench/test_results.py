"""The learning bench goes on where it ended, and judges what it found."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from learning_bench.cells import Cell
from learning_bench.references import LINUCB
from learning_bench.report import Report
from learning_bench.results import Results, measured
from learning_bench.runs import Figure, Run, runs
from learning_bench.service import ServiceLearner, campaign_file
from learning_bench.shops import shop, visitors, world
from tilbud.campaigns.source import parse_campaign
from tilbud.domain.decision.draw import Choice


def tiny(seed: int):
    """A world of two offers, one of which is always bought and the other never."""
    words = visitors(seed, 300)
    rates = (words["device"][:, None] == [0, 1]).astype(float)
    return world(seed, words, rates, offers=({}, {}))


TINY = Cell("tiny", "rates", tiny)
METHODS = ("balanced", LINUCB, "even")


def figure(cell: str, method: str, seed: int, share: float, newcomers: tuple[float, ...] = ()) -> Figure:
    """A figure as a run would give it."""
    return Figure(Run(cell, method, seed), share, share, share, 0.1, newcomers)


def all_measured(results: Results, wanted: list[Run], jobs: int = 1) -> None:
    """Do what is missing."""
    for each in measured([TINY], results.missing(wanted), jobs, seconds=1e6):
        results.add(each)


def without_time(figures: list[Figure]) -> list[Figure]:
    """Figures, but for how long they took."""
    return [replace(each, seconds=0.0) for each in figures]


def test_a_tiny_cell_takes_seconds(tmp_path):
    """The service and references live through a tiny world; an even share earns nothing, LinUCB most."""
    began = time.monotonic()
    wanted = runs([TINY], METHODS, range(1, 2), "")
    results = Results(tmp_path / "figures.jsonl")
    all_measured(results, wanted)
    balanced, linucb, even = results.of(wanted)
    assert even.share == pytest.approx(0, abs=1e-12)
    assert linucb.share > 0.9
    assert balanced.share > 0.1
    assert time.monotonic() - began < 10


def test_a_run_that_was_cut_off_goes_on_to_the_same_table(tmp_path):
    """A file with some of the figures and half a line ends as the file of a run that was not cut off."""
    wanted = runs([TINY], METHODS, range(1, 3), "")
    whole = Results(tmp_path / "whole.jsonl")
    all_measured(whole, wanted)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    cut = tmp_path / "cut.jsonl"
    cut.write_text("\n".join([*lines[:2], lines[2][:20]]))
    results = Results(cut)
    assert len(results.missing(wanted)) == len(wanted) - 2
    all_measured(results, wanted)
    again = Results(cut)
    assert again.missing(wanted) == []
    assert without_time(again.of(wanted)) == without_time(whole.of(wanted))
    assert Report([TINY], again.of(wanted)).rows() == Report([TINY], whole.of(wanted)).rows()


def test_two_processes_find_the_same(tmp_path):
    """Figures do not depend on how many processes there are, nor on their order."""
    wanted = runs([TINY], METHODS, range(1, 3), "")
    one, two = Results(tmp_path / "one.jsonl"), Results(tmp_path / "two.jsonl")
    all_measured(one, wanted)
    all_measured(two, wanted, jobs=2)
    assert without_time(one.of(wanted)) == without_time(two.of(wanted))


def test_other_arguments_are_other_runs():
    """What was measured under other VW arguments does not stand for the preset's; references have none."""
    plain, other = (runs([TINY], METHODS, range(1, 2), text) for text in ("", "--gamma_scale 9"))
    assert plain[0].key() != other[0].key()
    assert [run.key() for run in plain[1:]] == [run.key() for run in other[1:]]


def test_nothing_begins_when_the_time_is_up():
    """A call that has no time left measures nothing."""
    wanted = runs([TINY], METHODS, range(1, 2), "")
    assert list(measured([TINY], wanted, 1, seconds=0.0)) == []


def test_a_cell_is_judged_beside_linucb_of_the_same_seeds():
    """`under` is below by more than 0.03 beyond two standard errors, `over` above beyond two."""
    cells = [Cell(name, "rates", tiny) for name in ("worse", "alike", "better")]
    figures = [
        figure(cell.name, method, seed, 0.8 + seed / 100 + by * (method == "balanced") + 0.001 * (seed % 2))
        for cell, by in zip(cells, (-0.1, -0.02, 0.05), strict=True)
        for method in METHODS[:2]
        for seed in range(1, 6)
    ]
    report = Report(cells, figures)
    assert [report.verdict(cell, "balanced") for cell in cells] == ["under", "", "over"]
    worst = report.worst("balanced")
    assert worst is not None
    assert worst[1] == "worse"
    assert worst[0] == pytest.approx(0.7306)
    difference = report.beside_linucb("alike", "balanced")
    assert difference is not None
    assert difference.mean == pytest.approx(-0.02)


def test_what_is_wanted_is_judged_by_itself():
    """A cell with a figure that is wanted says so where it is not reached, whatever LinUCB has."""
    cell = Cell("flags", "features", tiny, wanted=0.84)
    assert Report([cell], [figure("flags", "balanced", 1, 0.7)]).verdict(cell, "balanced") == "< 0.84"


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((9.0, 0.1, 6.0), "floods"),
        ((1.1, 0.1, 6.0), "even"),
        ((0.1, math.nan, math.nan), "starves"),
        ((1.1, 0.3, 6.0), "even, stays"),
        ((1.1, 0.1, 2.0), "even, not on top"),
    ],
)
def test_newcomers_are_judged_by_what_they_get(shares, verdict):
    """At first about an even share; a worthless one none after 200 settlements, the best most after 1,000."""
    cell = Cell(
        "new", "newcomers", tiny, newcomers_after_200=(0.0, 0.2), newcomers_after_1000=(5.0, math.inf)
    )
    report = Report([cell], [figure("new", "balanced", 1, 0.5, shares)])
    assert report.verdict(cell, "balanced") == verdict
    assert report.worst("balanced") is None


def test_means_over_cells_are_by_seed():
    """The error of a mean over cells knows that cells share seeds; a seed without all of them is left out."""
    cells = [Cell("one", "rates", tiny), Cell("two", "rates", tiny, stationary=False)]
    figures = [figure("one", "balanced", seed, 0.1 * seed) for seed in (1, 2, 3)]
    figures += [figure("two", "balanced", seed, 0.1 * seed + 0.2) for seed in (1, 2)]
    report = Report(cells, figures)
    for among, mean, error in (
        (lambda _: True, 0.25, 0.05),
        (lambda cell: cell.stationary, 0.2, 0.1 / math.sqrt(3)),
    ):
        found = report.over_cells("balanced", among)
        assert found is not None
        assert (found.mean, found.error) == pytest.approx((mean, error))


def test_the_table_and_the_picture_are_written(tmp_path):
    """The table has a row for each cell and means below, in Markdown too; the picture is a PNG."""
    pytest.importorskip("matplotlib", reason="the extra `watch` is not installed")
    figures = [figure("tiny", method, seed, 0.8) for method in METHODS for seed in (1, 2)]
    report = Report([TINY], figures)
    assert [row[0] for row in report.rows()] == [
        "cell", "tiny", "mean of rates", "mean, nothing changes", "mean of all", "worst",
    ]  # fmt: skip
    assert report.markdown().count("\n") == 7
    report.draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_world_is_a_campaign_file():
    """What a world needs is a valid campaign as people write it: its words, offers, range and discovery."""
    campaign = parse_campaign(campaign_file(shop(1, reward_range=(0.0, 10.0)), "balanced"), "bench.yaml")
    assert len(campaign.offers) == 10
    assert campaign.reward.range == (0.0, 10.0)
    assert campaign.exploration.discovery == 0.02


def test_the_service_learns_what_it_drew():
    """A service's learner that is paid for one offer alone comes to show it."""
    one = tiny(1)
    learner = ServiceLearner(one, "balanced")
    both = (0, 1)
    for decision in range(200):
        learner.scores(decision, both)
        drawn = decision % 2
        learner.learn(decision, both, Choice(drawn, (0.5, 0.5)), float(drawn))
    scores = learner.scores(200, both)
    learner.close()
    assert scores[1] > 0.9 * sum(scores)

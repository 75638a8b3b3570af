"""Figures in a file, one line each as they come, so that a second run goes on where the first ended.

What holds: a line is written whole or is passed over when read; a run that is in the file is not done again
unless its code changed, and then the newest line of it counts.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from learning_bench.cells import Cell
from learning_bench.runs import Figure, Run, measure


class Results:
    """The file of figures."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._figures: dict[str, Figure] = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                row = json.loads(line)
                self._figures[row["key"]] = Figure.of_row(row)
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a run that was killed, or of an older bench

    def of(self, runs: Sequence[Run]) -> list[Figure]:
        """Return the figures that are there of these runs, in their order."""
        return [self._figures[key] for run in runs if (key := run.key()) in self._figures]

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs of which there is no figure yet."""
        return [run for run in runs if run.key() not in self._figures]

    def add(self, figure: Figure) -> None:
        """Write a figure down."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        torn = self._file.exists() and self._file.read_bytes()[-1:] not in (b"\n", b"")
        with self._file.open("a") as lines:
            lines.write(("\n" if torn else "") + json.dumps(figure.as_row()) + "\n")
        self._figures[figure.run.key()] = figure


def measured(cells: Sequence[Cell], runs: Sequence[Run], jobs: int, seconds: float) -> Iterator[Figure]:
    """Yield the figures of runs as they come, from so many processes; begin none after so many seconds."""
    until = time.monotonic() + seconds
    by_name = {cell.name: cell for cell in cells}
    worlds = [
        (by_name[cell], list(of_one)) for (_, cell), of_one in groupby(runs, lambda run: (run.seed, run.cell))
    ]
    if jobs == 1:
        for cell, of_one in worlds:
            yield from _in_one_world(cell, of_one, until)
        return
    # Spawned: a forked process would share what threads of numpy and VW hold.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for figures in pool.imap_unordered(_all_in_one_world, [(*of_one, until) for of_one in worlds]):
            yield from figures


def _all_in_one_world(task: tuple[Cell, list[Run], float]) -> list[Figure]:
    return list(_in_one_world(*task))


def _in_one_world(cell: Cell, runs: list[Run], until: float) -> Iterator[Figure]:
    if time.monotonic() >= until:
        return
    world = cell.build(runs[0].seed)
    for run in runs:
        if time.monotonic() < until:
            yield measure(run, world)

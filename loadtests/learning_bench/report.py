"""The table and the picture of what was measured.

Each cell is a mean over seeds with its standard error. A method of the service is judged in each cell
beside LinUCB of the same seeds, by the mean of the differences: `under` where it lies more than ALLOWED below
beyond two standard errors, `over` where it lies above beyond two. The rows below are means over cells, by
seed first, so that their standard errors know that cells share seeds. Cells with newcomers say whether
newcomers are given about an `even` share before anything is known of them, whether a worthless one `stays`
after 200 settlements, and whether the best is `not on top` after 1,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from learning_bench.cells import Cell
from learning_bench.references import LINUCB
from learning_bench.runs import Figure
from learning_bench.worlds import Floats

ALLOWED = 0.03
ERRORS = 2.0
NOT_COMPARED = ("newcomers", "classes")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its standard error, which is NaN of one figure."""

    mean: float
    error: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Mean:
        """Return the mean of at least one figure."""
        values = np.asarray(figures, np.float64)
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(float(values.mean()), float(error))

    def __str__(self) -> str:
        """Write it as the table has it."""
        return f"{self.mean:.3f}" + ("" if math.isnan(self.error) else f" ±{self.error:.3f}")


class Report:
    """Figures by cell and method."""

    def __init__(self, cells: Sequence[Cell], figures: Sequence[Figure]) -> None:
        self._figures: dict[tuple[str, str], dict[int, Figure]] = {}
        self.methods: list[str] = []
        self._service = {figure.run.label for figure in figures if figure.run.is_service}
        for figure in figures:
            label = figure.run.label
            self._figures.setdefault((figure.run.cell, label), {})[figure.run.seed] = figure
            if label not in self.methods:
                self.methods.append(label)
        names = {cell for cell, _ in self._figures}
        self.cells = [cell for cell in cells if cell.name in names]
        self.seeds = sorted({seed for of_one in self._figures.values() for seed in of_one})

    def share(self, cell: str, method: str) -> Mean | None:
        """Return a method's share of the possible uplift in a cell."""
        figures = self._figures.get((cell, method))
        return Mean.of([figure.share for figure in figures.values()]) if figures else None

    def newcomers(self, cell: str, method: str) -> tuple[float, ...]:
        """Return the mean of `Figure.newcomers` over seeds; () where a cell has none."""
        rows = [figure.newcomers for figure in self._figures.get((cell, method), {}).values()]
        if not rows or not rows[0]:
            return ()
        columns = np.asarray(rows)
        return tuple(
            float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else math.nan
            for column in columns.T
        )

    def beside_linucb(self, cell: str, method: str) -> Mean | None:
        """Return the mean of a method's differences from LinUCB, over the seeds both have."""
        own, other = (self._figures.get((cell, each), {}) for each in (method, LINUCB))
        both = own.keys() & other.keys()
        return Mean.of([own[seed].share - other[seed].share for seed in sorted(both)]) if both else None

    def verdict(self, cell: Cell, method: str) -> str:
        """Return what a cell's figure means, in a word or two."""
        share, difference = self.share(cell.name, method), self.beside_linucb(cell.name, method)
        if share is None:
            return ""
        words = []
        if shares := self.newcomers(cell.name, method):
            words += _of_newcomers(cell, *shares)
        elif difference is not None and not math.isnan(difference.error):
            reach = ERRORS * difference.error
            if difference.mean + reach < -ALLOWED:
                words.append("under")
            elif difference.mean > reach:
                words.append("over")
        if cell.wanted is not None and share.mean < cell.wanted:
            words.append(f"< {cell.wanted:g}")
        return ", ".join(words)

    def over_cells(self, method: str, among: Callable[[Cell], bool]) -> Mean | None:
        """Return the mean over cells, of the seeds that have all of them."""
        names = [cell.name for cell in self.cells if among(cell)]
        by_cell = [self._figures.get((name, method), {}) for name in names]
        seeds = [seed for seed in self.seeds if by_cell and all(seed in of_one for of_one in by_cell)]
        if not seeds:
            return None
        return Mean.of([float(np.mean([of_one[seed].share for of_one in by_cell])) for seed in seeds])

    def worst(self, method: str) -> tuple[float, str] | None:
        """Return the lowest mean of a cell, and which."""
        shares = [
            (share.mean, cell.name)
            for cell in self.cells
            if compared(cell) and (share := self.share(cell.name, method))
        ]
        return min(shares) if shares else None

    def rows(self) -> list[list[str]]:
        """Return the table as text, its head first; a method of the service has a column for the verdict."""
        judged = [method for method in self.methods if method in self._service]
        head = ["cell"]
        for method in self.methods:
            head += [method, "beside LinUCB"] if method in judged else [method]
        rows = [head]
        for cell in self.cells:
            row = [cell.name]
            for method in self.methods:
                row.append(_text(self.share(cell.name, method)) + self._new(cell, method))
                if method in judged:
                    row.append(self.verdict(cell, method))
            rows.append(row)
        for name, among in self._means():
            row = [name]
            for method in self.methods:
                mean = self.over_cells(method, among)
                row.append(_text(mean))
                if method in judged:
                    linucb = self.over_cells(LINUCB, among)
                    row.append(f"{mean.mean - linucb.mean:+.3f}" if mean and linucb else "")
            rows.append(row)
        row = ["worst"]
        for method in self.methods:
            worst = self.worst(method)
            row += [f"{worst[0]:.3f} {worst[1]}" if worst else ""] + [""] * (method in judged)
        return [*rows, row]

    def _means(self) -> list[tuple[str, Callable[[Cell], bool]]]:
        """Return which cells are taken together in the rows below, by name: each group, then all."""
        groups = dict.fromkeys(cell.group for cell in self.cells if compared(cell))
        return [
            *((f"mean of {group}", partial(_in_group, group)) for group in groups),
            ("mean, nothing changes", lambda cell: compared(cell) and cell.stationary),
            ("mean of all", compared),
        ]

    def _new(self, cell: Cell, method: str) -> str:
        shares = self.newcomers(cell.name, method)
        return f" ({', '.join(f'{share:.2g}' for share in shares)})" if shares else ""

    def table(self) -> Table:
        """Return the table for a terminal."""
        rows = self.rows()
        table = Table(
            title="share of the possible uplift; of newcomers, times an even share: first, after 200, 1,000"
        )
        for column in rows[0]:
            table.add_column(column)
        for number, row in enumerate(rows[1:], start=1):
            table.add_row(*row, end_section=number == len(self.cells))
        return table

    def markdown(self) -> str:
        """Return the table for a document."""
        head, *rows = [f"| {' | '.join(row)} |" for row in self.rows()]
        return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows]) + "\n"

    def draw(self, file: Path) -> None:
        """Draw every cell: each method a mark with two standard errors to each side, the service's filled."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - only where it is asked for
        from matplotlib.figure import Figure as Picture  # noqa: PLC0415

        names = [cell.name for cell in self.cells]
        picture = Picture(figsize=(9, 1.5 + 0.28 * len(names)), layout="constrained")
        FigureCanvasAgg(picture)
        axes = picture.add_subplot()
        places: Floats = np.arange(len(names), dtype=np.float64)
        for number, method in enumerate(self.methods):
            shares = [self.share(name, method) for name in names]
            means = [max(share.mean, -0.2) if share else math.nan for share in shares]
            errors = [
                0.0 if share is None or math.isnan(share.error) else ERRORS * share.error for share in shares
            ]
            shift = (number - (len(self.methods) - 1) / 2) * 0.6 / max(len(self.methods), 1)
            filled = None if method in self._service else "none"
            axes.errorbar(
                means, places + shift, xerr=errors, fmt="o", markersize=4, markerfacecolor=filled,
                elinewidth=0.8, label=method,
            )  # fmt: skip
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(-0.22, 1.02)
        axes.grid(axis="x", alpha=0.4)
        axes.set_xlabel(f"share of the possible uplift, mean of {len(self.seeds)} seeds, two standard errors")
        axes.legend(loc="lower left", fontsize="small")
        picture.savefig(file, dpi=130)


def _in_group(group: str, cell: Cell) -> bool:
    return cell.group == group


def _of_newcomers(cell: Cell, first: float, after_200: float, after_1000: float) -> list[str]:
    """Return how newcomers fare beside what is wanted; of what did not come to pass nothing is said."""
    low, high = cell.newcomers_first
    words = ["starves" if first < low else "floods" if first > high else "even"]
    if after_200 > cell.newcomers_after_200[1]:
        words.append("stays")
    if after_1000 < cell.newcomers_after_1000[0]:
        words.append("not on top")
    return words


def compared(cell: Cell) -> bool:
    """Say whether a cell counts in the means.

    Those with newcomers are judged by what newcomers get, and tables for classification are no shops.
    """
    return cell.group not in NOT_COMPARED


def _text(mean: Mean | None) -> str:
    return "" if mean is None else str(mean)

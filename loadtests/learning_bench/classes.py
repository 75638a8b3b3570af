"""Tables for classification as bandits: the offers are the classes, and the right one is worth 1.

The rows come in an order that the seed decides, over and over where there are few. Sets are read from where
they are installed or from a file the caller names, a CSV with a header or a KEEL `.dat`, the class in the
last column; none is part of this project. Accuracy is the figure's rate; its share counts guessing as 0.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from learning_bench.cells import Cell
from learning_bench.shops import world
from learning_bench.worlds import SHOP_AXES, Floats, Integers, World

GROUP = "classes"
DECISIONS = 10_000


def cells(files: Sequence[Path], *, digits: bool) -> list[Cell]:
    """Return a cell for each of these files, and for the digits that come with scikit-learn."""
    found = [Cell(file.stem, GROUP, partial(from_file, file=file), has_numbers=True) for file in files]
    return [*([Cell("digits", GROUP, from_digits, has_numbers=True)] if digits else []), *found]


def from_digits(seed: int) -> World:
    """Return scikit-learn's 1,797 handwritten digits, 64 numbers each."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only where it is asked for

    pixels, digits = load_digits(return_X_y=True)
    numbers = {f"pixel_{index}": pixels[:, index] for index in range(pixels.shape[1])}
    return bandit(seed, numbers, {}, digits.astype(np.int64))


def from_file(seed: int, file: Path) -> World:
    """Return a table's rows; ValueError where it has none."""
    with file.open(newline="") as lines:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(line for line in lines if line.strip() and not line.startswith("@"))
        ]
    if file.suffix != ".dat":
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{file} has no rows")
    *columns, classes = zip(*rows, strict=True)
    numbers: dict[str, Floats] = {}
    words: dict[str, Integers] = {}
    for index, cells_of_one in enumerate(columns):
        try:
            numbers[f"number_{index}"] = np.array(
                [float("nan") if cell in ("", "?") else float(cell) for cell in cells_of_one]
            )
        except ValueError:
            words[f"word_{index}"] = np.unique(cells_of_one, return_inverse=True)[1]
    return bandit(seed, numbers, words, np.unique(classes, return_inverse=True)[1])


def bandit(seed: int, numbers: dict[str, Floats], words: dict[str, Integers], classes: Integers) -> World:
    """Return a world of these rows: numbers and words by name, and the class of each."""
    rows, generator = len(classes), np.random.default_rng([seed, 1])
    rounds = -(-DECISIONS // rows)
    order = np.concatenate([generator.permutation(rows) for _ in range(rounds)])[: max(DECISIONS, rows)]
    offers = int(classes.max()) + 1
    return world(
        seed,
        {axis: np.zeros(len(order), np.int64) for axis in SHOP_AXES}
        | {name: column[order] for name, column in words.items()},
        (classes[order][:, None] == np.arange(offers)).astype(np.float64),
        numbers={name: column[order] for name, column in numbers.items()},
        offers=({},) * offers,
    )

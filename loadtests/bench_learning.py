"""How well does the service learn, out of the box, beside what is known to learn well?

    python loadtests/bench_learning.py --seeds 20 --jobs 2 --results figures.jsonl --picture figures.png
    python loadtests/bench_learning.py --cells numbers,shop --preset balanced,cautious --methods LinUCB
    python loadtests/bench_learning.py --cells none --digits --hillstrom hillstrom.csv --costs

In one process or a few, without a server: campaign file, encoder, model, draw, settlement and learning are
the service's own, the visitors and their tastes are made, and the truth is known. Figures are written to a
file as they come; the same command again goes on where it ended, and prints the table of what is there.
What is measured, and how it is judged: `loadtests/learning_bench/`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from rich.console import Console

from learning_bench import classes, costs, curves, logs
from learning_bench.cells import CELLS, GROUPS, Cell, chosen
from learning_bench.references import LINUCB, REFERENCES
from learning_bench.report import Report
from learning_bench.results import Results, measured
from learning_bench.runs import Run, runs
from tilbud.bandit.presets import PRESETS
from tilbud.bandit.vw import VW_VERSION

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> None:
    """Measure what is missing, and print all of it."""
    options = _options()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    console = Console(width=options.width)
    console.print(f"seeds {seeds.start} to {seeds.stop - 1}, results in {options.results}", highlight=False)
    results = Results(options.results)
    cells = [*options.cells, *classes.cells(options.classes, digits=options.digits)]
    methods = [*options.preset, *options.methods]
    wanted = runs(cells, methods, seeds, options.arguments)
    _measure(console, results, cells, wanted, options)
    report = Report(cells, results.of(wanted))
    if report.cells:
        console.print(report.table())
    if options.markdown:
        options.markdown.write_text(report.markdown())
    if options.picture:
        report.draw(options.picture)
    if options.curves:
        by_rate = curves.curves(seeds)
        curves.draw(by_rate, seeds, options.curves)
        for line in curves.lines(by_rate):
            console.print(line, highlight=False)
    for line in logs.figures(options.hillstrom, options.open_bandit, methods, seeds):
        console.print(line, highlight=False)
    if options.costs:
        for line in costs.figures(options.preset):
            console.print(line, highlight=False)
    console.print(
        f"{len(results.of(wanted))} of {len(wanted)} runs, VW {VW_VERSION}, Python "
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores",
        highlight=False,
    )


def _measure(
    console: Console, results: Results, cells: list[Cell], wanted: list[Run], options: argparse.Namespace
) -> None:
    missing = results.missing(wanted)
    done = len(wanted) - len(missing)
    for figure in measured(cells, missing, options.jobs, 60 * options.minutes):
        results.add(figure)
        done += 1
        run = figure.run
        console.print(
            f"{done}/{len(wanted)} {run.cell}, seed {run.seed}, {run.label}: {figure.share:.3f} "
            f"({figure.seconds:.1f} s)",
            highlight=False,
        )


def _options() -> argparse.Namespace:
    for name in THREADS:  # a process a core is told by --jobs, not by the algebra of each
        os.environ.setdefault(name, "1")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = ", ".join(GROUPS)
    parser.add_argument("--cells", type=_cells, default="all", help=f"all, none, {groups}, or names of cells")
    parser.add_argument("--preset", type=_presets, default="balanced", help="of the service; none for none")
    parser.add_argument("--arguments", default="", help="VW arguments over the presets', as in a campaign")
    parser.add_argument(
        "--methods", type=_methods, default=LINUCB, help=f"all, none, {', '.join(REFERENCES)}"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds of each kind")
    parser.add_argument("--first-seed", type=int, default=31)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no run begins")
    parser.add_argument(
        "--results", type=Path, default=Path("learning-bench.jsonl"), help="of this and earlier calls"
    )
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    parser.add_argument("--picture", type=Path, help="a PNG file; wants matplotlib (extra `watch`)")
    parser.add_argument(
        "--curves", type=Path, help="a PNG file: how soon it learns, by rate; wants matplotlib"
    )
    parser.add_argument("--width", type=int, default=150, help="of what is printed, in characters")
    parser.add_argument("--list", action="store_true", help="name the cells and end")
    parser.add_argument(
        "--costs", action="store_true", help="time of predict and learn, memory of a campaign"
    )
    parser.add_argument("--digits", action="store_true", help="as a cell; wants scikit-learn")
    parser.add_argument(
        "--classes",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a table for classification as a cell: CSV or KEEL's .dat; may be repeated",
    )
    parser.add_argument("--hillstrom", type=Path, metavar="FILE", help="the e-mail experiment's CSV file")
    parser.add_argument(
        "--open-bandit",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a random log of the Open Bandit Dataset, random/all/all.csv; may be repeated",
    )
    options = parser.parse_args()
    if options.list:
        for cell in CELLS.values():
            sys.stdout.write(f"{cell.group:10} {cell.name}\n")
        sys.exit()
    return options


def _cells(text: str) -> list[Cell]:
    try:
        return [] if text == "none" else chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _presets(text: str) -> list[str]:
    return _of(text, list(PRESETS))


def _methods(text: str) -> list[str]:
    return _of(text, list(REFERENCES))


def _of(text: str, known: list[str]) -> list[str]:
    names = {"all": known, "none": []}.get(text, text.split(","))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {name!r}; there are: all, none, {', '.join(known)}")
    return names


if __name__ == "__main__":
    main()

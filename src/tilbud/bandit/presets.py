"""Presets: how a campaign learns and tries, with a name, and what a campaign may change of it.

A preset is Vowpal Wabbit's arguments, and how its predictions become probabilities: either VW predicts what
an offer costs, and `scores.py` says how probably it is the best (`Trying`), or VW does both by an algorithm
of its own, which a campaign's own arguments may name.

What always holds: arguments come from an allow-list with a check on every value, so none can touch a
file, print, or change what a prediction is (`--elim` is missing since VW then predicts [-8, 1, 1, …]
on ties, so a new model could never answer); `arguments` is a function, so one campaign file always
gives one text, in one order, which is part of the lineage. Repeated options (crossings) of a campaign
are added to the preset's; any other replaces the preset's, and a campaign's own algorithm or optimiser
(--learning_rate means plain gradient descent) replaces the preset's with all its settings.

How well each learns, and where, `loadtests/bench_learning.py` prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from types import MappingProxyType

from tilbud.bandit.features import CONTEXT_NAMESPACES, NAMESPACES, OFFER_NAMESPACES
from tilbud.bandit.scores import Trying
from tilbud.domain.campaign.campaign import Exploration
from tilbud.domain.limits import Limits


@dataclass(frozen=True, slots=True)
class PresetArguments:
    """What a preset gives to VW, how it tries, and when to use it."""

    arguments: str
    purpose: str
    trying: Trying | None = None  # None: VW's own probabilities


_REGRESSION = "--ftrl --ftrl_alpha 0.045 --ftrl_beta 8"
"""Follow-the-regularised-leader takes steps that fit rewards in standard deviations without tuning. A large
beta keeps first steps small: of a weight little is believed until some sixteen settlements have told of it.
The context's own features stay in the regression (no --ignore_linear), for real contexts differ more than
offers do."""
_BITS = ((16, 15), (64, 16), (512, 18))
"""Up to so many offers, so many bits: 2^15 weights are half a megabyte, and room enough for sixteen."""
_BITS_MAX = 20
_CROSSINGS = " ".join(
    f"--quadratic {context}{offer}" for offer in OFFER_NAMESPACES for context in CONTEXT_NAMESPACES
)
"""Without context × offer there is no personalisation: what is the same for all offers ranks none."""

PRESETS: Mapping[str, PresetArguments] = MappingProxyType(
    {
        "balanced": PresetArguments(
            f"{_REGRESSION} {_CROSSINGS}",
            "Shows an offer as often as it may be the best, as far as is known: the one to begin with.",
            Trying(wide=0.1, up=0.15),
        ),
        "fast_changing": PresetArguments(
            f"--ftrl --ftrl_alpha 0.08 --ftrl_beta 4 {_CROSSINGS}",
            "Learns in larger steps and keeps trying what was tried least: for tastes that change often.",
            Trying(wide=0.1, up=0.3),
        ),
        "cautious": PresetArguments(
            f"{_REGRESSION} {_CROSSINGS}",
            "Shows what looks best almost always: for costly mistakes, and many decisions.",
            Trying(wide=0.03),
        ),
        "epsilon_greedy": PresetArguments(
            f"--epsilon 0.1 {_REGRESSION} {_CROSSINGS}",
            "Shows the best, and any offer a tenth of the time: the easiest to explain.",
        ),
        "uniform": PresetArguments(
            f"--epsilon 1 {_REGRESSION} {_CROSSINGS}",
            "Shows every offer as often as any other, and learns: to collect data first.",
        ),
    }
)
_PLAIN = "--cb_adf"  # VW predicts costs
_EXPLORING = "--cb_explore_adf"  # VW predicts probabilities
_DEEP = {"--cubic", "--interactions"}  # a campaign's own crossings of more than two
_IN_RANGE = ("--regcb", "--regcbopt")  # which take costs to lie in [0, 1]


def trying(exploration: Exploration, given: str) -> Trying | None:
    """Return how costs predicted with the `given` arguments become scores; None: they are probabilities.

    Those may be of another campaign file's time than `exploration`.
    """
    if given.split(maxsplit=1)[0] != _PLAIN:
        return None
    return PRESETS[exploration.preset].trying or PRESETS["balanced"].trying


def challenger(given: str, features: int) -> str:
    """Return the arguments of the regression that challenges one of these; "" where none does.

    It crosses offers with pairs of what is known of a visitor too: tastes that turn on two things at once.
    None does where a campaign declares so many `features` that pairs of them would cost more than they
    teach, where VW explores by itself, and where a campaign has crossings of its own.
    """
    words = given.split()
    if words[0] != _PLAIN or features > Limits.paired_features_max or _DEEP & set(words):
        return ""
    pairs = combinations_with_replacement(CONTEXT_NAMESPACES, 2)
    return " ".join([given, *(f"--cubic {one}{other}{NAMESPACES['offer']}" for one, other in pairs)])


def learns_deviations(given: str) -> bool:
    """Say whether a model of these arguments learns costs in deviations of the reward; else in [0, 1]."""
    return not any(name in given.split() for name in _IN_RANGE)


def arguments(exploration: Exploration, offers: int) -> str:
    """Return the VW arguments of a campaign; ValueError, with a remedy, where it may not have them.

    How many `offers` it has says how many weights it needs, in steps so wide that it seldom matters.
    """
    chosen = _read(PRESETS[exploration.preset].arguments)
    own = _read(exploration.arguments)
    if len([name for name in own if name in _ALGORITHMS]) > 1:
        raise ValueError(f"choose one of {', '.join(sorted(_ALGORITHMS))}")
    if any(name in _ALGORITHMS for name in own):
        chosen = {name: values for name, values in chosen.items() if name not in _ALGORITHM_SETTINGS}
    if any(name in _OPTIMIZERS for name in own):
        chosen = {name: values for name, values in chosen.items() if name not in _OPTIMIZER_SETTINGS}
    for name, values in own.items():
        chosen[name] = [*chosen.get(name, ()), *values] if name in _REPEATED else values
    chosen.setdefault("--bit_precision", [str(_bits(offers))])
    _check_together(chosen)
    words = [_EXPLORING if any(name in _ALGORITHMS or name == "--epsilon" for name in chosen) else _PLAIN]
    for name in sorted(chosen):
        for value in dict.fromkeys(chosen[name]):
            words += [name, value] if value else [name]
    return " ".join(words)


def _bits(offers: int) -> int:
    return next((bits for most, bits in _BITS if offers <= most), _BITS_MAX)


def _number(low: float, high: float) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"needs a number from {low:g} to {high:g}")
        return f"{number:g}"

    return check


def _whole(low: int, high: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"needs a whole number from {low} to {high}")
        return str(int(text))

    return check


def _letters(count: int, count_max: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not count <= len(text) <= count_max or set(text) - _LETTERS:
            names = ", ".join(f"{letter} {name}" for name, letter in NAMESPACES.items())
            raise ValueError(f"needs {count} to {count_max} of the letters {names}")
        return text

    return check


_LETTERS = frozenset(NAMESPACES.values())
_FLAG = None
_ALLOWED: Mapping[str, Callable[[str], str] | None] = MappingProxyType(
    {
        # How to explore
        "--epsilon": _number(0, 1),
        "--squarecb": _FLAG,
        "--gamma_scale": _number(1e-6, 1e9),
        "--gamma_exponent": _number(0, 1),
        "--regcb": _FLAG,
        "--regcbopt": _FLAG,
        "--mellowness": _number(0, 1e6),
        "--softmax": _FLAG,
        "--lambda": _number(0, 1e6),
        # How to learn
        "--learning_rate": _number(1e-9, 100),
        "--power_t": _number(0, 1),
        "--l1": _number(0, 1),
        "--l2": _number(0, 1),
        "--coin": _FLAG,
        "--ftrl": _FLAG,
        "--ftrl_alpha": _number(1e-9, 1e3),
        "--ftrl_beta": _number(0, 1e3),
        "--adaptive": _FLAG,
        "--invariant": _FLAG,
        "--normalized": _FLAG,
        "--noconstant": _FLAG,
        "--bit_precision": _whole(10, 24),
        "--random_seed": _whole(0, 2**31 - 1),
        # From what to learn
        "--quadratic": _letters(2, 2),
        "--cubic": _letters(3, 3),
        "--interactions": _letters(2, 4),
        "--ignore": _letters(1, 1),
        "--ignore_linear": _letters(1, 1),
    }
)
_SHORT = {"-l": "--learning_rate", "-b": "--bit_precision", "-q": "--quadratic"}
_REPEATED = frozenset({"--quadratic", "--cubic", "--interactions", "--ignore", "--ignore_linear"})
_ALGORITHMS = frozenset({"--squarecb", "--regcb", "--regcbopt", "--softmax"})
_ALGORITHM_SETTINGS = _ALGORITHMS | {
    "--epsilon", "--gamma_scale", "--gamma_exponent", "--mellowness", "--lambda",
}  # fmt: skip
_DESCENT = frozenset({"--learning_rate", "--power_t", "--adaptive", "--invariant", "--normalized"})
_OPTIMIZERS = frozenset({"--ftrl", "--coin", "--learning_rate", "--adaptive", "--invariant", "--normalized"})
_OPTIMIZER_SETTINGS = _OPTIMIZERS | {"--ftrl_alpha", "--ftrl_beta", "--power_t", "--l1", "--l2"}


def _read(text: str) -> dict[str, list[str]]:
    """Read options in any of the ways VW takes them: `--name value`, `--name=value`, `-b18`."""
    options: dict[str, list[str]] = {}
    words = _words(text)
    while words:
        name = words.pop(0)
        if name not in _ALLOWED:
            allowed = ", ".join(sorted(_ALLOWED))
            raise ValueError(f"{name!r} is not allowed here; allowed are: {allowed}")
        check = _ALLOWED[name]
        value = ""
        if check is not _FLAG:
            try:
                value = check(words.pop(0) if words else "")
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        if name in options and name not in _REPEATED:
            raise ValueError(f"{name} is there twice; keep one")
        options.setdefault(name, []).append(value)
    return options


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in text.split():
        name, equals, value = word.partition("=")
        if word[:2] in _SHORT:
            words += [_SHORT[word[:2]], *([rest] if (rest := word[2:].removeprefix("=")) else [])]
        elif equals and name.startswith("--"):
            words += [name, value]
        else:
            words.append(word)
    return words


def _check_together(chosen: Mapping[str, list[str]]) -> None:
    """Refuse what VW would refuse or drop without a word."""
    algorithm = next((name for name in chosen if name in _ALGORITHMS), "--epsilon")
    for name, users in _USED_BY.items():
        if name in chosen and algorithm not in users:
            raise ValueError(f"{name} has no meaning without {' or '.join(users)}; leave it out")
    own_steps = [name for name in ("--ftrl", "--coin") if name in chosen]
    descent = sorted(_DESCENT & chosen.keys())
    if len(own_steps) > 1 or (own_steps and descent):
        raise ValueError(f"{' and '.join(own_steps + descent)} do not go together; choose one optimiser")


_USED_BY = {
    "--gamma_scale": ("--squarecb",),
    "--gamma_exponent": ("--squarecb",),
    "--mellowness": ("--regcb", "--regcbopt"),
    "--lambda": ("--softmax",),
    "--epsilon": ("--epsilon", "--squarecb", "--softmax"),
}

"""Vowpal Wabbit behind types: the one file that touches its Python package.

What always holds: every example made here goes back, through `finish` or `discard`, which is what keeps
VW's memory flat; nothing here prints, reads standard input or touches a file but the one that was asked for.
A workspace belongs to one thread; VW holds the GIL throughout.

Giving back an example is not harmless: VW then adds up a loss from the label it had last and from the
example's prediction. If that label came from another list, or the example still has the prediction of
an earlier use of its memory, it reads beyond the list's end and the process dies. So `finish` is for
the list just predicted or learned; for any other there is `discard`.

It calls what VW's Python package itself is built on: `parse`, `predict` and `finish_example` there take
17 µs for what takes 5 µs here (10 offers), most of it checks of types.

What it does not do: check anything. VW believes what it is given, see `model.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NewType, cast

import vowpalwabbit

Example = NewType("Example", object)
"""One parsed line. Only the workspace that made it may use it."""

VW_VERSION: str = vowpalwabbit.__version__
_FEW_EXAMPLES = ("--example_queue_limit", "2")
"""Else VW makes 256 examples beforehand, 7 MB that nobody uses; it makes more as they are asked for."""
_ONE_PER_OFFER = (
    vowpalwabbit.PredictionType.ACTION_PROBS,  # by its own exploration
    vowpalwabbit.PredictionType.ACTION_SCORES,  # predicted costs, in the order of the offers
)


class Workspace:
    """One VW model in memory, made from arguments or also from a saved model."""

    def __init__(self, arguments: str, saved: Path | None = None) -> None:
        """Raise RuntimeError where VW refuses the arguments or the saved model."""
        words = [*arguments.split(), "--quiet", "--no_stdin", *_FEW_EXAMPLES]
        if saved is not None:
            words += ["--initial_regressor", str(saved)]
        self._vw = vowpalwabbit.Workspace(arg_list=words)
        if self._vw.get_prediction_type() not in _ONE_PER_OFFER:
            raise RuntimeError("these arguments do not predict one number for each offer")
        self._neutral = self.parse("|o 0")

    def parse(self, text: str) -> list[Example]:
        """Parse lines into examples; the caller gives them back, whatever happens."""
        return cast("list[Example]", self._vw._parse(text))  # noqa: SLF001 - see above

    def finish(self, examples: list[Example]) -> None:
        """Give back what was just learned, or the shared example of what was just predicted."""
        self._vw._finish_example_multi_ex(examples)  # noqa: SLF001 - see above

    def discard(self, examples: list[Example]) -> None:
        """Give back any other examples: kept, never used, or used by a call that failed."""
        if examples:
            self._vw.predict_multi(self._neutral)  # without a label, so that VW forgets the one it had last
            self.finish(examples)

    def predict(self, examples: list[Example]) -> list[float]:
        """Return a probability or a cost for each example but the shared one, which comes first."""
        self._vw.predict_multi(examples)
        return cast("list[float]", cast("Any", examples[0]).get_action_scores())

    def learn(self, examples: list[Example]) -> list[float]:
        """Learn from examples that were parsed for this call, one of them with a label.

        Returns what would have been predicted before.
        """
        self._vw.learn_multi(examples)
        return cast("list[float]", cast("Any", examples[0]).get_action_scores())

    def save(self, path: Path) -> None:
        """Write the model, with all that continuing needs."""
        self._vw.save(str(path))

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        self._vw.finish()

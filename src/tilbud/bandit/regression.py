"""One VW workspace with the offers parsed for it: predicts, learns a lesson, is saved and loaded.

What holds: whatever fails inside VW costs that call alone, and every example goes back. Owned by one model,
so by one thread.

What it does not do: check what it is given, or know of settlements (`model.py`).
"""

from __future__ import annotations

from pathlib import Path

from tilbud.bandit.parsed import ParsedOffers, ParsedSet
from tilbud.bandit.saved import in_memory
from tilbud.bandit.vw import Workspace
from tilbud.domain.decision.records import OfferSet
from tilbud.domain.errors import ModelUnavailable


class Regression:
    """A workspace of these arguments."""

    def __init__(self, arguments: str, sets_max: int, content: bytes | None = None) -> None:
        """Start empty, or from what was saved; ModelUnavailable where VW refuses."""
        try:
            if content is None:
                self._workspace = Workspace(arguments)
            else:
                with in_memory(content) as file:
                    self._workspace = Workspace(arguments, file)
        except RuntimeError as error:
            raise ModelUnavailable(f"VW refused: {error}") from error
        self._offers = ParsedOffers(self._workspace, sets_max)

    def predict(self, context: str, offers: OfferSet) -> tuple[list[float], ParsedSet]:
        """Return what is predicted of each offer in a context, as VW reads it, and the offers parsed."""
        try:
            parsed = self._offers.of(offers)
            shared = self._workspace.parse(f"shared {context}")
            try:
                predicted = self._workspace.predict([*shared, *parsed.examples])
            except BaseException:
                self._workspace.discard(shared)
                raise
            self._workspace.finish(shared)
        except RuntimeError as error:
            self._offers.clear()  # VW may have stopped half-way through one of them
            raise ModelUnavailable(f"VW failed to predict: {error}") from error
        if len(predicted) != len(offers.ids):
            raise ModelUnavailable(f"{len(predicted)} predictions for {len(offers.ids)} offers")
        return predicted, parsed

    def learn(self, lesson: str) -> float | None:
        """Learn, and return what was predicted of the lesson before; None where VW failed."""
        try:
            examples = self._workspace.parse(lesson)
            try:
                [before] = self._workspace.learn(examples)
            except BaseException:
                self._workspace.discard(examples)
                raise
            self._workspace.finish(examples)
        except RuntimeError:
            return None
        return before

    def content(self, path: Path) -> bytes:
        """Return what continuing needs, by way of a file at `path`; OSError where that fails."""
        try:
            self._workspace.save(path)
        except RuntimeError as error:
            raise OSError(f"VW failed to save: {error}") from error
        return path.read_bytes()

    def close(self) -> None:
        """Free the memory. Safe to call twice."""
        self._offers.clear()
        self._workspace.close()

"""The service as a caller sees it: ask which offer to show, and say what came of it.

    from tilbud.client import Client

    with Client("127.0.0.1:50051") as client:
        decision = client.decide("shop", device="mobile", default="house")
        client.report("shop", decision.decision_id, "purchase")

client.py     `Client`, for threads          outbox.py    outcomes that wait until the service has them
aio.py        `AsyncClient`, for asyncio     sending.py   who sends them: a thread, or a task
questions.py  what is asked, as a request    away.py      when not to wait for a service that is away
answers.py    what was answered, as values   calls.py     a connection, and one call
words.py      the words of both              options.py   how a connection is kept
address.py    what to dial for an address    refusals.py  what a refused call means

What holds: it knows the contract and nothing of the service; it needs grpcio, protobuf and Google's own
messages (googleapis-common-protos) alone. Names are imported when they are used: a command's --help is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilbud.client.aio import AsyncClient
    from tilbud.client.answers import Decision, Explanation, Factor, OfferFate, RankedOffer
    from tilbud.client.client import Client
    from tilbud.client.outbox import Outcomes, Report
    from tilbud.client.questions import Question
    from tilbud.client.refusals import Refusal
    from tilbud.client.words import Consent, Delivery, OutcomeStatus, Reason

__all__ = [
    "AsyncClient",
    "Client",
    "Consent",
    "Decision",
    "Delivery",
    "Explanation",
    "Factor",
    "OfferFate",
    "OutcomeStatus",
    "Outcomes",
    "Question",
    "RankedOffer",
    "Reason",
    "Refusal",
    "Report",
]
_ROOMS = {
    "aio": ("AsyncClient",),
    "answers": ("Decision", "Explanation", "Factor", "OfferFate", "RankedOffer"),
    "client": ("Client",),
    "outbox": ("Outcomes", "Report"),
    "questions": ("Question",),
    "refusals": ("Refusal",),
    "words": ("Consent", "Delivery", "OutcomeStatus", "Reason"),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is named above when it is used."""
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)

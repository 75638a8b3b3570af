"""The plain endpoint that Tilbud is measured beside: FastAPI and one Vowpal Wabbit model.

One uvicorn worker with all it has to be fast; a question in JSON, the model asked through VW's own Python
package, an offer drawn, an answer in JSON. No rules, no ledger, no safe retries, nothing learned. An
answer that is not one probability for each offer is a server error. Prints where it listens and serves
until it is ended; `peers.py` starts it.
"""

from __future__ import annotations

import random
import socket
import sys

import uvicorn
import vowpalwabbit
from fastapi import FastAPI
from pydantic import BaseModel

from same_work import TOLERANCE, Work
from serving import SEED


class Question(BaseModel):
    """What is known of a visit."""

    device: str
    channel: str
    journey_stage: str


class Answer(BaseModel):
    """The offer to show."""

    offer_id: str
    probability: float


def endpoint() -> FastAPI:
    """Return the application around a new model."""
    work = Work()
    model = vowpalwabbit.Workspace(arg_list=[*work.vw_arguments, "--quiet", "--no_stdin"])
    generator = random.Random(SEED)
    offers = range(len(work.offer_ids))
    app = FastAPI()

    @app.post("/decide")
    async def decide(question: Question) -> Answer:
        scores = model.predict(work.example(question.device, question.channel, question.journey_stage))
        if len(scores) != len(offers) or abs(sum(scores) - 1.0) > TOLERANCE:
            raise RuntimeError(f"not a probability for each offer: {scores}")
        [drawn] = generator.choices(offers, scores)
        return Answer(offer_id=work.offer_ids[drawn], probability=scores[drawn])

    return app


def main() -> None:
    """Serve on any free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(endpoint(), log_level="error", access_log=False))
    sys.stdout.write(f"127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()

"""The no-op that Decide over HTTP is measured against: uvicorn around a function that answers.

It has all it has to be fast (uvloop, and the parser that the service has), reads the question as JSON and
writes an answer as long as the service's own. Prints where it listens and serves until it is ended;
`protocols.py` starts it.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from google.protobuf.json_format import MessageToDict

from echo import an_answer

Event = MutableMapping[str, Any]
_HEADERS = [(b"content-type", b"application/json")]


def application() -> Callable[..., Awaitable[None]]:
    """Return what answers."""
    answer = MessageToDict(an_answer())

    async def serve(scope: Event, receive: Callable[[], Awaitable[Event]], send: Any) -> None:
        assert scope["type"] == "http", scope["type"]
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        assert isinstance(json.loads(body), dict)
        written = json.dumps(answer).encode()
        length = (b"content-length", str(len(written)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]})
        await send({"type": "http.response.body", "body": written})

    return serve


def main() -> None:
    """Serve on any free port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    config = uvicorn.Config(application(), log_level="error", access_log=False, lifespan="off")
    sys.stdout.write(f"127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

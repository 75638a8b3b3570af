"""The two clients are one to whoever learns them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import tilbud.client
from tilbud.client import AsyncClient, Client

HEAVY = (
    "vowpalwabbit",
    "numpy",
    "pydantic",
    "yaml",
    "typer",
    "rich",
    "structlog",
    "uvloop",
    "prometheus_client",
)


def _public(kind: type) -> dict[str, inspect.Signature]:
    functions = inspect.getmembers(kind, inspect.isfunction)
    public = {name: inspect.signature(each) for name, each in functions if not name.startswith("_")}
    return {**public, "made": inspect.signature(kind)}


def test_both_have_the_same_calls() -> None:
    """The same names, arguments and answers."""
    assert _public(Client) == _public(AsyncClient)


def test_every_call_says_what_it_does() -> None:
    """An editor shows a docstring for each name of the package, and each call."""
    for name in tilbud.client.__all__:
        assert inspect.getdoc(getattr(tilbud.client, name)), name
    for name in set(_public(Client)) - {"made"}:
        assert inspect.getdoc(getattr(Client, name)) == (
            inspect.getdoc(getattr(AsyncClient, name)) or ""
        ).replace("await client.", "client."), name


def test_it_needs_grpc_and_protobuf_alone() -> None:
    """Whoever imports both clients imports nothing of the service, and nothing heavy."""
    code = (
        "import sys, tilbud.client.client, tilbud.client.aio; "
        "print(*sorted(each for each in sys.modules if each.startswith('tilbud.') or '.' not in each))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    imported = set(ran.stdout.split())
    assert {each.split(".")[1] for each in imported if each.startswith("tilbud.")} == {"client", "v1"}
    assert not imported & set(HEAVY)

"""The README's first minute works as written, but for the port."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from tests.conftest import Serve
from tests.running import Service

from tilbud.runtime.settings import SAMPLES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^\| `([a-z]+)` \|", README.partition("## Operations")[2], re.MULTILINE)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = Path(sys.executable).parent


def _blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture
def service(serve: Serve) -> Service:
    """What `make run` serves."""
    return serve(SAMPLES)


def test_the_python_of_the_first_minute_works(service: Service) -> None:
    """Decide and ReportOutcome as the README says: an offer, its probability, ACCEPTED."""
    (code,) = _blocks("python")
    code = code.replace("127.0.0.1:50051", service.target)
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    decided, reported = ran.stdout.splitlines()
    assert re.fullmatch(r"[\w-]+ 0\.\d+ \{'title': .*\}", decided)
    assert reported == "OUTCOME_STATUS_ACCEPTED"


def test_the_shell_of_the_first_minute_works(service: Service) -> None:
    """Each grpcurl line of the README runs: lists, decides, reports, explains, updates, pauses, resumes."""
    lines = [
        line
        for block in _blocks("console")
        for line in block.splitlines()
        if line.startswith(".venv/bin/grpcurl")
    ]
    answers = [
        subprocess.run(
            [str(COMMANDS / "grpcurl"), *shlex.split(line.replace("127.0.0.1:50051", service.target))[1:]],
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout
        for line in lines
    ]  # fmt: skip
    listed, decided, reported, explained, updated, *_ = answers
    assert len(answers) == 7
    assert "tilbud.v1.DecisionService" in listed
    assert json.loads(decided)["decision_id"] == "order-1"
    assert json.loads(reported)["status"] == "OUTCOME_STATUS_ACCEPTED"
    assert json.loads(explained)["decision"]["offer_id"] == json.loads(decided)["offer_id"]
    assert json.loads(updated)["customer"]["consent"] == "CONSENT_GRANTED"


def test_it_is_seen_to_learn(service: Service) -> None:
    """`tilbud simulate` shows uniform, achieved and best, and clearly beats uniform after 4,000 decisions."""
    ran = subprocess.run(
        [str(COMMANDS / "tilbud"), "simulate", "--target", service.target, "--decisions", "4000"],
        check=True, capture_output=True, text=True, timeout=120, env={"COLUMNS": "120"},
    )  # fmt: skip
    found = re.search(r"everyone .*│ +([\d.]+) │\n", ran.stdout)
    assert found, ran.stdout
    assert float(found[1]) > 0.2, ran.stdout


def test_every_command_explains_itself() -> None:
    """`--help` of tilbud and of each command the README lists ends with 0 and says what it is for."""
    assert len(LISTED) == 9, LISTED
    for words in ([], *([command] for command in LISTED)):
        ran = subprocess.run(
            [str(COMMANDS / "tilbud"), *words, "--help"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Usage" in ran.stdout
        assert "TILBUD__" not in ran.stdout, "a variable that nobody can mean"


def test_the_service_config_is_one_grpc_takes(service: Service) -> None:
    """The README shows the service config that is shipped; it is valid, and a channel with it decides."""
    import grpc  # noqa: PLC0415 - only here

    from tilbud.v1 import decisions_pb2, decisions_pb2_grpc  # noqa: PLC0415

    (config,) = _blocks("json")
    assert config == files("tilbud.v1").joinpath("service_config.json").read_text()
    json.loads(config)
    with grpc.insecure_channel(service.target, options=[("grpc.service_config", config)]) as channel:
        stub = decisions_pb2_grpc.DecisionServiceStub(channel)
        assert stub.Decide(decisions_pb2.DecideRequest(campaign="shop"), timeout=60).recorded

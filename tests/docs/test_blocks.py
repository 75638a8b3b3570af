"""Every block of code of the pages works as it is written, but for the ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import grpc
import pytest
import yaml
from google.protobuf.json_format import ParseDict
from tests.docs.commands import COMMAND_LINE, for_service, hillstrom_log, is_run, lines, look_up
from tests.docs.pages import BLOCKS, PAGES, README, ROOT, RUNBOOK, Block, Page, blocks
from tests.running import CALL_S, Service
from typer.testing import CliRunner

from tilbud.campaigns.source import load_files
from tilbud.cli import cli
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import SAMPLES
from tilbud.v1 import decisions_pb2, decisions_pb2_grpc

COMMANDS = Path(sys.executable).parent
SHELL = blocks("console", "sh")
PROGRAMS = {"go": ".go", "java": ".java", "javascript": ".mjs", "proto": ".proto"}
CHECKED = {"console", "sh", "python", "yaml", "json", "promql", *PROGRAMS}
SIMULATED = {"tilbud simulate": 4_000, "tilbud simulate homepage.yaml": 500}
"""Decisions, instead of 30,000 and 10,000."""
NEEDED = {
    "campaign": "page",
    "offers": [{"id": "free-shipping"}, {"id": "new-arrivals"}],
    "reward": {"outcomes": {"click": 1}},
    "consent": "not_required",
}
"""What a campaign must say, for those that a page shows a part of."""
SAID = {
    r"/Decide$": r'"decision_?[iI]d":\s*"',
    r"/ReportOutcome$": r'"status":\s*"OUTCOME_STATUS_ACCEPTED"',
    r"/ExplainDecision$": r'"offer_?[iI]d":\s*"',
    r"/UpdateCustomer$": r"CONSENT_GRANTED",
    r"^tilbud decide ": r"probability",
    r"^tilbud customer show anna": r"CONSENT_GRANTED",
    r"^tilbud replay ": r"the service, every matched row",
    r"^tilbud simulate ": r"could gain over chance",
    r"evaluate/flags": r'"variant":',
}
"""What commands of these kinds must answer."""

LEARNED = re.compile(r"everyone .*│ +([\d.]+) │\n")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """What `make run` serves, and the pages' whole campaigns; beside a directory that has what they name."""
    directory = tmp_path_factory.mktemp("desk")
    campaigns = directory / "campaigns"
    shutil.copytree(SAMPLES, campaigns)
    for block in blocks("yaml"):
        if isinstance(written := yaml.safe_load(block.text), dict) and "campaign" in written:
            for place in (campaigns, directory):
                (place / f"{written['campaign']}.yaml").write_text(block.text, encoding="utf-8")
    hillstrom_log(directory / "hillstrom.csv")
    service = Service(campaigns, directory / "tilbud-data", directory / "log")
    yield service, directory
    service.close()


def test_every_block_is_checked_somehow() -> None:
    """A block in a language that nobody checks here would be wrong one day."""
    assert [
        f"{block}: {block.language or 'no language'}" for block in BLOCKS if block.language not in CHECKED
    ] == []


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_name_what_there_is(block: Block) -> None:
    """Commands, options, scripts, targets and files of every line, whether it is run or not."""
    for line in lines(block.text):
        look_up(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_the_text_name_what_there_is(page: Page) -> None:
    """`tilbud …`, `make …` and scripts in sentences and tables too."""
    for _, code in page.code():
        if re.match(r"(make|tilbud|docker|kubectl) [a-z]", code) and "…" not in code:
            look_up(code)
        if re.match(r"loadtests/\w+\.py", code):
            look_up(f".venv/bin/python {code}")


def _run_once() -> list[tuple[Block, list[str]]]:
    """Return the commands of each block that are run, a command that several show with the first of them."""
    shown: set[str] = set()
    found = []
    for block in SHELL:
        new = [line for line in lines(block.text) if is_run(line) and line not in shown]
        if new and block.page != RUNBOOK.relative_to(ROOT).as_posix():
            shown.update(new)
            found.append((block, new))
    return found


@pytest.mark.parametrize(
    ("block", "commands"), _run_once(), ids=lambda it: str(it) if isinstance(it, Block) else ""
)
def test_commands_run(block: Block, commands: list[str], desk: tuple[Service, Path]) -> None:
    """Each ends well and says what commands of its kind say; what is only looked up is passed over."""
    service, directory = desk
    if "curl" in block.text and shutil.which("curl") is None:
        pytest.skip("no curl here")
    environment = os.environ | {
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "TILBUD_TARGET": service.target,
        "COLUMNS": "120",
    }
    for line in commands:
        here = re.sub(r"^curl ", "curl -sSf ", line.replace(".venv/bin/", ""))
        command = for_service(here, target=service.target, http=service.http, metrics=service.metrics_side)
        ran = subprocess.run(
            ["/bin/sh", "-ec", f"{command} --decisions {SIMULATED[here]}" if here in SIMULATED else command],
            check=False, capture_output=True, text=True, timeout=120, cwd=directory, env=environment,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block}: {line}\n{ran.stderr}{ran.stdout}"
        for kind, said in SAID.items():
            assert not re.search(kind, here) or re.search(said, ran.stdout), f"{line}\n{ran.stdout}"
        if here == "tilbud simulate":
            found = LEARNED.search(ran.stdout)
            assert found, ran.stdout
            assert float(found[1]) > 0.2, ran.stdout


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, desk: tuple[Service, Path]) -> None:
    """As a program of its own."""
    service, directory = desk
    code = for_service(block.text, target=service.target, http=service.http, metrics=service.metrics_side)
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60, cwd=directory
    )
    assert ran.returncode == 0, f"{block}:\n{ran.stderr}"
    if block.page == README.name:
        assert re.fullmatch(r"[\w-]+ 0\.\d+ \{'title': .*\}\n", ran.stdout)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_campaigns_are_valid(block: Block, tmp_path: Path) -> None:
    """A whole campaign, a contact.yaml, or a part of a campaign that lacks only what every one must say."""
    contact = block.text.startswith("# contact.yaml")
    file = tmp_path / ("contact.yaml" if contact else "campaign.yaml")
    written = yaml.safe_load(block.text)
    missing = {} if contact else {key: value for key, value in NEEDED.items() if key not in written}
    rest = "".join(f"{key}: {json.dumps(value)}\n" for key, value in missing.items())
    file.write_text(block.text + rest, encoding="utf-8")
    loaded = load_files([file], Limits())
    assert len(loaded.campaigns) == (0 if contact else 1)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_answers_are_those_of_the_contract(block: Block) -> None:
    """What is shown of an answer has its fields; anything else is JSON."""
    shown = json.loads(block.text)
    if "decisionId" in shown:
        ParseDict(shown, decisions_pb2.DecideResponse())


def test_programs_in_other_languages_are_parts_of_those_that_are_tested() -> None:
    """Each is, line by line, in a file that tests/languages compiles and runs, or in the contract."""
    for block in blocks(*PROGRAMS):
        folder = ROOT / ("proto" if block.language == "proto" else "tests/languages/programs")
        sources = [_stripped(file.read_text()) for file in folder.rglob(f"*{PROGRAMS[block.language]}")]
        assert any(_stripped(block.text) in source for source in sources), f"{block} is in no tested file"


def test_the_page_of_clients_shows_whole_programs() -> None:
    """Whoever reads it and proto/ alone has all of them."""
    page = {_stripped(block.text) for block in blocks(*PROGRAMS) if block.page == "docs/clients.md"}
    programs = [each for each in (ROOT / "tests/languages/programs").iterdir() if each.suffix != ".json"]
    assert {_stripped(each.read_text()) for each in programs} == page


def _stripped(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("block", blocks("promql"), ids=str)
def test_queries_ask_for_what_there_is(block: Block) -> None:
    """Every name is that of a metric that the service has, or of a recording rule."""
    rules = "".join(file.read_text() for file in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    for name in re.findall(r"\b(?:\w+:)?tilbud_\w+(?::\w+)?", block.text):
        assert re.search(rf"\b{name}\b", rules), name


def test_the_service_config_is_one_grpc_takes(desk: tuple[Service, Path]) -> None:
    """The pages show the service config that is shipped; it is valid, and a channel with it decides."""
    service, _ = desk
    config = files("tilbud.v1").joinpath("service_config.json").read_text()
    assert config in [block.text for block in blocks("json")]
    with grpc.insecure_channel(service.target, options=[("grpc.service_config", config)]) as channel:
        stub = decisions_pb2_grpc.DecisionServiceStub(channel)
        assert stub.Decide(decisions_pb2.DecideRequest(campaign="shop"), timeout=CALL_S).recorded


def test_the_readme_names_every_command() -> None:
    """Those of its table are those of the command line, and each explains itself."""
    table = README.read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    listed = re.findall(r"`([a-z]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert sorted(listed) == sorted(COMMAND_LINE.commands)
    for words in ([], *([command] for command in listed)):
        told = CliRunner().invoke(cli, [*words, "--help"])
        assert told.exit_code == 0
        assert "Usage" in told.stdout
        assert "TILBUD__" not in told.stdout, "a variable that nobody can mean"

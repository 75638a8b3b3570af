"""The command line as people meet it: what it prints, and how it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.running import until

from tilbud.runtime.settings import SAMPLES

HILLSTROM = Path(__file__).parents[3] / "shared" / "data" / "hillstrom.csv"
TILBUD = [sys.executable, "-m", "tilbud"]


def _run(
    *words: str | Path, timeout_s: float = 120.0, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TILBUD, *map(str, words)], check=False, capture_output=True, text=True, timeout=timeout_s,
        env={"COLUMNS": "100", **environment}, cwd=cwd,
    )  # fmt: skip


def test_check_says_what_the_samples_will_do() -> None:
    """Valid files: status 0 and a table with each campaign, its rules and its preset."""
    ran = _run("check", SAMPLES)
    assert ran.returncode == 0
    for word in ("homepage-hero", "shop", "hillstrom", "newsletter", "balanced", "control"):
        assert word in ran.stdout
    for word in ("sticky", "journey", "opted in to family", "at most 3 times in 7d", "contact policy"):
        assert word in ran.stdout
    assert "5 valid" in ran.stdout
    for slip in (" lacks ", " lack ", "no payload", "no campaign here"):
        assert slip not in ran.stdout


def test_check_takes_a_contact_policy_alone() -> None:
    """A contact.yaml can be checked by itself, and is told in words."""
    ran = _run("check", SAMPLES / "contact.yaml")
    assert ran.returncode == 0
    for word in ("contact policy", "push", "at most 2 times in 1d", "quiet hours", "1 valid"):
        assert word in ran.stdout


def test_what_a_file_holds_is_printed_as_it_stands(tmp_path: Path) -> None:
    """Words in brackets are the file's own, not a markup that vanishes."""
    text = RULES.replace("{id: evenings,", '{id: evenings, topics: ["[bold]"],')
    (tmp_path / "one.yaml").write_text(text)
    assert "[bold]: evenings" in _run("check", tmp_path).stdout


def test_check_tells_every_problem_with_its_place(tmp_path: Path) -> None:
    """Broken files: status 2, one line a problem, with file, line, key and remedy."""
    (tmp_path / "one.yaml").write_text(RULES.replace("channels: [app]", "chanels: [app]"))
    (tmp_path / "two.yaml").write_text(
        RULES.replace("campaign: rules", "campaign: two").replace("1h", "1 hour")
    )
    ran = _run("check", tmp_path)
    assert ran.returncode == 2
    first, second = ran.stderr.splitlines()
    assert re.match(
        rf"{tmp_path}/one\.yaml:11: offers\[1\]\.chanels: unknown key; did you mean `channels`\?", first
    )
    assert re.match(rf"{tmp_path}/two\.yaml:18: reward\.window: .*30m", second)


def test_check_warns_of_what_is_valid_but_odd(tmp_path: Path) -> None:
    """Status 0 and a line on standard error for each; with --strict, for CI, status 1."""
    (tmp_path / "one.yaml").write_text(RULES.replace("channels: [app]", "countries: [Denmark]"))
    ran = _run("check", tmp_path)
    assert ran.returncode == 0
    assert f"warning: {tmp_path}/one.yaml:11: offers[1].countries: 'Denmark' is no country" in ran.stderr
    assert re.search(r"1 valid, \d warnings?", ran.stdout)
    assert _run("check", tmp_path, "--strict").returncode == 1
    assert _run("check", SAMPLES / "shop.yaml", "--strict").returncode == 0


def test_the_schema_is_json_schema() -> None:
    """`check --schema` prints a JSON Schema that names the keys as files have them."""
    schema = json.loads(_run("check", "--schema").stdout)
    assert {"campaign", "offers", "reward", "consent"} <= schema["properties"].keys()
    assert "window" in schema["$defs"]["RewardSection"]["properties"]
    contacts = json.loads(_run("check", "--schema", "contact.yaml").stdout)
    assert contacts["properties"].keys() == {"channels", "quiet_channels"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--listen", "nonsense"], "HOST:PORT"),
        (["serve", "--draw-key", "abc"], "hexadecimal"),
        (["serve", "--campaigns", "/nowhere"], "/nowhere: there is no such file or directory"),
        (["rebuild", "--data", "/nowhere"], "/nowhere has no ledger.sqlite3"),
        (["rebuild", "--campaign", "none"], "no campaign 'none'"),
        (["backup", "--data", "/nowhere", "--to", "/elsewhere"], "--data: /nowhere has no ledger.sqlite3"),
        (["health", "--listen", "nonsense"], "--listen: 'nonsense' is not HOST:PORT"),
        (["simulate", "--target", "nonsense"], "'nonsense' is not HOST:PORT"),
        (
            ["replay", "nowhere.csv", "--campaign", "x", "--offer-column", "a", "--outcome-column", "b"],
            "nowhere.csv",
        ),
        (["check"], "name a campaign file"),
    ],
)
def test_mistakes_are_sentences(words: list[str], said: str, tmp_path: Path) -> None:
    """A mistake ends with status 2 and a sentence that helps; never with a traceback."""
    where = (
        ["--data", str(tmp_path / "data"), "--http", "off", "--metrics", "127.0.0.1:0"]
        if words[0] == "serve"
        else []
    )
    ran = _run(*words, *where)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_directory_is_named_with_all_of_its_path(tmp_path: Path) -> None:
    """The default of --data in the help, and whatever was given in messages: whoever reads finds it."""
    shown = _run("serve", "--help", cwd=tmp_path, COLUMNS="300").stdout
    assert f"[default: {tmp_path}/tilbud-data]" in shown
    ran = _run("backup", "--data", "here", "--to", "there", cwd=tmp_path)
    assert f"{tmp_path}/here has no ledger" in ran.stderr


def test_health_is_0_for_a_service_that_serves_and_1_with_a_line_for_any_other(serve: Serve) -> None:
    """Asked where `serve` listens, also where that is every address, and never through a proxy."""
    service = serve(RULES, options=("--drain-notice-s", "60"))
    for host in ("0.0.0.0", "[::]"):  # noqa: S104 - what is asked, nobody listens there
        everywhere = f"{host}:{service.target.rpartition(':')[2]}"
        ran = _healthy(TILBUD_LISTEN=everywhere, http_proxy="http://127.0.0.1:9")
        assert (ran.stdout, ran.stderr) == (f"{everywhere}: SERVING\n", "")
    at = ["--listen", service.target]
    _healthy(*at, "--service", "tilbud.v1.DecisionService")
    unknown = _run("health", *at, "--service", "tilbud.v1.Nothing")
    assert unknown.returncode == 1
    assert unknown.stdout == f"{service.target}: NOT_FOUND: it has no service 'tilbud.v1.Nothing'\n"
    service.process.send_signal(signal.SIGTERM)
    until(lambda: bool(service.events("draining")))
    drains = _run("health", *at)
    assert (drains.returncode, drains.stdout) == (1, f"{service.target}: NOT_SERVING\n")
    service.kill()
    gone = _run("health", *at, "--timeout", "30")
    assert gone.returncode == 1
    assert gone.stdout == (
        f"{service.target}: no service answers there; start one with `tilbud serve`, "
        "or name it with --listen\n"
    )
    assert "Traceback" not in gone.stderr


def test_simulate_and_replay_say_soon_that_no_service_answers(tmp_path: Path) -> None:
    """Where nobody listens, and where somebody does who never answers: one sentence, and status 1."""
    log = tmp_path / "log.csv"
    log.write_text("mail,visit\nspring,1\n")
    replay = ["replay", str(log), "--campaign", "x", "--offer-column", "mail", "--outcome-column", "visit"]
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for target in ("127.0.0.1:1", f"127.0.0.1:{mute.getsockname()[1]}"):
            for words in (["simulate"], replay):
                ran = _run(*words, "--target", target, timeout_s=8.0)
                assert (ran.returncode, ran.stdout) == (1, "")
                assert ran.stderr == (
                    f"{target}: no service answers there; start one with `tilbud serve`, "
                    "or name it with --target\n"
                )


def _healthy(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask how the service is until it is well, which it is not for as long as the disk stalls."""

    def asked() -> subprocess.CompletedProcess[str] | None:
        ran = _run("health", *words, **environment)
        return None if ran.returncode else ran

    ran = until(asked)
    assert ran is not None
    return ran


def test_an_interrupted_simulation_still_shows_its_table(serve: Serve) -> None:
    """SIGINT stops asking, finishes what is in flight, and prints the table of what was done."""
    service = serve(SAMPLES)
    with subprocess.Popen(
        [*TILBUD, "simulate", "--target", service.target, "--decisions", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.readline()  # the first line of progress
        running.send_signal(signal.SIGINT)
        shown, _ = running.communicate(timeout=120)
    assert "everyone" in shown
    assert re.search(r"outcomes sent = [\d,]+ accepted \+ 0 duplicate", shown)


def test_json_lines_of_all_that_is_known_are_replayed(serve: Serve, tmp_path: Path) -> None:
    """Propensity, time, customer and words by their columns: rows used and not, and whether it is enough."""
    service = serve(SAMPLES)
    offers = ["mens-e-mail", "womens-e-mail", "no-e-mail"]
    rows = [
        {
            "mail": offers[number % 3 if number % 2 else 0],
            "visit": int(number % 5 == 0),
            "p": 2 / 3 if offers[number % 3 if number % 2 else 0] == offers[0] else 1 / 6,
            "at": f"2026-03-0{number % 9 + 1}T10:00:00+01:00",
            "who": f"customer-{number}",
            "phone": "ios",
            "recency": number % 12,
        }
        for number in range(600)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    columns = {"offer": "mail", "outcome": "visit", "propensity": "p", "time": "at", "customer": "who"}
    options = [word for name, column in columns.items() for word in (f"--{name}-column", column)]
    ran = _run(
        "replay", log, *options, "--device-column", "phone", "--campaign", "hillstrom",
        "--target", service.target, "--consent-granted",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    used = re.search(r"^600 rows; used (\d+), where the service drew", ran.stdout, re.MULTILINE)
    assert used, ran.stdout
    activated = service.metric("tilbud_activations_total", campaign="hillstrom", status="activated")
    assert activated == int(used[1])
    assert re.search(r"Not used: \d+ where the service drew another offer\.", ran.stdout)
    assert "the log's own" in ran.stdout
    assert "600 rows have a device that the campaign does not declare (ios)" in ran.stdout
    assert re.search(r"Beside offers given by chance: visit [+-]0\.\d{4} ± 0\.\d{4} a row\.", ran.stdout)


@pytest.mark.skipif(not HILLSTROM.exists(), reason="needs ../shared/data/hillstrom.csv beside the checkout")
def test_real_logged_data_is_replayed(serve: Serve) -> None:
    """6,000 rows of the Hillstrom log: only matched rows count, and the sums hold."""
    service = serve(SAMPLES)
    columns = [
        "--offer-column",
        "segment",
        "--outcome-column",
        "visit",
        "--rename",
        "purchase_channel=channel",
    ]
    service_and_rows = ["--campaign", "hillstrom", "--target", service.target, "--rows", "6000"]
    ran = _run("replay", HILLSTROM, *columns, *service_and_rows)
    assert ran.returncode == 0, ran.stderr
    matched = re.search(r"the service, every matched row +│ +([\d,]+) ", ran.stdout)
    assert matched, ran.stdout
    assert 1_700 < int(matched[1].replace(",", "")) < 2_300
    assert service.metric("tilbud_activations_total", campaign="hillstrom", status="activated") == int(
        matched[1].replace(",", "")
    )

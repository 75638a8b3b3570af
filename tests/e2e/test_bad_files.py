"""A start where campaign files are bad, as after a kill: the others are served, and it is said loudly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from tests.conftest import Serve
from tests.e2e.campaigns import RULES, SLOW
from tests.running import PATIENCE_S, Service, until

from tilbud.v1 import campaigns_pb2, decisions_pb2

BAD = RULES.replace("fallback:", "fallbak:")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with two good campaign files."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "slow.yaml").write_text(SLOW)
    (directory / "rules.yaml").write_text(RULES)
    return directory


def _decide(service: Service, campaign: str) -> bool:
    return bool(service.decisions.Decide(decisions_pb2.DecideRequest(campaign=campaign)).recorded)


def test_after_a_kill_one_bad_file_keeps_no_other_campaign_down(serve: Serve, files: Path) -> None:
    """The others serve; the log, the metric and /readyz, which stays 200, tell file, line, key and remedy."""
    service = serve(files)
    service.kill()
    (files / "rules.yaml").write_text(BAD)
    service.start()
    assert _decide(service, "slow")
    with pytest.raises(grpc.RpcError) as raised:
        _decide(service, "rules")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    text = service.wait_ready()
    assert text.startswith(f"ready\nnot served: {files}/rules.yaml:16: fallbak: ")
    assert "did you mean `fallback`?" in text
    assert service.metric("tilbud_campaign_files_refused") == 1
    (line,) = service.events("campaign_file_refused")
    assert (line["file"], line["line"], line["key"]) == (str(files / "rules.yaml"), 16, "fallbak")
    assert "did you mean `fallback`?" in line["problem"]
    assert line["level"] == "error"
    with pytest.raises(grpc.RpcError) as raised:
        service.campaigns.ReloadCampaigns(campaigns_pb2.ReloadCampaignsRequest())
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _decide(service, "slow")
    (files / "rules.yaml").write_text(RULES)
    service.campaigns.ReloadCampaigns(campaigns_pb2.ReloadCampaignsRequest())
    assert _decide(service, "rules")
    assert service.metric("tilbud_campaign_files_refused") == 0
    assert service.wait_ready() == "ready\n"


def _refused_to_start(files: Path, data: Path, *options: str) -> str:
    ended = subprocess.run(
        [
            sys.executable, "-m", "tilbud", "serve", "--campaigns", files, "--data", data,
            "--listen", "127.0.0.1:0", "--http", "off", "--metrics", "127.0.0.1:0", *options,
        ],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_start_is_refused_where_it_is_strict_where_no_file_is_good_and_without_its_contact_policy(
    files: Path, tmp_path: Path
) -> None:
    """Status 2 with every problem: a lost contact policy would lose caps of channels, in every campaign."""
    (files / "rules.yaml").write_text(BAD)
    assert "did you mean `fallback`?" in _refused_to_start(files, tmp_path / "data", "--strict")
    (files / "slow.yaml").unlink()
    for options in ((), ("--workers", "2")):
        assert "did you mean `fallback`?" in _refused_to_start(files, tmp_path / "data", *options)
    (files / "slow.yaml").write_text(SLOW)
    (files / "contact.yaml").write_text("chanels: {}\n")
    assert "did you mean `channels`?" in _refused_to_start(files, tmp_path / "data")


def test_a_worker_does_not_come_back_with_fewer_campaigns_than_the_others_serve(
    serve: Serve, files: Path
) -> None:
    """Else a campaign would be known on some connections only; where none has it, each serves what it can."""
    service = serve(files, options=("--workers", "2"))
    (files / "rules.yaml").write_text(BAD)
    os.kill(service.pids()[0], signal.SIGKILL)
    until(lambda: len(service.events("worker_ended")) >= 2)
    assert "did you mean `fallback`?" in service.events("worker_ended")[1]["reason"]
    os.kill(service.pids()[1], signal.SIGKILL)
    until(lambda: len(service.events("campaigns_missing")) >= 2)
    with service.dial() as channel:
        service.decisions = type(service.decisions)(channel)
        assert _decide(service, "slow")

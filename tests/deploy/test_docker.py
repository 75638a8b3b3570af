"""The image and the compose file, as far as they can be proven without a container engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.deploy.containers import Container, build, context, environment, instructions
from tests.deploy.serving import DEPLOY, ROOT, Started, options, stop_s
from tests.unit.test_house import PROJECT

DOCKER = DEPLOY / "docker"
BUILD_SYSTEM = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
COMPOSE = DOCKER / "compose.yaml"
ADDRESSES = ("TILBUD_LISTEN", "TILBUD_HTTP", "TILBUD_METRICS")
IMAGE = instructions(DOCKER / "Dockerfile")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]


def written(name: str) -> str:
    """Return the text of the last stage's one instruction of a name."""
    [text] = [each.text for each in IMAGE if each.name == name and each.stage == IMAGE[-1].stage]
    return text


def run(*command: str | Path) -> str:
    """Run a command and return what it said; where it fails, so does the test."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> Path:
    """Return a program that the group `dev` installs."""
    return Path(sys.executable).parent / name


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory outside of /dev, where memory is: a root below it cannot show all of it."""
    with TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def made(place: Path) -> Path:
    """What the Dockerfile's first stage makes."""
    return build(IMAGE, ROOT, place / "image")


@pytest.fixture
def container(made: Path, place: Path) -> Iterator[Container]:
    """The last stage: what was made, on a root of its own that only its data can be written to."""
    with TemporaryDirectory(dir=place) as directory:
        yield _entered(made, Path(directory))


def _entered(made: Path, place: Path) -> Container:
    box = Container(IMAGE, place / "root", made, place / "data")
    box.root.mkdir()
    box.data.mkdir(mode=0o700)
    entered = subprocess.run(box.command("true"), capture_output=True, text=True, timeout=60, check=False)
    if entered.returncode:
        pytest.skip(
            f"no mounts of one's own here: {entered.stderr.strip()}; allow user namespaces, or be root"
        )
    return box


@pytest.fixture(params=[1, 2])
def served(container: Container, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    """The container's own command, with one worker and with two, on a free port of loopback."""
    words = json.loads(written("ENTRYPOINT")) + json.loads(written("CMD"))
    addresses = dict.fromkeys(ADDRESSES, "127.0.0.1:0")
    command = container.command(
        *words, **addresses, TILBUD_WORKERS=str(request.param), TILBUD_DRAIN_NOTICE_S="0"
    )
    service = Started(command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, tmp_path / "log")
    yield service
    service.stop()


def test_linted():
    """Hadolint knows nothing to say about the Dockerfile."""
    assert not run(tool("hadolint"), DOCKER / "Dockerfile")


def test_the_builder_gets_the_wheel_s_files_and_no_others():
    """Every source of COPY is let through by .dockerignore: package and samples, no cache, no test."""
    sources = [each.text.split()[:-1] for each in IMAGE if each.stage == 1 and each.name == "COPY"]
    files = {source: list(context(ROOT, source)) for line in sources for source in line}
    assert all(files.values()), files
    assert Path("src/tilbud/samples/shop.yaml") in files["src"]
    assert not [file for file in files["src"] if file.suffix == ".pyc"]
    others = (".git/config", "Makefile", "tests/running.py")
    assert not [name for name in others for _ in context(ROOT, name)]


LOCKS = (
    ("requirements.txt", PROJECT["dependencies"]),
    ("requirements-build.txt", BUILD_SYSTEM["requires"]),
)


@pytest.mark.parametrize(("name", "wanted"), LOCKS)
def test_what_is_installed_is_locked(name: str, wanted: list[str]):
    """One version of each package, by hash, of all that the wheel wants and is built with: `make lock`."""
    entries = (DOCKER / name).read_text().replace("\\\n", " ").splitlines()
    pinned = {}
    for entry in entries:
        pin, *hashes = entry.split()
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pin
        package, _, pinned[package] = pin.partition("==")
    for requirement in map(Requirement, wanted):
        assert pinned.get(canonicalize_name(requirement.name), "0") in requirement.specifier, requirement
    installs = [each.text for each in IMAGE if each.name == "RUN" and f"deploy/docker/{name}" in each.text]
    assert len(installs) == 1
    assert all("--no-deps" in each for each in re.findall(r"pip [^&]*install[^&]*", installs[0]))


def test_base_image():
    """Both stages are of one, which the label names; its Python is the newest claimed, and the lock's."""
    [base] = {each.text.removesuffix(" AS build") for each in IMAGE if each.name == "FROM"}
    assert environment(IMAGE, "LABEL")["org.opencontainers.image.base.name"] == f"docker.io/library/{base}"
    claimed = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: 3." in each]
    assert base.startswith(f"python:{claimed[-1]}-slim-")
    assert f"--python-version {claimed[-1]} " in (ROOT / "Makefile").read_text()


def test_serves_with_nothing_to_write_but_its_data(container: Container, served: Started):
    """What the Dockerfile builds decides as its user, also for compose's visitors, and drains at SIGTERM."""
    assert 0 < served.decide() <= 1
    check = json.loads(re.sub(r".*CMD ", "", written("HEALTHCHECK")))
    run(*container.command(*check, TILBUD_LISTEN=served.target))
    run(sys.executable, DEPLOY / "grafana" / "visitors.py", "--target", served.target, "--visits", "5")
    run(*container.command("sh", "-c", f"! touch /here && ! touch {container.made}/here && touch /data/here"))
    assert served.stop() == 0
    assert (container.data / "ledger.sqlite3").stat().st_size
    assert subprocess.run(container.command(*check, TILBUD_LISTEN=served.target), check=False).returncode == 1


def test_options():
    """Every variable that image and compose file set is an option of `tilbud serve`."""
    text = COMPOSE.read_text() + (DOCKER / "Dockerfile").read_text()
    named = {name for name in re.findall(r"TILBUD_[A-Z_]+", text) if name != "TILBUD_"}
    assert {"TILBUD_DATA", *ADDRESSES} <= named
    assert named <= options()


def test_image():
    """It runs as somebody without rights, says its version, and declares what it listens on and writes."""
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", written("USER"))
    assert environment(IMAGE, "ARG")["VERSION"] == PROJECT["version"]
    assert written("VOLUME") == environment(IMAGE)["TILBUD_DATA"] == written("WORKDIR")
    assert written("STOPSIGNAL") == "SIGTERM"
    ports = {environment(IMAGE)[name].rpartition(":")[2] for name in ADDRESSES}
    assert set(written("EXPOSE").split()) == ports


def test_compose_file_is_one():
    """The compose specification's schema takes it: no unknown key, no wrong value."""
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_compose_reads_it(tmp_path: Path):
    """Docker Compose itself finds every reference of the file."""
    docker = shutil.which("docker")
    plugin = docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    if not docker or not plugin or plugin.returncode:
        pytest.skip("no `docker compose` here: install Docker with its compose plugin")
    run(docker, "compose", "--file", COMPOSE, "config", "--quiet")


@pytest.mark.parametrize("name", SERVICES)
def test_composed_hardened(name: str):
    """Each container has a fixed version, no rights, a read-only root, loopback ports, mounts that exist."""
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for volume in service.get("volumes", []):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (DOCKER / source).exists()
            assert rest.endswith(":ro")


def test_composed_drains():
    """Compose waits for the drain before it kills, and the image is the version that is built."""
    service = SERVICES["tilbud"]
    patience_s = float(service["stop_grace_period"].removesuffix("s"))
    assert stop_s(service.get("environment", {})) < patience_s < 2 * stop_s({})
    assert service["image"] == f"tilbud:{PROJECT['version']}"


def test_composed_prometheus_differs_in_its_target():
    """The containers' Prometheus scrapes and judges as deploy/prometheus says, at the container's address."""
    plain = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    composed = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    [job] = [job for job in plain["scrape_configs"] if job["job_name"] == "tilbud"]
    [static] = job["static_configs"]
    static["targets"] = [f"tilbud:{environment(IMAGE)['TILBUD_METRICS'].rpartition(':')[2]}"]
    assert composed == plain


def test_composed_grafana_finds_what_it_shows():
    """Grafana's dashboards are mounted where its provisioning looks; its Prometheus is a service here."""
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    provisioning = DOCKER / "../grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "tilbud.yaml").read_text())["providers"]
    assert mounts["../grafana/dashboards"] == provider["options"]["path"]
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "tilbud.yaml").read_text())["datasources"]
    variable = re.fullmatch(r"\$\{?(\w+)\}?", source["url"])
    assert variable
    address = re.fullmatch(r"http://(\w+):9090", SERVICES["grafana"]["environment"][variable[1]])
    assert address
    assert address[1] in SERVICES

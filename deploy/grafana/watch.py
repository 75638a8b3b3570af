"""See it alive without Docker or Grafana: `make watch`, or `python deploy/grafana/watch.py`.

Starts the sample campaigns' service, visitors and a Prometheus with the rules of deploy/prometheus, all on
loopback, says where to look, and draws the dashboards anew until Ctrl-C. What holds: data is its own and
temporary, only the pictures stay; whatever it started it ends, however it ends. What it does not do: watch a
service that runs already; for that there is pictures.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import yaml

from pictures import draw_all
from tilbud.simulator.driver import Pacing
from tilbud.simulator.own_service import child, first_line
from tilbud.simulator.shop import ShopConfig
from tilbud.simulator.simulate import run_simulation
from visitors import Visitors, hurried_samples

PROMETHEUS = Path(__file__).parents[1] / "prometheus"
SCRAPE_S = 2
RATE_INTERVAL, WINDOW = "20s", "5m"
SHOP_DECISIONS_A_SECOND, HERO_VISITS_A_SECOND = 150.0, 25.0
REWARD_WINDOW = "20s"
TASTES_CHANGE_AT = 20_000
DECISIONS_MAX = 10**9
LOOK_BACK_S = 1800.0
FIRST_PICTURES_S = 15.0
_LISTENS = re.compile(r'msg="?Listening on"? address=(\S+:\d+)')
_FIRST_LINE = re.compile(r"gRPC on (\S+:\d+), metrics on http://(\S+:\d+)/metrics")


@asynccontextmanager
async def service(directory: Path, options: argparse.Namespace) -> AsyncIterator[tuple[str, str]]:
    """Serve the sample campaigns; yields the addresses of gRPC and of the metrics."""
    campaigns = hurried_samples(directory / "campaigns", REWARD_WINDOW)
    async with child(
        sys.executable, "-m", "tilbud", "serve", "--campaigns", campaigns, "--data", directory / "data",
        "--listen", options.listen, "--http", "off", "--metrics", options.metrics,
        "--log-level", "warning", stdout=PIPE,
    ) as process:  # fmt: skip
        found = _FIRST_LINE.search(await first_line(process))
        if found is None:
            raise SystemExit("the service did not start; it said why above")
        yield found[1], found[2]


def prometheus_command(directory: Path, target: str, address: str) -> list[str | Path]:
    """Return what runs Prometheus by the configuration of deploy/prometheus, for one target and oftener."""
    binary = shutil.which("prometheus", path=Path(sys.prefix) / "bin") or shutil.which("prometheus")
    if binary is None:
        raise SystemExit("no prometheus here: `make prometheus` gets it, or install Debian's package")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = [str(PROMETHEUS / "rules" / "*.yml")]
    [job] = config["scrape_configs"]
    job["scrape_timeout"] = f"{SCRAPE_S}s"
    job["static_configs"] = [{"targets": [target]}]
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    pages = Path(binary).resolve().parents[1] / "share" / "prometheus" / "web"
    return [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address={address}",
        *([f"--web.local-assets={pages}/"] if pages.is_dir() else []),  # Debian's program has no pages in it
    ]


@asynccontextmanager
async def prometheus(command: Sequence[str | Path], log: Path) -> AsyncIterator[str]:
    """Run Prometheus; yields its address."""
    with log.open("wb") as stream:
        async with child(*command, stdout=DEVNULL, stderr=stream) as process:
            while not (address := listens(text := read(log))):
                if process.returncode is not None:
                    raise SystemExit(f"Prometheus ended:\n{text}")
                await asyncio.sleep(0.1)
            yield f"http://{address}"


def read(log: Path) -> str:
    """Return what was logged."""
    return log.read_text(encoding="utf-8")


def listens(text: str) -> str:
    """Return where Prometheus listens, once it says that it is ready."""
    found = _LISTENS.search(text)
    return found[1] if found and "Server is ready" in text else ""


async def drive(target: str, stop: asyncio.Event) -> None:
    """Send both sample campaigns their visitors until `stop`."""
    await asyncio.gather(
        run_simulation(
            target,
            "shop",
            run=secrets.token_hex(4),
            decisions=DECISIONS_MAX,
            shop=ShopConfig(taste_change_at=TASTES_CHANGE_AT),
            pacing=Pacing(batch=5, in_flight=2, decisions_per_second=SHOP_DECISIONS_A_SECOND),
            stop=stop,
        ),
        Visitors(target, seed=1).run(visits=None, per_second=HERO_VISITS_A_SECOND, stop=stop),
    )


async def paint(url: str, options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Draw the dashboards now and then until `stop`, and once more then."""
    started, wait_s = time.time(), FIRST_PICTURES_S
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)
        now, wait_s = time.time(), options.every
        drawn = await asyncio.to_thread(
            draw_all,
            url,
            options.out,
            campaigns=options.campaign,
            choice={"window": WINDOW, "__rate_interval": RATE_INTERVAL},
            from_s=max(started, now - LOOK_BACK_S),
            until_s=now,
        )
        say(f"{time.strftime('%H:%M:%S')} drawn: {', '.join(file.name for file in drawn)}")
        if stop.is_set():
            return


async def watch(options: argparse.Namespace) -> None:
    """Start everything, until Ctrl-C or the time is over."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(ending, stop.set)
    if options.seconds:
        loop.call_later(options.seconds, stop.set)
    async with AsyncExitStack() as started:
        directory = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="tilbud-watch-")))
        target, metrics = await started.enter_async_context(service(directory, options))
        command = prometheus_command(directory, metrics, options.prometheus)
        url = await started.enter_async_context(prometheus(command, directory / "prometheus.log"))
        say(f"gRPC        {target}")
        say(f"metrics     http://{metrics}/metrics")
        say(f"Prometheus  {url}  (alerts: {url}/api/v1/alerts)")
        say(f"rewards     settle {REWARD_WINDOW} after a decision here; the samples say 30m")
        say(f"pictures    {options.out.absolute()}, every {options.every:g} s; Ctrl-C ends it")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drive(target, stop))
            tasks.create_task(paint(url, options, stop))


def say(line: str) -> None:
    """Tell a person."""
    print(line, flush=True)  # noqa: T201 - to a person


def main() -> None:
    """Read the command line and watch."""
    parser = argparse.ArgumentParser(
        description="Start service, visitors and Prometheus, and draw the dashboards."
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="end by itself; default: at Ctrl-C")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two drawings")
    parser.add_argument("--out", type=Path, default=Path("tilbud-pictures"), help="folder of the pictures")
    parser.add_argument(
        "--campaign", action="append", default=[], help="only this one's pictures; repeatable"
    )
    parser.add_argument("--listen", default="127.0.0.1:50051", help="gRPC address")
    parser.add_argument("--metrics", default="127.0.0.1:8080", help="address of the metrics")
    parser.add_argument("--prometheus", default="127.0.0.1:9090", help="address of Prometheus")
    asyncio.run(watch(parser.parse_args()))


if __name__ == "__main__":
    main()

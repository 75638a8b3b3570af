"""Write the dashboards that Grafana reads: `python deploy/grafana/build.py [DIRECTORY]`.

What holds: the Python beside this is the one source of truth; what it writes is committed, and a test
compares the two. What it does not do: ask anything of a Prometheus or a Grafana.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import board_campaign
import board_learning
import board_service
from panels import dashboard_json

HERE = Path(__file__).parent
BOARDS = {"service": board_service, "learning": board_learning, "campaign": board_campaign}


def main(directory: Path) -> None:
    """Write each dashboard's file."""
    for name, module in BOARDS.items():
        text = json.dumps(dashboard_json(module.board()), indent=2, ensure_ascii=False)
        (directory / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards")

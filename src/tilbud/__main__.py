"""The program `tilbud`, which `python -m tilbud` is too.

What holds: from its first moment on, also while it imports what it needs, Ctrl-C ends it with status 130 and
without a word. Nothing is imported before that can be imported after. What a command does of Ctrl-C once it
works is its own business. Of the environment only `TILBUD_…` counts, what every program heeds (NO_COLOR,
COLUMNS), and with --otel OpenTelemetry's own: what the libraries below would read is not seen by them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which take longer than all before
import os
import sys

_LIBRARIES = (
    "GITHUB_ACTIONS",  # which would have typer write colours into files, as the next one
    "PY_COLORS",
    "TERMINAL_WIDTH",  # of typer; it fails where that is no number
    "TYPER_USE_RICH",
    "PROMETHEUS_MULTIPROC_DIR",  # of prometheus_client, which would keep what it counts in files there
    "prometheus_multiproc_dir",
    "PROMETHEUS_DISABLE_CREATED_SERIES",
    "PROMETHEUS_LEGACY_NAME_VALIDATION",
)


def main() -> None:
    """Run the command line."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored, as by nohup
        _signal.signal(_signal.SIGINT, _end)
    for name in _LIBRARIES:
        os.environ.pop(name, None)
    # gRPC's core writes lines of its own to standard error, and would wait for whoever reads it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from tilbud.cli import main as run  # noqa: PLC0415 - see above; and a worker needs none of it

    try:
        run()
    except KeyboardInterrupt:
        sys.exit(128 + _signal.SIGINT)


def _end(number: int, _frame: object) -> None:
    os._exit(128 + number)  # at once, since nothing is begun: an exception might be anybody's to catch


if __name__ == "__main__":
    main()

"""The program `tilbud`, which `python -m tilbud` is too.

What holds: from its first moment on, also while it imports what it needs, Ctrl-C ends it with status 130 and
without a word. Nothing is imported before that can be imported after. What a command does of Ctrl-C once it
works is its own business.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as by nohup
        signal.signal(signal.SIGINT, _end)
    from tilbud.cli import main as run  # noqa: PLC0415 - see above; and a worker needs none of it

    try:
        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)  # at once, since nothing is begun: an exception might be anybody's to catch


if __name__ == "__main__":
    main()

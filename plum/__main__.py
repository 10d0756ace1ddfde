"""The command ``plum``, and ``python -m plum``.

It loads nothing before it can be stopped without a traceback: the command line takes a moment to load.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    from plum.cli.app import main as command_line

    command_line()


def _stop(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"Stopped before anything was done.\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    main()

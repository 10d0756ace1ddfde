"""``python -m plum.cli.child ...``: plum as a process that ends with the one that started it, however that one ends.

The parent gives it a pipe as standard input and writes nothing into it. When the parent is gone, killed or not, the
pipe closes, and so does this process: it would otherwise go on alone and keep the run folder locked. A stage may end
at any instant without harm.
"""

from __future__ import annotations

import os
import threading

from plum.cli.app import main

PARENT_GONE = 3  # exit code


def _end_with_parent() -> None:
    os.read(0, 1)  # returns at the end of the pipe; not sys.stdin, whose lock a daemon thread must not hold at the end
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()

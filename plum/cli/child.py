"""``python -m plum.cli.child ...``: plum as a process that ends with the one that started it, however that one ends.

The parent gives it a pipe as standard input and writes nothing into it. When the parent is gone, killed or not, the
pipe closes, and so does this process: it would otherwise go on alone and keep the run folder locked. A stage may end
at any instant without harm.

:data:`plum.studies.ablate.PROGRAM` starts it without the current folder on the import path: a user's own ``plum.py`` or
``json.py`` there would be imported instead of the real one. (``python -P`` does the same from Python 3.11 on.)
"""

from __future__ import annotations

import os
import threading

from plum.cli.app import main

PARENT_GONE = 3  # exit code


def run() -> None:
    """Run the command line and end with the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()


def _end_with_parent() -> None:
    os.read(0, 1)  # returns at the end of the pipe; not sys.stdin, whose lock a daemon thread must not hold at the end
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    run()

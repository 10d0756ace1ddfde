"""The one error users see: what is wrong, what was found, what to do."""

from __future__ import annotations


class PlumError(Exception):
    """A mistake in data, configuration or a run folder that the user can fix.

    The command line prints it as one message without a traceback and exits with code 2.

    Args:
        what: what is wrong, naming the file, column, key or line.
        found: what was found there, if it helps.
        fix: what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, found: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.found = found
        self.fix = fix
        lines = [what]
        if found:
            lines.append(f"  found: {found}")
        if fix:
            lines.append(f"  to do: {fix}")
        super().__init__("\n".join(lines))

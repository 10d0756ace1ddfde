"""One command at a time writes into a run folder; one that is refused has changed nothing; readers are not refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
HOLD = """
import sys
from pathlib import Path
from plum.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(run_copy: Path) -> Iterator[Path]:
    """A finished run in which another process is at work."""
    command = [sys.executable, "-c", HOLD, str(run_copy)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield run_copy
        process.kill()


def test_a_refused_command_has_changed_nothing_and_readers_are_not_refused(cli: Cli, held: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in held.rglob("*") if path.is_file()}
    new = held.parent / "new.csv"
    new.write_text("item_id,title\nn1,Another one\n")
    writing = [(name,) for name in ("run", "tokenize", "cpt", "finetune", "eval")]
    for command in (*writing, ("data", "prepare"), ("tokenize", "--assign", str(new))):
        code, out, err = cli(*command, "--workdir", held, *(() if "--assign" in command else ("--seed", "7")))
        assert (code, out) == (2, "")
        assert "another plum process is working in" in err
        assert "wait for it to end" in err
    assert {path: path.stat().st_mtime_ns for path in held.rglob("*") if path.is_file()} == before
    for command in (("inspect", "i0000"), ("recommend", "--history", "i0000"), ("data", "describe")):
        code, _, err = cli(*command, "--workdir", held)
        assert code == 0, err
    assert cli("compare", held)[0] == 0

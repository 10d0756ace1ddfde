"""What all commands share: options once, flags without a value, the order of use, completion, and where they start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plum.cli.command import ORDER
from plum.studies.ablate import PROGRAM

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    "twice",
    [("--user", "1", "--user", "2"), ("--k", "3", "--k", "3"), ("--workdir", "a", "-w", "b")],
)
def test_an_option_given_twice_is_refused(cli: Cli, twice: tuple[str, ...]) -> None:
    code, out, err = cli("recommend", *twice)
    assert (code, out) == (2, "")
    assert f"{twice[0]} is given 2 times" in err


def test_repeatable_options_and_flags_may_stand_twice(cli: Cli, tmp_path: Path) -> None:
    asked = ("--history", "a", "--history", "b", "--json", "--json", "--workdir", tmp_path)
    assert "no run in" in cli("recommend", *asked)[2]


def test_help_shows_no_value_for_flags_and_the_commands_in_the_order_of_use(cli: Cli) -> None:
    for command in ((), ("recommend",), ("data", "describe")):
        assert "bool" not in cli(*command, "--help")[1]
    _, out, _ = cli("--help")
    names = re.findall(r"^│ ([a-z]+)  ", out, flags=re.MULTILINE)
    assert names == [name for name in ORDER if name in names]
    assert set(names) == set(ORDER)


def test_the_tab_key_completes_commands() -> None:
    environment = os.environ | {"_PLUM_COMPLETE": "complete_bash", "COMP_WORDS": "plum fin", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['plum']; from plum.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["finetune"]


def test_plum_is_found_from_the_folder_above_a_clone(tmp_path: Path) -> None:
    (tmp_path / "plum/plum").mkdir(parents=True)  # a clone, seen from above: a folder that is no package
    code = "import plum.runtime; print(plum.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_of_an_ablation_do_not_see_the_current_folder(tmp_path: Path) -> None:
    for name in ("plum.py", "json.py", "typer.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the current folder was imported')")
    command = [*PROGRAM, "--version"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read().startswith("plum ")  # its standard input stays open meanwhile


def test_an_empty_path_is_not_the_current_folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option in ("--workdir", "--config"):
        code, _, err = cli("data", "prepare", "--set", "data.source.kind=synthetic", option, "")
        assert code == 2
        assert f"{option} is empty" in err
    assert list(tmp_path.iterdir()) == []

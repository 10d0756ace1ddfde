"""One finished run for the whole test session; tests that change it copy it."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_run
from hypothesis import settings

settings.register_profile("plum", deadline=None)  # no test asserts a time, on a busy machine least of all
settings.load_profile("plum")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny pipeline, run by ``plum run`` in a process of its own. Not to be changed."""
    home = tmp_path_factory.mktemp("finished")
    config = tiny_run.write(home / "tiny.yaml", tiny_run.pipeline(home / "run"))
    done = tiny_run.plum("run", "--config", config)
    assert done.returncode == 0, done.stderr
    return home / "run"


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run ``plum ...`` in this process, which saves the imports; gives exit code, standard output and error."""
    package = logging.getLogger("plum")
    before = package.handlers, package.level, package.propagate

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        from plum.cli.app import main

        monkeypatch.setattr(sys, "argv", ["plum", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    monkeypatch.setenv("COLUMNS", "200")
    yield call
    package.handlers, package.level, package.propagate = before

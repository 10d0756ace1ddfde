"""Signals: no traceback at any moment, a message that says what is kept, the exit code that shells expect."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tiny_run

LONG = ("--set", "tokenize.max_steps=100000", "--set", "tokenize.checkpoint_steps=4")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def default_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        tiny_run.command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | tiny_run.ENVIRONMENT,
        preexec_fn=default_signals,  # shells start background jobs with signals ignored, and a child inherits that
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])  # Ctrl-C: tests/cli/test_cli.py
def test_a_stage_at_work_says_what_is_kept(run_copy: Path, number: signal.Signals) -> None:
    started = start("tokenize", "--workdir", run_copy, *LONG)
    patience = time.monotonic() + 60
    while not (run_copy / ".tokenize.partial/checkpoint/previous.json").exists() and time.monotonic() < patience:
        time.sleep(0.02)
    started.send_signal(number)
    _, err = started.communicate(timeout=120)
    assert started.returncode == 128 + number
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"Stopped by {number.name}")
    assert "tokenize has a checkpoint of step" in last
    assert "continue from the last checkpoint" in last
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_signal_at_any_time_of_the_start_gives_no_traceback(run_copy: Path) -> None:
    for place in range(15):
        number = SIGNALS[place % 3]
        started = start("tokenize", "--workdir", run_copy, *LONG)
        # Python itself takes some hundredths of a second before any line of plum's can run.
        time.sleep(0.06 + 0.02 * place if place < 9 else 0.25 * place - 2)
        started.send_signal(number)
        _, err = started.communicate(timeout=120)
        assert "Traceback" not in err, err
        assert started.returncode in (128 + number, -number), err


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from plum.cli.stopping import stoppable\n"
        "with stoppable(): os.kill(os.getpid(), signal.SIGHUP); print('on')"
    )
    done = subprocess.run([tiny_run.command()[0], "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("on\n", 0)


def test_what_a_library_makes_of_a_signal_is_still_a_stop(monkeypatch: pytest.MonkeyPatch, cli) -> None:
    from plum.cli import app

    def swallowed() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(app, "app", swallowed)
    before = [signal.getsignal(number) for number in SIGNALS]
    code, _, err = cli()
    assert (code, err) == (143, "Stopped by SIGTERM.\n")
    assert [signal.getsignal(number) for number in SIGNALS] == before

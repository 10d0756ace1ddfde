"""Calls side by side in processes of their own: they share the cores, tell their errors, and end with their parent."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from plum import runtime
from plum.errors import PlumError
from plum.training.processes import run_side_by_side


def note(path: Path) -> None:
    path.write_text(f"{os.getpid()} {torch.get_num_threads()}")


def meet(path: Path, other: Path) -> None:
    """Ends well only while another process is at the same place."""
    path.touch()
    for _ in range(600):
        if other.exists():
            return
        time.sleep(0.05)
    raise AssertionError("nobody came")


def refuse() -> None:
    raise PlumError("the loss is not finite", "loss nan", "lower the rate")


def fill_up() -> None:
    raise OSError(28, "No space left on device", "checkpoint")


def fail() -> None:
    raise LookupError("a mistake of ours")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(path: Path) -> None:
    path.write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def when_there(path: Path, then) -> None:
    """Make a call as soon as a file is there."""
    for _ in range(1200):
        if path.exists() and path.read_text():
            return then()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def log() -> None:
    logging.getLogger("plum.x").info("said elsewhere")


def show_progress() -> None:
    with runtime.progress("training", 5) as show:
        time.sleep(0.2)
        show(3)
        logging.getLogger("plum.x").info("three of %d", 5)


def show_progress_and_die() -> None:
    with runtime.progress("training", 5):
        die()


def use_memory() -> None:
    assert len(bytes(range(256)) * (300 << 12)) == 300 << 20


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that no one has asked how."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def ends(pid: int) -> bool:
    for _ in range(400):
        if gone(pid):
            return True
        time.sleep(0.05)
    return False


def test_each_call_has_a_process_of_its_own_with_the_threads_given(tmp_path):
    run_side_by_side([functools.partial(note, tmp_path / name) for name in "abc"], at_once=2, threads=2)
    found = [(tmp_path / name).read_text().split() for name in "abc"]
    assert len({pid for pid, _ in found} | {str(os.getpid())}) == 4
    assert {threads for _, threads in found} == {"2"}


def test_calls_are_at_work_at_the_same_time(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    run_side_by_side([functools.partial(meet, a, b), functools.partial(meet, b, a)], at_once=2, threads=1)


def test_no_call_is_nothing_to_do():
    run_side_by_side([], at_once=2, threads=1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (refuse, PlumError, r"the loss is not finite\n  found: loss nan\n  to do: lower the rate"),
        (fill_up, OSError, r"No space left on device: 'checkpoint'"),
        (fail, RuntimeError, "ended with code 1"),
        (die, PlumError, r"was killed\n  found: signal 9, .* memory"),
    ],
)
def test_an_error_reaches_the_caller_and_ends_the_others(tmp_path, call, error, message):
    other = tmp_path / "pid"
    calls = [functools.partial(wait_for_ever, other), functools.partial(when_there, other, call)]
    with pytest.raises(error, match=message):
        run_side_by_side(calls, at_once=2, threads=1)
    assert gone(int(other.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_call_ends_with_a_parent_that_is_ended(tmp_path, ending):
    code = """
import functools, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
sys.path.insert(0, sys.argv[1])
from plum.training.processes import run_side_by_side
from test_processes import wait_for_ever
run_side_by_side([functools.partial(wait_for_ever, Path(sys.argv[2]))], 1, 1)
"""
    path = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(path)], stderr=subprocess.PIPE
    )
    try:
        when_there(path, lambda: None)
        parent.send_signal(ending)
        assert parent.wait(30) != 0
    finally:
        parent.kill()
        parent.communicate()
    assert ends(int(path.read_text()))


def test_what_processes_show_is_drawn_by_the_one_that_started_them(monkeypatch, caplog):
    steps = []
    monkeypatch.setattr(runtime, "show_step", steps.append)
    with caplog.at_level(logging.INFO, "plum"):
        run_side_by_side([show_progress, show_progress], at_once=2, threads=1)
    assert len({step.work for step in steps}) == 2
    for work in {step.work for step in steps}:
        assert [(step.name, step.total, step.done) for step in steps if step.work == work] == [
            ("training", 5, done) for done in (0, 3, None)
        ]
    assert [record.message for record in caplog.records] == ["three of 5"] * 2


def test_the_bar_of_a_process_that_was_killed_goes_with_it(monkeypatch):
    steps = []
    monkeypatch.setattr(runtime, "show_step", steps.append)
    with pytest.raises(PlumError, match="was killed"):
        run_side_by_side([show_progress_and_die], at_once=1, threads=1)
    assert [step.done for step in steps] == [0, None]


def test_what_a_process_logs_is_seen_and_its_peak_memory_counted(capfd):
    package = logging.getLogger("plum")
    before = (package.handlers, package.level, package.propagate)
    runtime.reset_peak_memory()
    own = runtime.peak_memory_mib()
    try:
        runtime.setup_logging()
        run_side_by_side([log, use_memory], at_once=1, threads=1)
    finally:
        package.handlers, package.level, package.propagate = before
    assert "said elsewhere" in capfd.readouterr().err
    assert runtime.peak_memory_mib() > own + 300
    runtime.reset_peak_memory()
    assert runtime.peak_memory_mib() < own + 300

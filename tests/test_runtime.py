"""Seeds, devices, progress and memory."""

from __future__ import annotations

import io
import itertools
import logging
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

from plum import runtime
from plum.errors import PlumError


def draws(seed):
    runtime.seed_everything(seed)
    return random.random(), float(np.random.rand()), torch.rand(()).item()


def test_every_generator_follows_the_seed_and_zero_is_one():
    assert draws(0) == draws(0)
    assert all(a != b for a, b in zip(draws(0), draws(1), strict=True))


def test_devices():
    assert runtime.pick_device("cpu") == torch.device("cpu")
    assert runtime.pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in [name for name in ("cuda", "mps", "tpu") if not getattr(torch, name, None) or not available(name)]:
        with pytest.raises(PlumError, match=rf"device {name} is not available\n.*available: .*cpu"):
            runtime.pick_device(name)


def available(name):
    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()


def test_the_processor_is_named_with_its_cores():
    model, _, cores = runtime.processor().partition(", cores: ")
    assert model
    assert int(cores.partition(",")[0]) >= 1


def test_peak_memory_counts_what_is_used_after_the_reset():
    # In a process of its own: here, what other tests left may be freed in between and hide what is added.
    code = """
import numpy as np
from plum import runtime
runtime.reset_peak_memory()
before = runtime.peak_memory_mib()
block = np.ones(60 * 2**20, dtype=np.uint8)
assert runtime.peak_memory_mib() > before + 30
del block
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with runtime.progress("x", 2) as show:
        show(1)
    assert list(runtime.track("ab", "x", after=0.0)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_log_lines_in_a_file_are_not_wrapped(monkeypatch, capsys):
    package = logging.getLogger("plum")
    before = (package.handlers, package.level, package.propagate)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    try:
        runtime.setup_logging()
        package.info("word " * 40)
    finally:
        package.handlers, package.level, package.propagate = before
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal of 60 columns; gives what was written to it."""
    written = io.StringIO()
    package = logging.getLogger("plum")
    before = (package.handlers, package.level, package.propagate)
    console = Console(file=written, force_terminal=True, width=60, height=20, highlight=False)
    monkeypatch.setattr(runtime, "_console", lambda: console)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(runtime, "_BETWEEN", 0.0)
    runtime.setup_logging()
    yield written
    package.handlers, package.level, package.propagate = before


def lines_on_screen(written):
    """What a reader sees in the end: the few controls of a terminal that rich uses, carried out."""
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"(\x1b\[[\d;?]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written.getvalue()):
        if control == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif control == "\r":
            column = 0
        elif control.endswith("A"):
            row -= int(control[2:-1])
        elif control == "\x1b[2K":
            lines[row] = ""
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    shown = [line.rstrip() for line in lines]
    return shown[: max((number + 1 for number, line in enumerate(shown) if line), default=0)]


def test_bars_stand_below_the_log_and_leave_nothing(terminal):
    log = logging.getLogger("plum.x")
    with runtime.progress("training", 3_668) as show:
        for epoch in range(2):
            show(1_834 * (epoch + 1))
            for _ in runtime.track(range(3), "validating [red]", after=0.0):
                log.info("asked in epoch %d", epoch)
                *above, training, validating = lines_on_screen(terminal)
                assert above[-1].endswith(f"asked in epoch {epoch}")
                assert training.startswith("training")
                assert f"{1_834 * (epoch + 1):,}/3,668" in training
                assert validating.startswith("validating [red]")
            log.info("epoch %d ended", epoch)
            assert lines_on_screen(terminal)[-1].startswith("training")
    log.info("the end")
    told = ["asked in epoch 0"] * 3 + ["epoch 0 ended"] + ["asked in epoch 1"] * 3 + ["epoch 1 ended", "the end"]
    assert [line[9:] for line in lines_on_screen(terminal)] == told


def test_short_work_has_no_bar(terminal, monkeypatch):
    clock = iter(itertools.count())
    monkeypatch.setattr(runtime.time, "monotonic", lambda: next(clock))
    seen = []
    for _ in runtime.track("abc", "x", after=2.5):
        logging.getLogger("plum").info("-")
        seen.append(len(lines_on_screen(terminal)))
    assert seen == [1, 2, 4]  # at the third second the line of a bar, below three messages
    assert lines_on_screen(terminal)[2].endswith("-")


def test_an_error_takes_the_bars_away(terminal):
    with pytest.raises(KeyboardInterrupt), runtime.progress("training", 10), runtime.progress("validating", 5):
        raise KeyboardInterrupt
    assert lines_on_screen(terminal) == []


def test_a_long_name_is_cut_and_the_numbers_are_not(terminal):
    with runtime.progress("dense (learning_rate 0.001, hidden_size 64, dropout 0.25, layers 2)", 123_456, 100_000):
        logging.getLogger("plum").info("x")
        bar = lines_on_screen(terminal)[-1]
    assert "100,000/123,456" in bar
    assert bar.startswith("dense (learning_rate")
    assert "…" in bar


def test_a_log_line_is_of_one_colour_and_details_are_left_out(terminal):
    logging.getLogger("plum.x").info("GET 3,668 items: recall@10 0.5300 'path/to' True")
    logging.getLogger("plum.x").debug("details")
    assert "GET 3,668 items: recall@10 0.5300 'path/to' True" in terminal.getvalue()
    assert "details" not in terminal.getvalue()

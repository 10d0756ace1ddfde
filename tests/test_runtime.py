"""Seeds, devices, progress and memory."""

from __future__ import annotations

import io
import logging
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with runtime.progress() as bar:
        task = bar.add_task("x", total=2)
        bar.update(task, completed=2)
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


def test_messages_go_to_standard_error_above_a_running_bar(monkeypatch):
    written = io.StringIO()
    package = logging.getLogger("plum")
    before = (package.handlers, package.level, package.propagate)
    monkeypatch.setattr(runtime._console(), "file", written, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    try:
        runtime.setup_logging()
        with runtime.progress(quiet=False) as bar:
            assert package.handlers[0].console is bar.console
            package.info("half way")
        package.debug("details")
    finally:
        package.handlers, package.level, package.propagate = before
    assert "half way" in written.getvalue()
    assert "details" not in written.getvalue()

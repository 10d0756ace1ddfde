"""Standard output and error that are closed, full, read by nobody or not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import tiny_run

COMMAND = " ".join(tiny_run.command())


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        env=os.environ | tiny_run.ENVIRONMENT | environment,
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-", "| head -c 1", "2>&1 | head -c 1"])
def test_nobody_reads_what_is_printed(closed: str) -> None:
    done = shell(f"{COMMAND} --help {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_below_standard_output_is_told() -> None:
    done = shell(f"{COMMAND} --help >/dev/full")
    assert done.returncode == 2
    assert "what was printed is lost: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell(f"{COMMAND} --nonsense 2>/dev/full").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&- 2>&-", "2>&1 | head -c 1"])
def test_a_run_that_nobody_watches_comes_to_its_end(tmp_path: Path, closed: str) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    assert shell(f"{COMMAND} run --config {config} {closed}").returncode == 0
    for stage in tiny_run.STAGES:  # and no file holds what was meant for the terminal
        assert (tmp_path / "run" / stage / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii"])
def test_characters_that_the_output_lacks_are_spelt_out(tmp_path: Path, run_copy: Path, encoding: str) -> None:
    history = ("--history", "i0000")
    table = shell(f"{COMMAND} run --workdir {run_copy}", PYTHONIOENCODING=encoding)
    assert table.returncode == 0, table.stderr
    done = subprocess.run(
        tiny_run.command("recommend", "--workdir", run_copy, "--json", *history),
        capture_output=True,
        env=os.environ | tiny_run.ENVIRONMENT | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0
    assert len(json.loads(done.stdout.decode(encoding))["recommendations"]) == 10

"""The lock of a run folder: one command writes at a time, whatever lies where its file should."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plum.errors import PlumError
from plum.run.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from plum.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of ``tmp_path / "run"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def enter(folder):
    with locked(folder):
        pass


def test_a_second_process_is_told_who_works_there_and_since_when(tmp_path, other):
    with pytest.raises(PlumError) as refused:
        enter(tmp_path / "run")
    message = str(refused.value)
    assert "another plum process is working in" in message
    assert f"process {other.pid} on {os.uname().nodename}, since 20" in message
    assert "wait for it" in message


def test_a_killed_process_leaves_no_lock(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "run/.lock").exists()
    enter(tmp_path / "run")


def test_what_the_file_says_is_no_lock_and_may_be_anything(tmp_path, other):
    for text in ("", "{", "[]", "nonsense", '{"process": "x"}', '{"process": 1, "host": 2, "started": 3}', "[" * 9999):
        (tmp_path / "run/.lock").write_text(text)
        with pytest.raises(PlumError) as refused:
            enter(tmp_path / "run")
        assert refused.value.found is None
    said = {"process": 7, "host": "\x1b[2Jhost\n", "started": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "run/.lock").write_text(json.dumps(said))
    with pytest.raises(PlumError, match=r"process 7 on \[2Jhost, since 20") as refused:
        enter(tmp_path / "run")
    assert "\x1b" not in str(refused.value)


def test_a_stage_may_work_inside_of_a_command(tmp_path):
    with locked(tmp_path):
        enter(tmp_path)
        (tmp_path.parent / "link").symlink_to(tmp_path)
        enter(tmp_path.parent / "link")  # the same folder by another name
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert f"process {os.getpid()} on" in second.stderr  # entering twice has not let it go
    enter(tmp_path)


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a link", "a socket"])
def test_anything_else_of_the_lock_s_name_is_refused_at_once(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    lock = Path(".lock")
    if kind == "a named pipe":
        os.mkfifo(lock)
    elif kind == "a folder":
        lock.mkdir()
    elif kind == "a link":
        lock.symlink_to("nowhere")
    else:
        import socket

        socket.socket(socket.AF_UNIX).bind(".lock")
    with pytest.raises(PlumError, match=f"(?s)no plain file.*{kind} of that name.*remove it"):
        enter(Path())
    lock.rmdir() if kind == "a folder" else lock.unlink()
    enter(Path())  # the advice works


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    def refusing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refusing)
    with pytest.raises(PlumError, match=r"(?s)its file system has no file locks.*local disk"):
        enter(tmp_path)


def test_folders_that_can_not_be_made_are_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(PlumError, match=r"(?s)can't write to .*file/run.*file is not a folder.*--workdir"):
        enter(tmp_path / "file/run")
    for folder in (tmp_path / "dangling", tmp_path / "dangling/run"):
        with pytest.raises(PlumError, match=r"(?s)can't write to .*dangling is a link to .*gone, which is not there"):
            enter(folder)
    (tmp_path / "gone").mkdir()
    enter(tmp_path / "dangling/run")  # the advice works
    assert (tmp_path / "gone/run/.lock").is_file()

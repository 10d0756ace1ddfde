"""Where stages write: through links, beside what is left, and what is refused before the work."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from plum.errors import PlumError
from plum.run.leftovers import tell_leftovers
from plum.run.place import Place
from plum.run.stage import StageRun


def run(workdir, text="1", **config):
    at_work = StageRun(workdir, "cpt", config, 0, [])
    if at_work.is_complete():
        return False
    with at_work.writing() as folder:
        (folder / "out.txt").write_text(text)
    return True


def interrupted(workdir, **config):
    at_work = StageRun(workdir, "cpt", config, 0, [])
    with suppress(KeyboardInterrupt), at_work.writing():
        at_work.checkpoint.mkdir()
        (at_work.checkpoint / "state.json").write_text('{"step": 7}')
        raise KeyboardInterrupt


WRITER = """
import sys
from pathlib import Path
from plum.run.stage import StageRun
for number in range(200):
    with StageRun(Path(sys.argv[1]), "cpt", {"k": number}, 0, []).writing() as folder:
        (folder / "out.txt").write_text(str(number) * 1000)
"""


@pytest.mark.slow
def test_a_reader_is_neither_stopped_nor_misled_by_one_who_writes(tmp_path):
    run(tmp_path, "x" * 1000, k=-1)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:
        reads = 0
        while writer.poll() is None:
            found = StageRun(tmp_path, "recommend", {}, 0, ["cpt/out.txt"]).manifest.inputs
            assert list(found) == ["cpt/out.txt"]
            reads += 1
    assert writer.returncode == 0
    assert reads > 50


@pytest.fixture
def linked(tmp_path):
    """A run whose cpt/ is a link to another disk's folder."""
    (tmp_path / "disk/models").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/cpt").symlink_to(tmp_path / "disk/models")
    return tmp_path


def test_a_linked_folder_is_written_through_again_and_again(linked):
    for text in ("first", "second", "third"):
        assert run(linked / "run", text, k=text)
        assert (linked / "run/cpt").is_symlink()
        assert (linked / "disk/models/out.txt").read_text() == text
    assert sorted(path.name for path in (linked / "disk").iterdir()) == [".models.lock", "models"]
    assert sorted(path.name for path in (linked / "run").iterdir()) == [".lock", "cpt"]
    assert not run(linked / "run", k="third")


def test_an_interrupted_stage_behind_a_link_goes_on_there(linked, caplog):
    interrupted(linked / "run", k=1)
    assert (linked / "disk/.models.partial/checkpoint/state.json").exists()
    with caplog.at_level(logging.INFO, "plum"):
        assert run(linked / "run", k=1)
    assert "resuming from the checkpoint" in caplog.text


def test_a_run_folder_that_is_a_link_is_like_any_other(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert run(tmp_path / "run", k=1)
    assert run(tmp_path / "run", k=2)
    assert (tmp_path / "disk/cpt/out.txt").exists()


def test_a_link_to_nothing_is_refused_and_the_advice_works(linked):
    shutil.rmtree(linked / "disk/models")
    with pytest.raises(PlumError) as refused:
        run(linked / "run")
    assert f"cpt is a link to {linked}/disk/models, which is not there" in str(refused.value)
    advice = str(refused.value).partition("`")[2].partition("`")[0]
    assert os.system(advice) == 0
    assert run(linked / "run")


def test_a_link_to_what_no_stage_wrote_is_refused(linked):
    (linked / "disk/models/thesis.txt").write_text("years of work")
    with pytest.raises(PlumError, match="is not a folder of a plum run"):
        run(linked / "run")
    assert (linked / "disk/models/thesis.txt").read_text() == "years of work"


def test_a_disk_of_its_own_is_refused_before_the_work(tmp_path, monkeypatch):
    run(tmp_path, k=1)
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "cpt")
    assert "is a disk of its own" in str(Place(tmp_path, "cpt").problem())
    assert Place(tmp_path, "tokenize").problem() is None


@pytest.mark.parametrize("left", ["a file", "a link", "a pipe"])
def test_anything_in_the_hidden_folder_s_place_is_removed(tmp_path, left):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    hidden = tmp_path / "run/.cpt.partial"
    hidden.parent.mkdir()
    if left == "a file":
        hidden.touch()
    elif left == "a link":
        hidden.symlink_to(tmp_path / "mine")
    else:
        os.mkfifo(hidden)
    assert run(tmp_path / "run")
    assert (tmp_path / "mine/thesis.txt").exists()
    assert not hidden.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "\x00" * 40, "[" * 100_000])
def test_a_damaged_fingerprint_is_thrown_away_and_said(tmp_path, caplog, damage):
    interrupted(tmp_path, k=1)
    (tmp_path / ".cpt.partial/fingerprint.json").write_text(damage)
    with caplog.at_level(logging.INFO, "plum"):
        assert run(tmp_path, k=1)
    assert "discarding the checkpoint" in caplog.text
    assert "resuming" not in caplog.text
    assert (tmp_path / "cpt/out.txt").read_text() == "1"


def test_a_checkpoint_of_other_settings_is_discarded_with_a_word(tmp_path, caplog):
    interrupted(tmp_path, k=1)
    with caplog.at_level(logging.INFO, "plum"):
        assert run(tmp_path, k=2)
    assert "with other settings, other inputs or another version of plum" in caplog.text


def test_what_settings_given_up_have_left_is_told_with_a_way_to_remove_it(tmp_path, caplog):
    run(tmp_path / "a run", k=1)
    interrupted(tmp_path / "a run", k=2)
    os.utime(tmp_path / "a run/.cpt.partial/checkpoint/state.json")
    tell_leftovers(tmp_path / "a run")
    assert ".cpt.partial is left from an interrupted cpt (a checkpoint of step 7, " in caplog.text
    assert "seconds old)" in caplog.text
    assert os.system(caplog.text.partition("`")[2].partition("`")[0]) == 0  # the advice works
    caplog.clear()
    tell_leftovers(tmp_path / "a run")
    assert caplog.text == ""

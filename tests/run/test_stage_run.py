"""Stages at work in a run folder: skipping, lineage, locks, and every place where a kill can fall."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from crash_points import Machine, stops_everywhere

from plum.errors import PlumError
from plum.run import stage as stage_module
from plum.run.hashes import sha256
from plum.run.manifest import has_file, read_manifest
from plum.run.stage import StageRun

DATA, SIDS = "data/items.parquet", "tokenize/semantic_ids.parquet"


class Killed(BaseException):
    """Stands for the kill of the process."""


def run(workdir, stage, inputs=(), files=None, config=None, seed=0, force=False, sources=()):
    """Run a toy stage as the real ones do; whether it had to work."""
    at_work = StageRun(workdir, stage, config or {"k": 1}, seed, inputs, sources)
    if at_work.is_complete() and not force:
        return False
    with at_work.writing(force) as folder:
        for name, text in (files or {"out.txt": "1"}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return True


def pipeline(workdir, sids="s1"):
    run(workdir, "data", files={"items.parquet": "items"})
    run(workdir, "tokenize", [DATA], files={"semantic_ids.parquet": sids})
    run(workdir, "cpt", [DATA, SIDS], files={"model/weights": "w"})


def test_a_stage_writes_its_files_and_a_manifest(tmp_path):
    assert run(tmp_path, "data", files={"a.txt": "A", "model/b.txt": "B"}, config={"path": Path("x")}, seed=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "data"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["a.txt", "manifest.json", "model"]
    manifest = read_manifest(tmp_path / "data")
    assert (manifest.stage, manifest.seed, manifest.inputs) == ("data", 0, {})
    assert manifest.outputs == {n: sha256(tmp_path / "data" / n) for n in ("a.txt", "model/b.txt")}
    assert manifest.duration_s >= 0
    assert manifest.peak_memory_mib > 1
    assert manifest.versions["plum"]
    assert manifest.started.endswith("+00:00")


def test_the_same_work_is_skipped_and_other_work_is_done(tmp_path):
    assert run(tmp_path, "data")
    assert not run(tmp_path, "data")
    assert run(tmp_path, "data", force=True)
    assert run(tmp_path, "data", config={"k": 2})
    assert run(tmp_path, "data", config={"k": 2}, seed=1)
    assert not run(tmp_path, "data", config={"k": 2}, seed=1)


@pytest.mark.parametrize("damage", ["change", "delete", "manifest", "no json"])
def test_tampered_outputs_are_made_again(tmp_path, damage):
    run(tmp_path, "data")
    out, manifest = tmp_path / "data/out.txt", tmp_path / "data/manifest.json"
    {
        "change": lambda: out.write_text("2"),
        "delete": out.unlink,
        "manifest": lambda: manifest.write_text("[1]"),
        "no json": lambda: manifest.write_text("{"),
    }[damage]()
    assert run(tmp_path, "data")
    assert out.read_text() == "1"


def test_a_changed_input_is_work(tmp_path):
    pipeline(tmp_path)
    assert not run(tmp_path, "tokenize", [DATA])
    run(tmp_path, "data", files={"items.parquet": "other items"}, force=True)
    assert run(tmp_path, "tokenize", [DATA])


def test_a_changed_source_is_work_also_beside_another_of_the_same_name(tmp_path):
    first, second = tmp_path / "a/x.npy", tmp_path / "b/x.npy"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text("1")
    assert run(tmp_path / "run", "features", sources=[first, second])
    assert not run(tmp_path / "run", "features", sources=[first, second])
    first.write_text("2")
    assert run(tmp_path / "run", "features", sources=[first, second])


def test_a_source_may_move_but_must_be_there(tmp_path):
    (tmp_path / "x.npy").write_text("1")
    assert run(tmp_path / "run", "features", sources=[tmp_path / "x.npy"])
    (tmp_path / "sub").mkdir()
    moved = (tmp_path / "x.npy").rename(tmp_path / "sub/x.npy")
    assert not run(tmp_path / "run", "features", sources=[moved])
    with pytest.raises(PlumError, match=r"features needs .*gone\.npy, which is not there"):
        run(tmp_path / "run", "features", sources=[tmp_path / "gone.npy"])


def test_a_model_made_from_another_sid_table_is_refused(tmp_path):
    pipeline(tmp_path)
    run(tmp_path, "finetune", [DATA, SIDS, "cpt/model"])
    run(tmp_path, "tokenize", [DATA], files={"semantic_ids.parquet": "s2"}, force=True)
    with pytest.raises(PlumError, match=r"(?s)cpt/ was made from another tokenize/semantic_ids.*`plum cpt --workdir"):
        run(tmp_path, "finetune", [DATA, SIDS, "cpt/model"])
    run(tmp_path, "cpt", [DATA, SIDS], files={"model/weights": "w"})
    assert run(tmp_path, "finetune", [DATA, SIDS, "cpt/model"])


def test_a_missing_stage_or_file_names_the_command(tmp_path):
    with pytest.raises(PlumError, match=r"(?s)tokenize needs .*data/, which is not there.*`plum data prepare`"):
        run(tmp_path, "tokenize", [DATA])
    run(tmp_path, "data")
    with pytest.raises(PlumError, match=r"(?s)items.parquet is missing.*`plum data prepare --workdir .* --force`"):
        run(tmp_path, "tokenize", [DATA])


def die_at_work(stage, act):
    with stage.writing() as folder:
        act(folder)
        raise Killed


def interrupted(workdir, config=None):
    """A stage killed at work, with a checkpoint and a half-written file."""
    at_work = StageRun(workdir, "data", config or {"k": 1}, 0, [])

    def act(folder):
        at_work.checkpoint.mkdir()
        (at_work.checkpoint / "state.json").write_text("step 7")
        (folder / "half.txt").write_text("half")

    with pytest.raises(Killed):
        die_at_work(at_work, act)


def test_a_killed_stage_keeps_its_checkpoint_but_no_half_written_file(tmp_path):
    interrupted(tmp_path)
    assert not (tmp_path / "data").exists()
    again = StageRun(tmp_path, "data", {"k": 1}, 0, [])
    assert not again.is_complete()
    with again.writing() as folder:
        assert (again.checkpoint / "state.json").read_text() == "step 7"
        assert not (folder / "half.txt").exists()
        (folder / "out.txt").write_text("1")
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["manifest.json", "out.txt"]
    assert list(read_manifest(tmp_path / "data").outputs) == ["out.txt"]


@pytest.mark.parametrize(("config", "seed", "force"), [({"k": 2}, 0, False), ({"k": 1}, 1, False), ({"k": 1}, 0, True)])
def test_what_other_work_left_is_thrown_away(tmp_path, config, seed, force):
    interrupted(tmp_path)
    again = StageRun(tmp_path, "data", config, seed, [])
    with again.writing(force):
        assert not again.checkpoint.exists()


def test_a_failed_stage_leaves_the_finished_folder_alone(tmp_path):
    run(tmp_path, "data", files={"out.txt": "old"})
    interrupted(tmp_path, config={"k": 2})
    assert (tmp_path / "data/out.txt").read_text() == "old"
    assert not run(tmp_path, "data")


@pytest.mark.slow
def test_a_stop_of_the_machine_at_any_instant_leaves_the_old_folder_or_the_new(tmp_path, monkeypatch):
    numbers = iter(range(10**6))

    def fresh():
        root = tmp_path / str(next(numbers))
        run(root, "data", files={"out.txt": "old", "inner/a.txt": "old"})
        interrupted(root, config={"k": 3})
        return root

    def work(root):
        if (root / "data").exists():  # a reader finds one or the other, whole
            text = (root / "data/out.txt").read_text()
            assert text in ("old", "new")
            assert (root / "data/inner/a.txt").read_text() == text
        run(root, "data", files={"out.txt": "new", "inner/a.txt": "new"}, config={"k": 2})
        assert (root / "data/out.txt").read_text() == (root / "data/inner/a.txt").read_text() == "new"
        assert sorted(p.name for p in root.iterdir()) == [".lock", "data"]
        assert sorted(p.name for p in (root / "data").iterdir()) == ["inner", "manifest.json", "out.txt"]

    assert stops_everywhere(monkeypatch, fresh, work) > 60


def test_all_files_are_on_the_disk_before_the_folder_is_renamed(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        machine = Machine(tmp_path).patch(patched)
        run(tmp_path, "data", files={"out.txt": "1", "inner/b.txt": "2"})
    hidden = str(tmp_path / ".data.partial")
    renamed = machine.calls.index(("replace", hidden))
    synced = {Path(path).name for name, path in machine.calls[:renamed] if name == "fsync"}
    assert {"out.txt", "b.txt", "inner", ".data.partial", "manifest.json.partial"} <= synced
    assert ("fsync", str(tmp_path)) in machine.calls[renamed:]


def test_a_kill_while_the_files_are_hashed_keeps_the_checkpoint(tmp_path, monkeypatch):
    at_work = StageRun(tmp_path, "data", {"k": 1}, 0, [])

    def dying(path):
        raise Killed

    def work():
        with at_work.writing() as folder:
            at_work.checkpoint.mkdir()
            (folder / "out.txt").write_text("1")

    monkeypatch.setattr(stage_module, "sha256", dying)
    with pytest.raises(Killed):
        work()
    monkeypatch.undo()
    again = StageRun(tmp_path, "data", {"k": 1}, 0, [])
    with again.writing():
        assert again.checkpoint.exists()


def test_a_retired_folder_without_its_successor_comes_back(tmp_path):
    run(tmp_path, "data")
    (tmp_path / "data").rename(tmp_path / ".data.retired")
    assert not run(tmp_path, "data")


def test_a_folder_that_no_stage_wrote_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    assert run(tmp_path, "data")  # an empty one is fine
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data/ml-100k").mkdir(parents=True)
    with pytest.raises(PlumError, match=r"(?s)data exists, but is not a folder of a plum run.*--workdir"):
        run(tmp_path, "data", force=True)
    assert (tmp_path / "data/ml-100k").is_dir()


def test_a_workdir_that_can_not_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlumError, match="can't write to"):
        run(tmp_path / "file/run", "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_without_permission_is_a_message(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PlumError, match="can't write to"):
        run(tmp_path / "run", "data")


def test_unreadable_manifests_are_messages(tmp_path):
    with pytest.raises(PlumError, match="is missing"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(PlumError, match=r"(?s)is not JSON.*again with --force"):
        read_manifest(tmp_path)
    for text in ("{}", "[]", '{"stage": "x", "unknown": 1}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(PlumError, match="not as plum writes it"):
            read_manifest(tmp_path)


def test_has_file_asks_completed_stages_only(tmp_path):
    assert not has_file(tmp_path, "data/out.txt")
    run(tmp_path, "data")
    assert has_file(tmp_path, "data/out.txt")
    assert not has_file(tmp_path, "data/truth.safetensors")

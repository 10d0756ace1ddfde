"""Reading the files of a run: only as their stage wrote them, hashed once, and with a remedy that works."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from plum.errors import PlumError
from plum.run import artifacts, hashes, saved, verified
from plum.run.hashes import MEMORY, remembered_sha256, sha256
from plum.run.lineage import ancestry, refuse_mixed
from plum.run.manifest import read_manifest
from plum.run.stage import StageRun

BIG = bytes(range(256)) * 2048


@pytest.fixture
def run(tmp_path):
    """A run of three stages: data, cpt with a model folder, finetune made of both."""
    data = StageRun(tmp_path, "data", {}, 0, [])
    with data.writing() as folder:
        artifacts.write_json(folder / "summary.json", {"synthetic": True})
        (folder / "split.parquet").write_bytes(BIG)
    cpt = StageRun(tmp_path, "cpt", {}, 0, ["data/split.parquet"])
    with cpt.writing() as folder:
        (folder / "model").mkdir()
        (folder / "model/config.json").write_text("{}")
        (folder / "model/weights").write_bytes(BIG)
    with StageRun(tmp_path, "finetune", {}, 0, ["data/split.parquet", "cpt/model"]).writing() as folder:
        (folder / "metrics.json").write_text("{}")
    return tmp_path


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that are hashed, with an empty memory of this process."""
    names, true = [], hashes.sha256
    monkeypatch.setattr(hashes, "_known", {})
    monkeypatch.setattr(hashes, "SETTLED_NS", 0)
    monkeypatch.setattr(hashes, "sha256", lambda path: (names.append(path.name), true(path))[1])
    return names


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def needs(run):
    return StageRun(run, "finetune", {}, 0, ["data/split.parquet", "cpt/model"])


@pytest.mark.parametrize(
    ("name", "command"),
    [("data/split.parquet", "plum data prepare"), ("cpt/model/weights", "plum cpt"), ("cpt/model/config.json", "cpt")],
)
def test_a_flipped_bit_in_an_input_is_refused_with_the_command_that_mends_it(run, name, command):
    flip(run / name)
    with pytest.raises(PlumError, match=rf"(?s){name} is not what stage \w+ wrote.*now.*{command} --workdir {run}`"):
        needs(run)
    (run / name).unlink()
    with pytest.raises(PlumError, match=rf"(?s){name} is missing.*{command} --workdir {run}`"):
        needs(run)


def test_a_change_that_keeps_size_and_time_is_noticed(run, hashed):
    path = run / "cpt/model/weights"
    needs(run)
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(PlumError, match="is not what stage cpt wrote"):
        needs(run)


def test_a_file_that_a_library_would_read_besides_is_refused(run):
    (run / "cpt/model/.DS_Store").write_text("x")
    needs(run)
    (run / "cpt/model/adapter_config.json").write_text("{}")
    with pytest.raises(PlumError, match=r"(?s)did not write .*adapter_config.json.*remove"):
        needs(run)


def test_every_reader_refuses_what_its_stage_did_not_write(run):
    flip(run / "data/split.parquet")
    (run / "data/summary.json").write_text('{"synthetic": false}')
    (run / "data/more.npy").write_bytes(b"x")
    for read in (
        lambda: artifacts.read_json(run / "data/summary.json"),
        lambda: artifacts.read_table(run / "data/split.parquet"),
        lambda: artifacts.read_log(run / "data/summary.json"),
        lambda: saved.read_arrays(run / "data/split.parquet", "arrays", "fix"),
        lambda: saved.read_settings(run / "data/summary.json", 1, "fix"),
        lambda: saved.read_vectors(run / "data/more.npy", 3, "fix"),
        lambda: verified.verify(run / "data/more.npy"),
    ):
        with pytest.raises(PlumError, match=r"is not what stage data wrote|stage data did not write"):
            read()


def test_what_is_recorded_is_what_was_read(run):
    assert needs(run).manifest.inputs == {
        name: sha256(run / name) for name in ("data/split.parquet", "cpt/model/config.json", "cpt/model/weights")
    }


def test_large_files_are_hashed_once(run, hashed):
    needs(run)
    assert sorted(hashed) == ["config.json", "split.parquet", "weights"]
    hashed.clear()
    needs(run)
    hashes._known.clear()  # another process
    needs(run)
    assert hashed == ["config.json"] * 2
    (run / MEMORY).unlink()
    hashes._known.clear()
    needs(run)
    assert "weights" in hashed


def test_a_file_just_written_is_hashed_again(run, hashed, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED_NS", 10**12)
    needs(run)
    needs(run)
    assert hashed.count("weights") == 2
    assert not (run / MEMORY).exists()


@pytest.mark.parametrize(
    "memory",
    ["", "[]", "{", "[" * 100_000, '{"cpt/model/weights": 3}', '{"cpt/model/weights": {"stamp": [1], "sha256": "x"}}'],
)
def test_a_damaged_memory_is_no_memory(run, hashed, memory):
    (run / MEMORY).write_text(memory)
    needs(run)
    assert "weights" in hashed
    assert set(json.loads((run / MEMORY).read_text())) == {"cpt/model/weights", "data/split.parquet"}


def test_a_memory_of_a_copied_run_vouches_for_nothing(run, hashed, tmp_path_factory):
    import shutil

    needs(run)
    other = shutil.copytree(run, tmp_path_factory.mktemp("copy") / "run")
    flip(other / "cpt/model/weights")
    with pytest.raises(PlumError, match="is not what stage cpt wrote"):
        needs(other)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_that_can_not_be_written_is_read(run, hashed):
    run.chmod(0o500)
    try:
        needs(run)
    finally:
        run.chmod(0o700)


def test_a_memory_that_can_not_be_written_is_no_matter(run, hashed):
    (run / f"{MEMORY}.partial").mkdir()
    needs(run)
    assert not (run / MEMORY).exists()


def test_sources_are_remembered_too(run, hashed, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "log.csv"
    source.write_bytes(BIG)
    for _ in range(2):
        assert StageRun(run, "features", {}, 0, [], [source]).manifest.inputs == {"source/log.csv": sha256(source)}
    assert hashed.count("log.csv") == 1
    source.unlink()
    (run / "cpt/model/weights").touch()
    needs(run)
    assert str(source) not in json.loads((run / MEMORY).read_text())  # files that are gone are forgotten


def test_a_folder_replaced_while_it_is_read_is_looked_at_again(run, monkeypatch):
    """The manifest is of the old folder, the file of the new one; a moment later both are new."""
    path, true = run / "data/summary.json", verified.read_manifest
    old = true(run / "data")
    with StageRun(run, "data", {}, 0, []).writing() as folder:
        artifacts.write_json(folder / "summary.json", {"synthetic": False})
        (folder / "split.parquet").write_bytes(BIG)
    seen = iter([old])
    monkeypatch.setattr(verified, "read_manifest", lambda folder: next(seen, None) or true(folder))
    assert artifacts.read_json(path) == {"synthetic": False}


def test_folders_of_other_files_are_mixed(run):
    manifests = ancestry(run, "finetune")
    assert list(manifests) == ["finetune", "data", "cpt"]
    refuse_mixed(run, manifests)
    with StageRun(run, "cpt", {"k": 2}, 0, ["data/split.parquet"]).writing() as folder:
        (folder / "model").mkdir()
        (folder / "model/weights").write_bytes(b"other")
    with pytest.raises(PlumError, match=r"(?s)finetune/ was made from another cpt/model/\S+ than the one now.*do this"):
        refuse_mixed(run, ancestry(run, "finetune"), "do this")


def test_files_outside_complete_stages_are_read_as_they_are(tmp_path):
    for folder in ("", "data", ".data.partial", "mine/deeper"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        artifacts.write_json(tmp_path / folder / "x.json", 3)
        assert artifacts.read_json(tmp_path / folder / "x.json") == 3


def test_vectors_are_float_rows_of_the_catalogue(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((3, 2), dtype=np.float32))
    assert saved.read_vectors(path, 3, "fix", mapped=True).shape == (3, 2)
    whole = path.read_bytes()
    for content in (b"", whole[:40], whole[:-3], b"PK\x03\x04" + whole, bytes(len(whole))):
        path.write_bytes(content)
        for mapped in (False, True):
            with pytest.raises(PlumError, match="can't be read as vectors"):
                saved.read_vectors(path, 3, "fix", mapped)
    for array in (np.ones(3, np.float32), np.ones((2, 2), np.float32), np.ones((3, 2)), np.array([["a"]] * 3)):
        np.save(path, array)
        with pytest.raises(PlumError, match=r"(?s)does not fit the catalogue.*3 items"):
            saved.read_vectors(path, 3, "fix")


def test_a_cut_log_names_the_line(tmp_path):
    (tmp_path / "train_log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    with pytest.raises(PlumError, match=r"train_log\.jsonl, line 2 is not JSON"):
        artifacts.read_log(tmp_path / "train_log.jsonl")
    (tmp_path / "train_log.jsonl").write_text('{"step": 1, "loss": [2.5]}\n')
    with pytest.raises(PlumError, match=r"(?s)line 1 is not as plum writes it.*loss"):
        artifacts.read_log(tmp_path / "train_log.jsonl")


def test_hashing_takes_the_time_of_a_look(run, hashed):
    remembered_sha256(run / "cpt/model/weights", run)
    began = time.perf_counter()
    for _ in range(200):
        remembered_sha256(run / "cpt/model/weights", run)
    assert time.perf_counter() - began < 1


def test_a_manifest_of_another_shape_names_key_and_command(run):
    path = run / "cpt/manifest.json"
    values = json.loads(path.read_text())
    for key, wrong in (("seed", "0"), ("inputs", {"data/split.parquet": 3}), ("outputs", None), ("duration_s", -1)):
        path.write_text(json.dumps(values | {key: wrong}))
        with pytest.raises(PlumError, match=rf"(?s)not as plum writes it.*{key}.*found.*plum cpt --workdir {run}`"):
            read_manifest(run / "cpt")


@pytest.mark.parametrize("name", [MEMORY, f"{MEMORY}.partial", "cpt/model/weights", "cpt/manifest.json", "config.yaml"])
def test_a_pipe_or_device_in_the_place_of_a_file_is_not_waited_for(run, name, hashed):
    for put in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run / name).unlink(missing_ok=True)
        put(run / name)
        if MEMORY in name:  # no more than a memory
            remembered_sha256(run / "data/split.parquet", run)
            continue
        with pytest.raises(PlumError, match="no plain file"):
            artifacts.write_config(run, {}) if name == "config.yaml" else verified.verify(run / "cpt/model/weights")

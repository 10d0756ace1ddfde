"""Writing files whole or not at all, and what is said of every error that a write can have."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from plum.errors import PlumError
from plum.run import artifacts, writing
from plum.run.writing import explained, mapped_array, system_error, write_errors, written

LARGE = np.random.default_rng(0).random((400, 50))  # 160 kB that do not compress


def model_folder(path):
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from plum.lm.folders import save_model_folder

    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {f"word {number}": number for number in range(9000)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "word 0")))
    save_model_folder(LlamaForCausalLM(LlamaConfig(vocab_size=9, **shape)), tokenizer, path)


WRITERS = {
    "text": lambda path: writing.write_text(path, "x" * 160_000),
    "json": lambda path: artifacts.write_json(path, LARGE),
    "table": lambda path: artifacts.write_table(path, pd.DataFrame(LARGE, columns=[f"c{i}" for i in range(50)])),
    "npy": lambda path: writing.write_array(path, LARGE),
    "arrays": lambda path: writing.write_arrays(path, {"a": LARGE}),
    "tensors": lambda path: writing.write_tensors(path, {"a": torch.from_numpy(LARGE)}),
    "copy": lambda path: writing.copy_file(path.parent / "large", path),
    "mapped": lambda path: mapped_array(path, (400, 100)),
    "config": lambda path: artifacts.write_config(path.parent, {"x": "y" * 160_000}),
    "model": model_folder,
}


@contextmanager
def no_file_beyond(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_can_not_grow_is_told_and_nothing_of_it_is_left(tmp_path, writer):
    (tmp_path / "large").write_bytes(LARGE.tobytes())
    before = sorted(tmp_path.iterdir())
    with no_file_beyond(50_000), pytest.raises(PlumError) as refused:
        WRITERS[writer](tmp_path / "file")
    message = str(refused.value)
    assert f"can't write {tmp_path}" in message
    assert "the file would be larger than is allowed" in message
    assert "48.8 KiB allowed" in message
    assert "`ulimit -f unlimited`" in message
    if writer not in ("mapped", "model"):  # these lie in hidden folders of their own
        assert sorted(tmp_path.iterdir()) == before
    WRITERS[writer](tmp_path / "file")  # without the limit


NUMBERS = {
    errno.ENOSPC: ("the disk is full", "free space on it"),
    errno.EDQUOT: ("your quota of disk space is used up", "quota -s"),
    errno.EROFS: ("the disk is mounted read-only", "mount it for writing"),
    errno.EACCES: ("permission denied", "give yourself the right to write in"),
    errno.EPERM: ("permission denied", "give yourself the right to write in"),
    errno.EIO: ("input/output error", "dmesg"),
    errno.EFBIG: ("larger than is allowed", "ulimit -f"),
    errno.ENAMETOOLONG: ("the name is too long", "shorten"),
    errno.EMFILE: ("too many files are open", "ulimit -n"),
    errno.ENOTDIR: ("Not a directory", "give another --workdir"),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_every_error_says_where_and_what_to_do(tmp_path, number):
    told = explained(OSError(number, os.strerror(number)), number, tmp_path / "x/cpt", 3 << 30)
    why, fix = NUMBERS[number]
    assert told.what.startswith(f"can't write {tmp_path}/x/cpt: ")
    assert why in told.what
    assert fix in str(told.fix)
    if number == errno.ENOSPC:
        assert "3.0 GiB needed, " in str(told.found)
        assert f"free on the disk of {tmp_path}" in str(told.found)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        ValueError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
        OSError("5000 requested and 1024 written"),
    ],
)
def test_a_full_disk_is_seen_in_what_any_library_says_of_it(tmp_path, error):
    assert system_error(error, tmp_path / "x") == errno.ENOSPC
    with pytest.raises(PlumError, match="the disk is full"), write_errors(tmp_path / "x"):
        raise error


def test_other_errors_pass(tmp_path):
    for error in (ValueError("28"), KeyError("code"), PlumError("mine")):
        with pytest.raises(type(error)) as passed, write_errors(tmp_path):
            raise error
        assert passed.value is error


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    def failing():
        with written(path) as partial:
            partial.write_text("ne")
            raise OSError(errno.ENOSPC, "full")

    path = tmp_path / "file"
    writing.write_text(path, "old")
    with pytest.raises(PlumError, match="the disk is full"):
        failing()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_can_not_sync_a_folder_is_written_all_the_same(tmp_path, monkeypatch):
    true = os.fsync

    def no_folders(number):
        if Path(f"/proc/self/fd/{number}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        true(number)

    monkeypatch.setattr(os, "fsync", no_folders)
    writing.write_text(tmp_path / "a/b/file", "text")
    assert (tmp_path / "a/b/file").read_text() == "text"


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch):
    def failing(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PlumError, match="input/output error"):
        writing.write_text(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_the_place_of_an_unfinished_file_is_replaced(tmp_path):
    (tmp_path / "other").write_text("other")
    for put in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "other")):
        put(tmp_path / "a.txt.partial")
        writing.write_text(tmp_path / "a.txt", "new")
        assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "a.txt").is_symlink()

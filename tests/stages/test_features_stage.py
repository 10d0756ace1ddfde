"""Stage features: given vectors, and what becomes of a file that doesn't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_run

from plum.config import RunConfig
from plum.errors import PlumError
from plum.stages import features, pipeline


def with_file(run: Path, path: Path) -> RunConfig:
    return tiny_run.config_of(run, f"features.modalities.image={{encoder: file, path: {path}}}")


def test_given_vectors_join_the_others(run_copy: Path, tmp_path: Path) -> None:
    given = np.random.default_rng(0).normal(size=(60, 7))
    np.save(tmp_path / "image.npy", given)
    pipeline.run_tokenize(with_file(run_copy, tmp_path / "image.npy"))
    stored = np.load(run_copy / "features/image.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, given.astype(np.float32))
    assert (run_copy / "features/text.npy").is_file()


def test_a_changed_file_of_vectors_is_read_again(run_copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.ones((60, 7)))
    config = with_file(run_copy, path)
    features.run(config)
    np.save(path, np.zeros((60, 7)))
    features.run(config)
    assert not np.load(run_copy / "features/image.npy").any()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.ones((59, 7)), r"shape \(59, 7\), 60 items"),
        (np.ones(60), r"shape \(60,\), 60 items"),
        (np.array([["a", "b"]] * 60), "no .npy file of numbers"),
        (b"", "no .npy file of numbers"),
        (b"not an array", "no .npy file of numbers"),
        (None, "image.npy, which is not there"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    run_copy: Path, tmp_path: Path, content: np.ndarray | bytes | None, complaint: str
) -> None:
    path = tmp_path / "image.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    before = tiny_run.times(run_copy)
    with pytest.raises(PlumError, match=complaint):
        features.run(with_file(run_copy, path))
    assert tiny_run.times(run_copy) == before

"""What features and Semantic IDs do with items that lack content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.stages import features, prepare, tokenize


def write_logs(folder: Path, with_topics: bool) -> RunConfig:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [f"u{user},i{item},{100 * step}" for user in range(30) for step, item in enumerate(rng.permutation(40)[:8])]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    source = {"kind": "logs", "interactions": str(folder / "events.csv")}
    if with_topics:
        lines = [f"i{item},topic {item % 5}|part {item % 7}" for item in range(40)]
        (folder / "items.csv").write_text("item_id,topics\n" + "\n".join(lines) + "\n")
        source["items"] = str(folder / "items.csv")
    values = {
        "workdir": str(folder / "run"),
        "data": {"source": source},
        "tokenize": {"max_steps": 2, "codebook_sizes": [4, 4], "method": "rqkmeans"},
    }
    return validate(values, where="the test")


def test_a_modality_that_no_item_has_is_left_out_and_the_rest_is_used(tmp_path, caplog):
    config = write_logs(tmp_path, with_topics=True)
    prepare.run(config)
    features.run(config)
    summary = json.loads((config.workdir / "features" / "features.json").read_text())
    assert list(summary["modalities"]) == ["topics"]
    assert not (config.workdir / "features" / "text.npy").exists()
    tokenize.run(config)
    assert (config.workdir / "tokenize" / "semantic_ids.parquet").exists()


def test_items_without_any_content_are_refused_with_the_way_out(tmp_path):
    config = write_logs(tmp_path, with_topics=False)
    prepare.run(config)
    with pytest.raises(PlumError, match="encoder: file"):
        features.run(config)
    assert not (config.workdir / "features").exists()


def test_given_vectors_serve_items_without_content(tmp_path):
    config = write_logs(tmp_path, with_topics=False)
    prepare.run(config)
    n_items = len(pd.read_parquet(config.workdir / "data" / "items.parquet"))
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).normal(size=(n_items, 6)).astype(np.float32))
    modalities = {"given": {"encoder": "file", "path": str(vectors)}}
    given = validate({**config.model_dump(), "features": {"modalities": modalities}}, where="the test")
    features.run(given)
    tokenize.run(given)
    assert (config.workdir / "tokenize" / "semantic_ids.parquet").exists()

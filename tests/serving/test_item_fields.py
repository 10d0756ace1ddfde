"""Extra columns of items: the run keeps them, and nothing that is trained sees them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.stages import features, prepare
from plum.stages.cpt import reading


def prepared(folder: Path, extras: str, values: str) -> RunConfig:
    """A run on a small catalogue, each item with some extra columns."""
    folder.mkdir()
    rows = [f"u{user},i{(user * step) % 15},{100 * step}" for user in range(1, 30) for step in range(1, 7)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    lines = [f"i{item},word{item % 4} film,topic {item % 5}{values.format(item)}" for item in range(20)]
    (folder / "items.csv").write_text(f"item_id,title,topics{extras}\n" + "\n".join(lines) + "\n")
    source = {"kind": "logs", "interactions": str(folder / "events.csv"), "items": str(folder / "items.csv")}
    modalities = {"text": {}, "topics": {"encoder": "topics"}}
    config = validate(
        {
            "workdir": str(folder / "run"),
            "data": {"source": source, "split": {"k_core_items": 2}},
            "features": {"modalities": modalities},
        },
        where="the test",
    )
    prepare.run(config)
    features.run(config)
    return config


def test_extra_columns_are_kept_and_trained_on_by_nothing(tmp_path: Path) -> None:
    plain = prepared(tmp_path / "plain", "", "")
    rich = prepared(tmp_path / "rich", ",price,in_stock,published,note", ",{0}.5,true,2015-06-01,secret{0}")
    items, with_extras = (pd.read_parquet(config.workdir / "data/items.parquet") for config in (plain, rich))
    assert list(items) == ["item_id", "title", "topics", "creator", "description"]
    assert list(with_extras) == [*items, "price", "in_stock", "published", "note"]
    assert len(with_extras) == 15  # after the k-core each item still has its own values
    assert (with_extras["price"] == with_extras["item_id"].str[1:].astype(float) + 0.5).all()
    for config in (plain, rich):
        sources = SimpleNamespace(workdir=config.workdir)
        assert reading.item_columns(sources, {"title", "topics"}) == ["title", "topics"]
    for name in ("text", "topics"):
        vectors = [np.load(config.workdir / f"features/{name}.npy") for config in (plain, rich)]
        assert np.array_equal(*vectors)
    summaries = [json.loads((config.workdir / "data/summary.json").read_text()) for config in (plain, rich)]
    assert summaries[0].keys() == summaries[1].keys()
    assert {**summaries[0], "source": None} == {**summaries[1], "source": None}

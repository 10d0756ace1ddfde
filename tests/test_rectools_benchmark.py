"""What benchmarks/rectools_sasrec.py does around RecTools, which is no dependency and is not trained here."""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "rectools_sasrec.py"
ROWS = [("a", "1", "train"), ("a", "2", "valid"), ("a", "3", "test"), ("b", "1", "train"), ("b", "3", "valid")]
ROWS += [("b", "2", "test"), ("c", "2", "train"), ("c", "9", "test")]  # 9 occurs nowhere before


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rectools_sasrec", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def split_of(run: Path, rows: list[tuple[str, str, str]]) -> Path:
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "part"])
    table["position"] = table.groupby("user_id").cumcount()
    (run / "data").mkdir()
    table.sample(frac=1, random_state=0).to_parquet(run / "data" / "split.parquet")
    return run


def test_figures_are_those_of_all_users_and_of_those_whose_item_is_known(script: ModuleType, tmp_path: Path) -> None:
    split = script.read_split(split_of(tmp_path, ROWS))
    lists = pd.DataFrame(
        [("a", "3", 3), ("a", "1", 1), ("b", "2", 11), ("c", "1", 1)], columns=["user_id", "item_id", "rank"]
    )
    found = script.figures(lists, split)
    assert (found["users, all"], found["users, item known"]) == (3, 2)
    assert found["recall@10, all"] == pytest.approx(1 / 3)
    assert found["recall@10, item known"] == pytest.approx(1 / 2)
    assert (found["users, item in training"], found["recall@10, item in training"]) == (1, 0)  # not a: 3 is b's valid
    assert found["ndcg@10, all"] == pytest.approx(1 / math.log2(4) / 3)


def test_rectools_sees_no_test_item_and_the_order_of_the_rest(script: ModuleType, tmp_path: Path) -> None:
    known = script.known_interactions(script.read_split(split_of(tmp_path, ROWS)))
    assert known["part"].tolist() == ["train", "valid", "train", "valid", "train"]
    assert known["item_id"].tolist() == ["1", "2", "1", "3", "2"]
    assert known.groupby("user_id")["datetime"].apply(lambda days: days.is_monotonic_increasing).all()


def test_what_it_cannot_use_is_told(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="plum data prepare"):
        script.read_split(tmp_path)
    split_of(tmp_path, [*ROWS, ("a", "9", "test")])
    with pytest.raises(SystemExit, match="needs leave-one-out"):
        script.read_split(tmp_path)
    for name in ("rectools", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match="rectools is not installed: pip install"):
        script.trained_and_listed(pd.DataFrame(), argparse.Namespace(seed=0))

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from plum.lm.documents import history_prefix, history_windows, item_documents
from plum.lm.vocab import train_tokenizer


def items_of(**columns):
    base = {"title": None, "topics": None, "creator": None, "description": None}
    return pd.DataFrame([{**base, **columns}])


def test_an_item_with_everything():
    items = items_of(title="Heat (1995)", topics=["Action", "Crime"], creator="Mann", description="Cops. And robbers.")
    assert item_documents(items, ["<|sid_0_3|><|sid_1_9|>"]) == [
        "Item <|sid_0_3|><|sid_1_9|> has title: Heat (1995)",
        "The topics in item <|sid_0_3|><|sid_1_9|> are: Action, Crime",
        "Item <|sid_0_3|><|sid_1_9|> was made by: Mann",
        "Item <|sid_0_3|><|sid_1_9|> is described as: Cops. And robbers.",
    ]


@pytest.mark.parametrize(
    "missing",
    [
        {},
        {"title": np.nan, "topics": np.nan, "creator": np.nan, "description": np.nan},
        {"title": pd.NA, "topics": pd.NA, "creator": pd.NA, "description": pd.NA},
        {"title": "", "topics": [], "creator": "  ", "description": "\n"},
        {"topics": np.array([], dtype=object)},
        {"topics": [None, ""]},
    ],
)
def test_what_is_missing_gives_no_sentence(missing):
    assert item_documents(items_of(**missing), ["<|sid_0_0|>"]) == []


def test_topics_may_come_as_parquet_gives_them(tmp_path):
    items_of(title="A", topics=["x", None, "y"]).to_parquet(tmp_path / "items.parquet")
    items = pd.read_parquet(tmp_path / "items.parquet")
    assert item_documents(items, ["S"]) == ["Item S has title: A", "The topics in item S are: x, y"]


def test_every_item_needs_its_semantic_id():
    with pytest.raises(ValueError, match="longer"):
        item_documents(items_of(title="A"), [])


def test_histories_are_cut_without_overlap():
    cut = history_windows([np.arange(5), np.array([], dtype=np.int64), np.array([7])], 2)
    assert [window.tolist() for window in cut] == [[0, 1], [2, 3], [4], [7]]


def test_the_prefix_starts_with_the_start_token_if_there_is_one():
    tokenizer = train_tokenizer(["wh = a b c"], 300)
    ids = history_prefix(tokenizer)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == "wh ="
    tokenizer.bos_token = None
    assert history_prefix(tokenizer).tolist() == ids[1:].tolist()


def test_importing_it_does_not_import_transformers():
    code = "import plum.lm.documents, sys; print('transformers' in sys.modules or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

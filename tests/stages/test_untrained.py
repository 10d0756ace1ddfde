"""The retrievers without training, as a run makes them of its data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.retrievers.choose import MEASURE
from plum.stages import inputs, prepare
from plum.stages.eval.untrained import Untrained, all_untrained, content_spaces

N_ITEMS = 12
# Every user goes on by one item of a ring each day; users start at different items.
LOG = [(f"u{user:02d}", f"i{(user + day) % N_ITEMS:02d}", 86_400 * day) for user in range(24) for day in range(6)]
TITLES = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("tea", "soap", "cup", "hat")]


def prepared(folder: Path, items: dict[str, list[Any]], **settings: Any) -> tuple[RunConfig, inputs.Prepared]:
    pd.DataFrame(LOG, columns=["user_id", "item_id", "timestamp"]).to_csv(folder / "log.csv", index=False)
    ids = [f"i{number:02d}" for number in range(N_ITEMS)]
    pd.DataFrame({"item_id": ids} | items).to_csv(folder / "items.csv", index=False)
    source = {"kind": "logs", "interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    values = tiny_run.pipeline(folder / "run", source, **settings.pop("split", {}))
    values["eval"] |= settings
    config = validate(values, "the test")
    prepare.run(config)
    return config, inputs.read_prepared(config.workdir)


def test_the_validation_part_counts_for_the_test_only_if_that_is_asked_for(tmp_path: Path) -> None:
    config, data = prepared(tmp_path, {"title": TITLES})
    more = config.model_copy(update={"eval": config.eval.model_copy(update={"counts": "train+valid"})})
    usual, counted = all_untrained(config, data), all_untrained(more, data)
    assert list(usual) == list(counted) == ["popularity", "recencypop", "textknn", "itemknn"]
    _, histories, _ = data.histories.questions("test")
    for name, made in usual.items():
        other = counted[name]
        assert isinstance(made, Untrained)
        assert isinstance(other, Untrained)
        assert made.tuned is made.retriever
        assert made.trials == other.trials  # chosen with counts of the training part
        found = [one.recommend(histories, N_ITEMS, None).scores for one in (made.retriever, other.tuned)]
        assert np.array_equal(*found), name
        now = other.retriever.recommend(histories, N_ITEMS, None).scores
        assert np.array_equal(found[0], now) == (name == "textknn"), name
    popularity = counted["popularity"]
    assert isinstance(popularity, Untrained)
    parts = (data.histories.train, data.histories.valid)
    both = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    largest = np.bincount(np.concatenate(both)).max()
    assert popularity.retriever.recommend(histories[:1], 1, None).scores[0, 0] == largest


def test_what_follows_is_found(tmp_path: Path) -> None:
    config, data = prepared(tmp_path, {"title": TITLES})
    found = all_untrained(config, data)["itemknn"]
    assert isinstance(found, Untrained)
    _, histories, targets = data.histories.questions("test")
    best = found.retriever.recommend(histories, 1, histories).items[:, 0]
    assert best.tolist() == np.concatenate(targets).tolist()
    assert max(trial[MEASURE] for trial in found.trials) == 1.0


def test_items_are_compared_by_words_and_whole_terms(tmp_path: Path) -> None:
    topics = ["Bath|Home", "Bath", *["Kitchen"] * (N_ITEMS - 2)]
    config, data = prepared(tmp_path, {"title": TITLES, "topics": topics})
    spaces = content_spaces(config, data)
    assert {name: space.shape for name, space in spaces.items()} == {
        "title": (N_ITEMS, 7),
        "text": (N_ITEMS, 10),
        "terms": (N_ITEMS, 3),
    }


def test_content_that_tells_nothing_apart_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, data = prepared(tmp_path, {"title": ["The same"] * (N_ITEMS - 1) + [""]})
    with caplog.at_level(logging.WARNING, "plum"):
        assert content_spaces(config, data) == {}
    assert "textknn: title of all 11 items that have any is the same; it is left out" in caplog.text
    assert all_untrained(config, data)["textknn"] == "the items have no content that tells them apart"


def test_items_without_content_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, data = prepared(tmp_path, {"title": TITLES[:6] + [""] * 6})
    with caplog.at_level(logging.INFO, "plum"):
        spaces = content_spaces(config, data)
    assert "textknn: 6 of 12 items have no title" in caplog.text
    assert list(spaces) == ["title", "text"]


def test_no_content_at_all_is_told_and_not_a_retriever(tmp_path: Path) -> None:
    config, data = prepared(tmp_path, {"title": [""] * N_ITEMS})
    assert all_untrained(config, data)["textknn"] == "the items have no content that tells them apart"


def test_under_the_temporal_protocol_words_are_those_of_items_known_before_validation(tmp_path: Path) -> None:
    split = {"protocol": "temporal", "valid_share": 0.2, "test_share": 0.2}
    titles = [*TITLES[:-1], "unheard of"]
    config, data = prepared(tmp_path, {"title": titles}, split=split)
    assert content_spaces(config, data)["title"].shape[1] == 9  # all are known here
    later = inputs.Prepared(data.items, data.histories)
    last = data.items.index[data.items["title"] == "unheard of"][0]
    train = [history[history != last] for history in data.histories.train]
    later = inputs.Prepared(data.items, type(data.histories)(data.histories.user_ids, train, *data_parts(data)))
    assert content_spaces(config, later)["title"].shape[1] == 7


def data_parts(data: inputs.Prepared) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return data.histories.valid, data.histories.test

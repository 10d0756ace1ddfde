"""What the pictures of a report show, by hand on a few items and users, and on a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.run import artifacts
from plum.stages.eval import picture_data, reporting


def test_popularity_runs_from_the_most_popular_item_to_the_last() -> None:
    counts = np.array([0, 5, 20, 5, 0, 10, 0, 0, 0, 0, 0])
    found = picture_data.popularity(counts)
    assert dict(zip(found["ranks"], found["counts"], strict=True)) == {
        rank: value for rank, value in enumerate([20, 10, 5, 5, *[0] * 7], 1)
    }
    assert found["top_tenth"] == 30 / 40  # two of eleven items
    assert found["unseen"] == 7


def test_a_large_catalogue_is_thinned_but_keeps_both_ends() -> None:
    found = picture_data.popularity(np.arange(100_000))
    assert len(found["ranks"]) <= 300
    assert (found["ranks"][0], found["ranks"][-1]) == (1, 100_000)
    assert (found["counts"][0], found["counts"][-1]) == (99_999, 0)


@pytest.mark.parametrize("lengths", [[3], [1, 1, 2, 2, 2, 9], [5, 300, 4_000, 17, 5]])
def test_every_history_is_in_one_class_of_lengths(lengths: list[int]) -> None:
    found = picture_data.history_lengths([np.zeros(length, dtype=int) for length in lengths], read=50)
    edges, counts = found["edges"], found["counts"]
    assert (edges[0], edges[-1]) == (min(lengths), max(lengths) + 1)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        assert count == sum(low <= length < high for length in lengths)
    assert found["median"] == np.median(lengths)
    assert found["read"] == 50


def test_time_is_cut_only_where_the_parts_follow_each_other() -> None:
    times = np.array([0, 10, 20, 30, 40, 60])
    parts = np.array(["train", "train", "train", "valid", "test", "test"])
    found = picture_data.timeline(times, parts, temporal=True)
    assert found["cuts"] == {"valid": 30, "test": 40}
    assert {part: sum(counts) for part, counts in found["counts"].items()} == {"train": 3, "valid": 1, "test": 2}
    assert (found["edges"][0], found["edges"][-1]) == (0, 60)
    assert picture_data.timeline(times, parts, temporal=False)["cuts"] == {}
    assert picture_data.timeline(times[:1], parts[:1], temporal=True) == {}


def test_exposure_is_by_the_classes_of_the_slices() -> None:
    counts = np.array([50, 30, 15, 5, 1])  # head, torso, tail, tail, cold
    lists = {"popular": np.array([3, 1, 0, 0, 0]), "none": np.zeros(5, dtype=int)}
    found = picture_data.exposure(lists, [np.array([0, 4]), np.array([1, 1])], counts, cold_below=2)
    assert found["classes"] == ["head", "torso", "tail", "cold"]
    assert found["references"] == {"catalogue": [0.2, 0.2, 0.4, 0.2], "test targets": [0.25, 0.5, 0.0, 0.25]}
    assert found["retrievers"] == {"popular": [0.75, 0.25, 0.0, 0.0]}  # a retriever without lists has no shares


def test_titles_that_repeat_have_their_ids_beside_them() -> None:
    items = pd.DataFrame({"item_id": ["1", "2", "3", "4"], "title": ["Emma", "Emma", None, "Dune"]})
    assert reporting.item_titles(items).tolist() == ["Emma (1)", "Emma (2)", "3", "Dune"]


def test_a_finished_run_has_all_of_it(finished_run: Path) -> None:
    config = tiny_run.config_of(finished_run)
    found = reporting.payload(config, finished_run / "eval", {"duration_s": 1.0, "peak_memory_mib": 1.0})
    summary = artifacts.read_json(finished_run / artifacts.DATA_SUMMARY)
    assert found["popularity"]["counts"][0] > 0
    assert sum(found["history_lengths"]["counts"]) == found["n_users"]
    drawn = sum(sum(counts) for counts in found["timeline"]["counts"].values())
    assert drawn == found["data"]["interactions"] == summary["split"]["interactions"]
    assert set(found["exposure"]["retrievers"]) == set(found["retrievers"])
    shares = [*found["exposure"]["retrievers"].values(), *found["exposure"]["references"].values()]
    assert [sum(row) for row in shares] == pytest.approx([1.0] * len(shares))
    lists = artifacts.read_table(finished_run / artifacts.RECOMMENDATIONS)
    first = lists[(lists["retriever"] == "plum") & (lists["rank"] <= picture_data.PLACES)]
    items = artifacts.read_table(finished_run / artifacts.ITEMS)["item_id"]
    counted = picture_data.recommended(finished_run / artifacts.RECOMMENDATIONS, items)["plum"]
    assert (
        dict(zip(items, counted, strict=True)) == first["item_id"].value_counts().reindex(items, fill_value=0).to_dict()
    )

"""Health of Semantic IDs by hand, and the refusal of collapsed codebooks and of what misses a threshold."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.sid.prefixes import prefix_groups
from plum.sid.quality import Thresholds, buckets, level_health, refuse_unhealthy, same_content, tree, uniqueness

CATALOGUES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=40)


def test_the_docstring_example_of_prefix_groups():
    assert prefix_groups(np.array([[7, 1], [2, 1], [7, 0]])).tolist() == [[1, 2], [0, 0], [1, 1]]
    with pytest.raises(ValueError, match="N, L"):
        prefix_groups(np.arange(3))


@given(CATALOGUES)
def test_groups_are_the_places_of_sorted_prefixes(items):
    groups = prefix_groups(np.array(items))
    for length in (1, 2, 3):
        prefixes = sorted({item[:length] for item in items})
        assert groups[:, length - 1].tolist() == [prefixes.index(item[:length]) for item in items]


def test_groups_of_the_largest_codebooks_do_not_overflow():
    largest = 2**31 - 1
    codes = np.array([[largest] * 4, [0] * 4, [largest] * 3 + [0]])
    assert prefix_groups(codes).tolist() == [[1, 1, 1, 2], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_level_health_by_hand():
    codes = np.array([[0, 0], [0, 1], [1, 2], [1, 2]])
    first, second = level_health(codes, [4, 3])
    assert first == {"size": 4, "usage": 0.5, "dead": 2, "perplexity": pytest.approx(2.0)}
    assert (second["usage"], second["dead"]) == (1.0, 0)
    assert second["perplexity"] == pytest.approx(np.exp(0.5 * np.log(2) + 0.5 * np.log(4)))


def test_uniqueness_by_hand():
    found = uniqueness(np.array([[0, 1], [0, 1], [2, 2], [0, 2], [0, 1]]))
    assert found == {"uniqueness": 0.4, "collision_rate": 0.6, "max_items_per_sid": 3}


def test_buckets_by_hand():
    # Buckets of 1, 2, 3, 5, 6, 10, 11 and 62 items, 100 in all: the 95th and the 99th are in the largest.
    codes = np.repeat(np.arange(8), [1, 2, 3, 5, 6, 10, 11, 62])[:, None]
    share = {"1": 0.01, "2": 0.02, "3-5": 0.08, "6-10": 0.16, ">10": 0.73}
    assert buckets(codes) == {"share": share, "p95": 62, "p99": 62, "max": 62}
    # 95 items alone, a pair and a triple: the 95th of a hundred is still alone, the 96th is not.
    tail = np.concatenate([np.arange(95), [95, 95, 96, 96, 96]])[:, None]
    assert [buckets(tail)[key] for key in ("p95", "p99", "max")] == [1, 3, 3]
    # 94 alone are too few for the 95th of a hundred, 98 for the 99th.
    assert buckets(np.minimum(np.arange(100), 94)[:, None])["p95"] == 6
    assert buckets(np.minimum(np.arange(100), 98)[:, None])["p99"] == 2
    assert buckets(np.array([[0], [0], [1]]))["share"]["2"] == pytest.approx(2 / 3)


@given(CATALOGUES)
def test_buckets_count_every_item_once_and_agree_with_uniqueness(items):
    found, known, count = buckets(np.array(items)), uniqueness(np.array(items)), Counter(items)
    assert sum(found["share"].values()) == pytest.approx(1)
    assert found["share"]["1"] == pytest.approx(known["uniqueness"])
    assert found["max"] == known["max_items_per_sid"] == max(count.values())
    covered = [sum(count[item] <= found[key] for item in items) for key in ("p95", "p99")]
    fewer = [sum(count[item] < found[key] for item in items) for key in ("p95", "p99")]
    assert all(part >= share * len(items) - 1e-9 for part, share in zip(covered, (0.95, 0.99), strict=True))
    assert all(part < share * len(items) for part, share in zip(fewer, (0.95, 0.99), strict=True))
    assert json.loads(json.dumps(found)) == found


def test_the_docstring_example_of_tree():
    found = tree(np.array([[0, 3], [1, 2], [1, 0], [1, 2]]), [2, 4])
    assert found == {"counts": [[2, 1], [1, 0]], "codes": [1, 0], "sizes": [2, 4], "items": 4, "left_out": 0}


def test_a_tree_says_what_it_leaves_out():
    codes = np.array([[0, 0], [0, 1], [0, 1], [0, 2], [2, 0], [2, 0], [1, 0]])
    found = tree(codes, [4, 3], most=2)
    # Of code 0's second codes one is over the two that are shown, and code 1 is over the two first codes.
    assert (found["counts"], found["codes"], found["left_out"]) == ([[2, 1], [2, 0]], [0, 2], 2)
    assert tree(codes[:, :1], [4]) is None


@given(CATALOGUES)
def test_a_tree_has_the_sizes_of_the_buckets_of_two_codes(items):
    found = tree(np.array(items), [4, 3, 2])
    assert json.loads(json.dumps(found)) == found
    count = Counter(item[:2] for item in items)
    for code, row in zip(found["codes"], found["counts"], strict=True):
        expected = sorted((n for pair, n in count.items() if pair[0] == code), reverse=True)
        assert [n for n in row if n] == expected
        assert sorted(row, reverse=True) == row
    assert found["items"] == len(items)
    assert found["left_out"] == 0
    totals = [sum(row) for row in found["counts"]]
    assert totals == sorted(totals, reverse=True)


def test_collapse_names_the_level_and_the_remedy():
    levels = [{"size": 8, "usage": 1.0, "perplexity": 8.0}, {"size": 8, "usage": 0.125, "perplexity": 1.0}]
    with pytest.raises(PlumError, match=r"level 1: 12\.5% of 8 codes, perplexity 1\.0") as caught:
        refuse_unhealthy({"levels": levels}, 100, Thresholds(min_usage=0.25))
    assert "level 0" not in str(caught.value)
    assert "tokenize.codebook_sizes" in str(caught.value)


def test_a_small_catalogue_can_use_no_more_codes_than_items():
    half = Thresholds(min_usage=0.5)
    refuse_unhealthy({"levels": [{"size": 1000, "usage": 0.005, "perplexity": 5.0}]}, 10, half)
    with pytest.raises(PlumError):
        refuse_unhealthy({"levels": [{"size": 1000, "usage": 0.004, "perplexity": 4.0}]}, 10, half)


@pytest.mark.parametrize("size", [7, 49, 98, 103])
def test_usage_right_on_the_threshold_passes_whatever_the_rounding(size):
    levels = [{"size": size, "usage": 1 / size, "perplexity": 1.0}]
    refuse_unhealthy({"levels": levels}, 1, Thresholds(min_usage=1.0))


QUALITY = {
    "uniqueness": 0.4,
    "max_items_per_sid": 12,
    "levels": [{"size": 8, "usage": 1.0, "perplexity": 7.5}, {"size": 4, "usage": 0.5, "perplexity": 1.5}],
}


@pytest.mark.parametrize(
    ("threshold", "found", "knobs"),
    [
        ({"min_usage": 0.6}, "level 1: 50.0% of 4 codes", ["learning_rate", "codebook_sizes", "min_usage"]),
        (
            {"min_perplexity_share": 0.5},
            "level 1: perplexity 1.5 of 4",
            ["kmeans_init", "reset_dead_codes", "min_perplexity_share"],
        ),
        ({"max_bucket": 11}, "12 items have the same codes", ["codebook_sizes", "max_bucket"]),
        ({"min_uniqueness": 0.41}, "uniqueness 40.0%", ["codebook_sizes", "max_steps", "min_uniqueness"]),
    ],
)
def test_a_missed_threshold_is_named_with_what_to_turn(threshold, found, knobs):
    with pytest.raises(PlumError) as caught:
        refuse_unhealthy(QUALITY, 100, Thresholds(**threshold))
    assert found in caught.value.found
    assert "level 0" not in str(caught.value)
    assert all(f"tokenize.{knob}" in caught.value.fix for knob in knobs)


def test_all_missed_thresholds_are_told_together():
    with pytest.raises(PlumError, match="miss 4 thresholds") as caught:
        refuse_unhealthy(QUALITY, 100, Thresholds(0.6, 0.5, 11, 0.5))
    told, todo = caught.value.found, caught.value.fix
    assert [told.count(f"\n    {i}. ") for i in range(1, 6)] == [1, 1, 1, 1, 0]
    assert todo.index("tokenize.min_usage") < todo.index("tokenize.min_perplexity_share")
    assert todo.index("tokenize.max_bucket") < todo.index("tokenize.min_uniqueness")


def test_thresholds_that_are_reached_or_off_refuse_nothing():
    refuse_unhealthy({}, 100, Thresholds())
    refuse_unhealthy(QUALITY, 100, Thresholds(0.5, 0.375, 12, 0.4))
    # As few items as there are here can't use more than 2 codes of a level.
    refuse_unhealthy(QUALITY, 2, Thresholds(min_perplexity_share=0.75))


@pytest.mark.parametrize("size", [3, 10, 49, 1000])
def test_codes_used_equally_reach_any_perplexity(size):
    levels = level_health(np.arange(size)[:, None], [size])
    refuse_unhealthy({"levels": levels}, size, Thresholds(min_perplexity_share=1.0))


def test_the_same_content_is_counted_in_the_fullest_bucket():
    assert same_content(np.array([[0], [0], [0], [1]]), [np.array([[5], [5], [6], [5]])]) == 2
    # Alike in one modality is not alike in all.
    codes = np.zeros((4, 2), dtype=np.int64)
    views = [np.array([[1, 1], [1, 1], [1, 1], [2, 2]]), np.array([[3], [4], [4], [4]])]
    assert same_content(codes, views) == 2
    assert same_content(codes, views[:1]) == 3


@pytest.mark.parametrize(("alike", "told"), [(50, True), (49, False)])
def test_uneven_codes_of_like_content_ask_for_other_content(alike, told):
    quality = {**QUALITY, "same_content": alike}
    with pytest.raises(PlumError) as caught:
        refuse_unhealthy(quality, 100, Thresholds(min_perplexity_share=0.5))
    assert ("50 of 100 items have the same content" in caught.value.found) == told
    assert ("features.modalities" in caught.value.fix) == told
    assert ("tokenize.learning_rate" in caught.value.fix) != told
    assert caught.value.fix.endswith("tokenize.min_perplexity_share is the threshold")

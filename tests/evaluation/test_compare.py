import json

import numpy as np
import pytest

from plum.errors import PlumError
from plum.evaluation.compare import compare, summarise
from plum.evaluation.intervals import mean_intervals
from plum.evaluation.significance import holm, paired_difference


@pytest.fixture
def per_user():
    rng = np.random.default_rng(0)
    return {
        name: {"recall@10": rng.binomial(1, chance, 120).astype(float), "ndcg@10": rng.random(120) * chance}
        for name, chance in (("popularity", 0.1), ("dense", 0.4), ("plum", 0.5))
    }


def test_one_entry_per_metric_and_rival_in_the_fixed_form(per_user):
    entries = compare(per_user, ["recall@10", "ndcg@10"], n_resamples=200)
    assert [(entry["metric"], entry["a"], entry["b"]) for entry in entries] == [
        ("recall@10", "plum", "popularity"),
        ("recall@10", "plum", "dense"),
        ("ndcg@10", "plum", "popularity"),
        ("ndcg@10", "plum", "dense"),
    ]
    for entry in entries:
        assert list(entry) == ["metric", "a", "b", "difference", "ci95", "p_value", "p_holm"]
    assert json.loads(json.dumps(entries)) == entries


def test_figures_are_those_of_the_single_test(per_user):
    entry = compare(per_user, ["ndcg@10", "recall@10"], n_resamples=300, seed=4)[2]
    single = paired_difference(per_user["plum"]["recall@10"], per_user["popularity"]["recall@10"], 300, seed=4)
    assert entry["difference"] == pytest.approx(single["difference"])
    assert entry["ci95"] == pytest.approx(single["ci95"])
    assert entry["p_value"] == single["p_value"]
    expected = per_user["plum"]["recall@10"].mean() - per_user["popularity"]["recall@10"].mean()
    assert entry["difference"] == pytest.approx(expected)


def test_all_entries_of_a_call_are_one_family(per_user):
    both = compare(per_user, ["recall@10", "ndcg@10"], n_resamples=200)
    assert [entry["p_holm"] for entry in both] == holm([entry["p_value"] for entry in both]).tolist()
    # The surest of four tests is multiplied by four, and by two where only two are made.
    surest = min(both, key=lambda entry: entry["p_value"])
    alone = compare(per_user, [surest["metric"]], n_resamples=200)
    assert surest["p_holm"] == pytest.approx(4 * surest["p_value"])
    assert min(entry["p_holm"] for entry in alone) == pytest.approx(2 * surest["p_value"])


def test_whole_numbers_and_truth_values_subtract_as_numbers():
    hits = {"plum": {"hit@1": np.array([True, True, False])}, "dense": {"hit@1": np.array([False, True, True])}}
    assert compare(hits, ["hit@1"], n_resamples=50)[0]["difference"] == 0.0


def test_another_reference_can_be_chosen(per_user):
    entries = compare(per_user, ["recall@10"], reference="dense", n_resamples=50)
    assert [(entry["a"], entry["b"]) for entry in entries] == [("dense", "popularity"), ("dense", "plum")]


def test_a_reference_alone_has_nothing_to_compare_with(per_user):
    assert compare({"plum": per_user["plum"]}, ["recall@10"]) == []


def test_a_missing_reference_says_what_is_there(per_user):
    with pytest.raises(PlumError, match="popularity, dense, plum") as error:
        compare(per_user, ["recall@10"], reference="sasrec")
    assert "sasrec" in error.value.what


def test_a_missing_metric_says_which(per_user):
    with pytest.raises(PlumError, match="lacks the metrics mrr@10"):
        compare(per_user, ["mrr@10"])
    with pytest.raises(PlumError, match="lacks the metrics mrr@10"):
        summarise(per_user, ["mrr@10"])


def test_different_users_are_refused(per_user):
    per_user["dense"]["recall@10"] = per_user["dense"]["recall@10"][1:]
    with pytest.raises(ValueError, match="different numbers of users"):
        compare(per_user, ["recall@10"])


def test_summary_holds_means_and_intervals(per_user):
    means, intervals = summarise(per_user)
    assert list(means) == ["popularity", "dense", "plum"]
    assert list(means["plum"]) == ["recall@10", "ndcg@10"]
    assert means["dense"]["recall@10"] == pytest.approx(per_user["dense"]["recall@10"].mean())
    expected = mean_intervals(per_user["dense"]["ndcg@10"][:, None])[0]
    assert intervals["dense"]["ndcg@10"] == pytest.approx(expected)
    assert json.loads(json.dumps([means, intervals])) == [means, intervals]


def test_nothing_to_summarise():
    assert summarise({}) == ({}, {})
    assert summarise({"plum": {"recall@1": np.ones(2)}}, []) == ({"plum": {}}, {"plum": {}})

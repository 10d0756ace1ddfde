import json

import numpy as np
import pytest

from plum.errors import PlumError
from plum.evaluation.compare import compare, summarise
from plum.evaluation.intervals import difference_intervals
from plum.evaluation.seeds import compare_seeds, summarise_seeds
from plum.evaluation.significance import holm, sign_flip_p_values

METRICS = ["recall@10", "ndcg@10"]


def system(rng, n_seeds, n_users, mean=0.3, between_seeds=0.0):
    """Made-up values: what a user brings, what a seed brings, and chance."""
    user = rng.normal(mean, 0.1, n_users)
    seed = rng.normal(0, between_seeds, n_seeds) if between_seeds else np.zeros(n_seeds)
    values = np.clip(user + seed[:, None] + rng.normal(0, 0.05, (n_seeds, n_users)), 0, 1)
    return {"recall@10": values, "ndcg@10": values**2}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_one_seed_gives_the_usual_figures(rng):
    values = {name: system(rng, 1, 80, mean) for name, mean in (("dense", 0.28), ("plum", 0.3), ("itemknn", 0.2))}
    per_user = {name: {metric: x[0] for metric, x in metrics.items()} for name, metrics in values.items()}
    means, intervals = summarise(per_user, METRICS)
    summary = summarise_seeds(values, METRICS)
    for name in values:
        for metric in METRICS:
            assert summary[name][metric]["mean"] == pytest.approx(means[name][metric])
            assert summary[name][metric]["ci95"] == pytest.approx(intervals[name][metric])
            assert summary[name][metric]["seed_sd"] is None
    usual = compare(per_user, METRICS, "plum", 300, seed=2)
    joined = compare_seeds(values, {"dense": [0], "plum": [0], "itemknn": [5]}, METRICS, "plum", 300, seed=2)
    for one, other in zip(usual, joined, strict=True):
        assert {key: other[key] for key in ("metric", "a", "b")} == {key: one[key] for key in ("metric", "a", "b")}
        assert other["difference"] == pytest.approx(one["difference"])
        assert other["ci95"] == pytest.approx(one["ci95"])
        assert other["p_value"] == one["p_value"]
        assert other["p_holm"] == one["p_holm"]


def test_means_and_spread_by_hand():
    values = {"plum": {"hit@1": np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])}}
    found = summarise_seeds(values, ["hit@1"])["plum"]["hit@1"]
    assert found["seed_means"] == [0.5, 1.0, 0.0]
    assert found["mean"] == pytest.approx(0.5)
    assert found["seed_sd"] == pytest.approx(0.5)  # deviations 0, .5, -.5: sqrt(.5 / 2)
    assert json.loads(json.dumps(found)) == found


def test_what_has_no_randomness_has_no_spread_over_seeds(rng):
    row = rng.random(60) / 3
    alone = summarise_seeds({"popularity": {"mrr@5": row[None]}}, ["mrr@5"])
    thrice = summarise_seeds({"popularity": {"mrr@5": np.stack([row] * 3)}}, ["mrr@5"])
    assert thrice["popularity"]["mrr@5"]["seed_sd"] == 0.0
    assert thrice["popularity"]["mrr@5"]["ci95"] == pytest.approx(alone["popularity"]["mrr@5"]["ci95"])


def test_two_seeds_that_disagree_say_nothing_about_others():
    values = {"plum": {"hit@1": np.array([np.zeros(5), np.ones(5)])}}
    assert summarise_seeds(values, ["hit@1"])["plum"]["hit@1"]["ci95"] == [0.0, 1.0]


def test_seeds_that_differ_widen_the_interval(rng):
    calm, wild = (system(np.random.default_rng(1), 5, 400, between_seeds=sd) for sd in (0.0, 0.1))
    ends = [summarise_seeds({"plum": x}, ["recall@10"])["plum"]["recall@10"]["ci95"] for x in (calm, wild)]
    assert ends[1][1] - ends[1][0] > 2 * (ends[0][1] - ends[0][0])


def test_the_interval_covers_users_and_seeds_together():
    covered = 0
    for trial in range(150):
        rng = np.random.default_rng(trial)
        values = {"plum": system(rng, 8, 400, mean=0.3, between_seeds=0.04)}
        low, high = summarise_seeds(values, ["recall@10"])["plum"]["recall@10"]["ci95"]
        covered += low <= 0.3 <= high
    assert 0.9 <= covered / 150 <= 0.99  # an interval over users alone covers half, since seeds vary more than they


def test_equal_seeds_are_paired_and_others_are_not(rng):
    ups_and_downs = np.array([-0.2, 0.0, 0.2])[:, None]
    users = rng.normal(0.5, 0.1, 50)
    values = {
        "plum": {"recall@10": users + ups_and_downs + 0.05},
        "dense": {"recall@10": users + ups_and_downs},
        "other": {"recall@10": users + ups_and_downs},
    }
    seeds = {"plum": [0, 1, 2], "dense": [0, 1, 2], "other": [3, 4, 5]}
    paired, apart = compare_seeds(values, seeds, ["recall@10"], "plum", 500)
    assert paired["seeds_paired"]
    users_alone = difference_intervals(np.full((50, 1), 0.05))[0]
    assert paired["ci95"] == pytest.approx(users_alone)  # what a seed does, it does to both
    assert paired["seed_sd"] == pytest.approx(0, abs=1e-12)
    assert not apart["seeds_paired"]
    assert apart["ci95"][0] < 0 < apart["ci95"][1]
    assert apart["seed_sd"] is None
    assert apart["difference"] == pytest.approx(paired["difference"])


def test_the_order_of_seeds_does_not_matter(rng):
    values = {"plum": system(rng, 3, 40, 0.3, 0.1), "dense": system(rng, 3, 40, 0.2, 0.1)}
    seeds = {"plum": [0, 1, 2], "dense": [0, 1, 2]}
    turned = values | {"plum": {metric: x[[2, 0, 1]] for metric, x in values["plum"].items()}}
    before = compare_seeds(values, seeds, METRICS, "plum", 200)
    after = compare_seeds(turned, seeds | {"plum": [2, 0, 1]}, METRICS, "plum", 200)
    assert before == after
    assert all(entry["seeds_paired"] for entry in before)


def test_p_values_are_of_the_differences_averaged_over_seeds(rng):
    values = {"plum": system(rng, 3, 60, 0.3, 0.1), "dense": system(rng, 2, 60, 0.28, 0.1), "lem": system(rng, 1, 60)}
    found = compare_seeds(values, {"plum": [0, 1, 2], "dense": [0, 1], "lem": [7]}, METRICS, "plum", 400, seed=3)
    for entry in found:
        means = [values[entry[side]][entry["metric"]].mean(axis=0) for side in ("a", "b")]
        expected = sign_flip_p_values((means[0] - means[1])[:, None], 400, seed=3)[0]
        assert entry["p_value"] == expected
        assert entry["difference"] == pytest.approx((means[0] - means[1]).mean())
        assert entry["ci95"][0] <= entry["difference"] <= entry["ci95"][1]
    assert [entry["p_holm"] for entry in found] == holm([entry["p_value"] for entry in found]).tolist()


def test_a_system_alone_has_nothing_to_compare_with(rng):
    values = {"plum": system(rng, 2, 10)}
    assert compare_seeds(values, {"plum": [0, 1]}, METRICS, "plum", 50) == []
    assert summarise_seeds(values, []) == {"plum": {}}


@pytest.mark.parametrize(
    ("change", "seeds", "message"),
    [
        ({"dense": {"recall@10": np.ones((2, 9))}}, [0, 1], "different numbers of users"),
        ({"dense": {"recall@10": np.ones(10)}}, [0, 1], r"\(S, U\)"),
        ({"dense": {"recall@10": np.ones((0, 10))}}, [], "at least one seed"),
        ({"dense": {"recall@10": np.full((2, 10), np.nan)}}, [0, 1], "NaN"),
        ({}, [0, 0], "give each its own"),
        ({}, [0], "give each its own"),
    ],
)
def test_values_that_do_not_fit_are_refused(change, seeds, message):
    values = {name: {"recall@10": np.ones((2, 10))} for name in ("plum", "dense")} | change
    with pytest.raises(ValueError, match=message):
        compare_seeds(values, {"plum": [0, 1], "dense": seeds}, ["recall@10"], "plum", 20)


def test_what_is_not_there_is_named(rng):
    values = {"plum": system(rng, 1, 10), "dense": system(rng, 1, 10)}
    seeds = {"plum": [0], "dense": [0]}
    with pytest.raises(PlumError, match="plum, dense"):
        compare_seeds(values, seeds, METRICS, "sasrec")
    with pytest.raises(PlumError, match="lacks the metrics mrr@10"):
        compare_seeds(values, seeds, ["mrr@10"], "plum")
    with pytest.raises(PlumError, match="lacks the metrics mrr@10"):
        summarise_seeds(values, ["mrr@10"])

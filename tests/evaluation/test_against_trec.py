"""The accuracy metrics against ir-measures: trec_eval for recall, NDCG and success, MS MARCO's script for RR@k."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from plum.evaluation.metrics import per_user_metrics

CUTOFFS = (1, 5, 10, 20, 50)
FAMILIES = {"recall": R, "ndcg": nDCG, "mrr": RR, "hit": Success}


def in_trec_terms(items, targets):
    """Qrels and run: trec_eval ranks by score, ties by document id, so that scores fall from place to place."""
    qrels = [ir_measures.Qrel(str(user), str(item), 1) for user, row in enumerate(targets) for item in set(row)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(len(row) - place))
        for user, row in enumerate(items)
        for place, item in enumerate(row)
        if item >= 0
    ]
    return qrels, run


def disagreements(items, targets, cutoffs):
    """(metric, user, ours, theirs) wherever the two differ by more than 1e-9; the number of values compared."""
    ours = per_user_metrics(items, targets, cutoffs)
    names = {family @ k: f"{name}@{k}" for name, family in FAMILIES.items() for k in cutoffs}
    values = list(ir_measures.iter_calc(list(names), *in_trec_terms(items, targets)))
    pairs = [(names[v.measure], int(v.query_id), ours[names[v.measure]][int(v.query_id)], v.value) for v in values]
    return [pair for pair in pairs if abs(pair[2] - pair[3]) > 1e-9], len(pairs)


def random_evaluation(seed, n_users, width, n_items, most_targets):
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(n_items)[:width] for _ in range(n_users)])
    items[np.arange(width) >= rng.integers(0, width + 1, size=n_users)[:, None]] = -1
    targets = [rng.choice(n_items, size=rng.integers(1, most_targets + 1), replace=False) for _ in range(n_users)]
    return items, targets


@pytest.mark.parametrize(
    ("width", "n_items", "most_targets"),
    [(50, 80, 1), (50, 80, 12), (20, 30, 5), (7, 9, 9), (60, 61, 60)],
    ids=["one target", "several targets", "fewer places than k", "nearly all relevant", "more places than k"],
)
def test_random_lists_agree(width, n_items, most_targets):
    items, targets = random_evaluation(width, 60, width, n_items, most_targets)
    different, n_compared = disagreements(items, targets, CUTOFFS)
    assert different == []
    assert n_compared == 60 * len(CUTOFFS) * len(FAMILIES)


@st.composite
def evaluations(draw):
    n_users, width = draw(st.integers(1, 4)), draw(st.integers(1, 15))
    items = np.full((n_users, width), -1, dtype=np.int64)
    for user in range(n_users):
        order = draw(st.permutations(range(15)))
        length = draw(st.integers(0, width))
        items[user, :length] = order[:length]
    targets = [np.array(draw(st.lists(st.integers(0, 14), min_size=1, max_size=18))) for _ in range(n_users)]
    return items, targets


@settings(deadline=None, max_examples=100)
@given(evaluations(), st.sets(st.integers(1, 20), min_size=1, max_size=3))
def test_any_lists_agree(evaluation, cutoffs):
    different, n_compared = disagreements(*evaluation, sorted(cutoffs))
    assert different == []
    assert n_compared == len(evaluation[0]) * len(cutoffs) * len(FAMILIES)


def test_reciprocal_rank_of_whole_lists_agrees_with_trec_eval():
    items, targets = random_evaluation(1, 60, 30, 60, 6)
    ours = per_user_metrics(items, targets, [30])["mrr@30"]
    theirs = {int(v.query_id): v.value for v in ir_measures.pytrec_eval.iter_calc([RR], *in_trec_terms(items, targets))}
    assert ours.tolist() == pytest.approx([theirs[user] for user in range(60)], abs=1e-9)


def test_the_comparison_can_fail():
    # Places 1 and 2 swapped for one side: NDCG and MRR must differ, recall within 5 places must not.
    items, targets = np.array([[4, 2, 7]]), [np.array([2])]
    ours = per_user_metrics(items[:, [1, 0, 2]], targets, [5])
    theirs = {str(v.measure): v.value for v in ir_measures.iter_calc([nDCG @ 5, R @ 5], *in_trec_terms(items, targets))}
    assert ours["recall@5"][0] == theirs["R@5"] == 1.0
    assert abs(ours["ndcg@5"][0] - theirs["nDCG@5"]) > 0.3

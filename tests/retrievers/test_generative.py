from collections.abc import Sequence

import numpy as np
import pytest
import torch
import transformers as hf

from plum.decoding.beam import Quota, Scoring
from plum.errors import PlumError
from plum.retrievers.generative import Generative
from plum.sid.codec import Codec
from plum.sid.table import SidTable

VOCABULARY = 40
PREFIX = np.array([38, 39])
#  rows 0, 3, 4 share a Semantic ID; so do 2 and 5
CODES = np.array([[0, 1], [2, 0], [1, 1], [0, 1], [0, 1], [1, 1], [0, 2], [2, 3]])
POPULARITY = np.array([3, 0, 2, 9, 3, 2, 1, 4])
CODEC = Codec((np.array([5, 9, 2]), np.array([11, 30, 7, 20])))


def model_of(seed=0):
    torch.manual_seed(seed)
    config = hf.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.3,
        attention_dropout=0.5,
    )
    return hf.LlamaForCausalLM(config)


def retriever(seed=0, **settings):
    options = {"max_history": 3, "popularity": POPULARITY, "n_beams": 6, "batch_size": 2, **settings}
    return Generative(model_of(seed), SidTable(CODES, (3, 4)), CODEC, PREFIX, **options)


@torch.no_grad()
def leaf_scores(model, prompt):
    """Score of each Semantic ID of CODES by full recomputation."""
    scores = {}
    for first, second in {tuple(row) for row in CODES.tolist()}:
        total, tokens = 0.0, list(prompt)
        for level, code in enumerate((first, second)):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
            total += float(logits[CODEC.token_ids[level]].log_softmax(-1)[code])
            tokens.append(int(CODEC.token_ids[level][code]))
        scores[first, second] = total
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_lists_are_items_by_score_then_popularity_then_row(seed):
    plum = retriever(seed)
    histories = [np.array([1]), np.array([], dtype=np.int64), np.array([7, 6, 5])]
    found = plum.recommend(histories, 8, None)
    for row, history in enumerate(histories):
        tokens = [
            token
            for item in history
            for token in (CODEC.token_ids[0][CODES[item, 0]], CODEC.token_ids[1][CODES[item, 1]])
        ]
        scores = leaf_scores(plum._model.eval(), [*PREFIX, *tokens])
        value = [scores[tuple(codes)] for codes in CODES.tolist()]
        assert found.items[row].tolist() == sorted(range(8), key=lambda i: (-value[i], -POPULARITY[i], i))
        np.testing.assert_allclose(found.scores[row], sorted(value, reverse=True), atol=1e-5)


def test_items_that_share_a_semantic_id_share_its_score_and_come_in_the_stated_order():
    found = retriever().recommend([np.array([1, 2])], 8, None)
    ranks = {item: rank for rank, item in enumerate(found.items[0].tolist())}
    assert ranks[3] + 2 == ranks[0] + 1 == ranks[4]  # 9 interactions, then 3 and 3 by row
    assert ranks[2] + 1 == ranks[5]
    assert len({found.scores[0, ranks[item]] for item in (0, 3, 4)}) == 1


def test_seen_items_never_come_back_and_lists_get_shorter():
    seen = [np.array([3, 7]), np.arange(8), np.array([0, 1, 3, 4, 5, 6, 7])]
    found = retriever().recommend([np.array([3, 7])] * 3, 8, seen)
    assert set(found.items[0].tolist()) == {0, 1, 2, 4, 5, 6, -1}
    assert (found.items[1] == -1).all()
    assert (found.scores[1] == -np.inf).all()
    assert found.items[2].tolist() == [2] + [-1] * 7


def test_a_quota_counts_items_also_where_they_share_a_semantic_id():
    whole = retriever().recommend([np.array([1])], 8, None).items[0].tolist()
    for n in (1, 2, 3):
        taken, expected = {}, []
        for item in whole:
            taken[CODES[item, 0]] = taken.get(CODES[item, 0], 0) + 1
            if taken[CODES[item, 0]] <= n:
                expected.append(item)
        found = retriever(quota=Quota(1, n)).recommend([np.array([1])], 8, None).items[0].tolist()
        assert found == expected + [-1] * (8 - len(expected))


def test_a_narrow_list_is_the_start_of_a_long_one():
    long = retriever().recommend([np.array([1])], 8, None)
    for k in (1, 2, 5):
        assert np.array_equal(retriever(n_beams=8).recommend([np.array([1])], k, None).items, long.items[:, :k])


def test_k_beyond_the_beams_widens_them():
    assert (retriever(n_beams=1).recommend([np.array([1])], 8, None).items >= 0).all()


def test_the_last_items_of_a_long_history_count():
    plum = retriever()
    assert plum.prompt(np.array([0, 1, 2, 7])).tolist() == [38, 39, 2, 11, 9, 30, 2, 20]
    assert plum.prompt(np.array([7])).tolist() == [38, 39, 2, 20]
    assert plum.prompt(np.zeros(0, dtype=np.int64)).tolist() == [38, 39]
    long = plum.recommend([np.array([5, 6, 0, 1, 2, 7])], 8, None)
    short = plum.recommend([np.array([1, 2, 7])], 8, None)
    assert np.array_equal(long.items, short.items)


def test_users_keep_their_places_whatever_the_batches():
    histories = [np.arange(n) % 8 for n in (3, 0, 5, 1, 2)]
    seen = [np.array([n]) for n in range(5)]
    together = retriever(batch_size=3).recommend(histories, 5, seen)
    for row in range(5):
        alone = retriever().recommend(histories[row : row + 1], 5, seen[row : row + 1])
        assert np.array_equal(alone.items[0], together.items[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-5)


def test_the_model_is_left_in_the_mode_it_was_in():
    plum = retriever()
    plum._model.train()
    first, second = (plum.recommend([np.array([1])], 8, None) for _ in range(2))
    assert plum._model.training
    assert np.array_equal(first.scores, second.scores)  # dropout was off meanwhile


def test_no_users_give_no_lists():
    assert retriever().recommend([], 4, None).items.shape == (0, 4)


def test_exact_lists_are_those_of_beams_as_wide_as_the_catalogue():
    histories = [np.array([1]), np.array([], dtype=np.int64), np.array([7, 6, 5])]
    seen = [np.array([3]), np.array([], dtype=np.int64), np.array([7, 0, 4])]
    allowed = [None, np.arange(8) % 2 == 0, np.zeros(8, dtype=bool)]
    for k in (1, 4, 9):
        wide = retriever(n_beams=8).recommend(histories, k, seen, allowed)
        found = retriever(n_beams=1).exact(histories, k, seen, allowed)
        assert np.array_equal(found.items, wide.items)
        np.testing.assert_allclose(found.scores, wide.scores, atol=1e-5)


MASKS = [  # no two first codes more than two beams hold, so that nothing legal is lost
    np.isin(np.arange(8), rows) for rows in ([0, 6], [1, 7], [2, 5, 7], [4], [1, 2], [3, 4, 5], [6, 2], [0, 1, 7])
]


class OnDemand(Sequence):
    """Masks made anew at each look: nothing but their values may tell them apart."""

    def __len__(self):
        return len(MASKS)

    def __getitem__(self, place):
        return MASKS[place].copy()


def test_every_user_of_a_batch_is_searched_under_their_own_rule():
    plum = retriever(n_beams=2, batch_size=8)
    history = np.array([1])
    found = plum.recommend([history] * 8, 2, None, MASKS)
    scores = leaf_scores(plum._model.eval(), plum.prompt(history))
    value = [scores[tuple(codes)] for codes in CODES.tolist()]
    for mask, items, keys in zip(MASKS, found.items.tolist(), found.scores, strict=True):
        best = sorted(np.flatnonzero(mask).tolist(), key=lambda i: (-value[i], -POPULARITY[i], i))[:2]
        assert items == best + [-1] * (2 - len(best))
        np.testing.assert_allclose(keys[: len(best)], [value[item] for item in best], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_masks_may_be_made_as_they_are_asked_for(batch_size):
    histories = [np.arange(n) % 8 for n in (3, 0, 5, 1, 2, 2, 4, 1)]
    expected = retriever(n_beams=2).recommend(histories, 2, None, MASKS)
    found = retriever(n_beams=2, batch_size=batch_size).recommend(histories, 2, None, OnDemand())
    assert np.array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_exact_lists_end_where_the_effort_is_limited():
    found = retriever().exact([np.array([1])] * 2, 8, None, max_expansions=1)
    assert (found.items == -1).all()  # codes of the first level alone prove nothing
    whole = retriever().exact([np.array([1])], 8, None)
    assert np.array_equal(retriever().exact([np.array([1])], 8, None, max_expansions=4).items, whole.items)


def test_an_exact_search_refuses_a_quota():
    with pytest.raises(ValueError, match="not support a quota"):
        retriever(quota=Quota(1, 1)).exact([np.array([1])], 2, None)


def test_a_sample_is_repeated_by_its_seed_whatever_the_batches():
    histories = [np.array([1]), np.array([1]), np.array([7, 6, 5]), np.array([], dtype=np.int64)] * 5
    found = retriever().sample(histories, 5, None, seed=3)
    for settings in ({}, {"batch_size": 7}, {"n_beams": 1, "scoring": Scoring("vocabulary")}):
        again = retriever(**settings).sample(histories, 5, None, seed=3)
        assert np.array_equal(again.items, found.items)
        np.testing.assert_allclose(again.scores, found.scores, atol=1e-4)
    assert not np.array_equal(retriever().sample(histories, 5, None, seed=4).items, found.items)
    assert len(np.unique(found.items[[0, 1, 4, 5, 8, 9, 12, 13]], axis=0)) > 1  # one history, other users


def test_a_cold_sample_is_the_same_for_every_seed():
    first, second = (retriever().sample([np.array([1])], 8, None, seed=seed, temperature=1e-6) for seed in (0, 1))
    assert np.array_equal(first.items, second.items)


def test_a_sample_holds_legal_items_those_of_a_semantic_id_together():
    allowed = np.arange(8) != 4
    seen = [np.array([3, 7])] * 20
    found = retriever().sample([np.array([1])] * 20, 8, seen, allowed, temperature=5.0)
    for row in found.items.tolist():
        assert sorted(row) == [-1, -1, -1, 0, 1, 2, 5, 6]
        assert row.index(5) == row.index(2) + 1
    assert len({row[0] for row in found.items.tolist()}) > 1


def test_a_sample_keeps_the_quota():
    found = retriever(quota=Quota(1, 1)).sample([np.array([1])] * 20, 8, None)
    for row in found.items.tolist():
        assert sorted(CODES[row[:3], 0].tolist()) == [0, 1, 2]
        assert row[3:] == [-1] * 5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="max_history must be at least 1"):
        retriever(max_history=0)
    with pytest.raises(ValueError, match=r"0\.\.7"):
        retriever().recommend([np.array([1])], 4, [np.array([8])])
    with pytest.raises(ValueError, match="2 entries for 1 users"):
        retriever().recommend([np.array([1])], 4, [np.array([0]), np.array([1])])
    with pytest.raises(PlumError, match="too long"):
        retriever(max_history=40).recommend([np.arange(40) % 8], 4, None)


def test_the_invalid_rate_counts_the_best_semantic_ids_that_no_item_has():
    plum = retriever()
    histories = [np.array([1]), np.array([], dtype=np.int64), np.array([7, 6, 5])]
    valid = {tuple(codes) for codes in CODES.tolist()}
    for k in (1, 3, 12, 50):
        expected = []
        for history in histories:
            tokens = [int(CODEC.token_ids[level][CODES[item, level]]) for item in history for level in (0, 1)]
            scores = all_scores(plum.model.eval(), [*PREFIX, *tokens])
            best = sorted(scores, key=scores.get, reverse=True)[:k]
            expected += [sid not in valid for sid in best]
        assert retriever(n_beams=12).invalid_rate(histories, k) == pytest.approx(np.mean(expected))
    assert plum.invalid_rate(histories, 50) == pytest.approx(1 - len(valid) / 12)


@torch.no_grad()
def all_scores(model, prompt):
    """Score of every combination of codes, in the catalogue or not."""
    scores = {}
    first = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1][CODEC.token_ids[0]].log_softmax(-1)
    for one, token in enumerate(CODEC.token_ids[0]):
        logits = model(input_ids=torch.tensor([[*prompt, int(token)]]), use_cache=False).logits[0, -1]
        second = logits[CODEC.token_ids[1]].log_softmax(-1)
        scores |= {(one, two): float(first[one] + second[two]) for two in range(4)}
    return scores

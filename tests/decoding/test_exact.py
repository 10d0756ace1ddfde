"""Best-first search against scores of every Semantic ID, on tiny models of several architectures."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, brute_force, catalogue, pruned, random_prompts, tiny

from plum.decoding.beam import Scoring, beam_search
from plum.decoding.constraint import AllCodes, DeviceTrie
from plum.decoding.exact import exact_search
from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.sid.codec import Codec

CLOSE = 2e-4  # what rounding may change a score by


def agree(beams, row, every, k):
    """The K best of (score, Semantic ID), best first; Semantic IDs whose scores are close may change places."""
    n = min(k, len(every))
    scores, found = beams.scores[row].numpy(), [tuple(sid) for sid in beams.codes[row].tolist()]
    np.testing.assert_allclose(scores[:n], [score for score, _ in every[:n]], atol=CLOSE)
    assert len(set(found[:n])) == n
    by_sid = {sid: score for score, sid in every}
    np.testing.assert_allclose([by_sid[sid] for sid in found[:n]], scores[:n], atol=CLOSE)
    if np.abs(np.diff([score for score, _ in every[: n + 1]])).min(initial=1) > 2 * CLOSE:
        assert found[:n] == [sid for _, sid in every[:n]]
    assert (beams.nodes[row, :n] >= 0).all()
    assert (beams.nodes[row, n:] == -1).all()
    assert (beams.codes[row, n:] == -1).all()
    assert (scores[n:] == -np.inf).all()
    assert torch.equal(beams.keys, beams.scores)


def zero_head(name="llama"):
    """A model to which every code is equally likely, exactly."""
    model = ARCHITECTURES[name]().eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    return model


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(["llama", "gemma3", "gpt2"]),
    k=st.integers(1, 8),
    batch=st.sampled_from([1, 3, 64]),
    share=st.sampled_from([None, 0.0, 0.1, 0.5, 0.9]),
    n_seen=st.integers(0, 5),
)
def test_the_best_of_any_catalogue_under_any_rule_are_those_of_brute_force(seed, name, k, batch, share, n_seen):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, rng.integers(1, 5)).tolist()
    codes, codec, trie = catalogue(rng, int(rng.integers(1, 25)), sizes)
    prompts = random_prompts(rng, 2)
    masks = [None if share is None else rng.random(len(codes)) < share, None]
    seen = [rng.integers(0, len(codes), n_seen) for _ in prompts]
    legal = trie.legal([None if mask is None else trie.prune(mask) for mask in masks], seen)
    found = exact_search(tiny(name), prompts, trie, k, legal, batch=batch)
    assert found.proven.all()
    for row, prompt in enumerate(prompts):
        free = np.ones(len(codes), dtype=bool) if masks[row] is None else masks[row].copy()
        free[seen[row]] = False
        agree(found.beams, row, brute_force(tiny(name), prompt, codes[free], codec), k)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(ARCHITECTURES)),
    over=st.sampled_from(["codes", "legal", "vocabulary"]),
    k=st.integers(1, 30),
    temperature=st.sampled_from([0.3, 1.0]),
)
def test_every_way_to_score_gives_what_a_beam_as_wide_as_the_catalogue_gives(seed, name, over, k, temperature):
    rng = np.random.default_rng(seed)
    codes, _, trie = catalogue(rng, 30, rng.integers(2, 8, rng.integers(1, 5)).tolist())
    prompts = random_prompts(rng, 2)
    legal = pruned(trie, [rng.random(len(codes)) < 0.6, None])
    scoring = Scoring(over, temperature)
    wide = beam_search(tiny(name), prompts, trie, len(codes), legal, scoring)
    found = exact_search(tiny(name), prompts, trie, k, legal, scoring, batch=4).beams
    for row in range(2):
        every = [
            (score, tuple(sid))
            for score, sid in zip(wide.scores[row].tolist(), wide.codes[row].tolist(), strict=True)
            if sid[0] >= 0
        ]
        agree(found, row, every, k)


def test_equal_scores_come_in_the_order_of_codes_whatever_is_expanded_at_a_time():
    rng = np.random.default_rng(0)
    codes, _, trie = catalogue(rng, 40, (4, 3, 5))
    every = np.unique(codes, axis=0)
    for k in (1, 2, 7, len(every), 60):
        for batch in (1, 2, 5, 64):
            found = exact_search(zero_head(), [np.array([3, 4])], trie, k, batch=batch).beams
            n = min(k, len(every))
            assert found.codes[0, :n].tolist() == every[:n].tolist()
            assert found.nodes[0, :n].tolist() == list(range(n))
            assert (found.nodes[0, n:] == -1).all()


def test_ties_between_prefixes_and_semantic_ids_are_settled_by_codes():
    # One code follows each first code: over what is legal, a Semantic ID scores what its prefix does, and all the same.
    codes = np.array([[0, 2], [1, 0], [2, 1]])
    codec = Codec((np.array([9, 8, 7]), np.array([10, 11, 12])))
    trie = DeviceTrie.put(Trie.build(codes, (3, 3)), codec, torch.device("cpu"))
    for batch in (1, 2, 3):
        for k in (1, 2, 3):
            found = exact_search(zero_head(), [np.array([5])], trie, k, scoring=Scoring("legal"), batch=batch)
            assert found.beams.codes[0].tolist() == codes[:k].tolist()
            assert len(set(found.beams.scores[0].tolist())) == 1


def test_a_smaller_semantic_id_found_late_takes_the_place_of_one_with_its_score():
    # Over what is legal all score 1/8, those below [1] by way of likelier prefixes.
    codes = np.array([[0, 0, 1], [0, 1, 3], [0, 2, 0], [0, 3, 2], [1, 0, 0], [1, 0, 1], [1, 2, 0], [1, 2, 3]])
    codec = Codec((np.arange(2), np.arange(2, 6), np.arange(6, 10)))
    trie = DeviceTrie.put(Trie.build(codes, (2, 4, 4)), codec, torch.device("cpu"))
    for batch in (1, 2, 3):
        for k in (1, 2, 3, 5, 8):
            found = exact_search(zero_head(), [np.array([5])], trie, k, scoring=Scoring("legal"), batch=batch).beams
            assert len(set(found.scores[0].tolist())) == 1
            assert found.codes[0].tolist() == codes[:k].tolist()


def peaked(name="llama"):
    """A model that is sure of each next code."""
    model = ARCHITECTURES[name]().eval()
    with torch.no_grad():
        model.load_state_dict(tiny(name).state_dict())
        model.get_output_embeddings().weight.mul_(20)
    return model


def test_a_peaked_model_leaves_most_prefixes_alone():
    rng = np.random.default_rng(1)
    codes, _, trie = catalogue(rng, 2000, (12, 12, 12))
    n_prefixes = sum(len(np.unique(codes[:, :depth], axis=0)) for depth in range(3))  # all that brute force expands
    prompt = random_prompts(rng, 1)
    found = exact_search(peaked(), prompt, trie, 5, batch=1)
    wide = beam_search(peaked(), prompt, trie, n_prefixes)
    assert torch.equal(found.beams.codes, wide.codes[:, :5])
    assert found.expanded.tolist()[0] < 0.15 * n_prefixes
    best = wide.scores[0, 4]
    assert int(found.expanded) >= len({tuple(sid[:2]) for sid in wide.codes[0, :5].tolist()}) + 1
    together = exact_search(peaked(), prompt, trie, 5, batch=64)
    assert torch.equal(together.beams.codes, found.beams.codes)
    assert int(found.expanded) <= int(together.expanded) < n_prefixes
    assert found.beams.scores[0, 4] == pytest.approx(float(best), abs=1e-3)


def test_one_at_a_time_expands_nothing_that_is_worse_than_the_last_of_the_list():
    rng = np.random.default_rng(2)
    _, _, trie = catalogue(rng, 300, (5, 6, 7))
    prompt = random_prompts(rng, 1)
    found = exact_search(tiny("llama"), prompt, trie, 4, batch=1)
    bound = float(found.beams.scores[0, -1])
    better = 1
    for depth in (1, 2):
        shorter = AllCodes(trie.sizes[:depth], trie.token_ids[:depth])
        scores = exact_search(tiny("llama"), prompt, shorter, 1000, batch=64).beams
        exists = {tuple(sid[:depth]) for sid in _semantic_ids(trie)}
        pairs = zip(scores.scores[0].tolist(), scores.codes[0].tolist(), strict=True)
        better += sum(score > bound and tuple(sid) in exists for score, sid in pairs)
    assert int(found.expanded) == better


def _semantic_ids(trie):
    wide = beam_search(tiny("llama"), [np.array([1])], trie, trie.n_items).codes[0].tolist()
    return [sid for sid in wide if sid[0] >= 0]


def test_more_than_the_catalogue_holds_gives_all_of_it():
    rng = np.random.default_rng(3)
    codes, codec, trie = catalogue(rng, 10, (3, 4))
    prompt = random_prompts(rng, 1)
    found = exact_search(tiny("gpt2"), prompt, trie, 50)
    assert found.beams.nodes.shape == (1, 50)
    assert found.beams.codes.shape == (1, 50, 2)
    assert found.proven.tolist() == [True]
    assert found.expanded.tolist() == [1 + len(np.unique(codes[:, 0]))]
    agree(found.beams, 0, brute_force(tiny("gpt2"), prompt[0], codes, codec), 50)


def test_a_user_without_any_legal_item_gets_an_empty_list_and_disturbs_nobody():
    rng = np.random.default_rng(4)
    codes, _, trie = catalogue(rng, 20, (4, 4, 4))
    prompts = random_prompts(rng, 2)
    legal = pruned(trie, [np.zeros(len(codes), dtype=bool), None])
    for over in ("codes", "legal", "vocabulary"):
        found = exact_search(tiny("llama"), prompts, trie, 5, legal, Scoring(over))
        assert (found.beams.nodes[0] == -1).all()
        assert (found.beams.scores[0] == -torch.inf).all()
        assert found.proven.tolist() == [True, True]
        alone = exact_search(tiny("llama"), prompts[1:], trie, 5, None, Scoring(over))
        assert torch.equal(found.beams.nodes[1], alone.beams.nodes[0])
        assert found.expanded.tolist() == [1, int(alone.expanded)]


@pytest.mark.parametrize("batch", [1, 4])
def test_when_the_effort_is_limited_what_is_returned_is_the_start_of_the_exact_list(batch):
    rng, model = np.random.default_rng(5), peaked()
    _, _, trie = catalogue(rng, 200, (9, 9, 9))
    prompts = random_prompts(rng, 2)
    whole = exact_search(model, prompts, trie, 8, batch=batch)
    lengths = []
    for limit in range(1, int(whole.expanded.max()) + 2):
        found = exact_search(model, prompts, trie, 8, batch=batch, max_expansions=limit)
        assert (found.expanded <= limit).all()
        n_proven = (found.beams.nodes >= 0).sum(1)
        for row, n in enumerate(n_proven.tolist()):
            assert torch.equal(found.beams.nodes[row, :n], whole.beams.nodes[row, :n])
            assert (found.beams.nodes[row, n:] == -1).all()
            assert (found.beams.codes[row, n:] == -1).all()
        assert torch.equal(found.proven, n_proven == 8)
        lengths.append(n_proven.tolist())
    for growing in np.transpose(lengths).tolist():
        assert growing == sorted(growing)
        assert growing[0] == 0
        assert growing[-1] == 8
    assert len(np.unique(lengths)) > 2


def test_a_catalogue_is_not_needed():
    prompt = random_prompts(np.random.default_rng(6), 1)
    _, _, trie = catalogue(np.random.default_rng(6), 5, (4, 3, 5))
    free = AllCodes(trie.sizes, trie.token_ids)
    found, wide = exact_search(tiny("llama"), prompt, free, 9).beams, beam_search(tiny("llama"), prompt, free, 60)
    assert torch.equal(found.codes, wide.codes[:, :9])
    assert torch.equal(found.nodes, wide.nodes[:, :9])


def test_no_users_give_no_lists():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    found = exact_search(tiny("llama"), [], trie, 4)
    assert found.beams.codes.shape == (0, 4, 2)
    assert found.expanded.shape == found.proven.shape == (0,)


def test_mistakes_are_named():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    for name in ("k", "batch", "max_expansions"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
            exact_search(tiny("llama"), [np.array([1])], trie, **{"k": 2, name: 0})
    with pytest.raises(ValueError, match="temperature"):
        exact_search(tiny("llama"), [np.array([1])], trie, 2, scoring=Scoring(temperature=0.0))
    with pytest.raises(PlumError, match="too long"):
        exact_search(tiny("gpt2"), [np.ones(40, dtype=np.int64)], trie, 2)

"""The mask for ``generate``, against plain Python over lists of Semantic IDs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    REAL,
    VOCABULARY,
    catalogue,
    continuations,
    generate,
    prefix_function,
    pruned,
    random_prompts,
    ruled,
    tiny,
)

from plum.decoding.constraint import AllCodes
from plum.decoding.processor import SidLogitsProcessor
from plum.errors import PlumError

EOS = 79


def real_beams(tokens, found, n_users):
    """Per user the (Semantic ID, score) of beams that are results."""
    beams = zip(tokens.tolist(), found.sequences_scores.tolist(), strict=True)
    kept = [[] for _ in range(n_users)]
    for place, (sid, score) in enumerate(beams):
        if score > REAL:
            kept[place * n_users // len(tokens)].append((sid, score))
    return kept


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.sampled_from([(7,), (3, 4), (30, 25, 20), (9, 40, 4), (4, 3, 2, 5), (60, 2)]),
    per_user=st.integers(1, 4),
    ruly=st.booleans(),
)
def test_each_row_keeps_the_scores_of_what_is_legal_after_its_codes(seed, sizes, per_user, ruly):
    rng = np.random.default_rng(seed)
    codes, codec, trie = catalogue(rng, int(rng.integers(1, 120)), sizes)
    legal, rules = ruled(rng, codes, trie, 3) if ruly else (None, [codes] * 3)
    processor = SidLogitsProcessor(trie, 5, legal, EOS)
    processor(torch.zeros(3 * per_user, 5, dtype=torch.long), torch.zeros(3 * per_user, VOCABULARY))
    for level in range(len(sizes) + 3):
        # Codes of items, legal or not for the user, some taken from other items, and a few tokens from anywhere.
        sids = np.pad(codec.encode(codes[rng.integers(0, len(codes), 3 * per_user)]), ((0, 0), (0, 3)))
        sids = np.where(rng.random(sids.shape) < 0.3, rng.permuted(sids, axis=0), sids)
        noise = rng.random(sids.shape) < 0.05
        sids[noise] = rng.integers(0, VOCABULARY, noise.sum())
        prompts = rng.integers(0, VOCABULARY, (len(sids), 5))
        tokens = torch.from_numpy(np.concatenate([prompts, sids[:, :level]], axis=1))
        scores = torch.randn(len(sids), VOCABULARY)
        before = scores.clone()
        found = processor(tokens, scores)
        assert torch.equal(scores, before)
        for row, sid in enumerate(sids[:, :level].tolist()):
            kept = continuations(codec, rules[row // per_user]).get(tuple(sid))
            kept = [EOS] if level >= len(sizes) else kept
            finite = found[row].isfinite().nonzero()[:, 0].tolist()
            if kept is None:  # a beam of -inf, which must neither become NaN nor have much to say
                assert len(finite) == 1
            else:
                assert finite == kept
            assert torch.equal(found[row, finite], before[row, finite])


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mistral, sliding"])
@pytest.mark.parametrize("n_beams", [1, 4, 30])
@pytest.mark.parametrize("renormalize", [False, True])
def test_greedy_and_beams_equal_those_of_a_prefix_function(name, n_beams, renormalize):
    rng = np.random.default_rng(n_beams)
    codes, codec, trie = catalogue(rng, 25, (6, 4, 5))
    prompts = random_prompts(rng, 3)
    legal, rules = ruled(rng, codes, trie, 3)
    width = max(map(len, prompts))
    options = {
        "num_beams": n_beams,
        "num_return_sequences": n_beams,
        "max_new_tokens": 3,
        "renormalize_logits": renormalize,
    }
    tokens, found = generate(name, prompts, [SidLogitsProcessor(trie, width, legal)], **options)
    expected_tokens, expected = generate(name, prompts, prefix=prefix_function(codec, rules, width), **options)
    for scores, same in zip(found.scores[:1], expected.scores[:1], strict=True):
        assert torch.equal(scores, same)
    if n_beams == 1:
        assert torch.equal(tokens, expected_tokens)
        return
    beams, expected_beams = (real_beams(*pair, 3) for pair in ((tokens, found), (expected_tokens, expected)))
    assert beams == expected_beams
    for user, rule in enumerate(rules):
        valid = codec.encode(np.unique(rule, axis=0)).tolist()
        assert len(beams[user]) == min(n_beams, len(valid))
        assert all(sid in valid for sid, _ in beams[user])


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_samples_equal_those_of_a_prefix_function_and_are_legal(name):
    rng = np.random.default_rng(0)
    codes, codec, trie = catalogue(rng, 30, (5, 4, 6))
    prompts = random_prompts(rng, 2)
    legal, rules = ruled(rng, codes, trie, 2)
    width = max(map(len, prompts))
    tiny(name)  # made before the seeds below are set
    options = {"do_sample": True, "num_return_sequences": 40, "max_new_tokens": 3, "top_k": 0, "temperature": 3.0}
    repeated = [rule for rule in rules for _ in range(40)]  # a prefix function is not told which rows are one user's
    torch.manual_seed(0)
    tokens, _ = generate(name, prompts, [SidLogitsProcessor(trie, width, legal)], **options)
    torch.manual_seed(0)
    expected, _ = generate(name, prompts, prefix=prefix_function(codec, repeated, width), **options)
    assert torch.equal(tokens, expected)
    for user, rule in enumerate(rules):
        mine = tokens[40 * user : 40 * user + 40].tolist()
        assert all(sid in codec.encode(rule).tolist() for sid in mine)
        assert len({tuple(sid) for sid in mine}) > 1


def test_beams_that_are_sampled_are_legal():
    rng = np.random.default_rng(1)
    codes, codec, trie = catalogue(rng, 60, (20, 4, 6))
    prompts = random_prompts(rng, 2)
    legal, rules = ruled(rng, codes, trie, 2)
    processor = SidLogitsProcessor(trie, max(map(len, prompts)), legal)
    options = {"do_sample": True, "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 3}
    for user, beams in enumerate(real_beams(*generate("llama", prompts, [processor], **options), 2)):
        assert beams
        assert all(sid in codec.encode(rules[user]).tolist() for sid, _ in beams)


@pytest.mark.parametrize("options", [{}, {"num_beams": 4, "num_return_sequences": 4}, {"do_sample": True}])
@pytest.mark.parametrize("n_new", [4, 9])
def test_the_end_token_follows_a_semantic_id_and_ends_it(options, n_new):
    rng = np.random.default_rng(2)
    codes, codec, trie = catalogue(rng, 25, (6, 4, 5))
    assert not any(EOS in ids for ids in codec.token_ids)
    prompts = random_prompts(rng, 2)
    processor = SidLogitsProcessor(trie, max(map(len, prompts)), None, EOS)
    tokens, _ = generate("gemma3", prompts, [processor], **{**options, "max_new_tokens": n_new, "eos_token_id": EOS})
    assert tokens.shape[1] == 4
    assert (tokens[:, 3] == EOS).all()
    assert all(sid in codec.encode(codes).tolist() for sid in tokens[:, :3].tolist())


def test_without_an_end_token_a_semantic_id_is_not_continued():
    rng = np.random.default_rng(2)
    _, _, trie = catalogue(rng, 25, (6, 4, 5))
    with pytest.raises(ValueError, match=r"4 tokens requested .* set max_new_tokens to 3"):
        generate("llama", [np.array([4])], [SidLogitsProcessor(trie, 1)], max_new_tokens=4)


@pytest.mark.parametrize("options", [{}, {"num_beams": 4}, {"do_sample": True}])
def test_users_without_a_legal_item_are_named_at_the_first_step(options):
    rng = np.random.default_rng(3)
    codes, _, trie = catalogue(rng, 25, (6, 4, 5))
    nothing = np.zeros(len(codes), dtype=bool)
    prompts = random_prompts(rng, 4)
    processor = SidLogitsProcessor(trie, max(map(len, prompts)), pruned(trie, [None, nothing, ~nothing, nothing]))
    with pytest.raises(PlumError, match="no item can be generated for users 1, 3 of the batch"):
        generate("llama", prompts, [processor], max_new_tokens=3, **options)
    many = SidLogitsProcessor(trie, 1, pruned(trie, [nothing] * 12))
    with pytest.raises(PlumError, match=r"users 0, 1, .*, 9 and 2 more of the batch"):
        many(torch.zeros(24, 1, dtype=torch.long), torch.zeros(24, VOCABULARY))


def test_a_prompt_may_go_on_with_the_first_codes():
    rng = np.random.default_rng(4)
    codes, codec, trie = catalogue(rng, 40, (3, 4, 5))
    prompts = [np.array([4, 4, codec.token_ids[0][code]]) for code in codes[:2, 0]]
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 2}
    processor = SidLogitsProcessor(trie, 2, pruned(trie, [None, None]))
    beams = real_beams(*generate("llama", prompts, [processor], **options), 2)
    for user, prompt in enumerate(prompts):
        assert len(beams[user]) == 3
        assert all([prompt[-1], *sid] in codec.encode(codes).tolist() for sid, _ in beams[user])
    astray = [np.array([4, 4, codec.token_ids[1][0]])] * 2
    with pytest.raises(PlumError, match=r"rows 0, 1, 2, 3, 4, 5 of the batch\n.*prompt_length 2, 3 tokens"):
        generate("llama", astray, [SidLogitsProcessor(trie, 2)], **options)


def test_without_a_catalogue_any_code_of_the_level_may_follow():
    _, codec, trie = catalogue(np.random.default_rng(5), 10, (4, 3))
    processor = SidLogitsProcessor(AllCodes(trie.sizes, trie.token_ids), 1)
    for level, ids in enumerate(codec.token_ids):
        tokens = torch.tensor([[9, *(codec.token_ids[before][1] for before in range(level))]])
        found = processor(tokens, torch.zeros(1, VOCABULARY))
        assert found[0].isfinite().nonzero()[:, 0].tolist() == sorted(ids)


def test_what_does_not_fit_is_refused():
    codes, _, trie = catalogue(np.random.default_rng(6), 10, (4, 3))
    for wrong in ({"prompt_length": -1}, {"prompt_length": 1, "eos_token_id": -1}):
        with pytest.raises(ValueError, match="must be at least 0, found -1"):
            SidLogitsProcessor(trie, **wrong)
    tokens, scores = torch.zeros(4, 2, dtype=torch.long), torch.zeros(4, VOCABULARY)
    with pytest.raises(ValueError, match="prompt_length is 3, but the input has only 2 tokens"):
        SidLogitsProcessor(trie, 3)(tokens, scores)
    with pytest.raises(ValueError, match="4 rows can't be divided equally among the 3 users"):
        SidLogitsProcessor(trie, 2, pruned(trie, [np.ones(len(codes), dtype=bool)] * 3))(tokens, scores)
    with pytest.raises(PlumError, match=r"lacks tokens.*\n.*5 tokens in the model, the highest one needed is 79"):
        SidLogitsProcessor(trie, 2, eos_token_id=79)(tokens, scores[:, :5])

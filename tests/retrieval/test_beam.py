"""Beam search against a search that recomputes everything, on tiny models of several architectures."""

import logging
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.lm.logits import check_head, check_length, token_logits
from plum.retrieval.beam import DeviceTrie, beam_search, check_tree_attention
from plum.sid.codec import Codec
from plum.sid.table import bucket_rank
from plum.sid.trie import Trie

VOCABULARY = 80
WINDOW = 6  # of the architectures with a sliding window; prompts are longer
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 4}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
BOTH_KINDS = ["sliding_attention", "full_attention"]
ARCHITECTURES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE, num_key_value_heads=4)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**GROUPED, sliding_window=WINDOW, layer_types=BOTH_KINDS)
    ),
    "gemma2, soft-capped": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**GROUPED, sliding_window=WINDOW, final_logit_softcapping=0.5)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=1)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=None)),
    "mistral, sliding": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=WINDOW)),
    "phi, biased head": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SHAPE)),
}


@cache
def tiny(name):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)  # far from uniform, so that a wrong context changes the order
    return model


def catalogue(rng, n_items, sizes):
    """Random Semantic IDs, collisions included, and the codec of shuffled tokens."""
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
    ids = rng.permutation(VOCABULARY)[: sum(sizes)]
    codec = Codec(tuple(np.split(ids, np.cumsum(sizes)[:-1])))
    trie = Trie.build(codes, bucket_rank(codes, np.zeros(n_items)))
    return np.unique(codes, axis=0), codec, DeviceTrie.put(trie, codec, torch.device("cpu"))


def random_prompts(rng, n, longest=12):
    return [rng.integers(0, VOCABULARY, rng.integers(1, longest + 1)) for _ in range(n)]


@torch.no_grad()
def next_code_logp(model, prompt, codes, codec):
    """Log-probabilities of the next level's codes: whole sequence computed, no cache, no mask, no batch."""
    level = len(codes)
    tokens = [*prompt, *(codec.token_ids[i][code] for i, code in enumerate(codes))]
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
    return logits[codec.token_ids[level]].log_softmax(-1).numpy()


def reference(model, prompt, sids, codec, n_beams, allowed=None):
    """Plain beam search: (score, Semantic ID) best first, ties to the earlier beam and then the smaller code."""
    valid = [tuple(sid) for i, sid in enumerate(sids.tolist()) if allowed is None or allowed[i]]
    beams = [(0.0, ())]
    for level in range(sids.shape[1]):
        grown = []
        for score, codes in beams:
            children = sorted({sid[level] for sid in valid if sid[:level] == codes})
            logp = next_code_logp(model, prompt, codes, codec)
            grown += [(score + logp[code], (*codes, code)) for code in children]
        beams = sorted(grown, key=lambda beam: -beam[0])[:n_beams]
    return beams


def agree(leaves, scores, expected, sids):
    """Same scores; same leaves but for the order of scores that rounding may swap."""
    n = len(expected)
    np.testing.assert_allclose(scores[:n], [score for score, _ in expected], atol=2e-4)
    assert (leaves[n:] == -1).all()
    assert (scores[n:] == -torch.inf).all()
    found = [tuple(sids[leaf].tolist()) for leaf in leaves[:n]]
    assert len(set(found)) == n
    by_sid = {sid: score for score, sid in expected}
    gaps = np.abs(np.diff([score for score, _ in expected]))
    if n == 0 or gaps.min(initial=1) > 1e-3:
        assert found == [sid for _, sid in expected]
    else:
        np.testing.assert_allclose([by_sid[sid] for sid in found], scores[:n], atol=2e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("sizes", [(9,), (5, 7), (4, 3, 6), (3, 4, 2, 5)])
def test_a_beam_as_wide_as_the_catalogue_is_brute_force(name, sizes):
    rng = np.random.default_rng(len(sizes))
    model = tiny(name)
    sids, codec, trie = catalogue(rng, 30, sizes)
    prompts = [rng.integers(0, VOCABULARY, length) for length in (1, 4, 13)]
    leaves, scores = beam_search(model, prompts, trie, len(sids))
    for row, prompt in enumerate(prompts):
        every = []
        for sid in sids.tolist():
            logps = [next_code_logp(model, prompt, sid[:level], codec)[code] for level, code in enumerate(sid)]
            every.append((sum(logps), tuple(sid)))
        agree(leaves[row], scores[row], sorted(every, key=lambda item: -item[0]), sids)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(ARCHITECTURES)),
    n_beams=st.integers(1, 7),
    share=st.sampled_from([None, 0.0, 0.1, 0.5, 0.9]),
)
def test_any_beam_width_and_any_mask_equal_a_plain_beam_search(seed, name, n_beams, share):
    rng = np.random.default_rng(seed)
    model = tiny(name)
    sizes = rng.integers(1, 8, rng.integers(1, 5)).tolist()
    sids, codec, trie = catalogue(rng, int(rng.integers(1, 25)), sizes)
    prompts = random_prompts(rng, 3)
    allowed = None if share is None else rng.random((3, len(sids))) < share
    leaves, scores = beam_search(model, prompts, trie, n_beams, None if allowed is None else torch.from_numpy(allowed))
    assert leaves.shape == scores.shape == (3, n_beams)
    for row, prompt in enumerate(prompts):
        mask = None if allowed is None else allowed[row]
        expected = reference(model, prompt, sids, codec, n_beams, mask)
        agree(leaves[row], scores[row], expected, sids)
        if mask is not None:
            chosen = leaves[row][leaves[row] >= 0]
            assert mask[chosen].all()


def test_one_user_without_any_allowed_item_does_not_disturb_another():
    rng = np.random.default_rng(1)
    sids, _, trie = catalogue(rng, 20, (4, 4, 4))
    prompts = random_prompts(rng, 2)
    allowed = torch.ones(2, len(sids), dtype=torch.bool)
    allowed[0] = False
    leaves, scores = beam_search(tiny("llama"), prompts, trie, 5, allowed)
    assert (leaves[0] == -1).all()
    assert (scores[0] == -torch.inf).all()
    alone = beam_search(tiny("llama"), prompts[1:], trie, 5)
    assert torch.equal(leaves[1], alone[0][0])


def test_nothing_allowed_to_anyone_gives_empty_lists():
    sids, _, trie = catalogue(np.random.default_rng(1), 20, (4, 4, 4))
    leaves, scores = beam_search(tiny("llama"), [np.array([5])] * 2, trie, 3, torch.zeros(2, len(sids)).bool())
    assert leaves.tolist() == [[-1] * 3] * 2
    assert (scores == -torch.inf).all()


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mistral, sliding"])
def test_batch_mates_change_nothing(name):
    rng = np.random.default_rng(3)
    _, _, trie = catalogue(rng, 40, (5, 4, 3))
    prompts = [rng.integers(0, VOCABULARY, length) for length in (2, 30, 7)]
    together = beam_search(tiny(name), prompts, trie, 6)
    for row, prompt in enumerate(prompts):
        leaves, scores = beam_search(tiny(name), [prompt], trie, 6)
        assert torch.equal(leaves[0], together[0][row])
        torch.testing.assert_close(scores[0], together[1][row], atol=1e-4, rtol=0)


def test_equal_scores_come_in_the_order_of_codes():
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every code equally likely
    codes = np.array([[2, 1], [0, 3], [2, 0], [1, 1], [0, 1]])
    codec = Codec((np.array([9, 8, 7, 6]), np.array([10, 11, 12, 13])))
    trie = DeviceTrie.put(Trie.build(codes, np.zeros(5)), codec, torch.device("cpu"))
    leaves, scores = beam_search(model.eval(), [np.array([1, 2])], trie, 4)
    assert leaves.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(scores, np.full((1, 4), 2 * np.log(1 / 4)), rtol=1e-6)


def test_a_prompt_beyond_the_models_positions_is_refused_in_words():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    beam_search(tiny("gpt2"), [np.ones(38, dtype=np.int64)], trie, 2)
    with pytest.raises(PlumError, match=r"too long.*\n.*41 tokens, the model takes 40"):
        beam_search(tiny("gpt2"), [np.ones(39, dtype=np.int64)], trie, 2)


def test_a_model_that_states_no_limit_takes_any_length():
    check_length(hf.BloomForCausalLM(hf.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)), 10**9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_known_architectures_pass_the_checks(name):
    model = tiny(name).train()
    check_head(model)
    check_tree_attention(model)
    assert model.training  # left as found
    model.eval()


@pytest.mark.parametrize(
    "model",
    [
        lambda: hf.CohereForCausalLM(hf.CohereConfig(**SHAPE, num_key_value_heads=2, logit_scale=0.0625)),
        lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SHAPE, num_key_value_heads=2, logits_scaling=8.0)),
    ],
)
def test_a_head_that_does_more_is_refused(model):
    with pytest.raises(PlumError, match="does more than a matrix product"):
        check_head(model())


@pytest.mark.parametrize(
    "model",
    [
        lambda: hf.BloomForCausalLM(hf.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)),
        lambda: hf.MambaForCausalLM(
            hf.MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=2, use_mambapy=False)
        ),
        lambda: hf.BertLMHeadModel(
            hf.BertConfig(
                vocab_size=20,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=8,
                initializer_range=0.5,
            )
        ),
    ],
    ids=["no explicit positions", "no attention", "not causal"],
)
def test_architectures_that_cannot_decode_side_by_side_are_refused(model, caplog):
    caplog.set_level(logging.CRITICAL)
    torch.manual_seed(0)
    with pytest.raises(PlumError, match="side by side"):
        check_tree_attention(model())


def test_logits_of_chosen_tokens_are_those_of_the_whole_vocabulary():
    for name in ("llama", "gemma2, soft-capped", "phi, biased head"):
        hidden, chosen = torch.randn(2, 3, 16), torch.tensor([7, 3, 50])
        whole = token_logits(tiny(name), hidden)
        assert whole.shape == (2, 3, VOCABULARY)
        torch.testing.assert_close(token_logits(tiny(name), hidden, chosen), whole[..., chosen])

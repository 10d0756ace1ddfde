"""Beam search against a search that recomputes everything, on tiny models of several architectures."""

import logging

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import (
    ARCHITECTURES,
    GROUPED,
    SHAPE,
    VOCABULARY,
    brute_force,
    catalogue,
    next_code_logp,
    pruned,
    random_prompts,
    tiny,
)

from plum.decoding.beam import Quota, Scoring, beam_search, best_places
from plum.decoding.constraint import AllCodes, DeviceTrie
from plum.decoding.tree import Tree, check_tree_attention
from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.lm.logits import check_head, check_length, token_logits
from plum.sid.codec import Codec


def reference(model, prompt, codes, codec, n_beams):
    """Plain beam search over the Semantic IDs of items: (score, Semantic ID) best first, ties by beam, then code."""
    valid = {tuple(sid) for sid in codes.tolist()}
    beams = [(0.0, ())]
    for level in range(codes.shape[1]):
        grown = []
        for score, prefix in beams:
            children = sorted({sid[level] for sid in valid if sid[:level] == prefix})
            logp = next_code_logp(model, prompt, prefix, codec)
            grown += [(score + logp[code], (*prefix, code)) for code in children]
        beams = sorted(grown, key=lambda beam: -beam[0])[:n_beams]
    return beams


def agree(beams, row, expected):
    """Same scores; same Semantic IDs but for the order of scores that rounding may swap."""
    n = len(expected)
    scores = beams.scores[row]
    np.testing.assert_allclose(scores[:n], [score for score, _ in expected], atol=2e-4)
    assert (beams.nodes[row, n:] == -1).all()
    assert (beams.codes[row, n:] == -1).all()
    assert (scores[n:] == -torch.inf).all()
    assert torch.equal(scores, beams.keys[row])
    found = [tuple(sid) for sid in beams.codes[row, :n].tolist()]
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
    codes, codec, trie = catalogue(rng, 30, sizes)
    prompts = [rng.integers(0, VOCABULARY, length) for length in (1, 4, 13)]
    beams = beam_search(model, prompts, trie, len(codes))
    for row, prompt in enumerate(prompts):
        agree(beams, row, brute_force(model, prompt, codes, codec))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(ARCHITECTURES)))
def test_over_random_catalogues_a_wide_beam_is_brute_force(seed, name):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, rng.integers(1, 5)).tolist()
    codes, codec, trie = catalogue(rng, int(rng.integers(1, 25)), sizes)
    prompt = random_prompts(rng, 1)
    agree(beam_search(tiny(name), prompt, trie, len(codes)), 0, brute_force(tiny(name), prompt[0], codes, codec))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(ARCHITECTURES)),
    n_beams=st.integers(1, 7),
    share=st.sampled_from([None, 0.0, 0.1, 0.5, 0.9]),
    n_seen=st.integers(0, 5),
)
def test_any_beam_width_and_any_rule_equal_a_plain_beam_search_over_what_is_legal(seed, name, n_beams, share, n_seen):
    rng = np.random.default_rng(seed)
    model = tiny(name)
    sizes = rng.integers(1, 8, rng.integers(1, 5)).tolist()
    codes, codec, trie = catalogue(rng, int(rng.integers(1, 25)), sizes)
    prompts = random_prompts(rng, 3)
    shared = None if share is None else rng.random(len(codes)) < share
    masks = [shared, None, shared if seed % 2 else rng.random(len(codes)) < 0.5]
    seen = [rng.integers(0, len(codes), n_seen) for _ in prompts]
    counts = {id(mask): trie.prune(mask) for mask in masks if mask is not None}
    legal = trie.legal([counts.get(id(mask)) for mask in masks], seen)
    beams = beam_search(model, prompts, trie, n_beams, legal)
    assert beams.nodes.shape == beams.scores.shape == (3, n_beams)
    for row, prompt in enumerate(prompts):
        free = np.ones(len(codes), dtype=bool) if masks[row] is None else masks[row].copy()
        free[seen[row]] = False
        agree(beams, row, reference(model, prompt, codes[free], codec, n_beams))


def test_beam_widths_may_differ_by_level():
    rng = np.random.default_rng(5)
    codes, codec, trie = catalogue(rng, 40, (6, 5, 4))
    prompt = random_prompts(rng, 1)
    widths = [2, 7, 3]
    beams = beam_search(tiny("qwen3"), prompt, trie, widths)
    best = reference(tiny("qwen3"), prompt[0], codes[:, :1], codec, 2)
    codes = codes[np.isin(codes[:, 0], [sid[0] for _, sid in best])]
    two = reference(tiny("qwen3"), prompt[0], codes[:, :2], codec, 7)
    codes = np.array([sid for sid in codes.tolist() if tuple(sid[:2]) in {sid for _, sid in two}])
    agree(beams, 0, reference(tiny("qwen3"), prompt[0], codes, codec, 100)[:3])
    with pytest.raises(ValueError, match="one or 3 numbers"):
        beam_search(tiny("qwen3"), prompt, trie, [2, 7])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_gpu_finds_the_same(name):
    rng = np.random.default_rng(8)
    codes = np.stack([rng.integers(0, size, 60) for size in (6, 5, 4)], axis=1)
    codec = Codec(tuple(np.split(rng.permutation(VOCABULARY)[:15], [6, 11])))
    prompts, mask, seen = random_prompts(rng, 3), rng.random(60) < 0.6, [rng.integers(0, 60, 9) for _ in range(3)]
    found = []
    for device in ("cpu", "cuda"):
        trie = DeviceTrie.put(Trie.build(codes, (6, 5, 4)), codec, torch.device(device))
        model = ARCHITECTURES[name]().eval()
        model.load_state_dict(tiny(name).state_dict())
        rule = trie.prune(mask)
        legal = trie.legal([rule, None, rule], seen)
        found.append(beam_search(model.to(device), prompts, trie, 7, legal, quota=Quota(1, 3)))
    assert torch.equal(found[0].codes, found[1].codes.cpu())
    torch.testing.assert_close(found[0].scores, found[1].scores.cpu(), atol=1e-3, rtol=0)


def test_one_user_without_any_legal_item_does_not_disturb_another():
    rng = np.random.default_rng(1)
    codes, _, trie = catalogue(rng, 20, (4, 4, 4))
    prompts = random_prompts(rng, 2)
    legal = pruned(trie, [np.zeros(len(codes), dtype=bool), None])
    for over in ("codes", "legal", "vocabulary"):
        beams = beam_search(tiny("llama"), prompts, trie, 5, legal, Scoring(over))
        assert (beams.nodes[0] == -1).all()
        assert (beams.scores[0] == -torch.inf).all()
        alone = beam_search(tiny("llama"), prompts[1:], trie, 5, None, Scoring(over))
        assert torch.equal(beams.nodes[1], alone.nodes[0])


def test_nothing_legal_for_anyone_gives_empty_lists():
    codes, _, trie = catalogue(np.random.default_rng(1), 20, (4, 4, 4))
    nothing = np.zeros(len(codes), dtype=bool)
    beams = beam_search(tiny("llama"), [np.array([5])] * 2, trie, 3, pruned(trie, [nothing, nothing]))
    assert beams.nodes.tolist() == [[-1] * 3] * 2
    assert (beams.scores == -torch.inf).all()
    beams = beam_search(tiny("llama"), [np.array([5])] * 2, trie, 3, trie.legal([None] * 2, [np.arange(20)] * 2))
    assert beams.nodes.tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mistral, sliding"])
def test_batch_mates_change_nothing(name):
    rng = np.random.default_rng(3)
    _, _, trie = catalogue(rng, 40, (5, 4, 3))
    prompts = [rng.integers(0, VOCABULARY, length) for length in (2, 30, 7)]
    together = beam_search(tiny(name), prompts, trie, 6)
    for row, prompt in enumerate(prompts):
        alone = beam_search(tiny(name), [prompt], trie, 6)
        assert torch.equal(alone.nodes[0], together.nodes[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row], atol=1e-4, rtol=0)


def test_equal_scores_come_in_the_order_of_codes():
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every code equally likely
    codes = np.array([[2, 1], [0, 3], [2, 0], [1, 1], [0, 1]])
    codec = Codec((np.array([9, 8, 7, 6]), np.array([10, 11, 12, 13])))
    trie = DeviceTrie.put(Trie.build(codes, (4, 4)), codec, torch.device("cpu"))
    beams = beam_search(model.eval(), [np.array([1, 2])], trie, 4)
    assert beams.codes.tolist() == [[[0, 1], [0, 3], [1, 1], [2, 0]]]
    assert beams.nodes.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(beams.scores, np.full((1, 4), 2 * np.log(1 / 4)), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 9), values=st.integers(1, 6))
def test_the_best_places_are_those_of_a_stable_sort(seed, width, values):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, values, (3, 9)).astype(np.float32)  # ties everywhere
    keys[rng.random((3, 9)) < 0.2] = -np.inf
    found, place = best_places(torch.from_numpy(keys), width)
    order = np.argsort(-keys, axis=1, kind="stable")[:, :width]
    np.testing.assert_array_equal(found, np.take_along_axis(keys, order, axis=1))
    finite = found.numpy() > -np.inf
    np.testing.assert_array_equal(place.numpy()[finite], order[finite])


@torch.no_grad()
def vocabulary_logp(model, prompt, codes, codec):
    """Log-probability of a whole Semantic ID over the full vocabulary."""
    tokens = codec.encode(np.array([codes]))[0]
    logits = model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + level, token]) for level, token in enumerate(tokens))


@pytest.mark.parametrize("name", ["llama", "gemma2, soft-capped", "phi, biased head"])
def test_scores_over_the_vocabulary_and_over_legal_codes(name):
    rng = np.random.default_rng(2)
    codes, codec, trie = catalogue(rng, 25, (5, 4, 3))
    prompt = random_prompts(rng, 1)
    full = beam_search(tiny(name), prompt, trie, 100, scoring=Scoring("vocabulary"))
    for sid, score in zip(full.codes[0].tolist(), full.scores[0].tolist(), strict=True):
        if sid[0] >= 0:
            assert score == pytest.approx(vocabulary_logp(tiny(name), prompt[0], sid, codec), abs=2e-4)
    mask = rng.random(25) < 0.5
    for allowed in (None, mask):
        legal = None if allowed is None else pruned(trie, [allowed])
        among = beam_search(tiny(name), prompt, trie, 100, legal, Scoring("legal"))
        n = len(np.unique(codes if allowed is None else codes[allowed], axis=0))
        assert (among.nodes[0] >= 0).sum() == n
        assert float(among.scores[0, :n].exp().sum()) == pytest.approx(1, abs=1e-4)


def test_temperature_divides_the_logits():
    rng = np.random.default_rng(4)
    _, codec, trie = catalogue(rng, 10, (6,))
    prompt = random_prompts(rng, 1)
    found = beam_search(tiny("llama"), prompt, trie, 6, scoring=Scoring("vocabulary", 3.0))
    logits = tiny("llama")(input_ids=torch.tensor(prompt[0])[None]).logits[0, -1].detach() / 3
    for sid, score in zip(found.codes[0].tolist(), found.scores[0].tolist(), strict=True):
        if sid[0] >= 0:
            assert score == pytest.approx(float(logits.log_softmax(-1)[codec.token_ids[0][sid[0]]]), abs=1e-4)
    with pytest.raises(ValueError, match="temperature"):
        beam_search(tiny("llama"), prompt, trie, 6, scoring=Scoring(temperature=0.0))


def test_without_a_constraint_every_code_may_follow_every_code():
    rng = np.random.default_rng(6)
    _, codec, trie = catalogue(rng, 10, (4, 3, 5))
    grid = np.stack(np.meshgrid(range(4), range(3), range(5), indexing="ij"), axis=-1).reshape(-1, 3)
    prompts = random_prompts(rng, 2)
    free = AllCodes(trie.sizes, trie.token_ids)
    whole = DeviceTrie.put(Trie.build(grid, (4, 3, 5)), codec, torch.device("cpu"))
    for widths in (100, 4):
        found, expected = (beam_search(tiny("llama"), prompts, index, widths) for index in (free, whole))
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.nodes, expected.nodes)  # the grid's leaves are numbered as digits
    with pytest.raises(ValueError, match="rules need a catalogue"):
        beam_search(tiny("llama"), prompts, free, 4, pruned(trie, [np.ones(10, dtype=bool)] * 2))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(1, 2), n=st.integers(1, 3))
def test_a_quota_takes_the_best_of_each_prefix(seed, depth, n):
    rng = np.random.default_rng(seed)
    codes, codec, trie = catalogue(rng, 40, (4, 3, 5))
    prompt = random_prompts(rng, 1)
    beams = beam_search(tiny("llama"), prompt, trie, 100, quota=Quota(depth, n))
    expected, taken = [], {}
    for score, sid in brute_force(tiny("llama"), prompt[0], codes, codec):
        taken[sid[:depth]] = taken.get(sid[:depth], 0) + 1
        if taken[sid[:depth]] <= n:
            expected.append((score, sid))
    agree(beams, 0, expected)


@pytest.mark.parametrize("width", [12, 18])
def test_under_a_quota_beams_are_shared_among_prefixes_and_none_is_left_empty(width):
    rng = np.random.default_rng(11)
    _, _, trie = catalogue(rng, 200, (3, 6, 6))
    prompt = random_prompts(rng, 1)
    free = beam_search(tiny("llama"), prompt, trie, 200)
    found = beam_search(tiny("llama"), prompt, trie, width, quota=Quota(1, 1))
    best = {}
    for sid, score in zip(free.codes[0].tolist(), free.scores[0].tolist(), strict=True):
        if sid[0] >= 0:
            best.setdefault(sid[0], (tuple(sid), score))
    listed = [tuple(sid) for sid in found.codes[0].tolist() if sid[0] >= 0]
    assert sorted(sid[0] for sid in listed) == [0, 1, 2]  # every prefix has its place
    # with one beam for each prefix, at least one of the three best is missed here
    assert listed == sorted((sid for sid, _ in best.values()), key=lambda sid: -best[sid[0]][1])
    greedy = beam_search(tiny("llama"), prompt, trie, [3, 3, 3], quota=Quota(1, 1))
    assert [tuple(sid) for sid in greedy.codes[0].tolist()] != listed


def test_a_quota_that_means_nothing_is_refused():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    for quota in (Quota(0, 1), Quota(2, 1), Quota(1, 0)):
        with pytest.raises(ValueError, match="quota"):
            beam_search(tiny("llama"), [np.array([1])], trie, 2, quota=quota)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_the_prompts_keys_and_values_are_never_copied(name):
    tree = Tree(tiny(name), random_prompts(np.random.default_rng(0), 3), depth=3, reserve=8)
    stores = [layer.keys.untyped_storage().data_ptr() for layer in tree._whole._cache.layers]
    nothing = torch.empty(3, 4, 0, dtype=torch.long)
    tree.grow(torch.ones(3, 4, dtype=torch.long), nothing)
    tree.grow(torch.ones(3, 4, dtype=torch.long), torch.zeros(3, 4, 1, dtype=torch.long))
    assert stores == [layer.keys.untyped_storage().data_ptr() for layer in tree._whole._cache.layers]
    tree.grow(torch.ones(3, 1, dtype=torch.long), torch.tensor([[[0, 4]]] * 3))  # beyond what was reserved: still right
    assert all(layer.keys.shape[2] == tree._whole._width + 9 for layer in tree._whole._cache.layers)


def test_a_prompt_beyond_the_models_positions_is_refused_in_words():
    _, _, trie = catalogue(np.random.default_rng(0), 5, (3, 3))
    beam_search(tiny("gpt2"), [np.ones(39, dtype=np.int64)], trie, 2)  # the second code is chosen, never fed
    with pytest.raises(PlumError, match=r"too long.*\n.*41 tokens, the model supports 40"):
        beam_search(tiny("gpt2"), [np.ones(40, dtype=np.int64)], trie, 2)


def test_a_model_that_states_no_limit_takes_any_length():
    check_length(hf.BloomForCausalLM(hf.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)), 10**9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_known_architectures_pass_the_checks(name):
    model = tiny(name).train()
    check_head(model)
    check_tree_attention(model)
    assert model.training  # left as found
    model.eval()


def test_weights_of_zero_are_called_so():
    model = ARCHITECTURES["llama"]().eval()
    with torch.no_grad():
        model.model.norm.weight.zero_()
    with pytest.raises(PlumError, match="all hidden states of LlamaForCausalLM are 0"):
        check_tree_attention(model)


class OddHead(hf.LlamaForCausalLM):
    def forward(self, *inputs, **named):
        out = super().forward(*inputs, **named)
        out.logits = out.logits * 2
        return out


def test_a_head_that_does_more_is_refused():
    model = OddHead(hf.LlamaConfig(**SHAPE, num_key_value_heads=4))
    with pytest.raises(PlumError, match="does more than a matrix product"):
        check_head(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gemma3", "granite, scaled logits"])
def test_half_precision_models_are_decoded(name, dtype):
    model = ARCHITECTURES[name]().eval().to(dtype)
    check_head(model)
    check_tree_attention(model)
    rng = np.random.default_rng(0)
    codes, codec, trie = catalogue(rng, 20, (4, 5))
    prompt = random_prompts(rng, 1)
    beams = beam_search(model, prompt, trie, 20)
    assert beams.scores.dtype == torch.float32
    best = {sid: score for score, sid in brute_force(model, prompt[0], codes, codec)}
    for sid, score in zip(beams.codes[0].tolist(), beams.scores[0].tolist(), strict=True):
        if sid[0] >= 0:
            assert score == pytest.approx(best[tuple(sid)], abs=0.1)


def test_windows_that_count_otherwise_or_are_too_narrow_are_refused():
    neo = hf.GPTNeoConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
    )
    with pytest.raises(PlumError, match="local_attention"):
        check_tree_attention(hf.GPTNeoForCausalLM(neo))
    narrow = hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=2))
    _, _, trie = catalogue(np.random.default_rng(0), 9, (3, 3, 3, 3))
    with pytest.raises(PlumError, match="narrower than a Semantic ID"):
        beam_search(narrow, [np.array([1, 2])], trie, 2)


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

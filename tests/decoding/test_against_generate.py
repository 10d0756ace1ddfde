"""Beam search against the beam search of transformers' ``generate``: the same Semantic IDs, order and scores.

``generate`` gives its processors log-probabilities over the vocabulary and sums what comes out (``_beam_search`` in
transformers/generation/utils.py). With legal tokens only, from ``prefix_allowed_tokens_fn``, it scores

- over the vocabulary as it is: what a prefix function leaves is not normalised again,
- over legal codes with ``renormalize_logits``, which comes after the prefix function,
- over the level's codes with a processor before the prefix function that leaves those alone and normalises.
"""

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    ARCHITECTURES,
    OTHER_HEADS,
    REAL,
    VOCABULARY,
    catalogue,
    generate,
    prefix_function,
    random_prompts,
    ruled,
    tiny,
)
from transformers.generation import logits_process

from plum.decoding.beam import Scoring, beam_search

MODELS = [*ARCHITECTURES, *OTHER_HEADS]
WAYS = ["codes", "legal", "vocabulary"]
CLOSE = 1e-3  # scores that rounding may let change places


class LevelCodes(hf.LogitsProcessor):
    """Log-probabilities over the codes of the level that comes next."""

    def __init__(self, codec, width):
        self._codec, self._width = codec, width

    def __call__(self, input_ids, scores):
        ids = torch.from_numpy(self._codec.token_ids[input_ids.shape[1] - self._width])
        return torch.full_like(scores, -torch.inf).index_copy(1, ids, scores[:, ids].log_softmax(-1))


def processors_for(scoring, codec, prefix, n_beams, width):
    """Options of ``generate`` for a way of scoring; with one beam it is greedy, where processors get logits."""
    before = [logits_process.LogitNormalization()] if n_beams == 1 else []
    if scoring.temperature != 1:
        before += [logits_process.TemperatureLogitsWarper(scoring.temperature), logits_process.LogitNormalization()]
    if scoring.over == "codes":
        before.append(LevelCodes(codec, width))
    options = {"renormalize_logits": scoring.over == "legal"}
    if not before:
        return {**options, "prefix": prefix}
    # A prefix function would come first: its processor has to be given with the others.
    return {**options, "processors": [*before, logits_process.PrefixConstrainedLogitsProcessor(prefix, n_beams)]}


def by_generate(name, prompts, codec, rules, n_beams, scoring):
    """Per user (tokens, score) of the Semantic IDs, best first."""
    width = max(map(len, prompts))
    how = processors_for(scoring, codec, prefix_function(codec, rules, width), n_beams, width)
    tokens, found = generate(
        name,
        prompts,
        num_beams=n_beams,
        num_return_sequences=n_beams,
        max_new_tokens=codec.n_levels,
        **how,
        **({"length_penalty": 0.0} if n_beams > 1 else {}),
    )
    if n_beams == 1:
        steps = zip(found.scores, tokens.unbind(1), strict=True)
        scores = sum(step.gather(1, token[:, None])[:, 0] for step, token in steps)
    else:
        scores = found.sequences_scores
    beams = list(zip(map(tuple, tokens.tolist()), scores.tolist(), strict=True))
    users = [beams[start : start + n_beams] for start in range(0, len(beams), n_beams)]
    return [[beam for beam in user if beam[1] > REAL] for user in users]


def agree(codec, beams, expected):
    """Same scores and Semantic IDs in the same order, but for scores that are close."""
    for row, user in enumerate(expected):
        n = int((beams.nodes[row] >= 0).sum())
        assert n == len(user)
        assert (beams.nodes[row, n:] == -1).all()
        scores = beams.scores[row, :n].numpy()
        sids = [tuple(sid) for sid in codec.encode(beams.codes[row, :n].numpy()).tolist()]
        np.testing.assert_allclose(scores, [score for _, score in user], atol=1e-4, rtol=0)
        assert set(sids) == {sid for sid, _ in user}
        np.testing.assert_allclose(scores, [dict(user)[sid] for sid in sids], atol=1e-4, rtol=0)
        apart = np.diff(scores, prepend=np.inf, append=-np.inf) < -CLOSE
        fixed = apart[:-1] & apart[1:]
        assert [sid for sid, is_fixed in zip(sids, fixed, strict=True) if is_fixed] == [
            sid for (sid, _), is_fixed in zip(user, fixed, strict=True) if is_fixed
        ]


@pytest.mark.parametrize("over", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_each_architecture_gives_what_generate_gives(name, over):
    rng = np.random.default_rng(len(name))
    codes, codec, trie = catalogue(rng, 60, (6, 5, 7))
    prompts = [rng.integers(0, VOCABULARY, length) for length in (1, 5, 20, 9)]  # the window is 6
    legal, rules = ruled(rng, codes, trie, 4)
    beams = beam_search(tiny(name), prompts, trie, 7, legal, Scoring(over))
    agree(codec, beams, by_generate(name, prompts, codec, rules, 7, Scoring(over)))


# The same examples every time: a score at the border of a beam that is equal but for rounding is rare, not impossible.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(MODELS),
    over=st.sampled_from(WAYS),
    n_beams=st.sampled_from([1, 2, 3, 5, 8, 40]),
    ruly=st.booleans(),
)
def test_any_catalogue_beam_width_and_rule_give_what_generate_gives(seed, name, over, n_beams, ruly):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, rng.integers(1, 5)).tolist()
    codes, codec, trie = catalogue(rng, int(rng.integers(1, 40)), sizes)
    prompts = random_prompts(rng, 3)
    legal, rules = ruled(rng, codes, trie, 3) if ruly else (None, [codes] * 3)
    beams = beam_search(tiny(name), prompts, trie, n_beams, legal, Scoring(over))
    agree(codec, beams, by_generate(name, prompts, codec, rules, n_beams, Scoring(over)))


@pytest.mark.parametrize("n_beams", [1, 6])
@pytest.mark.parametrize("over", WAYS)
def test_a_temperature_gives_what_generate_gives(over, n_beams):
    rng = np.random.default_rng(0)
    codes, codec, trie = catalogue(rng, 40, (6, 5, 7))
    prompts, scoring = random_prompts(rng, 3), Scoring(over, 2.5)
    legal, rules = ruled(rng, codes, trie, 3)
    beams = beam_search(tiny("qwen3"), prompts, trie, n_beams, legal, scoring)
    agree(codec, beams, by_generate("qwen3", prompts, codec, rules, n_beams, scoring))


@pytest.mark.parametrize("name", MODELS)
def test_heads_are_tied_or_not_as_they_are_called(name):
    model = tiny(name)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (name in {"gemma3", "gemma2, soft-capped", "gpt2", "llama, tied", "cohere, scaled logits"})

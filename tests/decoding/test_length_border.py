"""Models that turn positions otherwise in long sequences: each prompt and each path gets what it gets alone."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_models import VOCABULARY, catalogue

from plum.decoding.beam import Scoring, beam_search
from plum.decoding.exact import exact_search
from plum.decoding.tree import Tree, check_tree_attention
from plum.errors import PlumError
from plum.lm.examples import IGNORED, Batch
from plum.lm.logits import check_length, length_border
from plum.lm.loss import labelled_states, next_token_loss

BORDER = 16
LENGTHS = (3, 12, 13, 14, 15, 16, 17, 30)
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.3], "long_factor": [3.0, 5.0]}
PHI = {"original_max_position_embeddings": BORDER, "rope_parameters": LONG, "sliding_window": None}
MIXTURE = {**LONG, "short_mscale": 1.1, "long_mscale": 1.4, "original_max_position_embeddings": BORDER}
NTK = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
MODELS = {
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**SHAPE, **PHI)),
    "phi3, sliding": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**SHAPE, **{**PHI, "sliding_window": 6})),
    "phimoe": lambda: hf.PhimoeForCausalLM(
        hf.PhimoeConfig(**SHAPE, num_local_experts=2, rope_parameters=MIXTURE, sliding_window=None)
    ),
    "dynamic": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE, rope_parameters=NTK)),
}


@cache
def tiny(name: str) -> hf.PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def prompts_of(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.integers(2, VOCABULARY, length) for length in lengths]


@torch.no_grad()
def alone(model: hf.PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """Hidden state of the last token of one sequence, by the model itself."""
    return model.base_model(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0, -1]


@pytest.mark.parametrize("name", MODELS)
def test_each_path_of_a_tree_is_as_alone(name: str) -> None:
    model, prompts = tiny(name), prompts_of(*LENGTHS)
    check_tree_attention(model)
    tree = Tree(model, prompts, depth=3)
    found = [tree.last_hidden]
    expected = [torch.stack([alone(model, prompt.tolist()) for prompt in prompts])]
    grown = [(5, ()), (6, ()), (7, (0,)), (8, (1,)), (9, (0, 2)), (10, ())]  # tokens, and the slots above each
    for start, end in ((0, 2), (2, 4), (4, 6)):  # the last step has paths of different lengths
        step = grown[start:end]
        depth = max(len(above) for _, above in step)
        ancestors = [[*above, *[-1] * (depth - len(above))] for _, above in step]
        shape = (len(prompts), len(step), depth)
        tokens = torch.tensor([[token for token, _ in step]]).expand(len(prompts), -1)
        found.append(tree.grow(tokens, torch.tensor(ancestors, dtype=torch.long).reshape(shape[1:]).expand(shape)))
        paths = [[*(grown[slot][0] for slot in above), token] for token, above in step]
        expected.append(
            torch.stack([torch.stack([alone(model, [*p.tolist(), *path]) for path in paths]) for p in prompts])
        )
    assert tree.n_slots == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("search", ["beam", "exact"])
def test_scores_do_not_depend_on_batch_mates(name: str, search: str) -> None:
    model, prompts = tiny(name), prompts_of(*LENGTHS)
    trie = catalogue(np.random.default_rng(0), 30, (4, 3, 5))[2]

    def run(asked: list[np.ndarray]) -> torch.Tensor:
        if search == "exact":
            return exact_search(model, asked, trie, 12, batch=5).beams.scores
        return beam_search(model, asked, trie, 12, scoring=Scoring("vocabulary")).scores

    together = run(prompts)
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(together[row], run([prompt])[0], atol=1e-4, rtol=0)


@torch.no_grad()
def score_of(model: hf.PreTrainedModel, prompt: np.ndarray, tokens: list[int]) -> float:
    """Log-probability of tokens after a prompt over the vocabulary, each step by the model alone."""
    total = 0.0
    for number, token in enumerate(tokens):
        ids = torch.tensor([[*prompt.tolist(), *tokens[:number]]])
        total += float(model(input_ids=ids).logits[0, -1].log_softmax(-1)[token])
    return total


def test_scores_are_those_of_the_model_itself() -> None:
    model, prompts = tiny("phi3"), prompts_of(*LENGTHS)
    _, codec, trie = catalogue(np.random.default_rng(0), 30, (4, 3, 5))
    beams = beam_search(model, prompts, trie, 40, scoring=Scoring("vocabulary"))
    for row, prompt in enumerate(prompts):
        for sid, score in zip(beams.codes[row, :3].tolist(), beams.scores[row, :3].tolist(), strict=True):
            tokens = codec.encode(np.array([sid]))[0].tolist()
            assert score == pytest.approx(score_of(model, prompt, tokens), abs=1e-3)


def test_the_border_is_read_from_the_configuration() -> None:
    assert [length_border(tiny(name)) for name in MODELS] == [BORDER, BORDER, BORDER, None]


def test_lengths_that_turn_all_positions_by_degrees_are_refused() -> None:
    with pytest.raises(PlumError, match="65 tokens, the model supports 64"):
        check_length(tiny("dynamic"), 65)


@pytest.mark.parametrize("name", ["phi3", "phimoe"])
@pytest.mark.parametrize("lengths", [(3, 16, 17, 30), (3, 16), (20, 30), (3, 8)])
def test_training_gives_each_row_what_it_has_alone(name: str, lengths: tuple[int, ...]) -> None:
    model = tiny(name)
    width = max(*lengths, BORDER + 2)  # padding alone doesn't make a row long
    tokens, labels = torch.full((len(lengths), width), 1), torch.full((len(lengths), width), IGNORED)
    for row, prompt in enumerate(prompts_of(*lengths)):
        tokens[row, : len(prompt)] = torch.from_numpy(prompt)
        labels[row, 1 : len(prompt)] = torch.from_numpy(prompt[1:])
    with torch.no_grad():
        together, targets = labelled_states(model, Batch(tokens, labels))
        single = [
            labelled_states(model, Batch(tokens[row : row + 1, :length], labels[row : row + 1, :length]))
            for row, length in enumerate(lengths)
        ]
    torch.testing.assert_close(together, torch.cat([logits for logits, _ in single]), atol=2e-5, rtol=1e-4)
    assert targets.tolist() == list(itertools.chain(*(own.tolist() for _, own in single)))
    next_token_loss(model, Batch(tokens, labels)).backward()

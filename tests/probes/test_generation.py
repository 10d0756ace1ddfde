import numpy as np
import pytest
import torch
from tiny_models import random_prompts, tiny

from plum.probes.generation import greedy

OWN_WISHES = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0}


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mistral, sliding"])
def test_the_likeliest_tokens_follow_whatever_else_is_in_the_batch(name):
    model, prompts = tiny(name), random_prompts(np.random.default_rng(1), 9)
    found = greedy(model, prompts, 5, (), batch_size=2)
    for prompt, tokens in zip(prompts, found, strict=True):
        row = prompt.tolist()
        for token in tokens:
            with torch.no_grad():
                assert token == int(model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].argmax())
            row.append(token)
        assert len(tokens) == 5


def test_a_continuation_stops_before_an_end():
    model, prompt = tiny("llama"), np.array([3, 4, 5])
    tokens = greedy(model, [prompt], 6, (), 1)[0]
    place = tokens.index(tokens[2])
    assert greedy(model, [prompt, prompt], 6, {tokens[2]}, 2) == [tokens[:place]] * 2


def test_a_continuation_ends_where_the_model_does():
    assert len(greedy(tiny("llama"), [np.zeros(38, dtype=np.int64)], 9, (), 1)[0]) == 2
    assert greedy(tiny("llama"), [np.zeros(40, dtype=np.int64)], 9, (), 1) == [[]]


def test_the_folders_wishes_for_sampling_are_not_heard():
    model, prompts = tiny("llama"), random_prompts(np.random.default_rng(2), 3)
    before = greedy(model, prompts, 4, (), 3)
    kept = {name: getattr(model.generation_config, name) for name in OWN_WISHES}
    try:
        for name, value in OWN_WISHES.items():
            setattr(model.generation_config, name, value)
        assert greedy(model, prompts, 4, (), 3) == before
    finally:
        for name, value in kept.items():
            setattr(model.generation_config, name, value)

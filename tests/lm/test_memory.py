"""The memory estimate against counts by hand, and against what real trainings take."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st

from plum.lm.cross_entropy import CHUNK_BYTES
from plum.lm.memory import SPARE, Shape, Step, estimate, remedies, shape_of

WITHIN = 1.5
"""Factor by which the estimate may be off, libraries aside."""
SMALL = Shape(2, 8, 8, 4, 2, 16, 10, 1000, 1000)
GIB = 2**30
SMOLLM2 = Shape(30, 576, 576, 192, 9, 1536, 49_152, 134_515_008, 134_515_008)


def test_by_hand():
    found = estimate(SMALL, Step(rows=3, length=5))
    assert (found.weights, found.gradients, found.optimizer) == (4000, 4000, 8000)
    # A block: 2 norms x (input, normalised, output) of 8, attention 2 x (8 + 4), feed-forward 4 x 16. Outside: 6 x 8.
    assert found.activations == SPARE * 15 * 4 * (2 * (48 + 24 + 64) + 48)
    assert found.loss == SPARE * 4 * (2 * 64 * 10 + 10 * 8)  # logits and softmax of 64 positions, the head's gradient
    assert found.total == found.least + found.activations + found.loss


def test_by_hand_in_half_precision_with_plain_attention():
    found = estimate(SMALL, Step(rows=3, length=5, half=True, plain_attention=True))
    norms = 4 * 4 * 8 + 5 * 2 * 8
    attention = 2 * 2 * (8 + 4) + 6 * 2 * 5 + 2 * 2 * (8 - 4)
    casts = 2 * (1000 - 80)
    assert found.activations == SPARE * (15 * (2 * (norms + attention + 2 * 4 * 16) + 6 * 8 * 4) + casts)


def test_a_large_vocabulary_costs_a_chunk_not_all_logits():
    found = estimate(SMOLLM2, Step(rows=64, length=512))
    assert found.loss <= SPARE * (2 * CHUNK_BYTES + 4 * 49_152 * 576)
    assert 10 * found.loss < 64 * 512 * 49_152 * 4


shapes = st.builds(
    Shape,
    *(st.integers(1, 40), st.integers(8, 4096), st.integers(8, 4096), st.integers(8, 512), st.integers(1, 32)),
    *(st.integers(8, 8192), st.integers(100, 200_000), st.integers(10**9, 10**10), st.integers(1, 10**9)),
)
steps = st.builds(Step, st.integers(1, 64), st.integers(8, 2048), st.booleans(), st.booleans())


@given(shapes, steps)
def test_more_takes_more_and_every_remedy_takes_less(shape, step):
    whole = estimate(shape, step).total
    assert estimate(shape, replace(step, rows=step.rows + 1)).total > whole
    assert estimate(shape, replace(step, length=step.length + 64)).total > whole
    assert estimate(shape, replace(step, weight_bytes=2, moment_bytes=1)).total < whole
    assert estimate(shape, replace(step, checkpointing=True)).activations <= estimate(shape, step).activations + (
        SPARE * step.rows * step.length * shape.width * 4 + 1  # rounding
    )
    assert estimate(replace(shape, trained=shape.trained // 2), step).total < whole


def test_remedies_are_those_that_suffice_with_the_most_rows_that_fit():
    step = Step(rows=32, length=512)
    whole = estimate(SMOLLM2, step).total
    found = remedies(SMOLLM2, step, whole - 1)
    assert set(found) == {"rows", "checkpointing", "weights", "lora"}
    assert found["rows"] == 16
    tight = estimate(SMOLLM2, replace(step, rows=2)).total
    assert remedies(SMOLLM2, step, tight) == {"rows": 2} | (
        {"checkpointing": 1} if estimate(SMOLLM2, replace(step, checkpointing=True)).total <= tight else {}
    )


def test_where_nothing_suffices_alone_all_is_named():
    assert set(remedies(SMOLLM2, Step(rows=32, length=512), 1)) == {"rows", "checkpointing", "weights", "lora"}


def test_the_shapes_of_configurations():
    qwen = hf.Qwen3Config(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32, vocab_size=99)
    assert shape_of(qwen, 5, 4) == Shape(32, 64, 128, 64, 4, 22016, 99, 5, 4)
    gpt2 = hf.GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=99)
    assert shape_of(gpt2, 5, 5) == Shape(3, 64, 64, 64, 4, 256, 99, 5, 5)


MEASURED = """
import json, sys
import torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from plum.lm.examples import Batch
from plum.lm.memory import Step, estimate, shape_of
from plum.lm.train import train
from plum.runtime import peak_memory_mib, reset_peak_memory
from plum.training.loop import Recipe

torch.set_num_threads(1)
given = json.loads(sys.argv[1])
rows, length, vocabulary, layers, width = (given[name] for name in ("rows", "length", "vocabulary", "layers", "width"))

def one(width, layers, vocabulary):
    shape = dict(hidden_size=width, num_attention_heads=width // 32, intermediate_size=3 * width)
    more = dict(num_hidden_layers=layers, vocab_size=vocabulary, tie_word_embeddings=True)
    return LlamaForCausalLM(LlamaConfig(**shape, **more))

def steps(model, rows, length, folder):
    tokens = torch.randint(0, 32, (rows, length))
    if given["checkpointing"]:
        model.gradient_checkpointing_enable()
    recipe = Recipe(1, 2, 1e-3, checkpoint_steps=10**6)
    train(model, recipe, lambda _: iter([Batch(tokens, tokens)] * 2), checkpoint=folder, name="measured",
          precision=given["precision"])

steps(one(32, 1, 64), 1, 8, Path(sys.argv[2]) / "warm")
before = peak_memory_mib()
model = one(width, layers, vocabulary)
n = model.num_parameters()
half = given["precision"] == "bfloat16"
told = estimate(shape_of(model.config, n, n), Step(rows, length, half, half, given["checkpointing"]))
steps(model, rows, length, Path(sys.argv[2]) / "measured")
print(json.dumps([told.total / 2**20, peak_memory_mib() - before]))
"""
PLAIN = {"rows": 8, "length": 256, "vocabulary": 2000, "layers": 6, "width": 256}
TRAININGS = {
    "plain": PLAIN,
    "checkpointing": PLAIN | {"checkpointing": True},
    "bfloat16": PLAIN | {"precision": "bfloat16"},
    "large vocabulary": PLAIN | {"vocabulary": 40_000, "layers": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_real_training_takes_what_the_estimate_says(name, tmp_path):
    given = {"checkpointing": False, "precision": "float32"} | TRAININGS[name]
    command = [sys.executable, "-c", MEASURED, json.dumps(given), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told, measured = json.loads(run.stdout)
    assert measured / WITHIN <= told <= measured * WITHIN, f"estimated {told:.0f} MiB, measured {measured:.0f} MiB"

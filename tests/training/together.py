"""A training that several processes share, to be started by ``torchrun``; see test_together.py.

    torchrun together.py OUT [--micro N] [--parallel ddp|fsdp] [--die-at STEP] [--dropout RATE] [--bad-step STEP]

The first process writes OUT/log.json and OUT/weights.safetensors.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from plum.errors import PlumError
from plum.lm.compute import Compute
from plum.lm.examples import IGNORED, Batch
from plum.lm.train import next_token_loss, train
from plum.run import ranks
from plum.runtime import is_first, rank, seed_everything
from plum.training.loop import Recipe

STEPS = 4


def model():
    seed_everything(3)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=True, **shape))


def batches(epoch):
    """Rows of different length, so that processes and parts have different numbers of labels."""
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        tokens = torch.randint(0, 40, (5, 12), generator=generator)
        lengths = torch.randint(2, 13, (5, 1), generator=generator)
        yield Batch(tokens, tokens.masked_fill(torch.arange(12) >= lengths, IGNORED), ids=("a", "b", "c", "d", "e"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--micro", type=int)
    parser.add_argument("--parallel", default="ddp")
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--bad-step", type=int)
    parser.add_argument("--dropout", type=float, default=0.0)
    asked = parser.parse_args()
    trained, calls, seen = model(), [], []

    def loss(lm, batch):
        calls.append(len(batch.tokens))
        if rank() == 1 and asked.die_at is not None and len(calls) > asked.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        found = next_token_loss(lm, batch)
        return found * float("nan") if rank() == 1 and asked.bad_step == len(calls) - 1 else found

    def validate():
        seen.append(rank())
        with torch.no_grad():
            return {"score": -next_token_loss(trained, next(iter(batches(9)))).item()}

    state = train(
        trained,
        Recipe(2, STEPS, 0.01, micro_batch=asked.micro, checkpoint_steps=3),
        batches,
        checkpoint=asked.out / "checkpoint",
        name="together",
        batch_loss=loss,
        validate=validate,
        monitor="score",
        dropout=asked.dropout,
        compute=Compute(parallel=asked.parallel),
    )
    if is_first():
        save_file(
            {name: value.detach() for name, value in trained.named_parameters()}, asked.out / "weights.safetensors"
        )
        (asked.out / "log.json").write_text(json.dumps({"log": state.log, "calls": calls}))
    assert set(seen) <= {0}, "only the first process validates"


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except PlumError as error:
        if ranks.may_tell():
            sys.stdout.write(f"Error: {error}\n")
        code = 2
    finally:
        ranks.leave(failed=bool(code))
    ranks.end(code)

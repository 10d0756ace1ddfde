"""Tiny decoder-only models with random weights, of the families whose blocks are named differently."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers as hf

VOCABULARY = 30
LAYERS = 2
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 1, "head_dim": 8}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 12}
MODELS: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GROUPED)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        # Without its own dropout, so that the only one is the one under test.
        hf.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ),
}


def model_of(name: str = "llama") -> hf.PreTrainedModel:
    """A model in training mode, its weights by a seed of its own."""
    torch.manual_seed(0)
    return MODELS[name]().train()

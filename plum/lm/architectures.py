"""Which architectures of transformers can't be decoded with beams side by side, and why: by configuration alone.

``docs/decoding.md`` lists what was tried. An architecture that is not named here is tried when it is loaded
(``plum.decoding.tree.check_tree_attention``, ``plum.lm.logits.check_head``).
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

ATTENTION = ("full_attention", "sliding_attention")
"""Kinds of layers whose attention can be given by a mask."""

_ALIBI = "its attention weighs tokens by their place in the cache (ALiBi), and beams side by side share one cache"
_ENCODER = "it is an encoder, which reads in both directions, or has an output head of several layers"
_DECODER_HALF = "it is the decoder half of a model of text, images or sound"
_OWN_CACHE = "its cache or its attention mask has a form of its own"
_RECURRENT = "it has recurrent layers, whose state holds one sequence only"
_CHUNKED = "its attention is chunked"
_PLACES = "its attention counts places in the cache, of which beams side by side take more than it has"
_REASONS = {
    kind: reason
    for reason, kinds in {
        _ALIBI: "bloom mpt",
        _CHUNKED: "llama4 llama4_text",
        _DECODER_HALF: "moshi mllama trocr",
        _ENCODER: "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert "
        "modernbert-decoder rembert roberta roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod",
        _OWN_CACHE: "cpmant openai-gpt reformer xlm xlnet",
        _PLACES: "gpt_neo",
        _RECURRENT: "falcon_mamba mamba mamba2 recurrent_gemma rwkv xlstm",
    }.items()
    for kind in kinds.split()
}


def why_not(config: PreTrainedConfig) -> str | None:
    """Why beams can't be decoded side by side with a model of this configuration; None if nothing is known.

    Args:
        config: of a causal language model.
    """
    text: Any = _text_part(config)
    for kind in (config.model_type, text.model_type):
        if kind in _REASONS:
            return f"beams cannot be decoded side by side with model type {kind}: {_REASONS[kind]}"
    if getattr(text, "alibi", False) or getattr(text, "use_alibi", False):
        return f"beams cannot be decoded side by side with model type {text.model_type}: {_ALIBI}"
    other = sorted(set(getattr(text, "layer_types", None) or ()) - set(ATTENTION))
    if other:
        return (
            f"beams cannot be decoded side by side with model type {text.model_type}: "
            f"it has layers of kind {', '.join(map(str, other))}"
        )
    return None


def _text_part(config: PreTrainedConfig) -> Any:
    """The part of a configuration that describes the language model; the whole if that is not one part."""
    try:
        return config.get_text_config()
    except ValueError:
        return config

"""Tiny models, random catalogues, prompts and rules for the tests of decoding; ``generate`` on them."""

from collections import defaultdict
from functools import cache

import numpy as np
import torch
import transformers as hf

from plum.decoding.constraint import DeviceTrie
from plum.decoding.trie import Trie
from plum.sid.codec import Codec
from plum.sid.table import bucket_rank

VOCABULARY = 80
PAD = 0
REAL = -1e8  # `generate` fills lists up with beams of about -1e9
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
    "cohere, scaled logits": lambda: hf.CohereForCausalLM(
        hf.CohereConfig(**SHAPE, num_key_value_heads=2, logit_scale=0.25)
    ),
    "granite, scaled logits": lambda: hf.GraniteForCausalLM(
        hf.GraniteConfig(**SHAPE, num_key_value_heads=2, logits_scaling=4.0)
    ),
    "phi, biased head": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SHAPE)),
}
OTHER_HEADS = {
    "llama, tied": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(**SHAPE, num_key_value_heads=4, tie_word_embeddings=True)
    ),
    "gemma3, untied": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**GROUPED, sliding_window=WINDOW, layer_types=BOTH_KINDS, tie_word_embeddings=False)
    ),
    "gpt2, untied": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=1, tie_word_embeddings=False)
    ),
}


@cache
def tiny(name):
    torch.manual_seed(0)
    model = {**ARCHITECTURES, **OTHER_HEADS}[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)  # far from uniform, so that a wrong context changes the order
    return model


def catalogue(rng, n_items, sizes):
    """Random Semantic IDs, collisions included, and the codec of shuffled tokens."""
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
    ids = rng.permutation(VOCABULARY)[: sum(sizes)]
    codec = Codec(tuple(np.split(ids, np.cumsum(sizes)[:-1])))
    trie = Trie.build(codes, sizes, bucket_rank(codes, np.zeros(n_items)))
    return codes, codec, DeviceTrie.put(trie, codec, torch.device("cpu"))


def random_prompts(rng, n, longest=12):
    return [rng.integers(0, VOCABULARY, rng.integers(1, longest + 1)) for _ in range(n)]


def pruned(trie, masks):
    """The masks' legal items, for a batch."""
    return trie.legal([None if mask is None else trie.prune(mask) for mask in masks], None)


def ruled(rng, codes, trie, n_users):
    """Random rules and seen items that leave every user an item: what is legal, and each user's Semantic IDs."""
    masks = [rng.random(len(codes)) < share for share in rng.choice([0.1, 0.4, 0.9], n_users)]
    masks[0][:] = True
    seen = [rng.integers(0, len(codes), rng.integers(0, 6)) for _ in masks]
    for user, mask in enumerate(masks):
        mask[rng.integers(len(codes))] = True
        if not np.delete(mask, seen[user]).any():
            seen[user] = seen[user][:0]
    legal = trie.legal([None, *(trie.prune(mask) for mask in masks[1:])], seen)
    rows = np.arange(len(codes))
    return legal, [codes[mask & ~np.isin(rows, items)] for mask, items in zip(masks, seen, strict=True)]


def continuations(codec, codes):
    """Tokens by prefix of tokens, from Semantic IDs (N, L)."""
    found = defaultdict(set)
    for sid in codec.encode(codes).tolist():
        for level, token in enumerate(sid):
            found[tuple(sid[:level])].add(token)
    return {prefix: sorted(tokens) for prefix, tokens in found.items()}


def prefix_function(codec, rules, width):
    """What ``generate`` takes as ``prefix_allowed_tokens_fn``; it refuses empty lists, so dead beams get any token."""
    following = [continuations(codec, codes) for codes in rules]
    return lambda user, tokens: following[user].get(tuple(tokens[width:].tolist()), [PAD])


def generate(name, prompts, processors=(), prefix=None, **options):
    """Tokens behind the prompts, padded on the left, and what else ``generate`` returns."""
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), PAD)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    options = {"eos_token_id": None, "pad_token_id": PAD, "do_sample": False, **options}
    found = tiny(name).generate(
        tokens,
        attention_mask=mask,
        logits_processor=list(processors),
        prefix_allowed_tokens_fn=prefix,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    return found.sequences[:, width:], found


@torch.no_grad()
def next_code_logp(model, prompt, codes, codec):
    """Log-probabilities of the next level's codes: whole sequence computed, no cache, no mask, no batch."""
    level = len(codes)
    tokens = [*prompt, *(codec.token_ids[i][code] for i, code in enumerate(codes))]
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
    return logits[codec.token_ids[level]].log_softmax(-1).numpy()


def brute_force(model, prompt, codes, codec):
    """(score, Semantic ID) of every item's Semantic ID, best first: nothing but whole sequences."""
    every = []
    for sid in sorted({tuple(sid) for sid in codes.tolist()}):
        logps = [next_code_logp(model, prompt, sid[:level], codec)[code] for level, code in enumerate(sid)]
        every.append((sum(logps), sid))
    return sorted(every, key=lambda item: -item[0])

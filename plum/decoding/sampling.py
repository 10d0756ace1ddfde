"""Sampling Semantic IDs without replacement: beams kept by randomly perturbed log-probabilities.

Source: Kool, van Hoof and Welling 2019, "Stochastic Beams and Where to Find Them" (arXiv 1903.06059), section 3, and
appendix B for the computation without overflow. Adding independent Gumbel noise to the log-probabilities of all
Semantic IDs and keeping the K largest draws K without replacement. It need not be done for all of them: the largest key
below a node is itself a Gumbel variable around the node's log-probability. So keys are drawn from the root down, those
of children under the condition that the largest is their parent's, and the K best prefixes of a level are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.decoding.beam import Beams, Perturb, Quota, Scoring, beam_search
from plum.decoding.constraint import Index, Legal

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Where noise comes from: one generator for a batch, one for each user, or torch's own."""


def sample(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    index: Index,
    k: int,
    legal: Legal | None = None,
    temperature: float = 1.0,
    generator: Generators = None,
    quota: Quota | None = None,
) -> Beams:
    """K different Semantic IDs of each prompt, in the order drawn from the model's distribution over the legal ones.

    Each is drawn with its probability among those not drawn before. Probabilities of codes sum to one over the codes
    that are legal after a prefix (``Scoring("legal")``): otherwise some would be lost on what can't be drawn.

    ``scores`` are log-probabilities phi at this temperature. ``keys`` are the largest K, in descending order, of phi
    plus standard Gumbel noise over all legal Semantic IDs. Given the key kappa of the K-th, each of the first K - 1 was
    in the list with probability 1 - exp(-exp(phi - kappa)); weights exp(phi) / that make sums over them unbiased
    estimates of means under the model (section 4 of the paper).

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        index: what may be drawn.
        k: Semantic IDs per user; where fewer are legal, lists end in -1 and -inf.
        legal: the items each user may get, from ``DeviceTrie.legal``; None for all.
        temperature: logits are divided by it; the smaller, the less is left to chance.
        generator: source of noise; on the CPU it gives the same draws on every device. With one for each user, what a
            user gets does not depend on the others in the batch, but for rounding.
        quota: draws beyond it are passed over. The inclusion probability above does not know it.

    Raises:
        PlumError: if prompt and Semantic ID are longer together than the model takes.
        ValueError: for k, temperature or quota that mean nothing, or another number of generators than prompts.
    """
    if isinstance(generator, Sequence) and len(generator) != len(prompts):
        raise ValueError(f"found {len(generator)} generators for {len(prompts)} prompts")
    found = beam_search(model, prompts, index, k, legal, Scoring("legal", temperature), quota, gumbel(generator))
    return Beams(found.nodes, found.codes, found.scores, _free_root(found.keys, generator))


def user_generators(seed: int, users: Sequence[int] | np.ndarray) -> list[torch.Generator]:
    """One generator on the CPU for each user, from the seed and the user's number alone.

    Raises:
        ValueError: if the seed or a number is below 0.
    """
    states = [np.random.SeedSequence([seed, int(user)]).generate_state(1, np.uint64)[0] for user in users]
    return [torch.Generator().manual_seed(int(state)) for state in states]


def gumbel(generator: Generators = None) -> Perturb:
    """Keys for ``beam_search``: Gumbel variables around the children's log-probabilities, the largest the parent's key.

    Needs ``Scoring("legal")``: the children's probabilities must sum to their parent's.

    The root's key is what the caller starts with. ``beam_search`` starts with 0, so the largest key of a list is 0.
    Which Semantic IDs are drawn, and in which order, does not depend on it: the largest of independent Gumbel variables
    says nothing about their order. ``sample`` makes the root's key a Gumbel variable as well.
    """

    def perturb(phi: Tensor, keys: Tensor) -> Tensor:
        return _with_maximum(phi - _exponential(phi, generator).log(), keys[..., None])

    return perturb


def _with_maximum(noisy: Tensor, maximum: Tensor) -> Tensor:
    """Move Gumbel variables (B, K, F) so that the largest is (B, K, 1), as if drawn under that condition.

    Appendix B.3 of the paper. What is -inf stays so.
    """
    below = noisy - noisy.amax(dim=-1, keepdim=True)  # NaN where all are -inf
    v = maximum - noisy + _log1mexp(below)
    moved = maximum - v.clamp(min=0) - torch.log1p(torch.exp(-v.abs()))
    return moved.masked_fill(noisy == -torch.inf, -torch.inf)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, accurate at both ends (Maechler 2012, "Accurately computing log(1 - exp(-|a|))")."""
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def _exponential(like: Tensor, generator: Generators) -> Tensor:
    """Exponential variables (B, ...), never 0; minus their logarithms are standard Gumbel variables.

    Drawn where the generator is, in float64: float32 would cut off large Gumbel variables. If each user has a
    generator, the number of users does not matter.
    """
    if isinstance(generator, Sequence):
        return torch.stack([_exponential(row, one) for row, one in zip(like, generator, strict=True)])
    place = "cpu" if generator is None else generator.device
    drawn = torch.empty(like.shape, dtype=torch.float64, device=place).exponential_(generator=generator)
    return drawn.to(like.dtype).clamp(min=torch.finfo(like.dtype).tiny).to(like.device)


def _free_root(keys: Tensor, generator: Generators) -> Tensor:
    """Keys (B, K) under the condition that the largest is 0 -> keys whose largest is a standard Gumbel variable.

    In E = exp(-key), exponential variables, the condition is that the smallest E is 1. What the others exceed it by
    does not depend on it, so E - 1 + R with R drawn anew is what is sought: key - log(1 - exp(key) + R exp(key)). Their
    order stays.
    """
    r = _exponential(keys[:, :1], generator)
    moved = keys - torch.log(r * keys.exp() - torch.expm1(keys))
    return moved.cummin(dim=1).values  # rounding must not break the order

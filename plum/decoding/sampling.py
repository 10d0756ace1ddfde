"""Sampling Semantic IDs without replacement: beams kept by randomly perturbed log-probabilities.

Source: Kool, van Hoof and Welling 2019, "Stochastic Beams and Where to Find Them" (arXiv 1903.06059), section 3, and
appendix B for the computation without overflow. Adding independent Gumbel noise to the log-probabilities of all
Semantic IDs and keeping the K largest draws K without replacement. Not all of them need noise: the largest key below a
node is itself a Gumbel variable around the node's log-probability. So keys are drawn from the root down, those of
children conditioned on their maximum being the parent's key, and the K best prefixes of a level are enough.
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
"""Source of noise: one generator for a batch, one for each user, or torch's own."""


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
    that are legal after a prefix (``Scoring("legal")``); otherwise illegal codes would have some of the probability.

    ``scores`` are log-probabilities phi at this temperature. ``keys`` are the largest K, in descending order, of phi
    plus standard Gumbel noise over all legal Semantic IDs. Given the key kappa of the K-th, each of the first K - 1 was
    in the list with probability 1 - exp(-exp(phi - kappa)); weights exp(phi) / that make sums over them unbiased
    estimates of means under the model (section 4 of the paper).

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        index: of the valid Semantic IDs.
        k: Semantic IDs per user; if fewer are legal, lists end in -1 and -inf.
        legal: the items each user may get, from ``DeviceTrie.legal``; None for all.
        temperature: logits are divided by it; smaller values give less random lists.
        generator: source of noise; on the CPU it gives the same draws on every device. With one for each user, a user's
            draws depend on the others in the batch by rounding only.
        quota: draws beyond it are skipped. The inclusion probability above does not account for it.

    Raises:
        PlumError: if prompt and Semantic ID together exceed the model's longest sequence.
        ValueError: for an invalid k, temperature or quota, or another number of generators than prompts.
    """
    if isinstance(generator, Sequence) and len(generator) != len(prompts):
        raise ValueError(f"found {len(generator)} generators for {len(prompts)} prompts")
    found = beam_search(model, prompts, index, k, legal, Scoring("legal", temperature), quota, gumbel(generator))
    return Beams(found.nodes, found.codes, found.scores, _free_root(found.keys, generator))


def user_generators(seed: int, users: Sequence[int] | np.ndarray) -> list[torch.Generator]:
    """One generator on the CPU for each user, from the seed and the user's number only.

    Raises:
        ValueError: if the seed or a number is below 0.
    """
    states = [np.random.SeedSequence([seed, int(user)]).generate_state(1, np.uint64)[0] for user in users]
    return [torch.Generator().manual_seed(int(state)) for state in states]


def gumbel(generator: Generators = None) -> Perturb:
    """Keys for ``beam_search``: Gumbel variables around children's log-probabilities with the parent's key as maximum.

    Needs ``Scoring("legal")``: the children's probabilities must sum to their parent's.

    The caller sets the root's key. ``beam_search`` starts with 0, so the largest key of a list is 0. The draws and
    their order don't depend on it, because the maximum of independent Gumbel variables is independent of their order.
    ``sample`` makes the root's key a Gumbel variable too.
    """

    def perturb(phi: Tensor, keys: Tensor) -> Tensor:
        return _with_maximum(phi - _exponential(phi, generator).log(), keys[..., None])

    return perturb


def _with_maximum(noisy: Tensor, maximum: Tensor) -> Tensor:
    """Shift Gumbel variables (B, K, F) to the maximum (B, K, 1), as if drawn under that condition.

    Appendix B.3 of the paper. Values of -inf stay -inf.
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

    Drawn on the generator's device, in float64: float32 would cut off large Gumbel variables. If each user has a
    generator, draws don't depend on the number of users.
    """
    if isinstance(generator, Sequence):
        return torch.stack([_exponential(row, one) for row, one in zip(like, generator, strict=True)])
    place = "cpu" if generator is None else generator.device
    drawn = torch.empty(like.shape, dtype=torch.float64, device=place).exponential_(generator=generator)
    return drawn.to(like.dtype).clamp(min=torch.finfo(like.dtype).tiny).to(like.device)


def _free_root(keys: Tensor, generator: Generators) -> Tensor:
    """Keys (B, K) conditioned on maximum 0 -> keys whose maximum is a standard Gumbel variable.

    In terms of the exponential variables E = exp(-key), the condition is that the smallest E is 1. The others' excess
    over it is independent of it, so with a new R, E - 1 + R is the result: key - log(1 - exp(key) + R exp(key)). The
    order does not change.
    """
    r = _exponential(keys[:, :1], generator)
    moved = keys - torch.log(r * keys.exp() - torch.expm1(keys))
    return moved.cummin(dim=1).values  # rounding must not break the order

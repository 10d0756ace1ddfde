"""Constrained beam search over Semantic IDs: catalogue items only, the prompt computed once, its cache never copied.

All beams of a user grow side by side after one cached prompt (``plum.decoding.tree``), into the children that the index
allows (``plum.decoding.constraint``). Logits are computed for the current level's codes only. docs/decoding.md defines
scores and tie-breaking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.decoding.constraint import Children, Index, Legal
from plum.decoding.tree import Tree
from plum.lm.logits import token_logits

Normalisation = Literal["codes", "legal", "vocabulary"]
Perturb = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scoring:
    """How logits become the log-probability of a code.

    Attributes:
        over: the set over which probabilities sum to one. ``codes``: all codes of the level, in the catalogue or not.
            ``legal``: the codes that the user may get after this prefix. ``vocabulary``: all tokens of the model.
        temperature: logits are divided by it.

    Raises:
        ValueError: for anything else, or a temperature that is not above 0.
    """

    over: Normalisation = "codes"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.over not in get_args(Normalisation):
            raise ValueError(f"over must be one of {', '.join(get_args(Normalisation))}, found {self.over!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, found {self.temperature}")


@dataclass(frozen=True)
class Quota:
    """At most ``n`` Semantic IDs that share their first ``depth`` codes."""

    depth: int
    n: int


@dataclass(frozen=True)
class Beams:
    """The Semantic IDs found for B users, best first; if fewer than K are legal, filled up with -1 and -inf.

    Attributes:
        nodes: (B, K) int64 leaves of the index.
        codes: (B, K, L) int64.
        scores: (B, K) float32 log-probabilities, sums over the levels.
        keys: (B, K) float32, the beams' sort keys: the scores, unless they were perturbed.
    """

    nodes: Tensor
    codes: Tensor
    scores: Tensor
    keys: Tensor


@torch.no_grad()
def beam_search(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    index: Index,
    widths: int | Sequence[int],
    legal: Legal | None = None,
    scoring: Scoring | None = None,
    quota: Quota | None = None,
    perturb: Perturb | None = None,
) -> Beams:
    """The best Semantic IDs of each prompt.

    Log-probabilities are summed in float32. Tie-breaking of equal keys: the child of the better beam first, then the
    smaller code.

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        index: of the valid Semantic IDs.
        widths: beam width, one number for all levels or one per level. The last is K.
        legal: the items each user may get, from ``DeviceTrie.legal``; None for all.
        scoring: by default probabilities over the level's codes.
        quota: on the Semantic IDs returned. At earlier levels, beams are first divided evenly among prefixes, so that
            each is searched about equally well; remaining beams go to the best others.
        perturb: from scores of children (B, K, F) and keys of their beams (B, K) to keys of the children (B, K, F);
            beams are kept by key (see ``plum.decoding.sampling``).

    Raises:
        PlumError: if prompt and Semantic ID together exceed the model's longest sequence.
        ValueError: for invalid widths or an invalid quota.
    """
    n_levels = len(index.sizes)
    scoring = scoring or Scoring()
    kept = _check(widths, n_levels, quota)
    possible = [min(width, n) for width, n in zip(kept, index.n_nodes, strict=True)]
    tree = Tree(model, prompts, depth=n_levels - 1, reserve=sum(possible[:-1]))
    hidden = tree.last_hidden[:, None]
    prefixes = torch.zeros(len(prompts), 1, dtype=torch.long, device=model.device)
    nothing = prefixes[..., None][..., :0]
    beams, path = Beams(prefixes, nothing, prefixes.float(), prefixes.float()), nothing
    for level in range(n_levels):
        children = index.children(level, beams.nodes, legal)
        logp = code_logp(model, hidden, index.token_ids[level], children, scoring)
        holds = quota if quota and level >= quota.depth else None
        beams, parents = _grow(beams, children, logp, kept[level], perturb, holds, prefixes, level == n_levels - 1)
        prefixes = beams.nodes if quota and level + 1 == quota.depth else prefixes.gather(1, parents)
        if level + 1 < n_levels:
            ancestors = _follow(path, parents)
            hidden = tree.grow(index.token_ids[level][beams.codes[..., level]], ancestors)
            own = torch.arange(tree.n_slots - parents.shape[1], tree.n_slots, device=model.device)
            path = torch.cat([ancestors, own.expand(len(prompts), -1)[..., None]], dim=2)
    return _fill(beams, kept[-1])


def _grow(
    beams: Beams,
    children: Children,
    logp: Tensor,
    width: int,
    perturb: Perturb | None,
    quota: Quota | None,
    prefixes: Tensor,
    is_last: bool,
) -> tuple[Beams, Tensor]:
    """The best ``width`` children of all beams, and each one's parent (B, K') as a place among the beams.

    Args:
        logp: (B, K, F) log-probabilities of the children's codes.
        quota: None if it does not apply at this level; else ``prefixes`` (B, K) are those of the beams.
        is_last: whether the children are complete Semantic IDs.
    """
    grown = beams.scores[..., None] + logp
    if children.legal is not None:
        grown = grown.masked_fill(~children.legal, -torch.inf)
    ranked = grown if perturb is None else perturb(grown, beams.keys)
    fan_out = ranked.shape[2]
    keys, place = _choose(ranked.flatten(1), width, fan_out, prefixes, quota, is_last)
    parents, empty = place // fan_out, keys == -torch.inf
    code = place % fan_out if children.codes is None else children.codes.flatten(1).gather(1, place)
    return Beams(
        children.nodes.flatten(1).gather(1, place).long().masked_fill(empty, -1),
        torch.cat([_follow(beams.codes, parents), code[..., None]], dim=2),
        grown.flatten(1).gather(1, place).masked_fill(empty, -torch.inf),
        keys,
    ), parents


def code_logp(
    model: PreTrainedModel, hidden: Tensor, token_ids: Tensor, children: Children, scoring: Scoring
) -> Tensor:
    """Log-probabilities (B, K, F) of the children's codes, from hidden states (B, K, D); undefined if not legal."""
    if scoring.over == "vocabulary":
        everything = token_logits(model, hidden) / scoring.temperature
        logits = everything[..., token_ids]
        total = everything.logsumexp(-1, keepdim=True)
    else:
        logits = token_logits(model, hidden, token_ids) / scoring.temperature
        total = logits.logsumexp(-1, keepdim=True)
    if children.codes is not None:
        logits = logits.gather(2, children.codes)
    if scoring.over == "legal" and children.legal is not None:
        total = logits.masked_fill(~children.legal, -torch.inf).logsumexp(-1, keepdim=True)
    return logits - total


def _check(widths: int | Sequence[int], n_levels: int, quota: Quota | None) -> list[int]:
    kept = [widths] * n_levels if isinstance(widths, int) else list(widths)
    if len(kept) != n_levels or min(kept) < 1:
        raise ValueError(f"beam widths must be one or {n_levels} numbers of at least 1, found {widths}")
    if quota is not None and not (1 <= quota.depth < n_levels and quota.n >= 1):
        raise ValueError(f"a quota needs a depth of 1 to {n_levels - 1} and n of at least 1, found {quota}")
    return kept


def _follow(values: Tensor, parents: Tensor) -> Tensor:
    """Rows (B, K', A) of the parents, from (B, K, A)."""
    return values.gather(1, parents[..., None].expand(-1, -1, values.shape[2]))


def _choose(
    keys: Tensor, width: int, fan_out: int, prefixes: Tensor, quota: Quota | None, is_last: bool
) -> tuple[Tensor, Tensor]:
    """The best ``width`` of (B, M) keys in order, and their places; ties by place. Place p belongs to beam p // F."""
    if quota is None:
        return best_places(keys, min(width, keys.shape[1]))
    ordered, place = keys.sort(dim=1, descending=True, stable=True)
    groups = prefixes.gather(1, place // fan_out)
    if is_last:
        ordered = ordered.masked_fill(~within_quota(groups, quota.n), -torch.inf)
        chosen, rank = best_places(ordered, min(width, keys.shape[1]))
    else:
        living = ordered > -torch.inf
        share = (width // _distinct(groups, living)).clamp(min=quota.n)[:, None]
        first = living & within_quota(groups, share)
        rank = first.byte().argsort(dim=1, descending=True, stable=True)[:, :width].sort(dim=1).values
        chosen = ordered.gather(1, rank)
    return chosen, place.gather(1, rank)


def _distinct(groups: Tensor, counted: Tensor) -> Tensor:
    """Number (B,) of different groups among the counted entries of (B, M); at least 1."""
    ordered = groups.masked_fill(~counted, -1).sort(dim=1).values
    return ((ordered[:, 1:] != ordered[:, :-1]).sum(1) + (ordered[:, 0] >= 0)).clamp(min=1)


def best_places(keys: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best ``width`` of each row of keys (B, M), in descending order, and their places; ties by place.

    ``topk`` leaves the order and the choice of equal keys unspecified; a full sort costs several times as much. So
    topk is used, and the sort only for batches with a tie at the border.
    """
    values, place = keys.topk(min(width + 1, keys.shape[1]), dim=1)
    cut = (values[:, width - 1 : width] == values[:, width:]) & (values[:, width:] > -torch.inf)
    if bool(cut.any()):
        values, place = keys.sort(dim=1, descending=True, stable=True)
        return values[:, :width], place[:, :width]
    place = place[:, :width]
    place = place.sort(dim=1).values
    values, order = keys.gather(1, place).sort(dim=1, descending=True, stable=True)
    return values, place.gather(1, order)


def within_quota(groups: Tensor, n: int | Tensor) -> Tensor:
    """Which of (B, M) entries are among the first ``n`` of their group in their row; ``n`` may be (B, 1)."""
    ordered, place = groups.sort(dim=1, stable=True)
    numbers = torch.arange(groups.shape[1], device=groups.device)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(starts, numbers, 0).cummax(dim=1).values
    return torch.zeros_like(starts).scatter(1, place, numbers - first < n)


def _fill(beams: Beams, width: int) -> Beams:
    """Fill up with -1 and -inf to ``width`` beams."""
    missing = width - beams.nodes.shape[1]
    pad = torch.nn.functional.pad
    return Beams(
        pad(beams.nodes, (0, missing), value=-1),
        pad(beams.codes.masked_fill(beams.nodes[..., None] < 0, -1), (0, 0, 0, missing), value=-1),
        pad(beams.scores, (0, missing), value=-torch.inf),
        pad(beams.keys, (0, missing), value=-torch.inf),
    )

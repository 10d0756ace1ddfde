"""Meaningless Semantic IDs: a control for tokenizers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def random_codes(item_ids: Iterable[str], sizes: Sequence[int], seed: int) -> np.ndarray:
    """Codes drawn uniformly and independently, by a hash of seed and item_id.

    An item's codes depend on nothing else: they stay the same when other items are added or removed.

    Args:
        item_ids: N ids.
        sizes: codes per level, L of them.
        seed: another seed gives all items other codes.

    Returns:
        (N, L) int64.
    """
    # 64 bits per level: the modulo's bias is negligible.
    drawn = b"".join(hashlib.shake_128(f"{seed}\0{item_id}".encode()).digest(8 * len(sizes)) for item_id in item_ids)
    words = np.frombuffer(drawn, dtype="<u8").reshape(-1, len(sizes))
    return (words % np.array(sizes, dtype=np.uint64)).astype(np.int64)


def random_codebooks(sizes: Sequence[int], width: int, seed: int) -> list[np.ndarray]:
    """L arrays (C, width) float32 from the standard normal, for code that needs codewords; they are meaningless."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((size, width), dtype=np.float32) for size in sizes]

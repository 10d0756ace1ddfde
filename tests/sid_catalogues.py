"""Made-up catalogues that collide, for tests by properties."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def catalogues(draw):
    """Codes (N, 2) of codebooks of 3 and 2, and popularity (N,), of at most 25 items."""
    n = draw(st.integers(1, 25))
    codes = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=n, max_size=n))
    popularity = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(codes, dtype=np.int64), np.array(popularity, dtype=np.int64)

"""plum: generative retrieval with Semantic IDs, from interaction logs to recommendations.

Shape letters, the same in the whole package:
    B batch, T tokens of a sequence, U users, N items of the catalogue, L levels of a Semantic ID,
    C codes of one level, D width of a vector, M modalities, K entries of a top-k list or beams.
"""

import os

__version__ = "0.10.0"

# OpenMP threads that wait by spinning slow small models down some fifty times as soon as anything else runs on one of
# the cores. It is read once, when torch is first imported, so it must stand here; a value set by the user wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

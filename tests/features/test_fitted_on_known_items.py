"""What is fitted to items is fitted to the known ones: others, of any content and anywhere between, change nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.config.file import validate
from plum.features.by_id import VectorsById
from plum.features.encoding import Encoded, encode_apart
from plum.features.given import FileEncoder
from plum.stages import features
from plum.stages.tokenize.reading import choose_sizes

KNOWN = pd.DataFrame(
    {
        "item_id": [f"k{n}" for n in range(8)],
        "title": ["red lamp", "red chair", "old lamp", "old chair", "new clock", "new lamp red", "clock", "old box"],
        "topics": [["a"], ["a", "b"], ["b"], ["c"], ["a", "c"], ["b"], None, ["c"]],
        "price": [1.0, 2.0, 4.0, 8.0, None, 3.0, 5.0, 7.0],
    }
)
MODALITIES: dict[str, dict[str, Any]] = {
    "text": {"dimensions": 3},
    "words": {"dimensions": 50},
    "topics": {"encoder": "topics", "dimensions": 2},
    "price": {"encoder": "numeric", "fields": ["price"]},
}
WORDS = st.sampled_from(["red", "lamp", "strange", "unheard", "x1", "ÄÖ", "\U0001f600", ""])


@st.composite
def catalogues(draw):
    """The known items in their order with others between, and which are known."""
    others = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "title": st.none() | st.lists(WORDS, max_size=5).map(" ".join),
                    "topics": st.none() | st.lists(st.sampled_from(["a", "z", "zz"]), max_size=3),
                    "price": st.none() | st.floats(-1e6, 1e6, allow_nan=False),
                }
            ),
            min_size=1,
            max_size=8,
        )
    )
    n = len(KNOWN) + len(others)
    places = draw(st.sets(st.integers(0, n - 1), min_size=len(others), max_size=len(others)))
    known = np.array([row not in places for row in range(n)])
    items = pd.concat([KNOWN, pd.DataFrame(others).assign(item_id=[f"o{i}" for i in range(len(others))])])
    order = np.empty(n, dtype=np.int64)
    order[known], order[~known] = np.arange(len(KNOWN)), len(KNOWN) + np.arange(len(others))
    return items.iloc[order].reset_index(drop=True), known


def fitted(name: str, items: pd.DataFrame, known: np.ndarray, folder: Path) -> tuple[dict[str, bytes], Encoded]:
    """The encoder's files and the vectors of all items."""
    chosen = {"modalities": {name: MODALITIES[name]}}
    config = validate({"workdir": "x", "data": {"source": {"kind": "synthetic"}}, "features": chosen}, "the test")
    encoder = features.fit_modality(name, config.features.modalities[name], items, known, config)
    encoder.save(folder, name)
    return {path.name: path.read_bytes() for path in folder.iterdir()}, encode_apart(encoder, items, known)


@pytest.mark.parametrize("name", MODALITIES)
@settings(max_examples=25)
@given(catalogue=catalogues())
def test_each_encoder_is_the_one_of_the_known_items_alone(name, catalogue):
    items, known = catalogue
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        alone, vectors = fitted(name, KNOWN, np.ones(len(KNOWN), dtype=bool), Path(one))
        among, found = fitted(name, items, known, Path(other))
    assert among == alone
    assert found.vectors[known].tobytes() == vectors.vectors.tobytes()
    assert (found.present[known] == vectors.present).all()
    assert np.isfinite(found.vectors).all()


class Batchwise:
    """Rounds as sentence encoders do: vectors depend on what else is in the call."""

    def transform(self, items: pd.DataFrame) -> Encoded:
        return Encoded(np.full((len(items), 2), len(items), dtype=np.float32), np.ones(len(items), dtype=bool))


def test_known_items_are_encoded_in_a_call_of_their_own():
    items = pd.DataFrame({"item_id": list("abcde")})
    found = encode_apart(Batchwise(), items, np.array([True, False, True, True, False]))
    assert found.vectors[:, 0].tolist() == [3, 2, 3, 3, 2]


def test_given_vectors_stay_with_their_items():
    encoder = FileEncoder("vectors_v", VectorsById(["a", "c", "d"], np.float32([[1], [3], [4]])))
    items = pd.DataFrame({"item_id": list("abcd")})
    found = encode_apart(encoder, items, np.array([False, True, True, False]))
    assert found.vectors[:, 0].tolist() == [1, 0, 3, 4]
    assert found.present.tolist() == [True, False, True, True]


def test_default_codebooks_are_of_the_items_learnt_from():
    settings_of = validate({"workdir": "x", "data": {"source": {"kind": "synthetic"}}}, "here").tokenize
    assert choose_sizes(settings_of, 600, 9_000)[0] == [64, 32, 16]

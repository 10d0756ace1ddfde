"""All kinds of encoders: kept and read again they give the same, item by item; useless or damaged ones are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from plum.errors import PlumError
from plum.features import sentences
from plum.features.by_id import VectorsById
from plum.features.cooccurrence import cooccurrence_vectors, fit_cooccurrence
from plum.features.encoding import Encoded, Encoder, refuse_repeated, refuse_useless
from plum.features.given import FileEncoder
from plum.features.learnt import fit_learnt
from plum.features.numeric import fit_numeric
from plum.features.registry import load_encoder
from plum.features.sentences import SentenceEncoder
from plum.features.text import fit_tfidf, fit_topics

WORDS = [f"w{number}" for number in range(20)]
N_ITEMS = 40


def a_catalogue() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 7))) for _ in range(N_ITEMS)]
    topics = [[f"Topic {number}" for number in rng.choice(9, rng.integers(1, 4), replace=False)] for _ in texts]
    return pd.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(N_ITEMS)],
            "title": pd.Series([None, *texts[1:]], dtype=object),
            "topics": pd.Series([None, [], *topics[2:]], dtype=object),
            "description": texts[::-1],
            "price": rng.normal(size=N_ITEMS),
            "year": pd.array([None, *range(1, N_ITEMS)], dtype="Int64"),
        }
    )


CATALOGUE = a_catalogue()
HISTORIES = [np.random.default_rng(user).choice(N_ITEMS - 3, 6, replace=False) for user in range(30)]


def fake_vectors(texts: list[str], model: str, device: str) -> np.ndarray:
    """In place of a sentence encoder: lengths and first letters."""
    rows = [[len(text), ord(text[0]) if text else 0, 1.0] for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, 3)


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "sentence_vectors", fake_vectors)


READ = [np.array([3, 5]), np.array([7]), np.array([], dtype=np.int64), np.array([5, 9, 0])]
LEARNT = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
MAKERS: dict[str, Callable[[], Encoder]] = {
    "tfidf": lambda: fit_tfidf(CATALOGUE, ["title", "description"], 64, 0),
    "tfidf, narrowed": lambda: fit_tfidf(CATALOGUE, ["title"], 5, 0),
    "topics": lambda: fit_topics(CATALOGUE, 64, 0),
    "topics, narrowed": lambda: fit_topics(CATALOGUE, 4, 0),
    "sentences": lambda: SentenceEncoder(("title", "topics"), "a model"),
    "cooccurrence": lambda: fit_cooccurrence(HISTORIES, CATALOGUE["item_id"].tolist(), 8, 0),
    "dense": lambda: fit_learnt(LEARNT, READ, CATALOGUE["item_id"].tolist()),
    "numeric": lambda: fit_numeric(CATALOGUE, ["price", "year"]),
    "file": lambda: FileEncoder("vectors_x", VectorsById(["i3", "i5"], np.array([[1, 2], [3, 4]], dtype=np.float32))),
}


@pytest.fixture(params=list(MAKERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return MAKERS[request.param]()


def assert_same(one: Encoded, other: Encoded) -> None:
    assert one.vectors.dtype == other.vectors.dtype == np.float32
    assert one.present.dtype == other.present.dtype == np.bool_
    assert one.vectors.shape == other.vectors.shape
    assert one.vectors.tobytes() == other.vectors.tobytes()
    assert np.array_equal(one.present, other.present)


def test_an_encoder_read_again_gives_the_same_to_the_bit(encoder, tmp_path):
    encoder.save(tmp_path / "deep/encoders", "name")
    assert {path.name for path in (tmp_path / "deep/encoders").iterdir()} == {"name.json", "name.safetensors"}
    again = load_encoder(tmp_path / "deep/encoders", "name")
    assert type(again) is type(encoder)
    assert_same(again.transform(CATALOGUE), encoder.transform(CATALOGUE))


def test_files_are_the_same_each_time(encoder, tmp_path):
    for folder in ("one", "two"):
        encoder.save(tmp_path / folder, "name")
    for end in (".json", ".safetensors"):
        assert (tmp_path / f"one/name{end}").read_bytes() == (tmp_path / f"two/name{end}").read_bytes()


def test_items_without_the_modality_are_zero_rows_and_others_stand_by_themselves(encoder):
    whole = encoder.transform(CATALOGUE)
    assert not whole.vectors[~whole.present].any()
    assert whole.present.any()
    assert np.isfinite(whole.vectors).all()
    rows = [7, 3, 0, 39, 5]
    some = encoder.transform(CATALOGUE.iloc[rows])
    assert_same(some, Encoded(whole.vectors[rows], whole.present[rows]))


def test_nothing_known_of_an_item_and_no_items_at_all(encoder):
    bare = encoder.transform(pd.DataFrame({"item_id": ["new", "newer"]}))
    width = encoder.transform(CATALOGUE).vectors.shape[1]
    assert_same(bare, Encoded(np.zeros((2, width), dtype=np.float32), np.zeros(2, dtype=bool)))
    none = encoder.transform(CATALOGUE.iloc[:0])
    assert_same(none, Encoded(np.zeros((0, width), dtype=np.float32), np.zeros(0, dtype=bool)))


@given(
    texts=st.lists(st.text(alphabet="ab \u00e4\u00df\u4e00I\u0130\u0131", max_size=12), min_size=2, max_size=12),
    dimensions=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_any_text_there_and_back(tmp_path_factory, texts, dimensions):
    items = pd.DataFrame({"title": texts})
    try:
        encoder = fit_tfidf(items, ["title"], dimensions, 0)
    except PlumError:
        return
    folder = tmp_path_factory.mktemp("text")
    encoder.save(folder, "text")
    assert_same(load_encoder(folder, "text").transform(items), encoder.transform(items))


def test_what_dense_was_not_trained_on_has_no_learnt_vector():
    found = MAKERS["dense"]().transform(CATALOGUE)
    assert np.flatnonzero(found.present).tolist() == [0, 3, 5, 9]  # 7 is alone in its history
    assert np.array_equal(found.vectors[found.present], LEARNT[found.present])


def test_words_and_topics_of_later_items_that_the_catalogue_lacks_say_nothing():
    later = pd.DataFrame({"title": ["w3 unheard", "unheard of", "w3"], "topics": [["Topic 1", "New"], ["New"], None]})
    text = fit_tfidf(CATALOGUE, ["title"], 5, 0).transform(later)
    assert text.present.tolist() == [True, False, True]
    assert text.vectors[0].tobytes() == text.vectors[2].tobytes()
    topics = fit_topics(CATALOGUE, 64, 0).transform(later)
    assert topics.present.tolist() == [True, False, False]
    one = pd.DataFrame({"topics": ["Topic 1"]})  # one name, not a list of letters
    assert fit_topics(CATALOGUE, 64, 0).transform(one).vectors.tobytes() == topics.vectors[0].tobytes()


def test_a_sentence_encoder_gives_blank_texts_nothing(tmp_path):
    encoder = SentenceEncoder(("title",), "a model")
    found = encoder.transform(pd.DataFrame({"title": ["ab", " ", None, "c"]}))
    assert found.vectors.tolist() == [[2, 97, 1], [0, 0, 0], [0, 0, 0], [1, 99, 1]]
    assert found.present.tolist() == [True, False, False, True]
    encoder.save(tmp_path, "text")
    assert json.loads((tmp_path / "text.json").read_text())["model"] == "a model"
    assert load_encoder(tmp_path, "text", device="mps") == SentenceEncoder(["title"], "a model", "mps")


def test_cooccurrence_is_of_the_catalogue_alone():
    ids = CATALOGUE["item_id"].tolist()
    vectors = cooccurrence_vectors(HISTORIES, N_ITEMS, 8, 0)
    whole = fit_cooccurrence(HISTORIES, ids, 8, 0).transform(CATALOGUE)
    assert_same(whole, Encoded(vectors, vectors.any(axis=1)))
    assert not whole.present[-3:].any()  # in no history


def damaged(folder: Path, act: Callable[[Path], Any]) -> str:
    fit_tfidf(CATALOGUE, ["title"], 5, 0).save(folder, "text")
    act(folder)
    with pytest.raises(PlumError) as refusal:
        load_encoder(folder, "text")
    assert "`plum tokenize --force`" in str(refusal.value)
    return str(refusal.value)


def rewrite(folder: Path, **changed: Any) -> None:
    path = folder / "text.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def without_idf(folder: Path) -> None:
    tensors = load_file(folder / "text.safetensors")
    save_file({"components": tensors["components"]}, folder / "text.safetensors")


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda folder: (folder / "text.json").unlink(), "text.json is missing"),
        (lambda folder: (folder / "text.safetensors").unlink(), "text.safetensors is missing"),
        (lambda folder: (folder / "text.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "text.json").write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda folder: (folder / "text.json").write_text("[]"), "another format version"),
        (lambda folder: rewrite(folder, version=99), "another format version"),
        (lambda folder: rewrite(folder, kind="magic"), "don't belong together"),
        (lambda folder: rewrite(folder, kind="numeric"), "don't belong together"),
        (lambda folder: rewrite(folder, words=["a", "b"]), "don't belong together"),
        (lambda folder: (folder / "text.safetensors").write_bytes(b"no"), "can't be read"),
        (without_idf, "(?s)don't belong together.*KeyError: 'idf'"),
    ],
)
def test_damaged_files_are_a_message(tmp_path, act, complaint):
    assert re.search(complaint, damaged(tmp_path, act))


def encoded(vectors: list[list[float]], present: list[bool]) -> Encoded:
    return Encoded(np.array(vectors, dtype=np.float32), np.array(present))


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (encoded([[1, 2], [1, 2]], [True, True]), "(?s)'m' is the same for all items.*all 2 items"),
        (encoded([[1, 2], [0, 0], [1, 2]], [True, False, True]), "(?s)'m' is the same for all items.*all 2 items"),
        (encoded([[0, 0], [0, 0]], [False, False]), "(?s)no item has modality 'm'.*2 items.*features.modalities.m"),
        (encoded([[1, 2], [1, np.nan], [1, np.inf]], [True] * 3), r"2 rows: row 1 \(item 'b'\), row 2 \(item 'c'\)"),
        (encoded([[np.nan]] * 5, [True] * 5), r"5 rows: row 0 \(item 'a'\), .*row 2 \(item 'c'\), \.\.\."),
    ],
)
def test_a_useless_modality_is_refused(found, complaint):
    with pytest.raises(PlumError, match=complaint):
        refuse_useless(found, "m", list("abcde"))


def test_one_different_item_is_enough():
    refuse_useless(encoded([[1, 2], [1, 2], [1, 3]], [True] * 3), "m", list("abc"))


def test_repeated_ids_are_named():
    refuse_repeated(["a", "b"], "x", "mend")
    with pytest.raises(PlumError, match=r"(?s)x holds item ids more than once.*2 ids: 'b', 'a'\n.*mend"):
        refuse_repeated(["a", "b", "b", "c", "a", "b"], "x", "mend")

"""Items in sentences: missing texts are not told, templates are drawn, long texts are cut between sentences."""

import numpy as np
import pandas as pd
import pytest

from plum.config.corpus import FACTS
from plum.config.templates import parse_template
from plum.corpus.documents import Frame
from plum.corpus.encoder import Encoder
from plum.corpus.metadata import drafts, facts
from plum.lm.vocab import train_tokenizer

HEAT = {"title": "Heat (1995)", "topics": ["Action", "Crime"], "creator": "Mann", "description": "Cops. And robbers."}
ONE = {
    "title": "Item {sid} has title: {title}",
    "topics": "The topics in item {sid} are: {topics}",
    "creator": "Item {sid} was made by: {creator}",
    "description": "Item {sid} is described as: {description}",
}


def forms(templates):
    return {name: [parse_template(text) for text in np.atleast_1d(texts)] for name, texts in templates.items()}


def told(item, templates=ONE, seed=0, row=0):
    columns = {name: [item.get(name)] for name in ("title", "topics", "creator", "description")}
    return list(facts([row], columns, forms(templates), seed))


def texts(*given, **options):
    return [
        "".join("SID" if piece is None else piece for piece in sentence.pieces) for sentence in told(*given, **options)
    ]


def test_an_item_with_everything():
    assert texts(HEAT) == [
        "ItemSID has title: Heat (1995)",
        "The topics in itemSID are: Action, Crime",
        "ItemSID was made by: Mann",
        "ItemSID is described as: Cops. And robbers.",
    ]


@pytest.mark.parametrize(
    "missing",
    [
        {},
        {"title": np.nan, "topics": np.nan, "creator": np.nan, "description": np.nan},
        {"title": pd.NA, "topics": pd.NA, "creator": pd.NA, "description": pd.NA},
        {"title": "", "topics": [], "creator": "  ", "description": "\n"},
        {"topics": np.array([], dtype=object)},
        {"topics": [None, ""]},
    ],
)
def test_what_is_missing_gives_no_sentence(missing):
    assert told(missing) == []


def test_templates_are_drawn_by_seed_item_and_fact():
    drawn = [texts(HEAT, FACTS, seed, row) for seed in range(3) for row in range(10)]
    assert drawn == [texts(HEAT, FACTS, seed, row) for seed in range(3) for row in range(10)]
    assert {len(each) for each in drawn} == {8}
    titles = {each[0] for each in drawn}
    assert titles == {
        "ItemSID has title: Heat (1995)",
        "SID is called Heat (1995)",
        "The title of itemSID is Heat (1995)",
    }


def test_only_templates_are_drawn_whose_fields_an_item_has():
    templates = {"both": ["{sid}: {title} by {creator}", "{sid}: {title}"]}
    for row in range(20):
        assert texts({"title": "Heat"}, templates, row=row) == ["SID: Heat"]
        assert texts({"creator": "Mann"}, templates, row=row) == []


def test_numbers_are_told_as_text():
    columns = {"year": [1995.0], "price": [np.nan], "pages": [12]}
    found = list(facts([0], columns, forms({name: f"{{sid}} {name} {{{name}}}" for name in columns}), 0))
    assert [sentence.text for sentence in found] == [" year 1995", " pages 12"]


def fitted(item, templates, longest):
    tokenizer = train_tokenizer(["robbers and cops"], 300)
    found = drafts(told(item, templates), np.array([[1000, 1001]]), Encoder(tokenizer))
    frame = Frame(None, 1, longest)
    return [
        "".join(
            "SID" if token == 1000 else "" if token in (1, 1001) else tokenizer.decode([token]) for token in one.tokens
        )
        for draft in found
        for one in frame.fit(draft)
    ]


def test_a_long_description_is_told_in_parts_each_with_the_semantic_id():
    item = {"description": " ".join(f"This is sentence number {number} of the whole story." for number in range(9))}
    described = fitted(item, {"x": "Item {sid} is described as: {description} The end"}, 160)
    assert len(described) > 3
    for text in described:
        assert text.startswith("ItemSID is described as: This is") or " This is" in text
        assert text.endswith("story. The end")
    found = fitted(item, {"x": "{description} is {sid}"}, 160)
    assert all(text.endswith("story. isSID") for text in found)
    assert "".join(text.removesuffix(" isSID") for text in found) == item["description"]


def test_a_short_document_is_the_text_around_its_semantic_id():
    assert fitted(HEAT, {"x": "{title} is item {sid}."}, 64) == ["Heat (1995) is itemSID."]
    assert fitted(HEAT, {"x": "  {sid} {title}"}, 64) == ["SID Heat (1995)"]

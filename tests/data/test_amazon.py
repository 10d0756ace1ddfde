"""Raw Amazon reviews of three years."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from plum.data.amazon import load_amazon_reviews
from plum.errors import PlumError
from plum.rules.log_rows import LogRule


def write_lines(path: Path, records: list[Any]) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


REVIEWS_2014 = [
    {"reviewerID": "A1", "asin": "B01", "overall": 5.0, "unixReviewTime": 1369699200, "helpful": [0, 0]},
    {"reviewerID": "A2", "asin": "B02", "overall": 3.0, "unixReviewTime": 1369699201, "reviewText": "x"},
]


def test_reviews_2014_with_python_literals(tmp_path: Path) -> None:
    meta = [
        "{'asin': 'B01', 'title': \"It's &amp; that\", 'categories': [['Beauty', 'Skin'], ['Beauty', 'Face']], "
        "'brand': 'Acme', 'description': 'Soft.\\n  Nice.'}",
        "{'asin': 'B99', 'title': 'never reviewed'}",
    ]
    tables = load_amazon_reviews(
        write_lines(tmp_path / "r.json.gz", REVIEWS_2014), write_lines(tmp_path / "m.json.gz", meta)
    )
    assert tables.interactions.values.tolist() == [["A1", "B01", 1369699200, 5.0, 1.0], ["A2", "B02", 1369699201, 3, 1]]
    assert tables.items.values.tolist() == [
        ["B01", "It's & that", ["Beauty", "Skin", "Face"], "Acme", "Soft. Nice."],
        ["B02", None, None, None, None],
    ]
    everything = load_amazon_reviews(tmp_path / "r.json.gz", tmp_path / "m.json.gz", keep_unreviewed=True)
    assert everything.items["item_id"].tolist() == ["B01", "B02", "B99"]


def test_reviews_2018(tmp_path: Path) -> None:
    meta = [
        {"asin": "B01", "title": "A", "category": ["Beauty", "Hair"], "brand": "Acme", "description": ["One.", "Two."]},
        {"asin": "B01", "title": "second line of the same product"},
        {"asin": "B02", "title": "<script>var x = new Date().getTime()</script>", "category": [], "description": []},
    ]
    tables = load_amazon_reviews(write_lines(tmp_path / "r.json", REVIEWS_2014), write_lines(tmp_path / "m.json", meta))
    assert tables.items.values.tolist() == [
        ["B01", "A", ["Beauty", "Hair"], "Acme", "One. Two."],
        ["B02", None, None, None, None],
    ]


def test_reviews_2023(tmp_path: Path) -> None:
    reviews = [
        {"user_id": "U", "asin": "X", "parent_asin": "P", "rating": 4.0, "timestamp": 1588687728923, "title": "good"},
        {"user_id": "U", "asin": "X", "parent_asin": "P", "rating": 4.0, "timestamp": 1588687728923, "title": "good"},
    ]
    meta = [{"parent_asin": "P", "title": "Spray", "categories": ["Hair"], "store": "Herbivore", "description": ["d"]}]
    tables = load_amazon_reviews(write_lines(tmp_path / "r.jsonl", reviews), write_lines(tmp_path / "m.jsonl", meta))
    assert tables.interactions.values.tolist() == [["U", "P", 1588687728, 4.0, 1.0, 923_000_000]]
    assert tables.items.values.tolist() == [["P", "Spray", ["Hair"], "Herbivore", "d"]]
    assert [(p.reason, p.count) for p in tables.problems] == [("exact repetition of an earlier row", 1)]


def test_reviews_without_metadata(tmp_path: Path) -> None:
    tables = load_amazon_reviews(write_lines(tmp_path / "r.json", REVIEWS_2014))
    assert tables.items["item_id"].tolist() == ["B01", "B02"]
    assert tables.items["title"].isna().all()


def test_reviews_in_unknown_layout(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.json", [{"user": 1, "item": 2}])
    with pytest.raises(PlumError, match=r"r\.json has an unknown layout(.|\n)*keys of line 1: user, item(.|\n)*logs"):
        load_amazon_reviews(path)


def test_reviews_report_bad_lines(tmp_path: Path) -> None:
    bad = [*REVIEWS_2014, '{"reviewerID": "A1", "asin', {"reviewerID": "A3", "asin": "B01", "overall": 1.0}, "3"]
    path = write_lines(tmp_path / "r.json", bad)
    tables = load_amazon_reviews(path, max_bad_share=0.9)
    assert [(p.reason, p.example) for p in tables.problems] == [
        ("the line is not a complete JSON object", 'line 3: \'{"reviewerID": "A1", "asin\''),
        ("the line is not a JSON object", "line 5: '3'"),
        ("timestamp is missing", "line 4: None"),
    ]
    with pytest.raises(PlumError, match="3 of 5 rows are unusable"):
        load_amazon_reviews(path)


def test_metadata_reports_bad_lines(tmp_path: Path) -> None:
    reviews = write_lines(tmp_path / "r.json", REVIEWS_2014)
    meta = write_lines(tmp_path / "m.json", ["{'asin': __import__('os')}", {"title": "no id"}, {"asin": "B01"}])
    tables = load_amazon_reviews(reviews, meta, max_bad_share=0.9)
    assert [(p.file, p.reason) for p in tables.problems] == [
        ("m.json", "the line is not a complete JSON object"),
        ("m.json", "no asin or parent_asin"),
    ]
    with pytest.raises(PlumError, match=r"m\.json: 1 rows, no asin or parent_asin"):
        load_amazon_reviews(reviews, meta)


def test_truncated_gz(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.json.gz", REVIEWS_2014 * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PlumError, match=r"r\.json\.gz is damaged or truncated(.|\n)*again"):
        load_amazon_reviews(path)


def reviewed(folder: Path, metadata: list[Any], **kwargs: Any) -> Any:
    """The items of three products after what the metadata say."""
    reviews = [
        {"reviewerID": "A1", "asin": f"B0{n}", "overall": 5.0, "unixReviewTime": 1369699200 + n} for n in (1, 2, 3)
    ]
    paths = write_lines(folder / "r.json", reviews), write_lines(folder / "m.json", metadata)
    return load_amazon_reviews(*paths, **kwargs).items.set_index("item_id")


def test_content_from_whichever_field_holds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meta = [
        {"asin": "B01", "title": "Bob&amp;#39;s <b>Soap</b>", "description": [], "features": ["Of rose", "By hand"]},
        {"asin": "B02", "feature": [], "details": '{"Brand": "Bob", "Material:": "Glass", "UPC": "123"}', "title": ""},
        {
            "asin": "B03",
            "title": "",
            "description": [],
            "features": [],
            "details": {},
            "brand": "N/A",
            "categories": [],
        },
    ]
    with caplog.at_level(logging.WARNING):
        items = reviewed(tmp_path, meta)
    assert items.loc["B01"].tolist() == ["Bob's Soap", None, None, "Of rose By hand"]
    assert items.loc["B02"].tolist() == [None, None, "Bob", "Brand: Bob; Material: Glass"]
    assert items.loc["B03"].tolist() == [None] * 4
    assert "1 of 3 items have no content" in caplog.text


def test_the_fullest_line_of_a_product_counts_and_others_fill_its_gaps(tmp_path: Path) -> None:
    meta = [
        {"asin": "B01", "description": "Short.", "main_cat": "Beauty"},
        {"asin": "B01", "title": "Soap", "description": "A much longer text.", "brand": "Bob"},
        {"asin": "B01", "title": "Soa"},
    ]
    assert reviewed(tmp_path, meta).loc["B01"].tolist() == ["Soap", ["Beauty"], "Bob", "A much longer text."]


def test_reviews_as_python_literals(tmp_path: Path) -> None:
    lines = [repr(record) for record in REVIEWS_2014]
    found = load_amazon_reviews(write_lines(tmp_path / "r.json", lines)).interactions
    assert found["item_id"].tolist() == ["B01", "B02"]


@pytest.mark.parametrize(
    "text",
    [
        "A1,B000000001,5.0,1400000000\nA2,B000000002,4.0,1400000001\n",  # 2014
        "B000000001,A1,5.0,1400000000\nB000000002,A2,4.0,1400000001\n",  # 2018
        "user_id,parent_asin,rating,timestamp\nA1,B000000001,5.0,1400000000123\nA2,B000000002,4.0,1400000001123\n",
    ],
)
def test_ratings_only(tmp_path: Path, text: str) -> None:
    (tmp_path / "ratings.csv").write_text(text)
    found = load_amazon_reviews(tmp_path / "ratings.csv").interactions
    assert found.iloc[:, :4].values.tolist() == [
        ["A1", "B000000001", 1400000000, 5.0],
        ["A2", "B000000002", 1400000001, 4.0],
    ]
    (tmp_path / "ratings.csv").write_text("A1,B000000001,5.0\n")
    with pytest.raises(PlumError, match="unknown layout"):
        load_amazon_reviews(tmp_path / "ratings.csv")


def test_a_rule_on_reviews_may_name_any_key(tmp_path: Path) -> None:
    reviews = [record | {"verified": n == 0} for n, record in enumerate(REVIEWS_2014)]
    tables = load_amazon_reviews(write_lines(tmp_path / "r.json", reviews), where=LogRule("verified = true"))
    assert tables.interactions["item_id"].tolist() == ["B01"]
    assert "verified" not in tables.interactions
    with pytest.raises(PlumError, match="name keys of the reviews"):
        load_amazon_reviews(tmp_path / "r.json", where=LogRule("sure = true"))

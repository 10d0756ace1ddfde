"""`plum inspect` in Python: what the words mean, and who shares which codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_run
from sealed import seal
from sklearn.metrics.pairwise import cosine_similarity

from plum.errors import PlumError
from plum.run import artifacts
from plum.studies.inspect_items import inspect
from plum.vectors.unit import joined

TABLES = (artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS)


def frames(run: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Items, their codes, and their training interactions, all by item id."""
    items, split, codes = (pd.read_parquet(run / name) for name in TABLES)
    trained = split.loc[split["part"] == "train", "item_id"].value_counts()
    ids = items["item_id"]
    return items.set_index("item_id"), codes.set_index("item_id"), trained.reindex(ids, fill_value=0)


def renamed(run: Path, **ids: str) -> Path:
    """The same run with other item ids."""
    for name in TABLES:
        table = pd.read_parquet(run / name)
        table.assign(item_id=table["item_id"].replace(ids)).to_parquet(run / name, index=False)
    return seal(run)


def retitled(run: Path, titles: Mapping[str, str | None]) -> Path:
    """The same run with other titles of some items."""
    items = pd.read_parquet(run / artifacts.ITEMS).set_index("item_id")
    for item_id, title in titles.items():
        items.loc[item_id, "title"] = title
    items.reset_index().to_parquet(run / artifacts.ITEMS, index=False)
    return seal(run)


def test_every_item_that_shares_a_prefix_is_counted_and_the_most_popular_named(finished_run: Path) -> None:
    config = tiny_run.config_of(finished_run)
    items, codes, popularity = frames(finished_run)
    for item_id in items.index[::7]:
        found = inspect(config, item_id, n=3)
        assert found.item is not None
        assert (found.item.item_id, found.item.title) == (item_id, items.loc[item_id, "title"])
        assert (found.item.popularity, found.codes) == (popularity[item_id], codes.loc[item_id].tolist())
        assert (found.topics, found.creator) == (list(items.loc[item_id, "topics"]), items.loc[item_id, "creator"])
        assert found.item.codes == found.codes
        assert [len(prefix.codes) for prefix in found.prefixes] == [1, 2, 3]
        for length, prefix in enumerate(found.prefixes, start=1):
            same = (codes.iloc[:, :length] == codes.loc[item_id].iloc[:length]).all(axis=1)
            others = popularity[same & (codes.index != item_id)].sort_values(ascending=False, kind="stable")
            assert prefix.codes == found.codes[:length]
            assert prefix.total == len(others)
            assert [one.item_id for one in prefix.items] == others.index[:3].tolist()
            assert [one.popularity for one in prefix.items] == others.tolist()[:3]


def test_the_nearest_in_content_are_those_of_largest_cosine(finished_run: Path) -> None:
    items, codes, _ = frames(finished_run)
    modalities = [np.load(finished_run / "features" / f"{name}.npy") for name in ("text", "topics")]
    cosines = cosine_similarity(joined(modalities))
    np.fill_diagonal(cosines, -1.0)
    for row in (0, 17, 59):
        found = inspect(tiny_run.config_of(finished_run), items.index[row], n=4)
        assert found.alike is not None
        np.testing.assert_allclose([one.cosine for one in found.alike], np.sort(cosines[row])[::-1][:4], atol=1e-5)
        for one in found.alike:
            assert one.cosine == pytest.approx(cosines[row, items.index.get_loc(one.item_id)], abs=1e-5)
            own, other = codes.iloc[row].tolist(), codes.loc[one.item_id].tolist()
            assert other == one.codes
            shared = next((level for level in range(3) if own[level] != other[level]), 3)
            assert one.shared == shared


def test_cooccurrence_is_no_content(run_copy: Path) -> None:
    summary = run_copy / "features/features.json"
    values = json.loads(summary.read_text())
    values["modalities"]["topics"]["encoder"] = "cooccurrence"
    summary.write_text(json.dumps(values))
    found = inspect(tiny_run.config_of(seal(run_copy)), "i0017", n=1).alike
    cosines = np.delete(cosine_similarity(np.load(run_copy / "features/text.npy"))[17], 17)
    assert found is not None
    assert found[0].cosine == pytest.approx(cosines.max(), abs=1e-5)


def test_without_features_nothing_is_said_of_content(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "features")
    found = inspect(tiny_run.config_of(run_copy), "i0003")
    assert found.alike is None
    assert found.prefixes


def test_an_item_without_content_is_like_no_other(run_copy: Path) -> None:
    for name in ("text", "topics"):
        vectors = np.load(run_copy / f"features/{name}.npy")
        vectors[3] = 0.0
        np.save(run_copy / f"features/{name}.npy", vectors)
    assert inspect(tiny_run.config_of(seal(run_copy)), "i0003").alike == []
    other = inspect(tiny_run.config_of(run_copy), "i0004", n=60).alike
    assert other is not None
    assert (len(other), "i0003" in {one.item_id for one in other}) == (58, False)


@pytest.mark.parametrize("spelling", ["{0}-{1}", "{0},{1}", "{0}, {1}", "[{0}, {1}]", "<|sid_0_{0}|><|sid_1_{1}|>"])
def test_codes_are_read_however_they_are_spelt(finished_run: Path, spelling: str) -> None:
    _, codes, _ = frames(finished_run)
    first, second = codes.iloc[5].tolist()[:2]
    found = inspect(tiny_run.config_of(finished_run), spelling.format(first, second))
    assert (found.item, found.codes, found.alike) == (None, [first, second], None)
    same_first = codes["code_0"] == first
    assert [prefix.total for prefix in found.prefixes] == [
        same_first.sum(),
        (same_first & (codes["code_1"] == second)).sum(),
    ]
    assert found.sizes == [16, 8, int(codes["code_2"].max()) + 1]
    assert found.disambiguated


def test_codes_that_no_item_has_are_shown_as_empty(finished_run: Path) -> None:
    _, codes, _ = frames(finished_run)
    first = int(codes["code_0"].iloc[0])
    free = next(code for code in range(8) if not ((codes["code_0"] == first) & (codes["code_1"] == code)).any())
    found = inspect(tiny_run.config_of(finished_run), f"{first}-{free}-0")
    assert [prefix.total for prefix in found.prefixes][1:] == [0, 0]
    assert found.prefixes[0].total == (codes["code_0"] == first).sum() > 0
    assert found.prefixes[2].items == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("16-0", "level 0 has no code 16"),
        ("3-8", "level 1 has no code 8"),
        ("<|sid_0_99|>", "level 0 has no code 99"),
        ("1-1-0-0", "4 codes for 3 levels"),
        ("99999999999999999999", "level 0 has no code"),
    ],
)
def test_codes_out_of_range_are_told_with_the_sizes(finished_run: Path, asked: str, told: str) -> None:
    size = int(frames(finished_run)[1]["code_2"].max()) + 1
    with pytest.raises(PlumError, match=rf"{told}(.|\n)*sizes \[16, 8, {size}\]"):
        inspect(tiny_run.config_of(finished_run), asked)


@pytest.mark.parametrize("asked", ["<|sid_1_0|>", "<|sid_0_1|><|sid_2_0|>", "<|sid_0_1|><|sid_0_1|>"])
def test_tokens_stand_in_the_order_of_their_levels(finished_run: Path, asked: str) -> None:
    with pytest.raises(PlumError, match=r"not a prefix of a Semantic ID(.|\n)*levels 0, 1"):
        inspect(tiny_run.config_of(finished_run), asked)


def test_ids_win_over_titles_and_those_over_codes(run_copy: Path) -> None:
    titles = {"i0009": "4-1", "i0010": "5", "i0011": "2001: A Space Odyssey", "i0012": "The 12 Chairs"}
    retitled(renamed(run_copy, i0007="3-2", i0008="5"), titles)
    config = tiny_run.config_of(run_copy)
    for asked, item_id, kind, tokens in (
        ("3-2", "3-2", "id", "<|sid_0_3|><|sid_1_2|>"),
        ("5", "5", "id", "<|sid_0_5|>"),
        ("4-1", "i0009", "title", "<|sid_0_4|><|sid_1_1|>"),
    ):
        found = inspect(config, asked)
        assert found.item is not None
        assert found.item.item_id == item_id
        assert found.note is not None
        assert f"is read as an item's {kind}" in found.note
        assert tokens in found.note
        assert inspect(config, tokens).item is None
    odyssey = inspect(config, "2001")
    assert odyssey.item is not None
    assert (odyssey.item.item_id, odyssey.note) == ("i0011", None)  # 2001 is no code: nothing else was meant
    for codes in ("3-1", "12"):
        assert inspect(config, codes).item is None
    assert inspect(config, "12 Ch").codes == frames(run_copy)[1].loc["i0012"].tolist()


def test_words_of_one_title_are_enough(run_copy: Path) -> None:
    titles = {"i0001": "The Crème Brûlée", "i0002": "Brûlée", "i0003": None}
    config = tiny_run.config_of(retitled(run_copy, titles))
    for asked, item_id in (("crème", "i0001"), ("CRÈME BRÛ", "i0001"), ("brûlée", "i0002"), (" i0003 ", "i0003")):
        found = inspect(config, asked)
        assert found.item is not None
        assert (found.item.item_id, found.note) == (item_id, None)
        assert found.item.title == titles[item_id]


def test_words_of_several_titles_list_them_the_most_popular_first(run_copy: Path) -> None:
    retitled(run_copy, {f"i{row:04}": f"Volume {row} of Ten" for row in range(10)})
    popularity = frames(run_copy)[2]
    first = popularity[:10].sort_values(ascending=False, kind="stable").index
    listed = ", ".join(f"{item_id} 'Volume {int(item_id[1:])} of Ten'" for item_id in first[:8])
    with pytest.raises(PlumError) as stop:
        inspect(tiny_run.config_of(run_copy), "volume")
    assert stop.value.what == "10 items have 'volume' in their title"
    assert stop.value.found == f"{listed}, and 2 more"
    retitled(run_copy, {"i0000": "Same", "i0001": "Same", "i0002": "Same again"})
    with pytest.raises(PlumError, match="2 items have the title 'same'"):
        inspect(tiny_run.config_of(run_copy), "same")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("i00099", "similar: id 'i0009'"),
        ("Treaty Empire Revolutoin", "i0000 'Treaty Empire Revolution'"),
        ("fresko", "similar: the word 'Fresco'"),
        ("%%%", "ids look like 'i0000'"),
        ("", "ids look like 'i0000'"),
    ],
)
def test_what_is_no_item_is_told_with_what_is_near(finished_run: Path, asked: str, near: str) -> None:
    with pytest.raises(PlumError) as stop:
        inspect(tiny_run.config_of(finished_run), asked)
    assert stop.value.found is not None
    assert near in stop.value.found
    codes = stop.value.fix.rpartition(" ")[2] if stop.value.fix else ""
    assert inspect(tiny_run.config_of(finished_run), codes).prefixes[0].total > 0  # the example works


def test_items_that_share_a_whole_semantic_id_are_neighbours_to_the_end(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, "tokenize.collision=share")
    from plum.stages import tokenize

    tokenize.run(config)
    _, codes, _ = frames(run_copy)
    shared = codes[codes.duplicated(keep=False)]
    found = inspect(config, shared.index[0], n=60)
    assert not found.disambiguated
    same = shared[(shared == shared.iloc[0]).all(axis=1)].index[1:]
    assert {one.item_id for one in found.prefixes[-1].items} == set(same)


def test_a_run_without_semantic_ids_is_told(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "tokenize")
    with pytest.raises(PlumError, match=r"inspect needs .*tokenize/, which is not there(.|\n)*plum tokenize"):
        inspect(tiny_run.config_of(run_copy), "i0000")


def test_semantic_ids_of_another_catalogue_are_refused(run_copy: Path) -> None:
    manifest = run_copy / "data/manifest.json"
    values = json.loads(manifest.read_text())
    values["outputs"]["items.parquet"] = "0" * 64
    manifest.write_text(json.dumps(values))
    with pytest.raises(PlumError, match=r"was made from another data/items\.parquet"):
        inspect(tiny_run.config_of(run_copy), "i0000")


def test_nothing_to_show_is_a_mistake_of_the_program(finished_run: Path) -> None:
    with pytest.raises(ValueError, match="n must be at least 1"):
        inspect(tiny_run.config_of(finished_run), "i0000", n=0)

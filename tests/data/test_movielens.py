"""MovieLens releases: every layout, folder and zip, and what is wrong with a release that isn't whole."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plum.data.movielens import GENRES_100K, RELEASES, find_release, load_movielens
from plum.errors import PlumError


def flags(*genres: str) -> str:
    return "|".join(str(int(genre in genres)) for genre in GENRES_100K)


FILES: dict[str, dict[str, bytes]] = {
    "ml-100k": {
        "u.data": b"196\t242\t3\t881250949\n186\t302\t4\t891717742\n196\t302\t5\t881250949\n",
        "u.item": (
            f"242|L\xe9on (1996)|24-Jan-1997||http://x|{flags('Comedy', 'Drama')}\n"
            f"302|L.A. Confidential (1997)|01-Jan-1997||http://y|{flags('Crime')}\n"
            f"267|unknown||||{flags('unknown')}\n\n"
        ).encode("latin-1"),
        "u.user": b"196|49|M|writer|55105\n186|39|F|executive|00000\n",
    },
    "ml-1m": {
        "ratings.dat": b"1::1193::5::978300760\n2::661::3::978302109\n",
        "movies.dat": "1193::Am\xe9lie: A Story (1975)::Drama\n661::James (1996)::War|Musical\n".encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    },
    "ml-10m": {
        "ratings.dat": b"1::122::5::838985046\n1::185::4.5::838983525\n",
        "movies.dat": "122::Boomerang (1992)::Comedy|War\n185::N\xe9t \"The\" (1995)::(no genres listed)\n".encode(),
        "tags.dat": "15::122::excellent! caf\xe9::1215184630\n".encode(),
    },
    "ml-latest-small": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,4.5,964981247\n",
        "movies.csv": (
            'movieId,title,genres\n1,"Net, The (1995)",Adventure|Comedy\n3,"""Great"" Caf\xe9",(no genres listed)\n'
        ).encode(),
        "tags.csv": b'userId,movieId,tag,timestamp\n2,1,"funny, very",1445714994\n2,3,1984,1445714996\n',
    },
}  # fmt: skip


def write_folder(folder: Path, release: str, **changed: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in (FILES[release] | {k.replace("__", "."): v for k, v in changed.items()}).items():
        (folder / name).write_bytes(content)
    return folder


def write_zip(home: Path, release: str) -> Path:
    path = home / f"{release}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES[release].items():
            archive.writestr(f"{RELEASES[release].folder}/{name}", content)
    return path


def load(path: Path, release: str, max_bad_share: float = 0.01):
    return load_movielens(path, release, check_counts=False, max_bad_share=max_bad_share)


def test_100k_layout(tmp_path: Path) -> None:
    tables = load(write_folder(tmp_path / "ml-100k", "ml-100k"), "ml-100k")
    log = tables.interactions
    assert list(log.columns) == ["user_id", "item_id", "timestamp", "rating", "reward"]
    assert log["user_id"].tolist() == ["196", "186", "196"]
    assert log["timestamp"].dtype == np.int64
    assert log["rating"].dtype == log["reward"].dtype == np.float32
    assert log["reward"].tolist() == [1.0, 1.0, 1.0]
    assert tables.items["title"].tolist() == ["L\xe9on (1996)", "L.A. Confidential (1997)", None]
    assert tables.items["topics"].tolist() == [["Comedy", "Drama"], ["Crime"], None]
    assert tables.items["creator"].tolist() == [None, None, None]
    assert tables.users is not None
    assert tables.users.iloc[0].to_dict() == {
        "user_id": "196", "age": 49, "gender": "M", "occupation": "writer", "zip_code": "55105",
    }  # fmt: skip
    assert tables.users["zip_code"].tolist()[1] == "00000"
    assert tables.n_rows == 3
    assert tables.problems == []


def test_1m_layout(tmp_path: Path) -> None:
    tables = load(write_folder(tmp_path / "ml-1m", "ml-1m"), "ml-1m")
    assert tables.interactions["item_id"].tolist() == ["1193", "661"]
    assert tables.items["title"].tolist() == ["Am\xe9lie: A Story (1975)", "James (1996)"]
    assert tables.items["topics"].tolist() == [["Drama"], ["War", "Musical"]]
    assert tables.users is not None
    assert tables.users["occupation"].tolist() == ["K-12 student", "self-employed"]
    assert tables.users["age"].tolist() == [1, 56]


def test_10m_layout(tmp_path: Path) -> None:
    tables = load(write_folder(tmp_path / "ml-10M100K", "ml-10m"), "ml-10m")
    assert tables.interactions["rating"].tolist() == [5.0, 4.5]
    assert tables.items["title"].tolist()[1] == 'N\xe9t "The" (1995)'
    assert tables.items["topics"].tolist() == [["Comedy", "War"], None]
    assert tables.tags is not None
    assert tables.tags.values.tolist() == [["15", "122", "excellent! caf\xe9", 1215184630]]


def test_csv_layout(tmp_path: Path) -> None:
    tables = load(write_folder(tmp_path / "ml-latest-small", "ml-latest-small"), "ml-latest-small")
    assert tables.items["title"].tolist() == ["Net, The (1995)", '"Great" Caf\xe9']
    assert tables.items["topics"].tolist() == [["Adventure", "Comedy"], None]
    assert tables.tags is not None
    assert tables.tags["tag"].tolist() == ["funny, very", "1984"]
    assert tables.users is None


@pytest.mark.parametrize(
    ("release", "years"),
    [("ml-100k", [1996, 1997, 0]), ("ml-1m", [1975, 1996]), ("ml-10m", [1992, 1995]), ("ml-latest-small", [1995, 0])],
)
def test_years_come_from_titles(tmp_path: Path, release: str, years: list[int]) -> None:
    items = load(write_folder(tmp_path / RELEASES[release].folder, release), release).items
    assert list(items) == ["item_id", "title", "topics", "creator", "description", "year"]
    assert items["year"].dtype == "Int64"
    assert items["year"].fillna(0).tolist() == years


def test_years_of_series_and_odd_titles(tmp_path: Path) -> None:
    titles = ["Series (2006–2007)", "Running (2011- )", "1984 (1956) (V)", "(1994) Sequel", "Year (95)", "2001"]
    rows = "".join(f"{at}::{title}::Drama\n" for at, title in enumerate(titles, start=1))
    folder = write_folder(tmp_path / "ml-10M100K", "ml-10m", movies__dat=rows.encode(), ratings__dat=b"1::1::5::8\n")
    (folder / "tags.dat").unlink()
    assert load(folder, "ml-10m").items["year"].fillna(0).tolist() == [2006, 2011, 1956, 0, 0, 0]


@pytest.mark.parametrize("release", sorted(FILES))
def test_zip_and_home_give_what_the_folder_gives(tmp_path: Path, release: str) -> None:
    from_folder = load(write_folder(tmp_path / "a" / release, release), release)
    (tmp_path / "b").mkdir()
    archive = write_zip(tmp_path / "b", release)
    for path in (tmp_path / "a", archive, tmp_path / "b"):
        again = load(path, release)
        pd.testing.assert_frame_equal(again.interactions, from_folder.interactions)
        pd.testing.assert_frame_equal(again.items, from_folder.items)


def test_folder_of_another_release_is_not_taken(tmp_path: Path) -> None:
    write_folder(tmp_path / "ml-latest-small", "ml-latest-small")
    assert find_release(tmp_path / "ml-latest-small", "ml-25m") is None
    assert find_release(tmp_path, "ml-25m") is None


def test_absent_release_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"ml-1m is not in(.|\n)*plum data fetch ml-1m"):
        load_movielens(tmp_path, "ml-1m")


def test_unknown_release_names_nearest(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"unknown MovieLens release 'ml-100'(.|\n)*did you mean ml-100k"):
        load_movielens(tmp_path, "ml-100")


def test_counts_that_differ_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "ml-100k", "ml-100k")
    with pytest.raises(PlumError) as caught:
        load_movielens(tmp_path, "ml-100k")
    message = str(caught.value)
    assert "not ml-100k as published" in message
    assert "ratings: 3 instead of 100,000" in message
    assert "users: 2 instead of 943" in message
    assert "movies: 3 instead of 1,682" in message
    assert "plum data fetch ml-100k" in message


def test_counts_of_a_changing_release_come_from_its_readme(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ml-latest-small", "ml-latest-small")
    with pytest.raises(PlumError, match="ratings: 2 instead of 100,836"):
        load_movielens(folder, "ml-latest-small")
    text = "It contains {} ratings and 2 tag applications across 2 movies. These data were created by 1 users between"
    (folder / "README.txt").write_text(text.format(2))
    load_movielens(folder, "ml-latest-small")
    (folder / "README.txt").write_text(text.format(7))
    with pytest.raises(PlumError, match="ratings: 2 instead of 7"):
        load_movielens(folder, "ml-latest-small")


def test_bad_rows_are_counted_with_their_lines(tmp_path: Path) -> None:
    ratings = (
        b"userId,movieId,rating,timestamp\n"
        b"1,1,4.0,964982703\n1,3,oops,964982703\n\n,3,4.0,964982703\n1,3,4.0,\n1,3,4.0\n1,99,4.0,964982703\n1,3,,5\n"
        b"1,1,4.0,964982703\n1,3,4.0,964982703\n"
    )
    write_folder(tmp_path / "ml-latest", "ml-latest-small", ratings__csv=ratings)
    tables = load(tmp_path / "ml-latest", "ml-latest", max_bad_share=0.9)
    problems = {p.reason: (p.file, p.count, p.example) for p in tables.problems}
    assert problems == {
        "the row does not have 4 fields like the header": ("ratings.csv", 1, "line 7: 3 fields"),
        "user_id is missing": ("ratings.csv", 1, "line 5: ''"),
        "timestamp is missing": ("ratings.csv", 1, "line 6: ''"),
        "rating is not a number": ("ratings.csv", 1, "line 3: 'oops'"),
        "rating is missing": ("ratings.csv", 1, "line 9: ''"),
        "item_id is not in movies.csv": ("ratings.csv", 1, "line 8: '99'"),
        "exact repetition of an earlier row": ("ratings.csv", 1, "line 10: '1', '1', '4.0', '964982703'"),
    }
    assert tables.n_rows == 9
    assert len(tables.interactions) == 2
    with pytest.raises(PlumError, match=r"6 of 9 rows are unusable(.|\n)*line 8: '99'(.|\n)*max_bad_share"):
        load(tmp_path / "ml-latest", "ml-latest", max_bad_share=0.5)


def test_dat_rows_name_lines(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ml-1m", "ml-1m", ratings__dat=b"1::1193::5::978300760\n2::661::3\n2::661::x::9\n")
    problems = load(folder, "ml-1m", max_bad_share=0.9).problems
    assert [(p.reason, p.example) for p in problems] == [
        ("the row does not have 4 fields", "line 2: 3 fields"),
        ("rating is not a number", "line 3: 'x'"),
    ]


def test_empty_tags_are_reported(tmp_path: Path) -> None:
    tags = b"userId,movieId,tag,timestamp\n2,1,,1445714994\n2,3,ok,1445714996\n"
    folder = write_folder(tmp_path / "x", "ml-latest-small", tags__csv=tags)
    tables = load(folder, "ml-latest-small", max_bad_share=0.6)
    assert tables.tags is not None
    assert tables.tags["tag"].tolist() == ["ok"]
    assert [(p.file, p.reason, p.count) for p in tables.problems] == [("tags.csv", "tag is empty", 1)]


def test_lacking_file_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ml-1m", "ml-1m")
    (folder / "movies.dat").unlink()
    with pytest.raises(PlumError, match=r"lacks movies\.dat(.|\n)*get it again"):
        load(folder, "ml-1m")


@pytest.mark.parametrize("keep", [0, 40, 0.6])
def test_truncated_zip(tmp_path: Path, keep: float) -> None:
    archive = write_zip(tmp_path, "ml-1m")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content) if 0 < keep < 1 else keep)])
    with pytest.raises(PlumError, match=r"ml-1m\.zip is not a complete zip archive(.|\n)*download it again"):
        load(archive, "ml-1m")


def test_zip_with_damaged_member(tmp_path: Path) -> None:
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        for name, content in FILES["ml-1m"].items():
            opened.writestr(f"ml-1m/{name}", content)
    content = bytearray(archive.read_bytes())
    at = content.index(b"978300760")
    content[at : at + 1] = b"8"
    archive.write_bytes(bytes(content))
    with pytest.raises(PlumError, match=r"ml-1m\.zip: ml-1m/ratings\.dat is damaged(.|\n)*CRC"):
        load(archive, "ml-1m")


def data_home() -> Path:
    home = os.environ.get("PLUM_DATA_HOME")
    if not home:
        pytest.skip("PLUM_DATA_HOME is not set")
    return Path(home)


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_real_release(release: str) -> None:
    home = data_home()
    if find_release(home, release) is None or release in ("ml-20m", "ml-25m", "ml-32m", "ml-latest"):
        pytest.skip(f"{release} is not at hand, or too large for a quick test")
    tables = load_movielens(home, release)
    assert tables.problems == []
    assert tables.interactions["item_id"].isin(tables.items["item_id"]).all()
    assert tables.items["item_id"].is_unique

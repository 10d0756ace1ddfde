"""The MovieLens releases of GroupLens in their original layouts, from a folder or the downloaded zip."""

from __future__ import annotations

import difflib
import logging
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from plum.data.dialect import Delimited
from plum.data.files import Advice, Source, damage_reported
from plum.data.filters import RowFilter, filtered
from plum.data.interactions import Known, check_interactions
from plum.data.items import as_objects, check_items
from plum.data.markup import unescaped
from plum.data.readers import read_delimited
from plum.data.rows import warn
from plum.data.tables import RawTables, RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

_NO_ENDORSEMENT = (
    "Research use only; acknowledge GroupLens in publications; imply no endorsement; no commercial use without its "
    "permission; "
)
_NOT_PASSED_ON = _NO_ENDORSEMENT + "do not redistribute without permission. See the README of the release."
_SAME_TERMS = _NO_ENDORSEMENT + "redistribute only under the same terms. See the README of the release."

# Flags of u.item from its sixth field on, in the order of u.genre.
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

# Codes of users.dat, from the README of ml-1m.
OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip

_NO_GENRE = frozenset({"(no genres listed)", "unknown"})
_RATINGS = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "timestamp": "timestamp"}
_TAGS = {"user_id": "userId", "item_id": "movieId", "tag": "tag", "timestamp": "timestamp"}
_MOVIES = {"item_id": "movieId", "title": "title", "topics": "genres"}
# "Heat (1995)", "A Short Film (1995) (V)"; of a series, "Death Note (2006-2007)", the first.
_YEAR = re.compile(r"\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)(?: \(V\))?$")


@dataclass(frozen=True)
class Table:
    """One file of a release: its name and layout."""

    file: str
    layout: Delimited


@dataclass(frozen=True)
class Release:
    """A MovieLens release.

    Args:
        folder: folder inside the zip.
        ratings: file of ratings.
        movies: file of movies.
        licence: terms in one line.
        users: file of user attributes, if there is one.
        tags: file of free-text tags, if there is one.
        counts: ratings, users (who rated) and movies (in the movie file); None for a release that changes over time:
            its README has them.
        md5: published checksum of the zip; None for a release that changes over time.
    """

    folder: str
    ratings: Table
    movies: Table
    licence: str
    users: Table | None = None
    tags: Table | None = None
    counts: tuple[int, int, int] | None = None
    md5: str | None = None


def _csv_release(folder: str, counts: tuple[int, int, int] | None = None, md5: str | None = None) -> Release:
    plain = Delimited(",", "utf-8", quoted=True)
    return Release(
        folder,
        ratings=Table("ratings.csv", plain),
        movies=Table("movies.csv", plain),
        tags=Table("tags.csv", plain),
        licence=_SAME_TERMS,
        counts=counts,
        md5=md5,
    )


def _dat(file: str, encoding: str, *names: str) -> Table:
    return Table(file, Delimited("::", encoding, quoted=False, names=names))


# Counts: the README of each release, except the users of ml-10m. Its README says 71,567, the highest user id; 69,878
# of them rated. Checksums: the .md5 files published with the zips.
RELEASES: dict[str, Release] = {
    "ml-100k": Release(
        "ml-100k",
        ratings=Table("u.data", Delimited("\t", "latin-1", False, tuple(_RATINGS.values()))),
        movies=Table(
            "u.item",
            Delimited("|", "latin-1", False, ("movieId", "title", "released", "video", "imdb", *GENRES_100K)),
        ),
        users=Table("u.user", Delimited("|", "latin-1", False, ("user_id", "age", "gender", "occupation", "zip_code"))),
        licence=_NOT_PASSED_ON,
        counts=(100_000, 943, 1_682),
        md5="0e33842e24a9c977be4e0107933c0723",
    ),
    "ml-1m": Release(
        "ml-1m",
        ratings=_dat("ratings.dat", "latin-1", *_RATINGS.values()),
        movies=_dat("movies.dat", "latin-1", *_MOVIES.values()),
        users=_dat("users.dat", "latin-1", "user_id", "gender", "age", "occupation", "zip_code"),
        licence=_NOT_PASSED_ON,
        counts=(1_000_209, 6_040, 3_883),
        md5="c4d9eecfca2ab87c1945afe126590906",
    ),
    "ml-10m": Release(
        "ml-10M100K",
        ratings=_dat("ratings.dat", "utf-8", *_RATINGS.values()),
        movies=_dat("movies.dat", "utf-8", *_MOVIES.values()),
        tags=_dat("tags.dat", "utf-8", *_TAGS.values()),
        licence=_NOT_PASSED_ON,
        counts=(10_000_054, 69_878, 10_681),
        md5="ce571fd55effeba0271552578f2648bd",
    ),
    "ml-20m": _csv_release("ml-20m", (20_000_263, 138_493, 27_278), "cd245b17a1ae2cc31bb14903e1204af3"),
    "ml-25m": _csv_release("ml-25m", (25_000_095, 162_541, 62_423), "6b51fb2759a8657d3bfcbfc42b592ada"),
    "ml-32m": _csv_release("ml-32m", (32_000_204, 200_948, 87_585), "d472be332d4daa821edc399621853b57"),
    "ml-latest": _csv_release("ml-latest"),
    "ml-latest-small": _csv_release("ml-latest-small"),
}
# A release that changes is checked by the README in its folder; without one, it must be the edition known here.
EDITIONS = {"ml-latest-small": (100_836, 610, 9_742)}  # of 2018-09


def get_release(name: str) -> Release:
    """Look up a release.

    Raises:
        PlumError: for an unknown name, with the nearest known one.
    """
    if name not in RELEASES:
        near = difflib.get_close_matches(name, RELEASES, n=1)
        fix = f"did you mean {near[0]}?" if near else "pick one of them"
        raise PlumError(f"unknown MovieLens release {name!r}", f"known: {', '.join(sorted(RELEASES))}", fix)
    return RELEASES[name]


def find_release(path: Path, name: str) -> Path | None:
    """Find the folder or zip of a release.

    Args:
        path: the folder of the release, its zip, or a folder that holds either.
        name: a key of ``RELEASES``.

    Returns:
        The folder that holds the ratings file, or the zip; None if neither is there.
    """
    release = get_release(name)
    folders = [path / name, path / release.folder, path / name / release.folder]
    # A bare "ratings.csv" fits many releases: reject a folder that is named after another one.
    if path.name not in {other for other in RELEASES if other != name}:
        folders.insert(0, path)
    for folder in folders:
        if (folder / release.ratings.file).is_file():
            return folder
    if path.is_file():
        return path if path.suffix == ".zip" else None
    zips = [path / f"{name}.zip", path / f"{release.folder}.zip"]
    return next((archive for archive in zips if archive.is_file()), None)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive.

    Raises:
        PlumError: if it is not a zip, or is truncated.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise PlumError(
            f"{path} is not a complete zip archive",
            f"{error} ({path.stat().st_size:,} bytes)",
            "delete it and download it again",
        ) from error


def release_opener(path: Path, name: str) -> Callable[[str], Source | None]:
    """Return a function from file names to sources in a folder or zip; it gives None for a missing file."""
    if path.suffix != ".zip" or path.is_dir():
        return lambda file: Source(path / file) if (path / file).is_file() else None
    with open_zip(path) as archive:
        members = archive.namelist()

    def source(file: str) -> Source | None:
        # Some archives hold the files at the top instead of in the release's folder.
        at = [member for member in members if member == file or member.endswith(f"/{file}")]
        return Source(path, min(at, key=lambda member: member.count("/"))) if at else None

    return source


def load_movielens(
    path: Path,
    release: str,
    *,
    max_bad_share: float = 0.01,
    check_counts: bool = True,
    where: RowFilter | None = None,
) -> RawTables:
    """Read a MovieLens release.

    Items are all movies of the movie file, rated or not; titles keep their year, genres become topics. The extra
    column ``year`` (Int64) comes from the end of the title, because the release dates of ml-100k are of the USA and of
    re-releases: 1996 for Taxi Driver (1976). ``age`` of ml-1m is the lower end of a bracket (1: under 18).

    Args:
        path: the folder of the release, its zip, or a folder that holds either.
        release: a key of ``RELEASES``.
        max_bad_share: share of unusable rows, from 0 to 1, over which a file is refused.
        check_counts: refuse a release whose numbers of ratings, users or movies differ from the published ones.
        where: a rule on the ratings, once they are checked.

    Raises:
        PlumError: if the release isn't there, or a file is damaged, unusable or not as published.
    """
    info, advice = get_release(release), Advice.fetch_again(release)
    opener = _opened(path, release, info)
    items, problems = _movies(opener, info, advice, max_bad_share)
    known = items["item_id"].tolist()
    rows = read_delimited(_there(opener, info.ratings), info.ratings.layout, _RATINGS, advice=advice)
    interactions, rating_problems = check_interactions(
        rows,
        timestamp_unit="s",
        time_advice=advice.columns,
        max_bad_share=max_bad_share,
        rating_required=True,
        known=Known(known, info.movies.file),
    )
    problems += rating_problems
    tables = RawTables(interactions, items, problems=problems, n_rows=rows.n_read)
    if info.users:
        tables.users = _users(_there(opener, info.users), info.users, advice, release, problems)
    if info.tags and (source := opener(info.tags.file)) is not None:
        tables.tags = _tags(source, info, advice, known, max_bad_share, problems)
    if check_counts:
        _check_counts(tables, release, info.counts or _readme_counts(opener) or EDITIONS.get(release))
    tables.interactions, left_out = filtered(tables.interactions, where, info.ratings.file)
    warn(left_out)
    tables.problems += left_out
    return tables


def _opened(path: Path, release: str, info: Release) -> Callable[[str], Source | None]:
    """What opens the files of a release; refuses a folder that has not the main ones."""
    found = find_release(path, release)
    if found is None:
        raise PlumError(
            f"{release} is not in {path}",
            f"neither {release}/{info.ratings.file} nor {release}.zip",
            f"get it with: plum data fetch {release}",
        )
    opener = release_opener(found, release)
    for table in (info.ratings, info.movies):
        if opener(table.file) is None:
            fix = f"this is not {release}, or is incomplete: get it again"
            raise PlumError(f"{found} lacks {table.file}", None, fix)
    return opener


def _there(opener: Callable[[str], Source | None], table: Table) -> Source:
    source = opener(table.file)
    if source is None:
        raise PlumError(f"{table.file} is missing", None, "the release is incomplete: get it again")
    return source


def _movies(
    opener: Callable[[str], Source | None], info: Release, advice: Advice, max_bad_share: float
) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read the movie file: all movies, with genres as topics."""
    source, layout = _there(opener, info.movies), info.movies.layout
    flags = GENRES_100K if layout.names and "Action" in layout.names else ()
    columns = {"item_id": "movieId", "title": "title"} | dict(zip(flags, flags, strict=True)) if flags else _MOVIES
    rows = read_delimited(source, layout, columns, advice=advice)
    items, problems = check_items(rows, topic_separator="|", max_bad_share=max_bad_share)
    if flags:
        marks = items[list(flags)].to_numpy() == "1"
        items["topics"] = as_objects([[g for g, on in zip(flags, row, strict=True) if on] for row in marks])
        items = items.drop(columns=list(flags))
        items["title"] = as_objects([None if title == "unknown" else title for title in items["title"]])
    items["topics"] = as_objects([_genres(topics) for topics in items["topics"]])
    items["year"] = _years(items["title"])
    return items, problems


def _years(titles: pd.Series) -> pd.Series:
    """The years (M,), Int64, at the end of titles (M,); missing if a title has none."""
    found = [_YEAR.search(title) if isinstance(title, str) else None for title in titles]
    return pd.Series([int(match[1]) if match else pd.NA for match in found], index=titles.index, dtype="Int64")


def _genres(topics: Any) -> list[str] | None:
    """Drop the placeholders for "no genre"."""
    return [topic for topic in topics if topic not in _NO_GENRE] or None if isinstance(topics, list) else None


def _users(source: Source, table: Table, advice: Advice, release: str, problems: list[RowProblem]) -> pd.DataFrame:
    """Read ``user_id``, ``age`` (years), ``gender``, ``occupation``, ``zip_code``; adds to ``problems``."""
    rows = read_delimited(source, table.layout, None, advice=advice)
    problems += rows.problems
    warn(rows.problems)
    frame = rows.table.to_pandas()
    try:
        frame["age"] = frame["age"].astype("int64")
        if release == "ml-1m":
            frame["occupation"] = [OCCUPATIONS_1M[int(code)] for code in frame["occupation"]]
    except (ValueError, IndexError) as error:
        raise PlumError(
            f"{source.name}: an age or occupation is not a known number", str(error), advice.columns
        ) from error
    return frame[["user_id", "age", "gender", "occupation", "zip_code"]]


def _tags(
    source: Source,
    info: Release,
    advice: Advice,
    known: list[str],
    max_bad_share: float,
    problems: list[RowProblem],
) -> pd.DataFrame:
    """Read the tags (``user_id``, ``item_id``, ``tag``, ``timestamp``); unusable rows are added to ``problems``."""
    assert info.tags is not None
    rows = read_delimited(source, info.tags.layout, _TAGS, advice=advice)
    frame, found = check_interactions(
        rows,
        timestamp_unit="s",
        time_advice=advice.columns,
        max_bad_share=max_bad_share,
        known=Known(known, info.movies.file),
    )
    frame["tag"] = frame["tag"].map(unescaped).str.strip()
    blank = (frame["tag"] == "").to_numpy()
    if blank.any():
        found.append(
            RowProblem(source.name, "tag is empty", int(blank.sum()), f"user {frame['user_id'][blank].iloc[0]}")
        )
        refuse_many_problems(found[-1:], rows.n_read, max_bad_share)
    problems += found
    return frame.loc[~blank, ["user_id", "item_id", "tag", "timestamp"]].reset_index(drop=True)


def _readme_counts(opener: Callable[[str], Source | None]) -> tuple[int, int, int] | None:
    """Numbers of ratings, users and movies from the README of a release that changes over time; None if not found."""
    for name in ("README.txt", "README.html"):
        source = opener(name)
        if source is None:
            continue
        with damage_reported(source), source.open() as stream:
            text = stream.read().decode("utf-8", errors="replace")
        counted = re.search(r"contains (\d+) ratings and \d+ tag applications across (\d+) movies", text)
        created = re.search(r"created by (\d+) users", text)
        if counted and created:
            return int(counted[1]), int(created[1]), int(counted[2])
    return None


def _check_counts(tables: RawTables, release: str, expected: tuple[int, int, int] | None) -> None:
    """Compare what was read with what was published.

    Raises:
        PlumError: if they differ.
    """
    if expected is None:
        log.info("%s: no published counts to check against", release)
        return
    found = (len(tables.interactions), tables.interactions["user_id"].nunique(), len(tables.items))
    names = ("ratings", "users", "movies")
    wrong = [
        f"{name}: {there:,} instead of {wanted:,}"
        for name, there, wanted in zip(names, found, expected, strict=True)
        if there != wanted
    ]
    if wrong:
        unusable = "; ".join(f"{p.file}: {p.count:,} rows, {p.reason} ({p.example})" for p in tables.problems)
        raise PlumError(
            f"this is not {release} as published",
            "; ".join(wrong) + (f". Unusable: {unusable}" if unusable else ""),
            f"get it again with: plum data fetch {release}",
        )

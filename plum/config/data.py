"""Configuration of the data stage."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from plum.config.base import Part, Section, Seed, Share, UserPath

_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " ", "double-colon": "::"}


def _delimiter(given: str) -> str:
    """A delimiter by its name, or as it stands."""
    text = _DELIMITERS.get(given, given)
    if not text or set(text) & set('\r\n"\0'):
        raise ValueError(f"a delimiter is one or more characters, such as ; or ::, or one of {', '.join(_DELIMITERS)}")
    return text


def _escape(given: str) -> str:
    text = "\\" if given == "backslash" else given
    if len(text) != 1 or not text.isascii() or text.isalnum() or text in " \t\r\n\"',;|\0":
        raise ValueError("an escape is one sign: backslash")
    return text


ColumnName = Annotated[str, Field(coerce_numbers_to_str=True)]
Delimiter = Annotated[str, AfterValidator(_delimiter)]
Escape = Annotated[str, AfterValidator(_escape)]


class RowChoice(Section):
    """Which rows of a log count."""

    where: str | None = None
    """Only rows that satisfy this rule, such as ``rating >= 4 and timestamp >= 2020-01-01``, in the language of rules
    (``docs/rows.md``). Its fields are the columns of the log. The others are counted and left out."""
    min_rating: float | None = None
    """Only rows with this rating or a higher one."""
    deduplicate: Literal["exact", "consecutive", "none"] = "exact"
    """Which repetitions are left out. exact: rows that agree in every column read. consecutive: these, and interactions
    of a user with the item of the interaction just before. none: no row."""


class MovieLensSource(RowChoice):
    """A MovieLens release in its original layout (GroupLens)."""

    kind: Literal["movielens"]
    """Chooses this source."""
    release: Literal["ml-100k", "ml-latest-small", "ml-latest", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m"]
    """The release to read. ``plum data fetch RELEASE`` downloads it to the data home (``PLUM_DATA_HOME``, else
    ``data/``)."""


class AmazonSequencesSource(Section):
    """Amazon 2014 5-core sequences in ``<data home>/amazon-2014``: ``NAME.txt``, and the attributes, titles and days
    that lie beside it (``docs/data-files.md``).
    """

    kind: Literal["amazon-sequences"]
    """Chooses this source."""
    name: str
    """The NAME in the file names, such as ``Beauty``."""


class AmazonReviewsSource(RowChoice):
    """Raw Amazon reviews and product metadata of 2014, 2018 or 2023, as JSON Lines, plain or ``.gz``; reviews also as
    CSV of ratings only.
    """

    kind: Literal["amazon-reviews"]
    """Chooses this source."""
    reviews: UserPath
    """The file of reviews; its first line tells the year's layout."""
    metadata: UserPath | None = None
    """The file of product metadata. Without it, items have no title, topics, creator or description."""


class LogsSource(RowChoice):
    """Your own logs: CSV, TSV, other text with a delimiter, JSON Lines (each also as ``.gz``, ``.bz2``, ``.xz`` or
    ``.zst``), or Parquet.
    """

    kind: Literal["logs"]
    """Chooses this source."""
    interactions: UserPath
    """The log, one interaction per row: user_id, item_id and timestamp, optionally rating and reward. A file, a folder
    of parts, or a pattern such as ``log/part-*.parquet``."""
    layout: Literal["rows", "sequences"] = "rows"
    """rows: one interaction per row. sequences: text with one line per user, the user and then the user's items in
    order, without header or times."""
    in_data_home: bool = False
    """Whether ``interactions``, ``items`` and ``users`` are paths below the data home (``PLUM_DATA_HOME``, else
    ``data/``)."""
    items: UserPath | None = None
    """The catalogue, one item per row: item_id, optionally title, topics, creator, description and further columns.
    Without it, the catalogue is the items of the log."""
    unlisted_items: Literal["drop", "keep"] = "drop"
    """Interactions with items that ``items`` lacks. drop: they are unusable. keep: their items join the catalogue,
    without content."""
    users: UserPath | None = None
    """User attributes, one user per row. Stage eval reports metrics by them."""
    columns: dict[str, ColumnName] = Field(default_factory=dict)
    """Plum's column name -> yours, for ``interactions`` (and ``user_id`` in ``users``); omit names that agree. A name
    that plum does not know adds your column as an extra one. ``rating: ''`` leaves out a column of that name."""
    item_columns: dict[str, ColumnName] = Field(default_factory=dict)
    """Plum's column name -> yours, for ``items``; omit names that agree. Of the other columns of the file,
    the first 100 are kept too."""
    topic_separator: str = "|"
    """What separates the topics of an item if the file holds them as one text; lists, real or written as text, need
    none."""
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns", "iso", "position"] = "auto"
    """``s``, ``ms``, ``us`` or ``ns`` since 1970; ``iso`` for dates (UTC if no zone is given); ``auto`` reads each row
    by its form, and refuses what may be none of these. ``position``: the order of the rows is the order of each user's
    interactions, and no timestamp is read."""
    timestamp_format: str | None = None
    """Layout of the times for ``strptime``, such as ``%d/%m/%Y %H:%M``, where ``auto`` can't tell it."""
    encoding: str = "utf-8"
    """Encoding of the text files, such as ``cp1252`` or ``latin-1``."""
    delimiter: Delimiter | None = None
    """What separates the fields of text: one or more characters such as ``;`` or ``::``, or ``tab``, ``comma``,
    ``semicolon``, ``bar``, ``space``, ``double-colon``. Default: comma in .csv, tab in .tsv and in RecBole's .inter,
    .item and .user, else recognised by the first lines (.dat, .txt, ...). A file whose suffix names another separator,
    and whose first line lacks this one, keeps its own. With layout sequences it holds for the log alone, and the
    default there is comma in .csv, else blanks and tabs."""
    quoting: Literal["auto", "double", "single", "none"] = "auto"
    """Whether values may stand in quotes, and then hold delimiters and line ends. ``none``: quotes are plain text.
    ``auto``: double quotes in .csv; in other text, quotes are plain text unless the file was clearly written with
    them."""
    escape: Escape | None = None
    """A character that takes the next one literally, besides the doubling of quotes: ``backslash`` (or ``\\``) for
    files that Spark or MySQL wrote."""
    header: bool = True
    """Whether the first line of delimited text names the columns. If not, columns are called by their place, from 1:
    ``columns: {user_id: 1, item_id: 2, timestamp: 4}``. A file whose first line holds the names of all mapped columns
    has a header all the same. A log in layout sequences never has one: this holds for its items and users."""


class SyntheticSource(Section):
    """Made-up data with a planted truth, so that the best reachable recall is known."""

    kind: Literal["synthetic"]
    """Chooses this source."""
    n_users: Annotated[int, Field(ge=1, le=10**7)] = 2000
    """Number of users."""
    n_items: Annotated[int, Field(ge=1, le=10**5)] = 300
    """Number of items in the catalogue. Time grows with its square."""
    seed: Seed = 0
    """Seed of the generator, independent of the run's seed."""


Source = Annotated[
    MovieLensSource | AmazonSequencesSource | AmazonReviewsSource | LogsSource | SyntheticSource,
    Field(discriminator="kind"),
]
SOURCES: dict[str, type[Section]] = {
    get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(get_args(Source)[0])
}


class SplitConfig(Section):
    """Which interactions train, validate and test."""

    protocol: Literal["leave-one-out", "temporal"] = "leave-one-out"
    """leave-one-out: each user's last interaction is the test, the one before it the validation. temporal: two
    cut-off times, the same for all users, as in the PLUM paper; use it to measure how well a model predicts what
    comes later. There, all that is fitted or counted (vocabularies, scales, codebooks, item texts) comes from the
    items that have a training interaction; the others get their vectors and Semantic IDs as new items do."""
    valid_share: Part = 0.1
    """temporal: share of the interactions, by time, in the validation set."""
    test_share: Part = 0.1
    """temporal: share of the interactions, by time, in the test set."""
    ties: Literal["shuffle", "keep"] = "shuffle"
    """Tie-breaking between a user's interactions at the same time, to its last digit: a seeded shuffle, or the input's
    order. Use ``keep`` only if the log was written in order."""
    seed: Seed = 0
    """Seed of that shuffle, separate from the run's seed: runs with other seeds keep the same test set."""
    k_core_users: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Drop users with fewer interactions, repeatedly, together with ``k_core_items``; 0 keeps all. Under the temporal
    protocol only training interactions count."""
    k_core_items: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Drop items with fewer interactions, likewise; 0 keeps all."""


class DataConfig(Section):
    """Stage data: source, checks and split."""

    source: Source
    """Where the data come from; its ``kind`` chooses one of the sources."""
    split: SplitConfig = SplitConfig()
    """How interactions are divided into training, validation and test sets."""
    max_bad_share: Share = 0.01
    """Stop if a larger share of a file's rows is unusable. Rows below that share are left out and reported."""
    tags_as_text: bool = True
    """Append users' free-text tags to the item's description (MovieLens). Tags on validation and test interactions
    are left out."""

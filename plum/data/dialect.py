"""How delimited text is laid out: separator, quotes, escape and header, as given, by the suffix, or recognised."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from plum.data.files import OTHERWISE_PACKED, PACKED, Source, looks_like_data
from plum.data.lines import lines
from plum.errors import PlumError

log = logging.getLogger(__name__)

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
JSON_LINES, PARQUET = "jsonl", "parquet"
RECOGNISED = ""
"""In place of a separator: it is recognised by the first lines."""
QUOTES = {"double": '"', "single": "'", "none": None}
TYPED = re.compile(r"(.+):(token|token_seq|float|float_seq)")
"""A column's name in RecBole's atomic files."""
_TEXT = frozenset({".dat", ".txt", ".data", ".base", ".test", ".link", ".net", ".kg"})
_WORDS = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " ", "double-colon": "::"}
_AS_PARQUET, _AS_CSV = "write the table as Parquet", "save the table as CSV"
_CONVERTED = {
    ".json": "rename it to {stem}.jsonl if each line is an object; an array: jq -c '.[]' {name} > {stem}.jsonl",
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), _AS_CSV),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".h5", ".hdf5", ".pkl", ".pickle", ".rds"), _AS_PARQUET),
}
_ID = re.compile(r"[\w.-]+")
_CANDIDATES = ("\t", "::", ";", "|", ",", " ")
_LOOKED_AT = 20
_SUFFIXES = "csv, tsv, jsonl, dat, txt, inter, item, user (each also with .gz, .bz2, .xz or .zst) and parquet"


@dataclass(frozen=True)
class Delimited:
    """How a text file is laid out.

    Args:
        separator: between fields; more than one character, such as ``::``, is allowed.
        encoding: of the text.
        quoted: whether fields may be in quotes (and then hold separators and line ends).
        names: the columns of a file without a header line.
        quote: the character of quotes.
        escape: a character that takes the next one literally, besides the doubling of quotes.
        typed: whether the names of the header end in a type, as ``user_id:token``.
        may_be_quoted: whether the file is read with quotes after all if its fields can't have been written without.
    """

    separator: str = ","
    encoding: str = "utf-8"
    quoted: bool = True
    names: tuple[str, ...] | None = None
    quote: str = '"'
    escape: str | None = None
    typed: bool = False
    may_be_quoted: bool = False


@dataclass(frozen=True)
class Dialect:
    """What a user says of the layout of all text files together.

    Args:
        delimiter: between fields; None: as the suffix says, else recognised. A file whose first line lacks it has the
            one of its suffix.
        quoting: ``double`` or ``single`` quotes may enclose fields; ``none``: they are plain text; ``auto``: double in
            .csv, elsewhere where the header or the doubled quotes inside of values show that all quotes enclose some.
        escape: a character that takes the next one literally.
        header: whether the first line holds names; if not, columns are called ``1``, ``2``, ...
    """

    delimiter: str | None = None
    quoting: str = "auto"
    escape: str | None = None
    header: bool = True


def word_for(separator: str) -> str:
    """A separator as a value of ``--set``: its name if it has one."""
    return next((word for word, meant in _WORDS.items() if meant == separator), repr(separator))


def file_format(path: Path, delimiter: str | None = None) -> str:
    """The format that a file's suffix names: ``JSON_LINES``, ``PARQUET``, a separator, or ``RECOGNISED``.

    Args:
        path: the file.
        delimiter: what is known to separate its fields; any suffix without a meaning is text then.

    Raises:
        PlumError: for a folder, an unknown suffix, and a packing that is not read.
    """
    packed = path.suffix.lower() in PACKED
    suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if suffix in SEPARATORS:
        return SEPARATORS[suffix]
    if suffix in (".jsonl", ".ndjson"):
        return JSON_LINES
    if suffix in (".parquet", ".pq") and not packed:
        return PARQUET
    if path.is_dir():
        raise PlumError(f"{path} is a folder, not a file", None, "name the file")
    if suffix in (".parquet", ".pq"):
        raise PlumError(f"{path.name}: Parquet is packed inside, not as a whole", None, "unpack the file")
    if suffix in OTHERWISE_PACKED:
        unpack = f"unpack it: {OTHERWISE_PACKED[suffix]} {path.name}"
        raise PlumError(f"{path.name}: plum does not unpack {suffix}", f"known: {_SUFFIXES}", unpack)
    if suffix in _TEXT or delimiter is not None:
        return RECOGNISED
    fix = "convert or rename the file; if it is text, say what separates its fields: --set data.source.delimiter=..."
    if suffix in _CONVERTED:
        fix = _CONVERTED[suffix].format(stem=path.name[: len(path.name) - len(suffix)], name=path.name)
    raise PlumError(f"{path.name}: unknown format {path.suffix!r}", f"known: {_SUFFIXES}", fix)


def layout_of(source: Source, encoding: str, dialect: Dialect, wanted: Collection[str] = ()) -> Delimited:
    """The layout of a text file.

    Args:
        source: the file.
        encoding: of the text.
        dialect: what the user says.
        wanted: columns that a header would name; if the dialect says that there is no header, but the first line holds
            all of these, it is one.

    Raises:
        PlumError: if no separator can be recognised; and as :func:`plum.data.lines.lines`.
    """
    head = [line.rstrip("\r\n") for line in islice(lines(source, encoding), _LOOKED_AT)]
    head = [line for line in head if line]
    first = head[0] if head else ""
    named = file_format(source.path, dialect.delimiter)
    separator = _separator(source, named, dialect.delimiter, head)
    quote = _quote(dialect.quoting, separator, first, named)
    fields = [field.strip(quote or "") for field in first.split(separator)]
    typed = bool(fields) and all(TYPED.fullmatch(field) for field in fields)
    headless = not dialect.header and bool(first) and not (typed or (wanted and set(wanted) <= set(fields)))
    return Delimited(
        separator,
        encoding,
        quoted=quote is not None,
        names=tuple(str(place) for place in range(1, len(fields) + 1)) if headless else None,
        quote=quote or '"',
        escape=dialect.escape,
        typed=typed,
        may_be_quoted=quote is None and dialect.quoting == "auto",
    )


def without_types(names: Sequence[str], layout: Delimited) -> tuple[list[str], dict[str, str]]:
    """The names of a header without RecBole's types, and name -> type; nothing changes in other headers."""
    if not layout.typed:
        return list(names), {}
    pairs = [(match[1], match[2]) if (match := TYPED.fullmatch(name)) else (name, "") for name in names]
    return [name for name, _ in pairs], dict(pairs)


def _separator(source: Source, named: str, given: str | None, head: Sequence[str]) -> str:
    if given is not None and (not head or given in head[0] or named in (RECOGNISED, given)):
        return given
    if given is not None:
        log.info("%s: no %r in its first line; read as its suffix says", source.name, given)
    typed = bool(head) and ":token" in head[0]
    if named != RECOGNISED and not (typed and named not in head[0]):
        return named
    found = _recognised(head)
    if found is None:
        if not head:
            return ","  # an empty file, which the reader refuses
        fix = "name it: --set data.source.delimiter=..."
        if looks_like_sequences(head):
            fix = "if a line is a user and this user's items: --set data.source.layout=sequences; else " + fix
        raise PlumError(
            f"{source.name}: what separates its fields can't be recognised", f"line 1: {head[0][:60]!r}", fix
        )
    return found


def looks_like_sequences(head: Sequence[str]) -> bool:
    """Whether first lines seem to be a user and this user's items each, separated by blanks or tabs.

    Then users are all different, and lines hold different numbers of fields, but at least one item.

    Example:
        >>> looks_like_sequences(["1 7 8 9", "2 7 3"]), looks_like_sequences(["u i t", "1 7 88", "1 8 99"])
        (True, False)
    """
    separator = "\t" if head and "\t" in head[0] else " "
    fields = [line.strip().split(separator) for line in head]
    ids = all(_ID.fullmatch(field) for line in fields for field in line)
    lengths = {len(line) for line in fields}
    return ids and len({line[0] for line in fields}) == len(fields) and len(lengths) > 1 and min(lengths) > 1


def _recognised(head: Sequence[str]) -> str | None:
    """The separator that comes equally often in all of the first lines; among several, the more telling one."""
    for candidate in _CANDIDATES:
        counts = {line.count(candidate) for line in head}
        if len(counts) == 1 and counts != {0}:
            return candidate
    # In text with quotes or stray separators, counts differ from line to line: the header's separator is in all lines.
    return next((one for one in _CANDIDATES[:-1] if head and all(one in line for line in head)), None)


def _quote(quoting: str, separator: str, first: str, named: str) -> str | None:
    if quoting != "auto":
        return QUOTES[quoting]
    if named == ",":
        return '"'
    fields = first.split(separator)
    in_quotes = [len(field) > 1 and field[0] == field[-1] == '"' for field in fields]
    header_quoted = all(in_quotes) and bool(fields) and not looks_like_data(field.strip('"') for field in fields)
    return '"' if header_quoted or (separator in ",;" and any(in_quotes)) else None

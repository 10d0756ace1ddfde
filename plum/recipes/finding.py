"""A look at a log and its item table: format, encoding, columns, time unit, separators; or what is not clear."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plum.data.dialect import PARQUET, RECOGNISED, SEPARATORS, file_format, looks_like_sequences
from plum.data.files import is_file, missing_file
from plum.data.parts import find_parts, is_pattern
from plum.data.sample import Sample, first_lines, guess_encoding, read_sample
from plum.data.times import AUTO
from plum.errors import PlumError
from plum.recipes import names
from plum.recipes.columns import NEEDED, Roles, TimeWay, Undecided, log_roles, looks_of
from plum.recipes.fields import DEFAULT_SEPARATOR, id_sets, item_roles, topic_separator
from plum.recipes.values import MIXED, Look, id_text
from plum.rules.language import spell_field

LOG_ROWS, ITEM_ROWS = 20_000, 100_000
"""Rows that are looked at."""
_SEPARATED_BY = {"\t": "tabs", "::": "'::'", ";": "semicolons", "|": "bars", ",": "commas"}
_MOST_NAMED = 8
"""Columns, at most, of a file without names for which names are guessed."""
_MOST_PARTS = 100
"""Parts of a log, at most, whose columns are compared."""
_FORMATS = "plum reads .csv, .tsv, .dat, .txt, .inter, .jsonl (each also as .gz, .bz2, .xz, .zst) and .parquet"


@dataclass(frozen=True)
class Found:
    """What the files hold.

    Attributes:
        log, items: the files.
        log_roles, item_roles: their columns.
        encoding: of the text.
        times: how the times are read.
        topic_separator: between the topics of a text.
        notices: what a user should know.
        layout: settings of quotes and rows, where the usual ones don't read the log.
    """

    log: Path
    items: Path | None
    log_roles: Roles
    item_roles: Roles | None
    encoding: str
    times: TimeWay
    topic_separator: str
    notices: tuple[str, ...]
    layout: Mapping[str, str] = field(default_factory=dict)

    def source(self) -> dict[str, Any]:
        """The section ``data.source`` of a configuration, without what is the default."""
        columns = self.log_roles.mapping() | dict.fromkeys(self.log_roles.left_out(), "")
        section: dict[str, Any] = {"kind": "logs", "interactions": str(self.log), "columns": columns}
        if self.item_roles is not None:
            section |= {"items": str(self.items), "item_columns": self.item_roles.mapping()}
            if self.topic_separator != DEFAULT_SEPARATOR:
                section["topic_separator"] = self.topic_separator
        section |= {"timestamp_unit": self.times.unit, **self.layout}
        if self.times.layout is not None:
            section["timestamp_format"] = self.times.layout
        return section if self.encoding == "utf-8" else section | {"encoding": self.encoding}


def find(
    log: Path,
    items: Path | None = None,
    columns: Mapping[str, str] | None = None,
    item_columns: Mapping[str, str] | None = None,
    times: TimeWay | None = None,
) -> Found:
    """Look at the first rows of a log, and of an item table.

    Args:
        log: the interactions: a file, a folder of parts or a pattern.
        items: the item table, if there is one.
        columns, item_columns: our name -> the file's name, where the user has decided.
        times: how to read the times, likewise.

    Raises:
        PlumError: for files that plum can't read, and for columns that can't be told; all of these at once.
    """
    parts = _parts(log)
    encoding = _encoding(parts if items is None else [*parts, items])
    _refuse_sequences(parts[0])
    log_sample = _sample(max(parts, key=lambda part: part.stat().st_size), LOG_ROWS, encoding)
    item_sample = None if items is None else _sample(items, ITEM_ROWS, encoding)
    item_looks = looks_of(item_sample) if item_sample else {}
    ids = id_sets(item_sample, item_looks) if item_sample else []
    roles = log_roles(log_sample, columns or {}, ids, times)
    of_items, problems = None, [(log, "--column", entry) for entry in roles.undecided]
    separator = DEFAULT_SEPARATOR
    if items is not None and item_sample is not None and "item_id" in roles.chosen:
        log_column = roles.chosen["item_id"].look.name
        log_items = {id_text(value) for value in log_sample.columns[log_column] if value is not None}
        of_items = item_roles(item_sample, item_looks, item_columns or {}, log_column, log_items)
        problems += [(items, "--item-column", entry) for entry in of_items.undecided]
        if "topics" in of_items.chosen:
            separator = topic_separator(item_sample.columns[of_items.chosen["topics"].look.name])
    elif item_columns and items is None:
        raise PlumError("--item-column names a column of the item table", "there is no --items", "give --items FILE")
    if problems:
        raise _unclear(problems, roles, log_sample)
    notices = (*roles.notices, *(of_items.notices if of_items else ()), *_notices(log_sample, roles, items))
    if times is None:  # numbers that are no dates give an order, whatever the unit
        seen = roles.chosen["timestamp"].look
        times = TimeWay("s" if seen.kind in ("integer", "number") and seen.refusal is None else AUTO)
    return Found(log, items, roles, of_items, encoding, times, separator, notices)


def _parts(log: Path) -> list[Path]:
    """The files of a log.

    Raises:
        PlumError: for a folder of tables with different columns: which of them is the log?
    """
    if not (is_pattern(log) or log.is_dir()):
        return [log]
    parts = [part for part in find_parts(log, file_format) if part.stat().st_size]
    if not parts:
        raise PlumError(f"{log}: all parts are empty", None, "check what wrote them")
    headers = {tuple(read_sample(part, 1, "latin-1").columns) for part in parts[:_MOST_PARTS]}
    if len(headers) > 1:
        raise _several(log, parts)
    return parts


def _refuse_sequences(path: Path) -> None:
    """Refuse a log with a line per user, which has no columns to find, and say how it is read.

    Raises:
        PlumError: with the settings.
    """
    if file_format(path) in (RECOGNISED, "\t") and looks_like_sequences(lines := first_lines(path, 20)):
        raise PlumError(
            f"{path.name} has a line per user, and plum init looks for columns",
            f"line 1: {lines[0][:60]!r}",
            f"write a pipeline with data.source: {{kind: logs, layout: sequences, interactions: {path}}}, and items if "
            "there is a table of them; docs/data-files.md and pipelines/games.yaml show how",
        )


def _sample(path: Path, n_rows: int, encoding: str) -> Sample:
    sample = read_sample(path, n_rows, encoding)
    if not sample.header:
        raise _not_a_table(path, first_lines(path))
    if len(sample.columns) == 1 and path.suffix.lower() != ".jsonl":
        name = next(iter(sample.columns))
        if any(separator in name for separator in ";|\t,"):
            raise _not_a_table(path, first_lines(path))
        raise PlumError(f"{path.name} has a single column", repr(name), "a log needs a user, an item and a time")
    if not sample.n_rows:
        raise PlumError(f"{path.name} has no row", f"its columns: {', '.join(sample.columns)}", "check what wrote it")
    return sample


def _encoding(paths: list[Path]) -> str:
    """The encoding of the text files together.

    Raises:
        PlumError: if a format is unknown, or the files have different encodings.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            raise PlumError(f"{path} is a folder", None, "name the file of the items")
        if not is_file(path):
            raise missing_file(path)
        if not path.stat().st_size:
            raise PlumError(f"{path.name} is empty", "0 bytes", f"check what wrote {path}")
        try:
            kind = file_format(path)
        except PlumError:
            raise _not_a_table(path, first_lines(path)) from None
        encoding = None if kind == PARQUET else guess_encoding(path)
        if encoding is not None:
            found.setdefault(encoding, path)
    if len(found) > 1:
        listed = ", ".join(f"{path.name} is {encoding}" for encoding, path in found.items())
        raise PlumError("the files have different encodings", listed, "save all of them as UTF-8")
    return next(iter(found), "utf-8")


def _several(path: Path, tables: list[Path]) -> PlumError:
    shown = ", ".join(table.name for table in tables[:8]) + (", ..." if len(tables) > 8 else "")
    fix = "name the file with the interactions, and the items by --items"
    return PlumError(f"{path} is a folder with tables of different columns", f"tables in it: {shown}", fix)


def _not_a_table(path: Path, lines: list[str]) -> PlumError:
    """What is wrong with a text file that plum can't read as it stands, and the command that makes it readable."""
    if not lines:
        return PlumError(f"{path.name} is no table that plum reads", "no text", _FORMATS)
    if lines[0].lstrip()[:1] in ("{", "["):
        fix = f"rename it to {path.stem}.jsonl if each line is a JSON object; a JSON array: jq -c '.[]' {path.name}"
        return PlumError(f"{path.name}: the suffix says no format that plum reads", f"JSON: {lines[0][:60]!r}", fix)
    separator = max(_SEPARATED_BY, key=lambda one: (lines[0].count(one) * len(one), one == "::"))
    if separator not in lines[0]:
        return PlumError(f"{path.name} is no table that plum reads", f"line 1: {lines[0][:60]!r}", _FORMATS)
    return _convertible(path, lines[0], separator)


def _convertible(path: Path, line: str, separator: str) -> PlumError:
    from plum.data.files import looks_like_data

    fields = line.split(separator)
    headless = looks_like_data(fields)
    suffix = path.suffix.lower() if path.suffix.lower() in SEPARATORS else ".tsv"
    ending = suffix if separator == SEPARATORS[suffix] else ".tsv"
    made = f"{path.name.split('.')[0]}{'-named' if ending == path.suffix.lower() else ''}{ending}"
    given = shlex.quote(str(path))
    read = f"gzip -dc {given}" if path.suffix == ".gz" else f"cat {given}"
    if separator != SEPARATORS[ending]:
        rewrite = f"csv.writer(sys.stdout,delimiter='\\t').writerows(csv.reader(sys.stdin,delimiter='{separator}'))"
        read += f' | python3 -c "import csv,sys; {rewrite}"'
    lacks = "has no line of column names" if headless else "is not separated as its suffix says"
    what = f"{path.name} {lacks}, and plum init can't read it as it stands"
    found = f"text separated by {_SEPARATED_BY[separator]}; line 1: {line[:60]!r}"
    if not headless:
        return PlumError(what, found, f"run\n    {read} > {made}\n    plum init {made}")
    if len(fields) > _MOST_NAMED:
        return PlumError(what, found, "put a first line with the names of the columns, separated as the values are")
    header = _sep(ending).join(_header_guess(fields))
    guessed = "put names above the columns (which is the user and which the item is a guess), for example:"
    return PlumError(what, found, f"{guessed}\n    (printf '{header}\\n'; {read}) > {made}\n    plum init {made}")


def _sep(ending: str) -> str:
    return {"\t": "\\t", ",": ","}[SEPARATORS[ending]]


def _header_guess(fields: list[str]) -> list[str]:
    """Names for the columns of a file without any: two ids first, then by the value."""
    found: list[str] = []
    for place, value in enumerate(fields):
        number = float(value) if value.strip().replace(".", "", 1).isdigit() else None
        if "timestamp" not in found and (value[4:5] == "-" or (number or 0) > 3e8) and place > 0:
            found.append("timestamp")
        elif "user_id" not in found:
            found.append("user_id")
        elif "item_id" not in found:
            found.append("item_id")
        elif "rating" not in found and number is not None and number <= 10:
            found.append("rating")
        else:
            found.append(f"column_{place + 1}")
    return found


def _unclear(problems: list[tuple[Path, str, Undecided]], roles: Roles, sample: Sample) -> PlumError:
    """Everything that could not be decided, with the candidates and the options that settle it."""
    looks = roles.looks
    if not {"user_id", "timestamp"} & set(roles.chosen) and _is_item_table(looks):
        listed = f"no user and no time among its columns: {', '.join(looks)}"
        fix = "give the log first and this table by --items: plum init LOG --items " + shlex.quote(str(sample.path))
        return PlumError(f"{sample.path.name} looks like a table of items, not like a log", listed, fix)
    open_roles = list(dict.fromkeys(entry.role for _, _, entry in problems))
    found, fixes = [], []
    problems, both = _user_or_item(problems)
    if both:
        a, b = (shlex.quote(seen.name) for seen in both)
        found.append(f"no column name tells the user from the item: {both[0].name} or {both[1].name}")
        found += [f"    {seen.name}: {seen.in_words()}" for seen in both]
        fixes.append(f"--column user_id={a} --column item_id={b}, or the other way round")
    for path, option, entry in problems:
        found.append(f"{path.name}: {entry.found}")
        found += [f"    {seen.name}: {seen.in_words()}" for seen in entry.candidates]
        if entry.note:
            fixes.append(entry.note)
        if entry.candidates:
            fixes.append(" or ".join(f"{option} {entry.role}={shlex.quote(seen.name)}" for seen in entry.candidates))
        elif not entry.note:
            fixes.append(f"{option} {entry.role}=COLUMN")
    what = f"plum can't identify these columns: {', '.join(open_roles)}"
    others = [name for name in looks if name not in roles.taken]
    found.append(f"columns of {sample.path.name} without a role: {', '.join(others) or 'none'}")
    return PlumError(what, "\n    ".join(found), "\n    ".join(fixes))


def _user_or_item(
    problems: list[tuple[Path, str, Undecided]],
) -> tuple[list[tuple[Path, str, Undecided]], list[Look]]:
    """Take user and item out of the problems if they are the same two columns in one order or the other."""
    two = [entry for _, _, entry in problems if entry.role in ("user_id", "item_id") and len(entry.candidates) == 2]
    if len(two) < 2 or [*two[0].candidates] != [*two[1].candidates]:
        return problems, []
    return [problem for problem in problems if problem[2] not in two], [*two[0].candidates]


def _is_item_table(looks: Mapping[str, Look]) -> bool:
    fields = {name for known in names.FIELDS.values() for name in known}
    return any(names.plain(name) in fields for name in looks)


def _notices(sample: Sample, roles: Roles, items: Path | None) -> list[str]:
    """What the log's first rows say that changes how a run is to be read."""
    notices, looks = [], roles.looks
    if missing := [role for role in NEEDED if role not in roles.chosen]:
        raise ValueError(f"open roles were not refused: {missing}")
    if "timestamp" in roles.chosen and roles.chosen["timestamp"].look.unit == MIXED:
        name = roles.chosen["timestamp"].look.name
        notices.append(f"{name!r} holds times in several forms or units; each row is read by its own.")
    for seen in looks.values():
        if names.plain(seen.name) in names.EVENTS and seen.name not in roles.taken and 1 < seen.n_distinct <= 20:
            kinds = sorted({str(value) for value in sample.columns[seen.name] if value is not None})
            shown = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
            notices.append(
                f"{seen.name!r} tells kinds of events apart ({shown}): plum counts every row as one interaction. Keep "
                "only the kinds that you want recommended with data.source.where: "
                f"{spell_field(seen.name)} = KIND."
            )
    rating = roles.chosen.get("rating")
    if rating is not None and rating.look.low < 0:
        notices.append(
            f"{rating.look.name!r} has values below 0: dislikes count as interactions too. Leave them out with "
            "data.source.where: rating > 0."
        )
    if items is None:
        fields = {name: field for field, known in names.FIELDS.items() for name in known}
        text = [seen.name for seen in looks.values() if names.plain(seen.name) in fields and seen.kind == "text"]
        text = [name for name in text if name not in roles.taken]
        if text:
            notices.append(
                f"{', '.join(map(repr, text))} may be item content: plum reads it from a table of items (--items), not "
                "from the log."
            )
    return notices

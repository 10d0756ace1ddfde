"""Which columns of a file are read: by the user's mapping, under our own names, and how many further ones."""

from __future__ import annotations

import difflib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from plum.data.dialect import word_for
from plum.data.files import Advice, Source, looks_like_data
from plum.errors import PlumError

log = logging.getLogger(__name__)

MOST_FURTHER = 100
"""Columns that no one has named, at most, that are read from a file."""
_SHOWN = 20
_COMPARED = 1000  # names among which the nearest one is looked for


@dataclass(frozen=True)
class Picked:
    """Columns to read, our name -> the file's name: those asked for by name, and the extra ones."""

    asked: dict[str, str]
    extras: dict[str, str]

    @property
    def all(self) -> dict[str, str]:
        """Both together."""
        return self.asked | self.extras


def pick_columns(
    source: Source,
    names: list[str],
    columns: Mapping[str, str] | None,
    optional: Collection[str],
    extras: Mapping[str, str] | None,
    advice: Advice,
) -> Picked:
    """Pick the columns to read; args as in :func:`plum.data.readers.read_delimited`.

    Raises:
        PlumError: as :func:`resolve_columns`.
    """
    if columns is None:
        columns = {name: name for name in names[:MOST_FURTHER]}
        _tell_left_out(source, names[MOST_FURTHER:], len(names), advice)
    picked = resolve_columns(source, names, {**columns, **(extras or {})}, optional, advice)
    further = {} if extras is None else further_columns(source, names, picked, advice)
    mapped = {ours: picked[ours] for ours in extras or ()}
    return Picked({ours: theirs for ours, theirs in picked.items() if ours not in mapped}, mapped | further)


def listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    """Names in quotes for a message, not all of them if there are many."""
    all_names = list(names)
    more = f", ... ({len(all_names):,} in all)" if len(all_names) > shown else ""
    return ", ".join(map(repr, all_names[:shown])) + more


def resolve_columns(
    source: Source, names: list[str], columns: Mapping[str, str], optional: Iterable[str], advice: Advice
) -> dict[str, str]:
    """Pick the columns that are asked for.

    Args:
        source: the file, for messages.
        names: the file's columns.
        columns: our name -> the file's name; each must be there.
        optional: our names that are read under the same name if the file has them.
        advice: what to do if one is missing.

    Returns:
        Our name -> the file's name, of the columns that are there.

    Raises:
        PlumError: for missing columns (all at once, each with the nearest name there is), for a file without a header
            line, and for a wanted name that the header repeats.
    """
    times = Counter(names)
    missing = {ours: theirs for ours, theirs in columns.items() if theirs not in times}
    if missing:
        raise _missing(source, names, columns, missing, advice)
    picked = dict(columns) | {name: name for name in optional if name in times and name not in columns}
    twice = sorted({theirs for theirs in picked.values() if times[theirs] > 1})
    if twice:
        raise PlumError(f"{source.name}: column {twice[0]!r} is twice in the header", None, "rename one of them")
    return picked


def _missing(
    source: Source, names: list[str], columns: Mapping[str, str], missing: Mapping[str, str], advice: Advice
) -> PlumError:
    """The error for columns that are not there: no header, another separator or quotes, or other names."""
    by_place = names == [str(place) for place in range(1, len(names) + 1)]
    if looks_like_data(names) and not by_place:
        header = f"put a first line with the column names, such as: {','.join(columns.values())}"
        return PlumError(
            f"{source.name} has no header line",
            f"line 1 holds values, not names: {listed(names, 6)}",
            header + (f"; {advice.header}" if advice.header else ""),
        )
    if names and names[0].lower().startswith("sep="):
        fix = "delete this line, and name what separates the fields in data.source.delimiter"
        return PlumError(f"{source.name}: line 1 is a note for Excel, not the names", repr(names[0][:40]), fix)
    if len(names) == 1 and (other := re.search(r"::|[;|\t,]", names[0])):
        return PlumError(
            f"{source.name}: its fields seem to be separated by {other[0]!r}",
            f"line 1: {names[0][:120]!r}",
            "separate fields by commas in .csv files and by tabs in .tsv files, or name what separates them: "
            f"--set data.source.delimiter={word_for(other[0])}",
        )
    wanted = ", ".join(f"{theirs!r}" + (f" (our {ours})" if ours != theirs else "") for ours, theirs in missing.items())
    lower = {name.lower(): name for name in names[:_COMPARED]}
    hints = []
    for ours, theirs in missing.items():
        near = [m for wish in (theirs, ours) for m in difflib.get_close_matches(wish.lower(), lower, n=1, cutoff=0.5)]
        if near:
            hints.append(f"did you mean {lower[near[0]]!r} for {ours}?")
    quotes = any(name[:1] == name[-1:] == '"' for name in names)
    hints += ["The names stand in quotes: --set data.source.quoting=double takes these away."] if quotes else []
    hints += ["Without a header line, columns are named by their place."] if by_place else []
    return PlumError(
        f"{source.name}: no column {wanted}", f"its columns: {listed(names)}", " ".join([*hints, advice.columns])
    )


def further_columns(source: Source, names: list[str], picked: Mapping[str, str], advice: Advice) -> dict[str, str]:
    """Pick the remaining columns, which keep their names.

    Args:
        source: the file, for messages.
        names: the file's columns.
        picked: our name -> the file's name, of the columns picked by name.
        advice: how to name a column.

    Returns:
        Name -> name, of at most ``MOST_FURTHER``. Columns without a name, with a repeated name, or with one of our
        names that is mapped to another column are left out with a warning, and so is what is too many.
    """
    times, taken = Counter(names), set(picked.values())
    rest = [name for name in times if name not in taken]
    usable = [name for name in rest if name.strip() and times[name] == 1 and name not in picked]
    if len(usable) < len(rest):
        kept = set(usable)
        left_out = listed(name for name in rest if name not in kept)
        log.warning("%s: left out columns whose names are blank, repeated or reserved: %s", source.name, left_out)
    _tell_left_out(source, usable[MOST_FURTHER:], len(names), advice)
    return {name: name for name in usable[:MOST_FURTHER]}


def _tell_left_out(source: Source, left_out: list[str], n_names: int, advice: Advice) -> None:
    if left_out:
        log.warning(
            "%s: left out %s of its %s columns, which no setting names: %s. To read one of them, %s",
            source.name,
            f"{len(left_out):,}",
            f"{n_names:,}",
            listed(left_out, 6),
            advice.columns,
        )

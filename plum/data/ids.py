"""Ids of users and items as text, in one form whatever the format of the file and the program that wrote it."""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from plum.data.arrow_types import is_bytes, plain
from plum.errors import PlumError

log = logging.getLogger(__name__)

_BLANKS = "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200F))))
_BLANKS += "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
"""What is trimmed: blanks, and characters that show nothing, such as a byte-order mark inside a file."""
_FLOAT = r"^-?((0|[1-9]\d*)\.0+|\d(\.\d+)?[eE]\+\d{2,3})$"
"""A whole number as programs write it from a column of floats."""
_EXACT = {pa.float32(): 1 << 24, pa.float64(): 1 << 53}
"""Whole numbers up to these are exact in a column of floats."""
_COMPARED, _LOOKED_THROUGH = 5_000, 200_000  # ids by spelling, and by all else, which is quick


def as_ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Turn ids into text in one form.

    Whole numbers have no fraction, be they 12, 12.0, or the text "12.0" in a column of such; "012" stays text. Letters
    with accents have their composed form (NFC), and blanks around an id are taken away. Case is kept.

    Args:
        column: N values of any type.
        name: file and column, for messages.

    Returns:
        Text (N,); null for a missing value and for a float that is not finite.

    Raises:
        PlumError: if the type can't be ids.
    """
    kind = column.type
    try:
        column, _ = plain(column)
        if pa.types.is_floating(column.type):
            return _of_floats(column, name)
        if is_bytes(column.type):
            raise pa.ArrowInvalid("bytes that are no text")
        text = column.cast(pa.string())
    except pa.ArrowException as error:
        raise PlumError(
            f"{name}: values of type {kind} can't be ids or text", str(error)[:200], "store text or numbers"
        ) from error
    return _one_form(text, name)


def one_id(text: str) -> str:
    """One id in the form of :func:`as_ids`, for ids that a user types."""
    formed = _one_form(pa.chunked_array([pa.array([text], pa.string())]), "")[0].as_py()
    return str(formed)


def _of_floats(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    values = pc.if_else(pc.is_finite(column), column, None).combine_chunks()
    if (top := _EXACT.get(column.type)) and (pc.max(pc.abs(values)).as_py() or 0) >= top:
        log.warning("%s: ids of %s digits and more in a column of floats have lost digits", name, len(str(top)))
    coded = values.dictionary_encode()
    texts = [str(int(value)) if value.is_integer() else repr(value) for value in coded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string()).take(coded.indices)])


def _one_form(text: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    text = pc.utf8_trim(text, characters=_BLANKS)
    formed = text
    if _any(pc.invert(pc.string_is_ascii(formed))):
        formed = pc.utf8_normalize(formed, form="NFC")
    if _any(pc.match_substring(formed, ".0")) or _any(pc.match_substring(formed, "+")):
        formed = _without_fractions(formed)
    if name:
        _tell_merged(text, formed, name)
    return formed


def _any(mask: pa.ChunkedArray) -> bool:
    return pc.any(mask).as_py() is True


def _without_fractions(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write 12.0 and 1e+16 as whole numbers if the column is one of floats, or holds the same number in both forms.

    In any other column, 12.0 is a name, such as that of a version.
    """
    floats = pc.fill_null(pc.match_substring_regex(text, _FLOAT), False)
    formed = pc.replace_substring_regex(text, r"\.0+$", "")
    formed = pc.if_else(floats, pc.if_else(pc.equal(formed, "-0"), "0", formed), text)
    powers = pc.and_(floats, pc.fill_null(pc.match_substring(formed, "+"), False))
    if _any(powers):
        exact = [_in_full(value) for value in formed.filter(powers).to_pylist()]
        formed = pc.replace_with_mask(_joined(formed), _joined(powers), pa.array(exact, pa.string()))
        formed = pa.chunked_array([formed])
    others = pc.and_(pc.invert(floats), pc.fill_null(pc.match_substring_regex(text, r"\d"), False))
    if not _any(others):
        return formed
    both = pc.is_in(formed, value_set=pc.unique(text.filter(others)))
    return formed if _any(pc.and_(both, floats)) else text


def _in_full(power: str) -> str:
    number = float(power)
    return str(int(number)) if number.is_integer() else power


def _joined(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _tell_merged(text: pa.ChunkedArray, formed: pa.ChunkedArray, name: str) -> None:
    """Warn of ids that become one; those that only change their form are no loss."""
    if text is formed:
        return
    changed = pc.fill_null(pc.not_equal(text, formed), False)
    if not _any(changed):
        return
    pairs = pa.table({"before": _flat(text), "after": _flat(formed)}).group_by(["before", "after"]).aggregate([])
    forms = pairs.group_by("after").aggregate([("before", "count"), ("before", "list")])
    merged = forms.filter(pc.greater(forms["before_count"], 1))
    if merged.num_rows:
        first = merged["before_list"][0].as_py()
        log.warning(
            "%s: %s ids are written in two forms and are read as one (first: %s)",
            name,
            f"{merged.num_rows:,}",
            " and ".join(map(ascii, sorted(first)[:2])),
        )


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def nearest(wanted: str, ids: Sequence[str]) -> tuple[str, str] | None:
    """The id most like one that is not there, and how the two differ; None if none is alike.

    Case is looked at first, then zeros in front, then everything that is neither letter nor digit, then an id inside a
    longer one (``12`` and ``item_12``), then spelling.
    """
    for key, how in _KEYS:
        want = key(wanted)
        found = next((known for known in ids if key(known) == want), None) if want else None
        if found is not None:
            return found, how
    if wanted.isalnum() or len(wanted) > 2:
        inside = next((known for known in ids if known and _ends_in(known, wanted)), None)
        if inside is not None:
            return inside, "one has more in front"
    near = difflib.get_close_matches(wanted, ids[:_COMPARED], n=1, cutoff=0.7)
    return (near[0], "spelling") if near else None


def _ends_in(one: str, other: str) -> bool:
    long, short = (one, other) if len(one) > len(other) else (other, one)
    return len(long) > len(short) and long.endswith(short) and not long[-len(short) - 1].isalnum()


def _bare(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()


_KEYS = (
    (str.casefold, "upper and lower case"),
    (lambda text: re.sub(r"\.0+$", "", text), "a fraction of zeros"),
    (lambda text: text.lstrip("0"), "zeros in front"),
    (_bare, "signs, blanks or case"),
)


def both_sides(wanted: Collection[str], ids: Sequence[str], where: str) -> str:
    """Say how ids that are not in a list look, how those of the list do, and which one is nearest.

    Args:
        wanted: ids that are not there, at least one.
        ids: those that are.
        where: of the list, for the message.
    """
    first, ids = next(iter(wanted)), ids[:_LOOKED_THROUGH]
    there = ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")
    near = nearest(first, ids)
    told = f"; the nearest to {first!r} is {near[0]!r} (they differ in: {near[1]})" if near else ""
    missing = ", ".join(map(repr, list(wanted)[:3])) + (", ..." if len(wanted) > 3 else "")
    return f"not in {where}: {missing}; ids there: {there or 'none'}{told}"

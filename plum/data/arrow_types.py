"""Columns of any Arrow type in a form that the checks know: text, numbers, dates and lists; or a refusal by type."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.errors import PlumError

_UUID, _BOOL8 = "arrow.uuid", "arrow.bool8"


def plain(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, set[int]]:
    """Take away what only stores values in another way: dictionaries, runs, views, large offsets, extensions, bytes.

    Args:
        column: N values of any type.

    Returns:
        The N values; and the rows whose text was not UTF-8, in which each broken byte is U+FFFD. UUIDs become text,
        and bytes do if all are UTF-8; a type that has no other form stays.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(column)
    if pa.types.is_dictionary(kind):
        return _spread([(chunk.dictionary, chunk.indices) for chunk in column.chunks], kind.value_type)
    if pa.types.is_run_end_encoded(kind):
        return _spread([(chunk.values, _run_of_each(chunk)) for chunk in column.chunks], kind.value_type)
    if pa.types.is_null(kind):
        return column.cast(pa.string()), set()
    if (simple := _simpler(kind)) is not None:
        return column.cast(simple), set()
    if is_bytes(kind):
        return _text_or_bytes(column), set()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _valid_text(column)
    return column, set()


def _simpler(kind: pa.DataType) -> pa.DataType | None:
    """The common type of a rare one with the same values; None for a common one."""
    types = pa.types
    if types.is_float16(kind):
        return pa.float32()
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return pa.large_list(kind.value_type)
    if types.is_timestamp(kind) and kind.tz not in (None, "UTC"):
        return pa.timestamp(kind.unit, "UTC")  # the same moments, whether or not the zone is known here
    return None


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes without an encoding."""
    types = pa.types
    fixed = types.is_fixed_size_binary(kind) and not types.is_decimal(kind)
    return fixed or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists."""
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return views or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def can_be_field(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a field of items: text, a number, a date, or a list of labels."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name in (_UUID, _BOOL8) or can_be_field(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return can_be_field(kind.value_type)
    if is_list(kind):
        inner = kind.value_type.value_type if types.is_dictionary(kind.value_type) else kind.value_type
        return is_text(inner) or types.is_integer(inner)
    return is_text(kind) or can_be_value(kind)


def can_be_value(kind: pa.DataType) -> bool:
    """Whether a column of this type, made plain, holds single values that are no text: numbers or dates."""
    types = pa.types
    number = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return types.is_null(kind) or number or types.is_timestamp(kind) or types.is_date(kind)


def refused_type(label: str, kind: pa.DataType) -> PlumError:
    """Build the error for a column whose type can't be read.

    Args:
        label: file and column.
        kind: its type.
    """
    return PlumError(f"{label}: values of type {kind} can't be ids, text or numbers", None, "store text or numbers")


def python_values(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """The values of a column; those that Python can't hold, such as a nanosecond that it rounds, as text."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, ArithmeticError, LookupError, pa.ArrowException):
        return [shown(value) if value.is_valid else None for value in column]


def shown(value: pa.Scalar) -> Any:
    """A value for a message, whatever its type."""
    try:
        return value.as_py()
    except (ValueError, OverflowError, ArithmeticError, LookupError, pa.ArrowException):
        try:
            return str(value)
        except (ValueError, OverflowError, ArithmeticError, LookupError, pa.ArrowException):
            return f"a {value.type}"


def _of_extension(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, set[int]]:
    kind = column.type
    stored = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    if kind.extension_name == _UUID:
        found = stored.combine_chunks().dictionary_encode()
        found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        texts = [str(uuid.UUID(bytes=value)) for value in found.dictionary.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string()).take(found.indices)]), set()
    if kind.extension_name == _BOOL8:
        return stored.cast(pa.bool_()), set()
    return plain(stored)


def _spread(chunks: list[tuple[pa.Array, pa.Array]], kind: pa.DataType) -> tuple[pa.ChunkedArray, set[int]]:
    """Plain values (N,) of chunks of distinct values and the place (one per row) of each row's value in them."""
    found, broken, start = [], set[int](), 0
    for distinct, places in chunks:
        values, odd = plain(pa.chunked_array([distinct]))
        found.append(values.combine_chunks().take(places))
        if odd:
            broken |= {start + row for row, place in enumerate(places.to_pylist()) if place in odd}
        start += len(places)
    return (pa.chunked_array(found), broken) if found else plain(pa.chunked_array([], kind))


def _run_of_each(chunk: pa.RunEndEncodedArray) -> pa.Array:
    rows = chunk.offset + np.arange(len(chunk))
    return pa.array(np.searchsorted(chunk.run_ends.to_numpy(), rows, side="right"))


def _text_or_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        text = column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowException:  # not UTF-8, or too long for one column of text
        return column.cast(pa.binary()) if pa.types.is_binary_view(column.type) else column
    return column if pc.any(pc.match_substring_regex(text, "[\x00-\x08\x0e-\x1f]")).as_py() else text


def _valid_text(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, set[int]]:
    try:
        column.validate(full=True)
        return column.cast(pa.string()), set()
    except pa.ArrowInvalid:
        pass
    broken: set[int] = set()
    texts: list[str | None] = []
    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            broken.add(row)
            texts.append(value.decode(errors="replace"))
    return pa.chunked_array([pa.array(texts, pa.string())]), broken

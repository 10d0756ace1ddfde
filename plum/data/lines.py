"""Lines and blocks of text files, decoded; none longer than a bound, so that a packed bomb can't fill the memory."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any

from plum.data.encodings import check_encoding, is_utf8
from plum.data.files import Source
from plum.errors import PlumError

LONGEST_LINE = 1 << 26
"""Characters of a line, or bytes of a quoted value."""
BLOCK = 1 << 23
"""Bytes that are read at a time."""
SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def open_text(stream: Any, encoding: str) -> io.TextIOWrapper:
    """Decode a stream of bytes; keep line ends, and drop a UTF-8 byte-order mark."""
    codec = "utf-8-sig" if is_utf8(encoding) else encoding
    return io.TextIOWrapper(stream, encoding=codec, newline="")


def lines(source: Source, encoding: str) -> Iterator[str]:
    """The lines of a file with their ends, decoded.

    Raises:
        PlumError: for a line longer than ``LONGEST_LINE``, an unknown encoding, and as :meth:`Source.open`.
        UnicodeError: if the file has another encoding.
    """
    check_encoding(encoding)
    with source.open() as stream, open_text(stream, encoding) as text:
        read, number = text.readline, 0
        while line := read(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
                raise too_long(source, number)
            yield line


def too_long(source: Source, line: int) -> PlumError:
    """Build the error for a line that no table has."""
    return PlumError(
        f"{source.name}: line {line:,} is longer than {LONGEST_LINE >> 20} MiB",
        "no row of a table is as long",
        f"check what wrote {source.path}",
    )


def utf8_blocks(source: Source, encoding: str) -> Iterator[bytes]:
    """The bytes of a file in blocks, as UTF-8 without a byte-order mark; blocks end anywhere.

    Half a character pair (a lone surrogate), which some encodings can hold, becomes U+FFFD.

    Raises:
        PlumError: as :meth:`Source.open`.
        UnicodeError: if the file does not have the encoding; UTF-8 is not checked here.
    """
    with source.open() as stream:
        if is_utf8(encoding):
            first = stream.read(BLOCK).removeprefix(codecs.BOM_UTF8)
            if first:
                yield first
            while block := stream.read(BLOCK):
                yield block
            return
        decoder = codecs.getincrementaldecoder(encoding)()
        while True:
            block = stream.read(BLOCK)
            text = decoder.decode(block, final=not block)
            if text:
                yield mended(text).encode()
            if not block:
                return


def mended(text: str) -> str:
    """Text in which each lone surrogate is U+FFFD: text that can be written as UTF-8."""
    return text if text.isascii() else SURROGATES.sub(REPLACEMENT, text)

"""Encodings of text files: which can be used, and where a file does not have the one that was named."""

from __future__ import annotations

import codecs
from typing import cast

from plum.data.files import Source
from plum.errors import PlumError

_MARKS = (  # byte-order marks, longest first: that of UTF-32 LE begins with that of UTF-16 LE
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python counts these among the encodings of text, but they encode host names, source code, or nothing.
_NO_FILES = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode-escape"})


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python doesn't know, or that is none of text.

    Raises:
        PlumError: naming the encoding.
    """
    try:
        name = codecs.lookup(encoding).name
        b"a".decode(encoding)  # refuses what is no encoding of text, such as rot13 or base64
    except UnicodeDecodeError:
        pass  # one byte is too short for UTF-16
    except (LookupError, ValueError, TypeError, AttributeError, ImportError) as error:
        known = isinstance(error, LookupError) and "not a text encoding" in str(error)
        what = f"{encoding!r} is not an encoding of text" if known else f"unknown encoding {encoding!r}"
        raise PlumError(what, None, "use one such as utf-8, cp1252, latin-1") from error
    if name in _NO_FILES:
        raise PlumError(
            f"{encoding!r} is not an encoding of text files", None, "use one such as utf-8, cp1252, latin-1"
        )


def is_utf8(encoding: str) -> bool:
    """Whether bytes of this encoding are UTF-8 as they stand; a byte-order mark may come first."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def marked(head: bytes) -> str | None:
    """The encoding that a byte-order mark at the start of a file tells, other than UTF-8."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def undecodable(source: Source, encoding: str, fix: str) -> PlumError:
    """Find the first byte of ``source`` that isn't ``encoding`` and build the error that names it.

    This reads the file again, because readers that fail in the middle of a block don't say where.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line = 0, 1
    with source.open() as stream:
        while True:
            chunk = stream.read(1 << 20)
            if not offset and (told := _told_by_start(source, encoding, chunk)) is not None:
                return told
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                seen = cast(bytes, error.object)  # bytes that the decoder had buffered, then the chunk
                at = offset - (len(seen) - len(chunk)) + error.start
                line += seen[: error.start].count(b"\n")
                shown = f"byte 0x{seen[error.start]:02x}" if error.start < len(seen) else "the end of the file"
                return PlumError(f"{source.name} is not {encoding}", f"{shown} at offset {at:,} (line {line:,})", fix)
            except UnicodeError as error:
                return PlumError(f"{source.name} is not {encoding}", str(error), fix)
            if not chunk:
                return PlumError(f"{source.name} is not {encoding}", None, fix)
            offset += len(chunk)
            line += chunk.count(b"\n")


def _told_by_start(source: Source, encoding: str, head: bytes) -> PlumError | None:
    """The error for a file whose first bytes tell its encoding, or that lacks the byte-order mark it needs."""
    mark = marked(head)
    name = codecs.lookup(encoding).name
    if mark is not None and name != mark:
        return PlumError(
            f"{source.name} is not {encoding}",
            f"it begins with the byte-order mark of {mark}",
            f"name this encoding ({mark}), or save the file as UTF-8: --set data.source.encoding={mark}",
        )
    if name in ("utf-16", "utf-32") and mark is None:
        sizes = head[:400]
        ends = "le" if sizes[1::2].count(0) >= sizes[0::2].count(0) else "be"
        return PlumError(
            f"{source.name} has no byte-order mark, which {encoding} needs",
            f"first bytes: {head[:8].hex(' ')}",
            f"name the order of its bytes: --set data.source.encoding={name}-{ends}"
            if 0 in sizes
            else "it is not UTF-16: name its encoding, such as utf-8 or cp1252",
        )
    return None

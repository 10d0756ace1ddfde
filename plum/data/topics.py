"""Topics and other texts of items, whatever holds them: separated text, lists written as text, lists, objects."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from plum.data.markup import unescaped
from plum.data.missing import SPELLINGS, no_prose, prose_or_none
from plum.errors import PlumError

log = logging.getLogger(__name__)

LABELS = ("name", "label", "title", "value", "text", "tag", "topic", "genre", "category", "term", "keyword")
"""Keys of an object that hold its name, the best first."""
SEPARATORS = ("|", ";", "\t", " > ", ">", ",", "/")
_OFTEN = 0.05
"""Share of the items, at least, whose topics hold the separator."""
_LOOKED_AT = 100_000
_CALLED = re.compile(r"(?:np\.|numpy\.)?(?:array|list|set|frozenset|tuple)\((.*?)(?:,\s*dtype=[^()]*)?\)", re.S)
_QUOTED = re.compile(r"""[ub]?'(?:[^'\\]|\\.)*'|[ub]?"(?:[^"\\]|\\.)*\"""", re.S)
_PART = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,]*?)\s*(?:,|$)""", re.S)
_NOTHING = re.compile(r"\b(nan|NaN|NULL|null|<NA>)\b|<NA>")
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


class Untold(Exception):
    """A value that does not say which of its parts is the text; its message names its type."""


def read_topics(
    values: Sequence[Any], separator: str, *, name: str, where: Callable[[int], str], max_bad_share: float
) -> list[list[str] | None]:
    """Read the topics of N items.

    Args:
        values: text with separators, text that holds a list in the spelling of JSON, Python, NumPy or PostgreSQL,
            lists, nested lists, objects with a name, or None.
        separator: between the topics of one text.
        name: file and column, for messages.
        where: item -> its place in the file.
        max_bad_share: share of items with topics that can't be told, from 0 to 1, over which the column is refused.

    Returns:
        Topics without blanks and repetitions; None for items without any.

    Raises:
        PlumError: if more items have objects that don't say what they are called.
    """
    found: list[list[str] | None] = []
    untold: list[tuple[int, str]] = []
    plain: list[str] = []
    n_written = 0
    known: dict[str, tuple[list[str] | None, bool]] = {}  # items share their topics: few texts need a look
    for row, value in enumerate(values):
        try:
            if not isinstance(value, str):
                found.append(_distinct(texts_of(value)))
                continue
            if value not in known:
                known[value] = _read_text(value, separator)
            topics, is_list = known[value]
        except Untold as error:
            untold.append((row, str(error)))
            found.append(None)
            continue
        found.append(topics and [*topics])
        n_written += is_list
        if topics and not is_list:
            plain.append(value)
    _tell_untold(untold, sum(value is not None for value in values), name, where, max_bad_share)
    if n_written:
        log.info("%s: lists written as text are read as lists, in %s items", name, f"{n_written:,}")
    _drop_words(found, name)
    _warn_of_separator(plain, separator, name)
    return found


def _read_text(text: str, separator: str) -> tuple[list[str] | None, bool]:
    """The topics of a text, and whether it spells a list."""
    held = written_list(text, separator)
    if isinstance(held, str):
        return _distinct(unescaped(held).split(separator)), False  # first: the separator may be the ; of &amp;
    return _distinct(texts_of(held)), True


def read_texts(
    values: Sequence[Any], *, joint: str, name: str, where: Callable[[int], str], max_bad_share: float
) -> list[str | None]:
    """Read one text for each of N items: lists, real or written as text, are joined.

    Args and Raises as in :func:`read_topics`; ``joint`` stands between the texts of a list.
    """
    found: list[str | None] = []
    untold: list[tuple[int, str]] = []
    for row, value in enumerate(values):
        try:
            found.append(joined_text(value, joint))
        except Untold as error:
            untold.append((row, str(error)))
            found.append(None)
    _tell_untold(untold, sum(value is not None for value in values), name, where, max_bad_share)
    return prose_or_none(found)


def joined_text(value: Any, joint: str) -> str | None:
    """One text of a value: lists are joined, lists of texts written as text too; None if there is none.

    Raises:
        Untold: for objects that don't say what they are called.

    Example:
        >>> joined_text(["Ann", "Bob"], ", "), joined_text("['Ann', 'Bob']", ", "), joined_text("[REC]", ", ")
        ('Ann, Bob', 'Ann, Bob', '[REC]')
    """
    held = _quoted_list(value) if isinstance(value, str) else value
    texts = _distinct([held] if isinstance(held, str) else texts_of(held))
    return joint.join(texts) if texts else None


def texts_of(value: Any) -> list[str]:
    """All texts in lists of any depth, and the names of objects, in order.

    Raises:
        Untold: for an object without a name, and for other types.
    """
    try:
        return list(_texts(value))
    except RecursionError:
        raise Untold("lists nested too deeply") from None


def _texts(value: Any) -> Iterator[str]:
    if value is None or (isinstance(value, float) and value != value):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(_named(value))
    elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
        entries = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        if entries and all(isinstance(one, tuple) and len(one) == 2 for one in entries):  # as Parquet gives a map
            yield from _texts(_map_keys(dict(entries)))
        else:
            for one in entries:
                yield from _texts(one)
    elif isinstance(value, bool | np.bool_):
        raise Untold("true or false")
    elif isinstance(value, bytes):
        try:
            yield value.decode()
        except UnicodeDecodeError:
            raise Untold("bytes that are no UTF-8 text") from None
    elif isinstance(value, float | np.floating) and float(value).is_integer():
        yield str(int(value))
    else:
        yield str(value)


def _named(value: dict[Any, Any]) -> Any:
    """What an object is called: the value of a key such as ``name``, or the only text that it holds."""
    lower = {str(key).lower(): one for key, one in value.items()}
    for label in LABELS:
        if label in lower:
            return lower[label]
    if len(value) == 1 and not isinstance(next(iter(value.values())), bool | int | float):
        return next(iter(value.values()))
    by_code = value and not any(re.fullmatch(r"[A-Za-z_]\w*", str(key)) for key in value)
    if by_code and all(isinstance(one, str) for one in value.values()):  # {"28": "Action", "/m/02l7c8": "Romance"}
        return list(value.values())
    if not value:
        return None
    raise Untold(f"an object with the keys {', '.join(map(repr, list(value)[:5]))}, none of which is a name")


def _map_keys(value: dict[Any, Any]) -> list[Any]:
    """The keys of a map whose values say how much each of them holds."""
    if all(one is None or isinstance(one, bool | int | float) for one in value.values()):
        return [key for key, weight in value.items() if weight]
    return _named(value)  # type: ignore[no-any-return]


def written_list(text: str, separator: str) -> Any:
    """The list or object that a text spells; the text itself if it is none.

    Raises:
        Untold: for a list that is cut off, and an object in another syntax than JSON's or Python's.

    Example:
        >>> written_list("['Drama' 'War']", "|"), written_list('{"Science Fiction",Drama}', "|")
        (['Drama', 'War'], ['Science Fiction', 'Drama'])
    """
    inner = text.strip()
    if inner[:2] in ('["', "['", "[{", '{"', "{'") and inner[-1] not in "]}|" and separator not in inner:
        raise Untold(f"a list that is cut off, such as {inner[:60]!r}")
    if inner[-1:] == ")" and (call := _CALLED.fullmatch(inner)):
        inner = call[1].strip() or "[]"
    if _BRACKETS.get(inner[:1]) != inner[-1:]:
        return text
    if (held := _quoted_list(inner)) is not inner:
        return held
    skeleton = _QUOTED.sub("", inner)
    if inner[0] == "{" and ":" in skeleton:
        raise Untold(f"text that is neither a list nor an object of JSON or Python, such as {inner[:60]!r}")
    if inner[0] == "(" or (separator != "," and separator in skeleton):
        return text
    if inner[0] == "[" and re.fullmatch(r"\[[\s\d.+-]*\]", inner):
        return inner[1:-1].split()
    return [_bare(part) for part in _PART.findall(inner[1:-1])]


def _quoted_list(text: str) -> Any:
    """The list or object of a text in the syntax of JSON, Python or NumPy; the text itself if it is in none."""
    inner = text.strip()
    if _BRACKETS.get(inner[:1]) != inner[-1:]:
        return text
    try:
        return json.loads(inner)
    except (ValueError, RecursionError):
        pass
    skeleton = _QUOTED.sub("", inner)
    quoted = _QUOTED.findall(inner)
    if inner[0] == "[" and quoted and re.fullmatch(r"[\[\]\s.]*", skeleton):  # NumPy prints no commas
        return [_bare(part) for part in quoted]
    if inner[0] == "{" and ":" not in skeleton:  # a set: its order is that of the text
        bare = re.sub(r"[{},\s]", "", skeleton)
        return [_bare(part) for part in _PART.findall(inner[1:-1])] if quoted and not bare else text
    try:
        held = ast.literal_eval(_without_nan(inner))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
    return _lists(held) if isinstance(held, list | tuple | dict) else text


def _without_nan(text: str) -> str:
    """Python text in which nan and null, which are no literals, are None."""
    pieces, end = [], 0
    for match in _QUOTED.finditer(text):
        pieces += [_NOTHING.sub("None", text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, _NOTHING.sub("None", text[end:])])


def _lists(value: Any) -> Any:
    """Tuples as lists, so that pairs of Python are not taken for the entries of a map."""
    if isinstance(value, list | tuple):
        return [_lists(one) for one in value]
    return {key: _lists(one) for key, one in value.items()} if isinstance(value, dict) else value


def _bare(part: str) -> str | None:
    """A part of a list without its quotes and escapes; None for a null."""
    part = part.strip().strip("{}[]") if part[:1] not in "'\"" else part.strip()
    part = part[1:] if part[:2] in ("u'", 'u"', "b'", 'b"') else part
    if len(part) >= 2 and part[0] in "'\"" and part[-1] == part[0]:
        return re.sub(r"\\(.)", r"\1", part[1:-1], flags=re.S)
    return None if part.lower() in SPELLINGS else part


def _distinct(texts: Sequence[str]) -> list[str] | None:
    """Texts without entities, repetitions and what is no text; None if none is left."""
    shown = [unescaped(text) for text in texts]
    return list(dict.fromkeys(text.strip() for text in shown if not no_prose(text))) or None


def _tell_untold(
    untold: list[tuple[int, str]], n: int, name: str, where: Callable[[int], str], max_bad_share: float
) -> None:
    """Refuse a column, or warn of it, in which items hold values that can't be told."""
    if not untold:
        return
    row, what = untold[0]
    if len(untold) > max_bad_share * n:
        raise PlumError(
            f"{name}: {len(untold):,} of {n:,} items hold {what}",
            f"the first on {where(row)}",
            f"write a text, a list of texts, or objects with one of the keys {', '.join(LABELS[:4])}",
        )
    log.warning("%s: left empty in %s items, which hold %s (first: %s)", name, f"{len(untold):,}", what, where(row))


def _drop_words(found: list[list[str] | None], name: str) -> None:
    """Make topics None that are a single word for "no value", unless it stands beside others: NA may be a region."""
    alone = Counter(topics[0] for topics in found if topics and len(topics) == 1 and topics[0].lower() in SPELLINGS)
    if not alone:
        return
    beside = {topic for topics in found if topics and len(topics) > 1 for topic in topics}
    words = alone.keys() - beside
    for row, topics in enumerate(found):
        if topics and len(topics) == 1 and topics[0] in words:
            found[row] = None
    if words:
        listed = ", ".join(f"{word!r} ({alone[word]:,} items)" for word in sorted(words))
        log.info("%s: taken as no value: %s", name, listed)


def likely_separator(texts: Sequence[str]) -> str | None:
    """What separates the topics that stand in one text each (N, none blank); None if nothing does."""
    texts = [unescaped(text) for text in texts]
    for separator in SEPARATORS if texts else ():
        parts = [part.strip() for text in texts for part in text.split(separator)]
        # Parts of a separated list come again more often than whole values do.
        if sum(separator in text for text in texts) >= _OFTEN * len(texts) and (
            len(set(parts)) / len(parts) < len(set(texts)) / len(texts) or len(texts) < 20
        ):
            return separator
    return None


def _warn_of_separator(texts: Sequence[str], separator: str, name: str) -> None:
    """Warn if the separator never occurs in texts that are no lists, and another one seems to be it."""
    if any(separator in text for text in texts):
        return
    other = likely_separator(texts[:_LOOKED_AT])
    if other is None:
        return
    log.warning(
        "%s: no value holds the separator %r, but many hold %r: %r counts as one topic. If it is several, use --set "
        "'data.source.topic_separator=\"%s\"'",
        *(name, separator, other, next(text for text in texts if other in text)[:60], other.replace("\t", "\\t")),
    )

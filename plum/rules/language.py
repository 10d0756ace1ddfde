"""The language of business rules: text -> an immutable expression, which ``plum.rules.fields`` evaluates."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from plum.errors import PlumError

EXAMPLE = "year >= 1990 and topics has Comedy"
_SHOWN = 100  # characters of a rule shown in a message: it may hold thousands of ids

# A word runs to the next blank, bracket, comma, operator or quote: Sci-Fi, 7b2f, 2015-06-01T10:00 and -1.5 need no
# quotes. Keywords are words everywhere, never values; the lookahead keeps "android" from being "and".
_GRAMMAR = r"""
start: either
?either: both (_OR both)*
?both: condition (_AND condition)*
?condition: _NOT condition            -> negation
    | "(" either ")"
    | field OPERATOR value            -> compared
    | field HAS value                 -> compared
    | field IN "(" value ("," value)* ")" -> compared
    | field _IS NULL                  -> missing
    | field _IS _NOT NULL             -> present
    | field                           -> bare
field: WORD | BACKQUOTED
value: WORD | QUOTED

_OR.2:  /or(?![^\s()=<>!,"`])/i
_AND.2: /and(?![^\s()=<>!,"`])/i
_NOT.2: /not(?![^\s()=<>!,"`])/i
HAS.2:  /has(?![^\s()=<>!,"`])/i
IN.2:   /in(?![^\s()=<>!,"`])/i
_IS.2:  /is(?![^\s()=<>!,"`])/i
NULL.2: /null(?![^\s()=<>!,"`])/i
OPERATOR: "<=" | ">=" | "<>" | "!=" | "==" | "=" | "<" | ">"
WORD: /[^\s()=<>!,"'`][^\s()=<>!,"`]*/
BACKQUOTED: /`[^`]+`/
QUOTED: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""
_WORD = re.compile(r"""[^\s()=<>!,"'`][^\s()=<>!,"`]*""")
_RESERVED = frozenset({"or", "and", "not", "has", "in", "is", "null"})
_SPELLINGS = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class Value:
    """A value as written, without quotes; ``at`` is its first character's place in the rule, from 0."""

    text: str
    at: int


@dataclass(frozen=True)
class Condition:
    """A condition on one field.

    Attributes:
        field: name of the field.
        operator: ``= != < <= > >= in has``, ``is null``, ``is not null``, or ``is true`` for a field by itself.
        values: none for the last three, several for ``in``, else one.
        at: the field's place in the rule, in characters from 0.
        operator_at: the operator's place.
    """

    field: str
    operator: str
    values: tuple[Value, ...]
    at: int
    operator_at: int


@dataclass(frozen=True)
class Not:
    """The items that don't satisfy ``part``."""

    part: Expression


@dataclass(frozen=True)
class Joined:
    """The items that satisfy all ``parts`` (``and``) or any of them (``or``)."""

    word: str  # and, or
    parts: tuple[Expression, ...]


Expression = Condition | Not | Joined


class Mistake(Exception):
    """A mistake at one place of a rule; :meth:`told` adds the rule.

    Args:
        what: what is wrong.
        at: the character of the rule, from 0.
        fix: what to do.
    """

    def __init__(self, what: str, at: int, fix: str) -> None:
        super().__init__(what)
        self.what, self.at, self.fix = what, at, fix

    def told(self, rule: str) -> PlumError:
        """The error for users, with a caret under the place in the rule."""
        start = max(0, min(self.at - _SHOWN // 2, len(rule) - _SHOWN))
        shown = "".join(" " if char.isspace() else char for char in rule[start : start + _SHOWN])
        shown = ("..." if start else "") + shown + ("..." if start + _SHOWN < len(rule) else "")
        caret = " " * (self.at - start + 3 * bool(start)) + "^"
        margin = " " * len("  found: ")
        return PlumError(f"rule, character {self.at + 1}: {self.what}", f"{shown}\n{margin}{caret}", self.fix)


class _Builder(Transformer[Token, Any]):
    """Builds the expression while the rule is parsed; methods are named after the grammar's alternatives."""

    def start(self, parts: list[Expression]) -> Expression:
        return parts[0]

    def either(self, parts: list[Expression]) -> Expression:
        return Joined("or", tuple(parts))

    def both(self, parts: list[Expression]) -> Expression:
        return Joined("and", tuple(parts))

    def negation(self, parts: list[Expression]) -> Expression:
        return Not(parts[0])

    def field(self, tokens: list[Token]) -> Value:
        token = tokens[0]
        return Value(token[1:-1] if token.type == "BACKQUOTED" else str(token), token.start_pos or 0)

    def value(self, tokens: list[Token]) -> Value:
        token = tokens[0]
        if token.type == "WORD":
            return Value(str(token), token.start_pos or 0)
        pieces = token[1:-1].split("\\\\")  # a doubled backslash is one; a single one escapes a quote
        return Value("\\".join(piece.replace("\\" + token[0], token[0]) for piece in pieces), token.start_pos or 0)

    def compared(self, parts: list[Any]) -> Condition:
        field, operator, *values = parts
        spelled = _SPELLINGS.get(operator, operator.lower())
        return Condition(field.text, spelled, tuple(values), field.at, operator.start_pos)

    def missing(self, parts: list[Any]) -> Condition:
        return self._without_value(parts[0], "is null")

    def present(self, parts: list[Any]) -> Condition:
        return self._without_value(parts[0], "is not null")

    def bare(self, parts: list[Any]) -> Condition:
        return self._without_value(parts[0], "is true")

    def _without_value(self, field: Value, operator: str) -> Condition:
        return Condition(field.text, operator, (), field.at, field.at)


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=_Builder())


def parse(rule: str) -> Expression:
    """Parse a rule.

    Args:
        rule: such as ``topics has Comedy and not (year < 1990 or creator is null)``.

    Raises:
        PlumError: with the place of the error, what was expected there, and an example.

    Example:
        >>> parse("year >= 1990")
        Condition(field='year', operator='>=', values=(Value(text='1990', at=8),), at=0, operator_at=5)
    """
    if not rule.strip():
        raise PlumError("the rule is empty", None, f"write one, for example: {EXAMPLE}")
    try:
        rule.encode()
    except UnicodeEncodeError as error:  # an argument that was not UTF-8
        fix = "write the rule in UTF-8"
        raise Mistake("this is no whole character", error.start, fix).told(ascii(rule)) from None
    try:
        return _parser().parse(rule)  # type: ignore[return-value]  # the transformer's result, not a tree
    except UnexpectedCharacters as error:
        raise _odd_character(rule, error.pos_in_stream or 0).told(rule) from None
    except UnexpectedToken as error:
        raise _odd_token(rule, error.token).told(rule) from None


def spell_field(name: str) -> str:
    """A field's name as written in a rule."""
    return name if _WORD.fullmatch(name) and name.lower() not in _RESERVED else f"`{name}`"


def spell_value(text: str) -> str:
    """A value as written in a rule."""
    if _WORD.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _odd_character(rule: str, at: int) -> Mistake:
    quote = rule[at]
    if quote in "\"'`":
        example = "`list price` < 20" if quote == "`" else f"title has {quote}two words{quote}"
        return Mistake(f"the quote {quote} is never closed", at, f"close it, for example: {example}")
    return Mistake(f"{quote!r} means nothing here", at, f"for example: year != 1990, {EXAMPLE}")


def _odd_token(rule: str, token: Token) -> Mistake:
    """The mistake of an unexpected token: what was expected there."""
    at_end = token.type == "$END"
    at = len(rule.rstrip()) if at_end else token.start_pos or 0
    allowed = _allowed(rule, at)
    wanted, fix = next((wanted, fix) for mark, wanted, fix in _EXPECTED if mark in allowed)
    if "RPAR" in allowed:
        wanted += " or a closing bracket"
    elif "$END" in allowed:
        wanted += " or the end"
    if token.type == "NULL" and "QUOTED" in allowed:
        fix = "test for missing values with is null: description is null"
    elif token.type in _KEYWORDS and "QUOTED" in allowed:
        fix = f'write the word in quotes: "{token}"'
    elif token.type in _KEYWORDS and "BACKQUOTED" in allowed:
        fix += f"; a field of that name is written in backquotes: `{token}`"
    elif token.type == "_NOT" and "OPERATOR" in allowed:
        fix = "write not in front of the condition: not topics has Comedy"
    elif token.type == "WORD" and "_AND" in allowed and "OPERATOR" not in allowed:
        fix = f'write a text of several words in quotes: title has "two words"; join conditions: {EXAMPLE}'
    return Mistake(f"{'the rule ends' if at_end else f'found {str(token)!r}'} where {wanted} is expected", at, fix)


def _allowed(rule: str, at: int) -> set[str]:
    """The terminals allowed at a character: the parser that failed there no longer knows them all."""
    parser = _parser().parse_interactive(rule)
    for token in parser.lexer_thread.lex(parser.parser_state):
        if (token.start_pos or 0) >= at:
            break
        parser.feed_token(token)
    return parser.accepts()


_KEYWORDS = frozenset({"_OR", "_AND", "_NOT", "HAS", "IN", "_IS", "NULL"})
_EXPECTED = (  # the first line whose terminal is allowed
    ("QUOTED", "a value", "for example: topics has Comedy"),
    ("BACKQUOTED", "a condition", f"for example: {EXAMPLE}"),
    ("OPERATOR", 'an operator (= != < <= > >= in has is), "and", "or"', f"for example: {EXAMPLE}"),
    ("_AND", '"and", "or"', f"for example: {EXAMPLE}"),
    ("COMMA", "a comma", 'for example: creator in (Ozu, "Akira Kurosawa")'),
    ("LPAR", "an opening bracket", "for example: item_id in (12, 34)"),
    ("NULL", "null", "for example: description is not null"),
)

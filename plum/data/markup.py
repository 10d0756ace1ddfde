"""Text out of the markup of web pages: tags, scripts and comments removed, entities resolved."""

from __future__ import annotations

import html
import re
from html.entities import html5
from html.parser import HTMLParser

_ALL = """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo big blockquote body br button
    canvas caption center cite code col colgroup data dd del details dfn dialog dir div dl dt em embed fieldset
    figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img
    input ins kbd label legend li link main map mark marquee menu meta meter nav nobr noframes noscript object ol
    optgroup option output p param picture pre progress q rp rt ruby s samp script section select small source span
    strike strong style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u
    ul var video wbr
"""
_INLINE = """
    a abbr acronym b bdi bdo big cite code em font i ins kbd mark q s small span strong sub sup u
"""
_TAGS, _WITHIN_WORDS = frozenset(_ALL.split()), frozenset(_INLINE.split())
_UNREAD = frozenset(("script", "style"))
_CUT = re.compile(r"<(?:/?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?|!-?-?[^<>]*)$")
_SECTION = re.compile(r"<!\[CDATA\[|\]\]>|<!\[[^<>\[]*\]>(?:-->)?|<!\[")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff\u00ad]")
_ANY_TAG = re.compile(r"</?[a-zA-Z][^<>]*>?")
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_MOST_TAGS = 1_000
_ROUNDS = 5
"""Times that text is taken to have been escaped, at most."""


def unescaped(text: str) -> str:
    """Text with its entities resolved, twice escaped ones too; all else, tags included, stays.

    Only names that HTML has, ended by a semicolon, are entities, so that ``AT&T`` and ``?a=1&copy=2`` stay. Those that
    stand for a blank or a line end become a blank.

    Example:
        >>> unescaped("Bob&amp;#39;s &lt;b&gt;nice&lt;/b&gt; soap &amp; AT&T")
        "Bob's <b>nice</b> soap & AT&T"
    """
    if ";" not in text:
        return text
    for _ in range(_ROUNDS):
        if "&" not in text or (found := _ENTITY.sub(_character, text)) == text:
            break
        text = found
    return text


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; the entity itself if HTML has none of that name."""
    name = entity[1]
    meant = html.unescape(entity[0]) if name[0] == "#" else html5.get(f"{name};", entity[0])
    return " " if meant.isspace() else _CONTROL.sub("", meant)


def has_tags(text: str) -> bool:
    """Whether a text holds HTML tags, which :func:`plain_text` would remove.

    Example:
        >>> has_tags("<b>nice</b>"), has_tags("I <3 it"), has_tags("R&amp;D")
        (True, False, False)
    """
    return "<" in text and plain_text(text) != " ".join(_CONTROL.sub("", unescaped(text)).split())


def plain_text(text: str) -> str:
    """The text that a browser would show, in one line.

    Entities are resolved until none is left, since shops escape texts twice. Only tags that HTML has are removed, so
    that ``size < 10`` and ``I <3 it`` stay.

    Example:
        >>> plain_text("Bob&amp;#39;s &lt;b&gt;nice&lt;/b&gt; soap<br/>5 &lt; 6<script>x()</script>")
        "Bob's nice soap 5 < 6"
    """
    for _ in range(_ROUNDS):
        before = text
        text = html.unescape(text) if "&" in text else text
        if text == before:
            break
    if "<" in text:
        text = _without_tags(text)
    return " ".join(_CONTROL.sub("", text).split())


def _without_tags(text: str) -> str:
    if text.count("<") > _MOST_TAGS:  # the parser takes the square of it for tags that are never closed
        return _ANY_TAG.sub(" ", text)
    text = _SECTION.sub(" ", text)
    cut = _CUT.search(text)
    if cut and (cut[0].startswith("<!") or cut[0][1:].lstrip("/").split(maxsplit=1)[0].lower() in _TAGS):
        text = text[: cut.start()]
    parser = _Text()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)


class _Text(HTMLParser):
    """Gathers what stands between the tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unread = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag; unknown ones are text."""
        self._unread = self._unread or (tag if tag in _UNREAD else "")
        self._between(tag, self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See a tag without content."""
        self._between(tag, self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        if tag == self._unread:
            self._unread = ""
        self._between(tag, f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Keep text, but no script."""
        if not self._unread:
            self.parts.append(data)

    def _between(self, tag: str, written: str) -> None:
        if tag not in _TAGS:
            self.handle_data(written)
        elif tag not in _WITHIN_WORDS:
            self.handle_data(" ")

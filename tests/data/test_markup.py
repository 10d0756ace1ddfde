"""What a browser would show of a text."""

from __future__ import annotations

import time

import pytest

from plum.data.markup import plain_text, unescaped


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A <b>nice</b> soap.<br/>With oil &nbsp; &reg;", "A nice soap. With oil ®"),
        ("Bob&#39;s &amp;amp;amp; Ann&amp;#39;s &lt;b&gt;fresh&lt;/b&gt;", "Bob's & Ann's fresh"),
        ("one<script>var a = '<b>';</script>two<style>p {}</style>", "one two"),
        ("a<!-- hid <b> -->b<!--[if mso]>x<![endif]-->", "ab"),
        ("<![CDATA[hello]]> there", "hello there"),
        ("e<sup>2</sup> <P title='a>b'>in</P>out", "e2 in out"),
        ("x < 10 and y>3, I <3 it, R&D; AT&T", "x < 10 and y>3, I <3 it, R&D; AT&T"),
        ("<foo@bar.example> wrote <this>", "<foo@bar.example> wrote <this>"),
        ('cut <a href="http', "cut"),
        ("cut <br", "cut"),
        ("<script>never closed", ""),
        ("zero\u200bwidth\x00", "zerowidth"),
        ("", ""),
    ],
)
def test_markup(text: str, wanted: str) -> None:
    assert plain_text(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Bob&#39;s &amp; Ann&#x27;s", "Bob's & Ann's"),
        ("A &amp;amp;amp; B &amp;quot;x&amp;quot;", 'A & B "x"'),  # escaped thrice and twice
        ("<b>5 &lt; 6</b>", "<b>5 < 6</b>"),
        ("one&nbsp;two&#10;three", "one two three"),
        ("AT&T ?a=1&copy=2 R&D; &notit; &; &#; &#x; A&B;", "AT&T ?a=1&copy=2 R&D; &notit; &; &#; &#x; A&B;"),
        ("&#153;&#0;&#8;&#9999999;&eacute;&reg;", "™\ufffd\ufffdé®"),
        ("&" + "amp;" * 9 + "x", "&" + "amp;" * 4 + "x"),  # five times, and no more
        ("", ""),
    ],
)
def test_entities(text: str, wanted: str) -> None:
    assert unescaped(text) == wanted


@pytest.mark.parametrize("piece", ["<b ", "<b a='", "<!--", "<![", "</b ", "&amp;", "<b>"])
def test_time_does_not_grow_with_the_square(piece: str) -> None:
    start = time.perf_counter()
    plain_text(piece * 50_000)
    unescaped(piece * 50_000)
    assert time.perf_counter() - start < 5

"""How tests look at a report: what a browser would see of it, and the rows of its Markdown tables."""

from html.parser import HTMLParser

EVIL = "<script>alert('x')</script> | *a* [b](c) $d$ & \"id=\""


class Page(HTMLParser):
    """What a browser would see: tags with attributes, ids, headings, text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def text_of(html):
    return " ".join(Page(html).text.split())


def row_of(markdown, name, after=""):
    """The cells of the first Markdown table row that starts with a name, below some text."""
    lines = markdown[markdown.index(after) :].splitlines()
    line = next(line for line in lines if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]

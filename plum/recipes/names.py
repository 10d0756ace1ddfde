"""What columns of logs and item tables are usually called."""

from __future__ import annotations

import re

USER_NOUNS = (
    ("user", "uid"),
    ("customer", "reviewer", "member", "client", "buyer", "shopper", "subscriber", "viewer", "reader", "listener"),
    ("person", "player", "patron", "profile", "account", "household", "author", "msno", "login", "username"),
    ("visitor", "device", "cookie", "anonymous", "session"),
)
ITEM_NOUNS = (
    ("item", "iid"),
    ("product", "movie", "film", "sku", "asin", "track", "song", "book", "isbn", "video", "article", "news"),
    ("anime", "game", "recipe", "restaurant", "business", "venue", "poi", "show", "course", "podcast", "app"),
    ("artist", "album", "goods", "ean", "upc", "gtin", "stockcode", "offer", "listing", "content", "document"),
    ("doc", "post", "page", "photo", "image", "ad", "merchant", "place", "title", "url", "tconst", "story", "object"),
)
"""Nouns from the surest to the least sure. ``title`` means ``title_id`` here: alone it is never an id."""

TIMES = (
    ("timestamp",),
    ("time", "ts", "datetime", "eventtime", "eventtimestamp", "unixreviewtime", "interactiontime", "when"),
    ("date", "createdat", "createdutc", "eventdate", "reviewdate", "reviewtime", "occurredat", "at", "t", "unixtime"),
    ("invoicedate", "orderdate", "purchasedat", "purchasedate", "visitdate", "watchedat", "clickedat", "playedat"),
)
RATINGS = ("rating", "score", "stars", "overall", "preference", "rate", "ratingscore", "userrating", "value")
REWARDS = ("reward",)
EVENTS = ("event", "eventtype", "action", "behavior", "behaviour", "behaviortype", "type", "interactiontype", "verb")
FIELDS = {
    "title": ("title", "name", "itemname", "productname", "producttitle", "itemtitle", "movietitle", "primarytitle"),
    "topics": ("topics", "genres", "genre", "categories", "category", "tags", "categoryname", "maincategory", "topic"),
    "creator": ("creator", "brand", "author", "authors", "artist", "artistname", "brandname", "director", "maker"),
    "description": ("description", "desc", "overview", "summary", "abstract", "plot", "about", "text", "features"),
}
"""Item columns -> what they are called, the likeliest first."""

_KEYS = {"id", "ids", "key", "code", "no", "nr", "number", "num", "identifier", "uuid", "guid", "index", "idx"}
_PARENTS = {"parent", "unique", "original", "encoded", "hashed", "my", "src", "source", "target"}
_GLUED = re.compile(r"(.+?)(id|key|code|no|nr|identifier|uuid)")


def plain(name: str) -> str:
    """A name in lower case, without anything but letters and digits: ``userId``, ``User ID`` -> ``userid``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words(name: str) -> list[str]:
    """The words of a name: ``reviewerID``, ``reviewer_id`` -> ``["reviewer", "id"]``."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z0-9]+", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", apart).lower())


def id_rank(name: str, nouns: tuple[tuple[str, ...], ...], ours: str) -> int | None:
    """How surely a column of this name holds the ids of such things: 0 most surely, None not at all.

    Example: for users ``user_id`` -> 0, ``customer`` -> 2, ``user_age`` -> None.
    """
    if plain(name) == plain(ours):
        return 0
    rest = [word for word in words(name) if word not in _KEYS | _PARENTS]
    has_key = len(rest) < len(words(name))
    if not rest and plain(name) not in _KEYS:
        return None
    noun = rest[0] if len(rest) == 1 else plain(name)
    glued = _GLUED.fullmatch(noun)
    for rank, group in enumerate(nouns, 1):
        known = set(group) | {f"{word}s" for word in group}
        if noun in known and (has_key or noun != "title"):
            return rank
        if glued and glued[1] in known:
            return rank
    return None


def rank_in(name: str, groups: tuple[tuple[str, ...], ...]) -> int | None:
    """The first group that holds a name, None if none does."""
    return next((rank for rank, group in enumerate(groups) if plain(name) in group), None)

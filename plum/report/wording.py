"""How a report says things: numbers, metrics and verdicts in words. Text in, text out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from plum.foreign import one_line

DASH = "–"
BOUND = "optimum"
"""Not a rival: the best that any retriever could do, known for synthetic data alone."""
FUSED = "hybrid"
"""The lists of plum and dense, fused by rank: no rival of plum, like every blend that plum is a part of."""
TEACHERS = "dense-mean"
"""The mean of all trials of dense. Where they taught plum, the verdict compares plum with it."""
MINUS = "−"

UNCLEAR = "no clear difference"
CLEAR = 0.05
"""Adjusted p-values below it make a difference clear."""

_NAMES = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "mrr": "MRR",
    "hit": "Hit rate",
    "gini": "Gini index",
    "diversity": "Intra-list diversity",
    "hit_rating": "Mean rating of hits",
}
# What is known about metrics, in the order in which a report shows them.
_ABOUT = {
    "recall": "Share of a user's targets among the first k places.",
    "ndcg": "Like recall, but a hit counts less the further down it stands (1 / log2(1 + place)).",
    "mrr": "1 / place of the first hit, or 0 without a hit in the first k places.",
    "hit": "Share of users with a hit in the first k places.",
    "effective_vocabulary": "smallest number of items that cover 95% of all recommendations",
    "coverage": "share of the catalogue that at least one user gets",
    "gini": "inequality of the items' shares of the recommendations: 0 if all are equal, near 1 if one has them all",
    "novelty": "mean rarity of the recommended items in bits: one bit more is half the share of training interactions",
    "diversity": "mean over users of 1 − cosine similarity of content, over all pairs of items in a list",
    "hit_rating": "mean rating that users gave to the targets that were hit; rated hits is the number of these ratings",
    "rated_hits": "hits that the user has rated",
    "cold_users": "users with a cold target: an item with few training interactions (eval.cold_below, by default 5)",
    "cold_recall": "recall of cold targets for these users",
    "invalid_sid_rate": "share of generated Semantic IDs that no item has, when decoding is not constrained",
    "prefix_recall": "share of targets whose first codes a recommended item shares; easier than recall of items",
    "tied": "users whose test target depends on tie-breaking",
}


class Markdown(str):
    """Text that is Markdown already and must not be escaped again."""

    __slots__ = ()


def escape_markdown(value: Any) -> Markdown:
    """Text that shows as itself wherever a Markdown template puts it, HTML included; line breaks become blanks."""
    if isinstance(value, Markdown):
        return value
    text = one_line(" ".join(re.split(r"[ \t\n\r]+", str(value).strip())))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
    # GitHub makes a link of what looks like an address.
    text = re.sub(r":(?=//)|(?<=www)\.", r"\\\g<0>", text, flags=re.IGNORECASE)
    # A title "3. Foo" or "- foo" at the head of a list entry would open a list inside it.
    return Markdown(re.sub(r"^(\d+)([.)])(?=\s|$)|^()([-+])(?=\s|$)", r"\1\3\\\2\4", text))


def as_number(value: Any) -> float | None:
    """A finite number as float; None for anything else, NaN and bool included."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def plain(value: Any) -> str:
    """Any value of a payload for a reader: thousands marked, floats short, yes or no, lists joined."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return DASH
    if isinstance(value, Mapping):
        return "; ".join(f"{_spoken(key)}: {plain(entry)}" for key, entry in value.items()) or DASH
    if isinstance(value, (list, tuple, set)):
        return ", ".join(plain(entry) for entry in value) or DASH
    if isinstance(value, str):
        return value
    number = as_number(value)
    if number is None:
        return DASH if isinstance(value, float) else str(value)
    if number.is_integer() and abs(number) >= 1:
        return f"{number:,.0f}"
    return f"{number:,.2f}" if abs(number) >= 100 else f"{number:.4g}"


def words(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A dictionary as (name, value) pairs for a reader."""
    return [(_spoken(key), plain(value)) for key, value in values.items()]


def title_text(title: Any) -> str:
    """An item's title, or that it has none."""
    return str(title) if title not in (None, "") else "(no title)"


def value_text(value: Any) -> str:
    """A metric's value: four decimals up to 1, two above, whole numbers of items or users without."""
    number = as_number(value)
    if number is None:
        return DASH
    if isinstance(value, int) or (number.is_integer() and abs(number) > 1):
        return f"{number:,.0f}"
    return f"{number:.4f}" if abs(number) <= 1 else f"{number:,.2f}"


def signed(value: Any) -> str:
    """A difference with its sign, four decimals."""
    number = as_number(value)
    if number is None:
        return DASH
    rounded = f"{abs(number):.4f}"
    return rounded if float(rounded) == 0 else ("+" if number > 0 else MINUS) + rounded


def interval_text(ends: Sequence[Any] | None, signs: bool = False) -> str:
    """Both ends of an interval, three decimals up to 1, or four with signs; empty if there is none."""
    numbers = [as_number(end) for end in ends or []]
    if len(numbers) != 2 or None in numbers:
        return ""
    if signs:
        return f"{signed(numbers[0])} to {signed(numbers[1])}"
    return DASH.join(f"{x:.3f}" if abs(x) <= 1 else value_text(x) for x in numbers if x is not None)


def p_text(p_value: Any) -> str:
    """A p-value to three decimals, or that it is smaller."""
    number = as_number(p_value)
    if number is None:
        return DASH
    return "< 0.001" if number < 0.001 else f"{number:.3f}"


def duration(seconds: Any) -> str:
    """Seconds in the unit one would say: ``"0.42 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    number = as_number(seconds)
    if number is None:
        return DASH
    if number < 59.95:
        return f"{number:.2g} s" if number < 1 else f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def human_count(value: Any) -> str:
    """A count to three digits: ``"950"``, ``"1.2M"``, ``"3.45B"``."""
    return _scaled(value, ("", "K", "M", "B", "T"))


def flops_text(value: Any) -> str:
    """Floating-point operations to three digits: ``"3.4 TFLOP"``."""
    scaled = _scaled(value, (" FLOP", " kFLOP", " MFLOP", " GFLOP", " TFLOP", " PFLOP", " EFLOP", " ZFLOP"))
    return "0" if scaled == "0 FLOP" else scaled


def _scaled(value: Any, units: Sequence[str]) -> str:
    number = as_number(value)
    if number is None:
        return DASH
    power = 0
    while abs(number) >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    # Three digits, but none that is zero and says nothing.
    text = f"{number:,.0f}" if abs(number) >= 99.5 else f"{number:.3g}"
    return text + units[power]


def is_accuracy(metric: str) -> bool:
    """Whether a metric is recall, NDCG, MRR or hit rate at a cutoff."""
    return re.fullmatch(r"(recall|ndcg|mrr|hit)@[0-9]{1,12}", metric) is not None


def order_of_metric(metric: str) -> tuple[int, str, int]:
    """Sort key: accuracy first in the usual order, then by name; cutoffs as numbers."""
    family, _, cutoff = metric.partition("@")
    known = family_of(metric)
    place = list(_ABOUT).index(known) if known in _ABOUT else len(_ABOUT)
    return place, family, int(cutoff) if cutoff.isdecimal() and len(cutoff) <= 12 else 0


def by_cutoff(values: Mapping[str, Any], family: str) -> list[tuple[int, str]]:
    """The cutoffs of one family of metrics, ascending, with the metric's key."""
    return sorted((int(m.split("@")[1]), m) for m in values if is_accuracy(m) and m.startswith(family + "@"))


def family_of(metric: str) -> str:
    """What metrics of several cutoffs or levels have in common: ``"prefix_recall"`` of ``"prefix_recall_0@10"``."""
    return re.sub(r"^(prefix_recall)_\d+$", r"\1", metric.partition("@")[0])


def label_of(metric: str) -> str:
    """A metric's name for readers: ``"ndcg@10"`` is ``"NDCG@10"``, ``"cold_recall@10"`` is ``"Cold recall@10"``."""
    family, at, cutoff = metric.partition("@")
    if "loss" in family:
        return _spoken(metric)
    name = _NAMES.get(family) or _spoken(family)[:1].upper() + _spoken(family)[1:]
    return name + at + cutoff


def explain(metric: str) -> str:
    """What a metric measures, in one sentence; empty for one not known here."""
    return _ABOUT.get(family_of(metric), "")


def primary_metric(retrievers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The metric the headline is about: Recall@10, or the first accuracy metric there is."""
    names = sorted(
        {name for values in retrievers.values() for name in values if is_accuracy(name)}, key=order_of_metric
    )
    return "recall@10" if "recall@10" in names else next(iter(names), None)


def best_of(retrievers: Mapping[str, Mapping[str, Any]], metric: str) -> set[str]:
    """The retrievers with the highest value of a metric; several if tied.

    None are best among fewer than two, where all have the same value, or where nobody has more than 0.
    """
    values = {name: as_number(entry.get(metric)) for name, entry in retrievers.items() if name != BOUND}
    known = [value for value in values.values() if value is not None]
    if len(known) < 2 or max(known) <= 0 or min(known) == max(known):
        return set()
    return {name for name, value in values.items() if value == max(known)}


def reading(entry: Mapping[str, Any]) -> str:
    """What a paired comparison says: who is ahead, or nobody clearly.

    Ahead is said where the interval excludes zero and, if there is one, the adjusted p-value is below ``CLEAR``.
    """
    if not interval_text(entry.get("ci95")):
        return DASH
    low, high = entry["ci95"]
    adjusted = as_number(entry.get("p_holm"))
    if adjusted is not None and adjusted >= CLEAR:
        return UNCLEAR
    if low > 0:
        return f"{entry.get('a')} ahead"
    return f"{entry.get('b')} ahead" if high < 0 else UNCLEAR


def headline(
    retrievers: Mapping[str, Mapping[str, Any]],
    intervals: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    n_users: int | None,
    reference: str,
    combined: Collection[str] = (),
    taught: bool = False,
) -> tuple[str, str]:
    """The result in words: who wins, then by how much and how sure; both empty without figures.

    Args:
        retrievers: name -> metric -> value.
        intervals: name -> metric -> [low, high].
        comparisons: paired differences of ``reference`` against others.
        n_users: how many users were scored, if known.
        reference: the retriever the report is about.
        combined: blends that it is a part of.
        taught: whether ``TEACHERS`` taught it.

    Returns:
        verdict: who is ahead of whom; neither the bound nor a combination that holds ``reference`` is a rival in it.
            Where plum learnt from several teachers, their mean is the rival, and a retriever above both is named.
        evidence: the figures behind it, and the best combination's where it is ahead.
    """
    metric = primary_metric(retrievers)
    values = {name: as_number(entry.get(metric or "")) for name, entry in retrievers.items()}
    no_rivals = {BOUND, FUSED, *combined}
    known = {name: value for name, value in values.items() if value is not None and name not in no_rivals}
    if metric is None or not known:
        return "", ""
    ranked = sorted(known, key=lambda name: -known[name])
    what, users = label_of(metric), f" on {n_users:,} users" if n_users else ""
    told = {name: _with_interval(known[name], (intervals.get(name) or {}).get(metric)) for name in ranked}
    if len(ranked) == 1:
        return f"{what} of {ranked[0]} is {told[ranked[0]]}{users}.", ""
    mine = reference if reference in known else ranked[0]
    by_teachers = taught and mine == reference and TEACHERS in known
    rival = TEACHERS if by_teachers else next(name for name in ranked if name != mine)
    evidence = f"{what} is {told[mine]} for {mine} and {told[rival]} for {rival}{users}"
    best, fused = _best_combination(values, combined, max(known[mine], known[rival])), ""
    if mine == reference and best:
        how = "Fused with dense" if best == FUSED else "Blended with other retrievers"
        fused = f" {how} ({best}) it reaches {value_text(values[best])}."
    pair = {"metric": metric, "a": mine, "b": rival}
    entry = next((e for e in comparisons if all(e.get(key) == value for key, value in pair.items())), {})
    if not interval_text(entry.get("ci95")):
        but = f" but for {best}" if fused else ""
        verdict = f"{ranked[0]} has the highest {what}{but}; its lead over {ranked[1]} was not tested."
        return verdict, f"{evidence}.{fused}"
    kind = "the mean of its teachers" if by_teachers else "the best of the others"
    of_mine = f", the mean of {mine}'s teachers," if by_teachers else ""
    verdict = {
        f"{mine} ahead": f"{mine} is ahead of {rival}, {kind}.",
        f"{rival} ahead": f"{rival}{of_mine} is ahead of {mine}.",
    }.get(reading(entry), f"{mine} and {rival}, {kind}, cannot be told apart.")
    if ranked[0] not in (mine, rival):
        verdict += f" {ranked[0]} has the highest {what}, {value_text(known[ranked[0]])}."
    return verdict, f"{evidence}: a difference of {_difference(entry)}.{fused}"


def _difference(entry: Mapping[str, Any]) -> str:
    """A tested difference with its interval and, where it is known, its p-value."""
    named = ("p (Holm)", "p_holm") if as_number(entry.get("p_holm")) is not None else ("p", "p_value")
    p_value = p_text(entry.get(named[1]))
    p_value = "" if p_value == DASH else f", {named[0]} {p_value if p_value.startswith('<') else '= ' + p_value}"
    return f"{signed(entry['difference'])} (95% interval {interval_text(entry['ci95'], signs=True)}{p_value})"


def _best_combination(values: Mapping[str, float | None], combined: Collection[str], least: float) -> str:
    """The combination with the highest value, if that is above ``least``; else nothing."""
    found = {name: value for name in (FUSED, *combined) if (value := values.get(name)) is not None and value > least}
    return max(found, key=lambda name: found[name], default="")


def _with_interval(value: float, ends: Sequence[Any] | None) -> str:
    interval = interval_text(ends)
    return value_text(value) + (f" ({interval})" if interval else "")


def _spoken(key: Any) -> str:
    """A key as words: ``"max_items_per_sid"`` is ``"max items per SID"``."""
    return re.sub(r"\bsid(s?)\b", r"SID\1", str(key).replace("_", " "))

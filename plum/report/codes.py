"""The section of a report on Semantic IDs: their health, what their prefixes agree with, what their codes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from plum.report.blocks import Cell, Columns, Facts, Heading, Picture, Row, Section, Table, Text, pictures
from plum.report.figures import codes as figures
from plum.report.wording import DASH, as_number, plain, title_text, value_text, words

_AGREEMENT = ("neighbour_overlap", "cooccurrence_agreement")
_LEARNT = ("unquantised_by_modality", "reconstruction_by_modality", "reference_by_modality")
_ELSEWHERE = (
    "levels",
    "buckets",
    "stability",
    "training",
    "gradient_norms",
    "all_items",
    "modalities",
    *_LEARNT,
    *_AGREEMENT,
)
_SHOWN, _WIDTH = 3, 60  # example titles of a code, and characters of each: shops write some of several lines
_SHARES = {
    "uniqueness": "items with a Semantic ID of their own",
    "collision_rate": "items that share theirs",
    "reassigned": "items moved to another Semantic ID to avoid a collision",
}
_OTHERS = {
    "max_items_per_sid": "most items on one Semantic ID",
    "reconstruction": "reconstruction error (mean squared)",
    "reconstruction_ratio": "reconstruction error over that of residual k-means",
    "items_without_content": "items without any content",
    "disambiguated": "a last code, not counted here, tells items of one Semantic ID apart",
    "sizes_reason": "codebook sizes",
}


def semantic_ids(quality: Mapping[str, Any], spread: Mapping[str, Any]) -> Section:
    """Health of the Semantic IDs by level, and how the items spread over the codes.

    Args:
        quality: the content of ``tokenize/quality.json``.
        spread: ``level_0``: items of each code; ``top``: the fullest codes with titles; ``later``: items of each code
            of each later level; ``tree``: of :func:`plum.sid.quality.tree`.
    """
    levels = _levels(quality)
    facts = _facts(quality)
    blocks: list[Any] = []
    table = _level_table(levels)
    groups = [group for group in ([table] if table else [], pictures([_usage(levels)])) if group]
    blocks += [Facts(facts)] if facts else []
    blocks += [Columns(groups)] if groups else []
    if reconstruction := _reconstruction(quality):
        note = (
            "Mean squared error per dimension of the standardised content: by encoder and decoder alone, by the codes, "
            "and by residual k-means with codebooks of the same sizes. A tokenizer over 1 has not learnt its input."
        )
        blocks += [Heading("What the codes keep of the content"), Text(note), reconstruction]
    if modalities := _modalities(quality.get("modalities") or {}):
        note = (
            "The mean cosine of two items says how much all vectors have in common: as they are, and as they are "
            "quantised. Items that share all their vectors share their codes."
        )
        blocks += [Heading("What Semantic IDs are made of"), Text(note), modalities]
    agreement = _agreement(quality)
    if agreement:
        note = (
            "Of each item's 10 nearest items by content, the share that has the same prefix, and the Jaccard index "
            "with all items that have it; and how often a user's last training item shares a prefix with the "
            "validation item that comes next. By chance: the same buckets filled at random, with items as popular."
        )
        blocks += [Heading("What prefixes agree with"), Text(note), agreement]
    if stability := _stability(quality.get("stability") or {}):
        note = (
            "Share of the items of both catalogues that keep their prefix, as it is and once codes are renamed to fit "
            "best; and the adjusted Rand index of the groups that prefixes form (0 by chance, 1 if all groups agree)."
        )
        blocks += [Heading("What an earlier tokenizer gave"), Text(note), stability]
    drawn = pictures([_first_level(spread), *_later_levels(spread), _two_levels(spread)])
    fullest = _fullest(spread)
    if drawn or fullest:
        blocks += [Heading("How items spread over codes"), *drawn]
    if fullest:
        blocks += [Text("The fullest codes of the first level, with their most popular items."), fullest]
    sizes = " × ".join(f"{int(level['size']):,}" for level in levels)
    unique = as_number(quality.get("uniqueness"))
    told = [f"{sizes} codes" if sizes else "", "" if unique is None else f"{unique:.0%} of the items have their own"]
    return Section("quality", "Semantic IDs", ", ".join(filter(None, told)), blocks)


def _levels(quality: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The levels of which all is known that a picture needs."""
    return [
        level
        for level in quality.get("levels") or []
        if all(as_number(level.get(key)) is not None for key in ("size", "usage", "perplexity"))
    ]


def _facts(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of all levels together, in words."""
    facts = []
    for key, value in quality.items():
        share = as_number(value)
        if key in _ELSEWHERE or value is None:
            continue
        if key in _SHARES and share is not None:
            facts.append((_SHARES[key], f"{share:.1%}"))
        else:
            ((name, text),) = words({key: value})
            facts.append((_OTHERS.get(key, name), text))
    if not _compared(quality):
        by_modality = quality.get("reconstruction_by_modality") or {}
        facts += [(f"reconstruction error of {name}", plain(value)) for name, value in by_modality.items()]
    facts += _training(quality)
    buckets = quality.get("buckets") or {}
    names = {"1": "alone", "2": "with one other", ">10": "of more than 10"}
    shares = [
        f"{names.get(size, f'of {size}'.replace('-', '–'))} {share:.1%}"
        for size, share in (buckets.get("share") or {}).items()
        if share
    ]
    if shares:
        facts.append(("items by the size of the group that shares their Semantic ID", ", ".join(shares)))
    facts += _of_all_items(quality.get("all_items") or {})
    percentiles = [(key, buckets.get(key)) for key in ("p95", "p99") if buckets.get(key) is not None]
    facts += [(f"group size that {key[1:]}% of the items do not exceed", plain(size)) for key, size in percentiles]
    return facts


def _training(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the tokenizer's training ended, and how strongly each term of its loss pulled."""
    found, norms = quality.get("training") or {}, quality.get("gradient_norms") or {}
    facts = []
    if found:
        told = f"{plain(found.get('steps'))} steps"
        n_held = found.get("held_out_items")
        items = f"{plain(n_held)} held-out items" if n_held else "items of the catalogue"
        reason = "no longer fell" if found.get("stopped") == "patience" else "was watched to the last step"
        told += f"; the error of {items} {reason}, and was smallest after {plain(found.get('best_step'))}, whose "
        told += "weights are kept"
        facts.append(("training", told))
    if norms:
        told = ", ".join(f"{name} {plain(value)}" for name, value in norms.items())
        facts.append(("mean norm of each term's gradient on the encoders", told))
    return facts


def _compared(quality: Mapping[str, Any]) -> bool:
    """Whether the errors are known beside those of residual k-means."""
    return bool(quality.get("reference_by_modality")) and bool(quality.get("reconstruction_by_modality"))


def _reconstruction(quality: Mapping[str, Any]) -> Table | None:
    """Per modality the errors without the quantiser, with it, and of residual k-means; a ratio over 1 in red."""
    if not _compared(quality):
        return None
    without, errors, reference = (quality.get(key) or {} for key in _LEARNT)
    rows = []
    for name, value in errors.items():
        of, error = as_number(reference.get(name)), as_number(value)
        ratio = error / of if of and error is not None else None
        cells = [Cell(plain(without.get(name))), Cell(plain(value)), Cell(plain(reference.get(name))), _ratio(ratio)]
        rows.append(Row(str(name), cells))
    whole = _ratio(as_number(quality.get("reconstruction_ratio")))
    rows.append(Row("all, modalities alike", [Cell(""), Cell(""), Cell(""), whole], apart=True))
    columns = ["without the quantiser", "by the codes", "residual k-means", "ratio"]
    return Table("Reconstruction", "modality", columns, rows)


def _ratio(value: float | None) -> Cell:
    return Cell(DASH) if value is None else Cell(f"{value:.3f}", bad=value > 1)


def _of_all_items(whole: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same for the whole catalogue, where the tokenizer has learnt from some of the items only."""
    if not whole:
        return []
    known = whole["items"] - whole["later_items"]
    used = ", ".join(f"{level['usage']:.1%}" for level in whole["levels"])
    return [
        ("items that the tokenizer learnt from, and that levels and shares count", f"{known:,}"),
        ("of all items, with a Semantic ID of their own", f"{whole['uniqueness']:.1%}"),
        ("of all items, most on one Semantic ID", plain(whole["max_items_per_sid"])),
        ("codes in use per level by all items", used),
    ]


def _level_table(levels: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = []
    for number, level in enumerate(levels):
        texts = [plain(level["size"]), f"{level['usage']:.1%}", plain(level.get("dead")), f"{level['perplexity']:.1f}"]
        rows.append(Row(str(number), [Cell(text) for text in texts]))
    return Table("Codebook levels", "level", ["codes", "in use", "dead", "perplexity"], rows) if rows else None


def _modalities(found: Mapping[str, Mapping[str, Any]]) -> Table | None:
    rows = []
    for name, told in found.items():
        has, alike = as_number(told.get("present")), told.get("items_sharing_vectors")
        cells = [
            plain(told.get("dimensions")),
            plain(told.get("weight")),
            DASH if has is None else f"{has:.1%}",
            value_text(told.get("mean_cosine")),
            value_text(told.get("mean_cosine_after")),
            plain(told.get("isotropy")),
            DASH if alike is None else plain(alike),
        ]
        rows.append(Row(name, [Cell(text) for text in cells]))
    columns = ["dimensions", "weight", "items that have it", "mean cosine", "as quantised", "isotropy", "not unique"]
    return Table("Modalities", "modality", columns, rows, look="dense") if rows else None


def _usage(levels: Sequence[Mapping[str, Any]]) -> Picture | None:
    if not levels:
        return None
    drawn = [(int(level["size"]), float(level["usage"]), float(level["perplexity"])) for level in levels]
    told = "; ".join(f"level {i}: {u:.1%} of {s:,} codes, perplexity {p:.1f}" for i, (s, u, p) in enumerate(drawn))
    caption = (
        "Codebook usage. Wide bar: codes that some item has. Narrow bar: perplexity, the number of codes that would be "
        "as diverse if all were used equally."
    )
    return Picture(figures.codebook_usage(drawn, f"Codebook usage. {told}."), caption)


def _agreement(quality: Mapping[str, Any]) -> Table | None:
    """Per prefix length, what its items have in common beside what chance would give them."""
    near, pairs = (quality.get(key) or {} for key in _AGREEMENT)
    columns = [
        ("neighbours that share it", near.get("recall")),
        ("by chance", near.get("recall_random")),
        ("Jaccard", near.get("jaccard")),
        ("by chance", near.get("jaccard_random")),
        ("next items that share it", pairs.get("share")),
        ("by chance", pairs.get("random")),
        ("lift", pairs.get("lift")),
    ]
    shown = [(name, values) for name, values in columns if values]
    if not shown:
        return None
    lengths = range(min(len(values) for _, values in shown))
    rows = [Row(f"{length + 1}", [Cell(value_text(values[length])) for _, values in shown]) for length in lengths]
    return Table("Agreement of prefixes", "codes", [name for name, _ in shown], rows, look="dense")


def _stability(found: Mapping[str, Any]) -> Table | None:
    """Per prefix length, how many items keep it from an earlier tokenizer."""
    columns = {"same": "same codes", "matched": "same once renamed", "adjusted_rand": "adjusted Rand index"}
    shown = {name: found[key] for key, name in columns.items() if found.get(key)}
    if not shown:
        return None
    lengths = range(min(len(values) for values in shown.values()))
    rows = [Row(f"{length + 1}", [Cell(value_text(values[length])) for values in shown.values()]) for length in lengths]
    return Table(f"Compared with {found.get('compared_with', 'an earlier tokenizer')}", "codes", list(shown), rows)


def _first_level(spread: Mapping[str, Any]) -> Picture | None:
    counts = [int(number) for count in spread.get("level_0") or [] if (number := as_number(count)) is not None]
    return _spread_picture(counts, 0)


def _later_levels(spread: Mapping[str, Any]) -> list[Picture | None]:
    return [_spread_picture(counts, level) for level, counts in enumerate(spread.get("later") or [], 1)]


def _spread_picture(counts: Sequence[int], level: int) -> Picture | None:
    if not sum(counts):
        return None
    told = f"{sum(n > 0 for n in counts):,} of {len(counts):,} codes have items, the fullest {max(counts):,}"
    svg = figures.code_spread(counts, f"Items per code of level {level}, fullest code first: {told}.", level)
    return Picture(svg, f"Items per code of level {level}: {told} of {sum(counts):,} items.")


def _two_levels(spread: Mapping[str, Any]) -> Picture | None:
    found = spread.get("tree")
    if not found or not sum(map(sum, found["counts"])):
        return None
    (first, second), left_out = found["sizes"], found["left_out"]
    told = (
        f"The {len(found['codes']):,} fullest of {first:,} first codes, each with its second codes (of {second:,}), "
        f"fullest first; {found['items'] - left_out:,} of {found['items']:,} items are shown."
    )
    return Picture(figures.first_two_levels(found["counts"], told), told)


def _fullest(spread: Mapping[str, Any]) -> Table | None:
    rows = []
    for entry in spread.get("top") or []:
        titles = [shorten(title_text(title), _WIDTH, placeholder="…") for title in (entry.get("titles") or [])[:_SHOWN]]
        topics = plain([str(topic) for topic in entry.get("topics") or []])
        cells = [Cell(plain(entry.get("items"))), Cell("; ".join(titles) or DASH), Cell(topics)]
        rows.append(Row(plain(entry.get("code")), cells))
    columns, left = ["items", "example titles", "topics"], ("example titles", "topics")
    return Table("Fullest codes of level 0", "code", columns, rows, left=left, look="wordy") if rows else None

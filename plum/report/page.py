"""The report of a run: one HTML file that needs nothing else, and the same in Markdown."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from plum.report import models, results
from plum.report.drawing import styles_of
from plum.report.tables import REFERENCE, cell, row, table
from plum.report.wording import (
    BOUND,
    DASH,
    Markdown,
    as_number,
    duration,
    escape_markdown,
    explain_protocol,
    headline,
    plain,
    primary_metric,
    title_text,
    words,
)


def render_report(payload: Mapping[str, Any]) -> tuple[str, str]:
    """The report as HTML and as Markdown. Any key may be missing or empty: its part is then left out.

    Args:
        payload:
            - ``title``: str; ``synthetic``: bool, shows a banner; ``n_users``: int.
            - ``protocol``: dict; ``split`` ("leave-one-out" or "temporal"), ``seen`` ("filtered" or "kept") and ``ties
              in time`` ("shuffle" or "keep") are put into sentences, all entries are listed.
            - ``retrievers``: {name: {metric: value}}, ``intervals``: {name: {metric: [low, high]}}, ``comparisons``:
              entries of :func:`plum.evaluation.compare.compare`; ``retriever_about``: {name: sentence}.
            - ``seen_kept`` or ``seen_filtered``: {name: {metric: value}} under the other rule for seen items.
            - ``slices``: groups of :func:`plum.evaluation.slices.score_slices`; ``prefix_recall``: {retriever:
              [share of targets whose first code, first two codes, ... some item among the first 10 places has]};
              ``lists``: {retriever: {what was odd about its lists: count}}.
            - ``efficiency``: {retriever: {parameters, examples, tokens, flops, epochs}}; ``tuning``: {retriever:
              {searched: {field: [value]}, trials: [{settings, "valid_recall@10"}], chosen: {field: value}, note}};
              ``dense_search``: [{index, parameters, build_s, ms_per_query, mib, "recall_of_exact@10"}].
            - ``data``: {name: count}; ``quality``: the content of ``tokenize/quality.json``; ``levels2``: {level_0:
              [items of each code], top: [{code, items, titles, topics}], later: [[items of each code] of each later
              level], tree: what ``plum.sid.quality.tree`` gives}.
            - ``curves``: {stage: [{step, loss, "recall@10", ...}]}.
            - ``examples``: [{user_id, history: [title], target: title, recommendations: {retriever: [{title, hit}]}}].
            - ``reproduce``: commands; ``config``: YAML; ``inputs``: {file: SHA-256}; ``versions``: {library: version};
              ``timings``: {stage: {seconds, peak_mib}}.

    Returns:
        html: one self-contained page without scripts or outside addresses.
        markdown: the same without the pictures.
    """
    view = _view(payload)
    html = _environment(autoescape=True).get_template("report.html.jinja").render(view)
    return html, _environment(autoescape=False).get_template("report.md.jinja").render(view)


@functools.lru_cache
def _environment(autoescape: bool) -> jinja2.Environment:
    """The templates, for HTML with autoescape, for Markdown without: compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        # Autoescape is for HTML; `finalize` does the same for Markdown: whatever a template prints is escaped.
        finalize=None if autoescape else escape_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = lambda line: Markdown("    " + " ".join(str(line).split("\n")))
    return environment


def _view(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All that the templates show, in words: they only lay out."""
    given = {key: value for key, value in payload.items() if value}
    users = given.get("n_users")
    return {
        "title": str(given.get("title") or "Evaluation report"),
        "synthetic": bool(given.get("synthetic")),
        "users": f"{plain(users)} users" if users else "",
        **_results(given),
        **_models(given),
        "examples": [_example(example) for example in given.get("examples", [])],
        "protocol": explain_protocol(given.get("protocol", {})),
        "data": words(given.get("data", {})),
        "timings": _timings(given.get("timings", {})),
        "repeat": _repeat(given),
    }


def _results(given: Mapping[str, Any]) -> dict[str, Any]:
    """How good the recommendations are."""
    retrievers, intervals = given.get("retrievers", {}), given.get("intervals", {})
    tested = [entry for entry in given.get("comparisons", []) if as_number(entry.get("difference")) is not None]
    verdict, evidence = headline(retrievers, intervals, tested, given.get("n_users"), REFERENCE)
    styles = _styles(given)
    return {
        "verdict": verdict,
        "evidence": evidence,
        "about": [(str(name), str(text)) for name, text in given.get("retriever_about", {}).items() if text],
        "families": results.families(retrievers, intervals),
        "recall_figure": results.recall_figure(retrievers, intervals, styles),
        "other_view": results.other_view(retrievers, given),
        "comparisons": results.comparisons(tested, primary_metric(retrievers)),
        "slices": results.slices(given.get("slices", []), styles),
        "beyond": results.beyond(retrievers, intervals),
        "prefixes": results.prefixes(given.get("prefix_recall", {}), retrievers, styles),
        "delivered": results.delivered(given.get("lists", {})),
    }


def _models(given: Mapping[str, Any]) -> dict[str, Any]:
    """How the retrievers were made."""
    retrievers, intervals = given.get("retrievers", {}), given.get("intervals", {})
    costs = given.get("efficiency", {})
    return {
        "efficiency": models.efficiency(costs, retrievers, intervals, _styles(given)),
        "tuning": models.tuning(given.get("tuning", {})),
        "dense_search": models.dense_search(given.get("dense_search", [])),
        "quality": models.quality(given.get("quality", {}), given.get("levels2", {})),
        "training": models.training(given.get("curves", {})),
    }


def _styles(given: Mapping[str, Any]) -> dict[str, Any]:
    """How each retriever is drawn, in every picture of the page alike."""
    names = dict.fromkeys(given.get("retrievers", {}))
    for key in ("prefix_recall", "efficiency"):
        names |= dict.fromkeys(given.get(key, {}))
    parts = (part for group in given.get("slices", []) for part in group.get("slices") or [])
    names |= dict.fromkeys(name for part in parts for name in part.get("retrievers") or {})
    return styles_of([str(name) for name in names], REFERENCE, BOUND)


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    """One user's history, target and lists; the list the report is about first, where a phone shows but one."""
    lists = (example.get("recommendations") or {}).items()
    return {
        "user": str(example.get("user_id", "")),
        "history": [title_text(title) for title in example.get("history") or []],
        "target": title_text(example.get("target")),
        "lists": [
            {
                "name": str(name),
                "items": [{"title": title_text(item.get("title")), "hit": bool(item.get("hit"))} for item in items],
            }
            for name, items in sorted(lists, key=lambda entry: entry[0] != REFERENCE)
        ],
    }


def _timings(timings: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = []
    for stage, values in timings.items():
        peak = as_number((values or {}).get("peak_mib"))
        if values:
            memory = DASH if peak is None else f"{peak:,.0f} MiB"
            rows.append(row(str(stage), [cell(duration(values.get("seconds"))), cell(memory)]))
    return table("Time and memory by stage", "stage", ["time", "peak memory"], rows, look="narrow") if rows else None


def _repeat(given: Mapping[str, Any]) -> dict[str, Any]:
    """Commands, configuration, inputs and versions; all empty if nothing is known."""
    return {
        "commands": [str(line) for line in given.get("reproduce", [])],
        "config": str(given.get("config", "")).rstrip().split("\n") if given.get("config") else [],
        "inputs": [(str(name), str(digest)[:12]) for name, digest in given.get("inputs", {}).items()],
        "versions": words(given.get("versions", {})),
    }

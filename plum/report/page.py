"""The report of a run: one HTML file that needs nothing else, and the same in Markdown."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from plum.foreign import one_line, visible
from plum.report import codes, conditions, dataset, drawing, lists, models, pretraining, results
from plum.report.blends import blends as blends_of
from plum.report.blocks import Code, Facts, Heading, Section
from plum.report.drawing import Style, styles_of
from plum.report.tables import REFERENCE, best_first
from plum.report.wording import (
    BOUND,
    FUSED,
    Markdown,
    as_number,
    escape_markdown,
    headline,
    plain,
    primary_metric,
    words,
)


def render_report(payload: Mapping[str, Any]) -> tuple[str, str]:
    """The report as HTML and as Markdown. Any key may be missing or empty: its part is then left out.

    Args:
        payload:
            - ``title``: str; ``synthetic``: bool; ``n_users``: int, the test users.
            - ``protocol``: dict; ``split`` ("leave-one-out" or "temporal"), ``seen`` ("filtered" or "kept") and ``ties
              in time`` ("shuffle", "keep" or "no times") are put into sentences, all entries are listed.
            - ``retrievers``: {name: {metric: value}}, ``intervals``: {name: {metric: [low, high]}}, ``comparisons``:
              entries of :func:`plum.evaluation.compare.compare`; ``retriever_about``: {name: sentence}; ``built_on``:
              what plum learnt from, if from a retriever of the table.
            - ``seen_kept`` or ``seen_filtered``: {name: {metric: value}} under the other rule for seen items.
            - ``slices``: groups of :func:`plum.evaluation.slices.score_slices`; ``prefix_recall``: {retriever:
              [share of targets whose first code, first two codes, ... some item among the first 10 places has]};
              ``lists``: {retriever: {what was odd about its lists: count}}; ``exposure``: {classes: [name of a class of
              items, popular to rare], references: {name: [share per class]}, retrievers: {name: [share per class]}}.
            - ``efficiency``: {retriever: {parameters, examples, tokens, flops, epochs}}; ``tuning``: {retriever:
              {searched: {field: [value]}, trials: [{settings, "valid_recall@10"}], chosen: {field: value}, note}};
              ``blends``: {retriever: {parts: {part: {weight, powers, targets_listed, users_without_list}}, users,
              targets, targets_in_no_list, loss, loss_with_equal_weights, steps, gap, converged, trace: [{step,
              stochastic_gap, gap}]}};
              ``dense_search``: [{index, parameters, build_s, ms_per_query, mib, "recall_of_exact@10"}].
            - ``data``: {users, items, interactions, train, valid, test, first (a day), last, cold_test, tied,
              tied_targets, users_without_test, users_without_history, seen_targets_only, unusable_rows: count}, or any
              other {name: value}; ``popularity``: {ranks: [rank from 1], counts: [training interactions], top_tenth:
              share, unseen: items}; ``history_lengths``: {edges, counts: [users], median, read: interactions that plum
              reads}; ``timeline``: {edges: [seconds since 1970], counts: {part: [interactions]}, cuts: {part: second}}.
            - ``quality``: the content of ``tokenize/quality.json``; ``codes``: {level_0: [items of each code], top:
              [{code, items, titles, topics}], later: [[items of each code] of each later level], tree: what
              ``plum.sid.quality.tree`` gives}.
            - ``learnt``: what ``plum.probes.course.Course.report`` gives; its course is in the log of stage cpt.
            - ``curves``: {stage: [{step, loss, "recall@10", ...}]}.
            - ``examples``: [{user_id, history: [title], target: title, recommendations: {retriever: [{title, hit}]}}].
            - ``reproduce``: commands; ``config``: YAML; ``inputs``: {file: SHA-256}; ``versions``: {library: version};
              ``timings``: {stage: {seconds, peak_mib}}.

    Returns:
        html: one self-contained page without scripts or outside addresses.
        markdown: the same without the pictures.
    """
    given = {key: value for key, value in payload.items() if value}
    view = {"title": str(given.get("title") or "Evaluation report"), **_first_screen(given), "groups": _groups(given)}
    colours = {"light": drawing.LIGHT, "dark": drawing.DARK}
    html = _environment(autoescape=True).get_template("page.html.jinja").render(view, **colours)
    return html, _environment(autoescape=False).get_template("page.md.jinja").render(view)


@functools.lru_cache
def _environment(autoescape: bool) -> jinja2.Environment:
    """The templates, for HTML with autoescape, for Markdown without: compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        # Autoescape is for HTML; for Markdown `finalize` does the same: whatever a template prints is escaped.
        finalize=_shown if autoescape else escape_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = lambda line: Markdown("    " + one_line(" ".join(str(line).split("\n"))))
    return environment


def _shown(value: Any) -> Any:
    """Text with control characters made visible; what is HTML already stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _first_screen(given: Mapping[str, Any]) -> dict[str, Any]:
    """What every reader should see: the verdict, one table, the data and the split, and what to keep in mind."""
    retrievers, intervals = best_first(given.get("retrievers", {})), given.get("intervals", {})
    blends = {name: entry.get("parts") or {} for name, entry in given.get("blends", {}).items()}
    holding = [name for name, parts in blends.items() if REFERENCE in parts]
    asked = retrievers, intervals, _tested(given), given.get("n_users"), REFERENCE
    verdict, evidence = headline(*asked, combined=holding, taught=bool(given.get("taught_by_trials")))
    users = given.get("n_users")
    table = results.main_table(retrievers, intervals, given)
    note = f"Means over {plain(users)} test users" if users else "Means over users"
    note += " with 95% intervals" if intervals else ""
    note += "; the best of each column is bold."
    if BOUND in retrievers and len(retrievers) > 1:
        note += f" {BOUND} is an upper bound, known because the data are synthetic; it is not a rival."
    weight = ((given.get("tuning", {}).get(FUSED) or {}).get("chosen") or {}).get("weight")
    if FUSED in retrievers and weight in (0, 1):
        note += f" Tuning gave {FUSED} the lists of {REFERENCE if weight else 'dense'} alone."
    data = [conditions.summary_of_data(given.get("data", {}))]
    data += conditions.summary_of_protocol(given.get("protocol", {}), dataset.cut_days(given.get("timeline", {})))
    return {
        "verdict": verdict,
        "evidence": evidence,
        "main": table,
        "note": note if table else "",
        "data": [sentence for sentence in data if sentence],
        "warnings": conditions.warnings(given),
    }


def _tested(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in given.get("comparisons", []) if as_number(entry.get("difference")) is not None]


def _groups(given: Mapping[str, Any]) -> list[tuple[str, list[Section]]]:
    """The folded sections under the headings that they stand below; empty ones are left out."""
    groups = {
        "Results in detail": _result_sections(given),
        "Data and protocol": [
            dataset.dataset(*(given.get(key, {}) for key in ("data", "popularity", "history_lengths", "timeline"))),
            dataset.protocol(given.get("protocol", {})),
        ],
        "Models": _model_sections(given),
        "Reproduction": _reproduction(given),
    }
    shown = {title: [section for section in sections if section.blocks] for title, sections in groups.items()}
    return [(title, sections) for title, sections in shown.items() if sections]


def _result_sections(given: Mapping[str, Any]) -> list[Section]:
    """How good the recommendations are, and what they are like."""
    retrievers, intervals = best_first(given.get("retrievers", {})), given.get("intervals", {})
    styles, order = _styles(given), list(retrievers)
    return [
        models.retrievers(given.get("retriever_about", {}), order),
        results.accuracy(retrievers, intervals, styles, given.get("n_users")),
        results.other_view(retrievers, given),
        results.comparisons(_tested(given), order, primary_metric(retrievers), given.get("n_users")),
        results.slices(given.get("slices", []), order, styles, given.get("n_users")),
        lists.exposure(given.get("exposure", {}), order),
        lists.beyond(retrievers, intervals),
        lists.prefixes(given.get("prefix_recall", {}), retrievers, styles),
        lists.delivered(given.get("lists", {})),
        lists.examples(given.get("examples", []), order),
    ]


def _model_sections(given: Mapping[str, Any]) -> list[Section]:
    """How the retrievers were made."""
    retrievers, intervals = best_first(given.get("retrievers", {})), given.get("intervals", {})
    return [
        codes.semantic_ids(given.get("quality", {}), given.get("codes", {})),
        models.training(given.get("curves", {})),
        pretraining.pretraining(given.get("learnt", {}), (given.get("curves") or {}).get("cpt") or []),
        models.tuning(given.get("tuning", {}), list(retrievers)),
        blends_of(given.get("blends", {})),
        models.efficiency(given.get("efficiency", {}), retrievers, intervals, _styles(given), given.get("n_users")),
        models.dense_search(given.get("dense_search", [])),
        models.timings(given.get("timings", {})),
    ]


def _reproduction(given: Mapping[str, Any]) -> list[Section]:
    """Commands, inputs, versions and the configuration."""
    commands = [str(line) for line in given.get("reproduce", [])]
    inputs = [(str(name), str(digest)[:12]) for name, digest in given.get("inputs", {}).items()]
    versions = words(given.get("versions", {}))
    blocks: list[Any] = [Code("Commands", commands)] if commands else []
    blocks += [Heading("Inputs, with the first 12 digits of each file's SHA-256"), Facts(inputs)] if inputs else []
    blocks += [Heading("Versions"), Facts(versions)] if versions else []
    config = str(given.get("config", "")).rstrip().split("\n") if given.get("config") else []
    shown = [Code("Configuration", config)] if config else []
    return [
        Section("repeat", "How to repeat this run", "commands, inputs, versions", blocks),
        Section("config", "Configuration", "all settings, defaults included", shown),
    ]


def _styles(given: Mapping[str, Any]) -> dict[str, Style]:
    """How each retriever is drawn, in every picture of the page alike."""
    names = dict.fromkeys(given.get("retrievers", {}))
    for key in ("prefix_recall", "efficiency"):
        names |= dict.fromkeys(given.get(key, {}))
    parts = (part for group in given.get("slices", []) for part in group.get("slices") or [])
    names |= dict.fromkeys(name for part in parts for name in part.get("retrievers") or {})
    return styles_of([str(name) for name in names], REFERENCE, BOUND)

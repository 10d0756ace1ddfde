"""Commands that use finished runs, ``recommend`` and ``compare``, and how the results of a run are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plum.cli.options import (
    SYNTHETIC,
    ConfigFile,
    Device,
    Seed,
    Settings,
    Workdir,
    console,
    load_pipeline,
    print_json,
)
from plum.errors import PlumError
from plum.foreign import cell

if TYPE_CHECKING:
    from plum.config.run import RunConfig
    from plum.serving.recommend import Answer


def recommend(
    config: ConfigFile = None,
    workdir: Workdir = None,
    settings: Settings = None,
    device: Device = None,
    seed: Seed = None,
    user: Annotated[str | None, typer.Option(help="A user id of the logs.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="An item id, a title or words of it. Repeat the option, oldest first.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many items.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Recommend only items that satisfy RULE. Repeatable; all rules must hold."),
    ] = None,
    allow: Annotated[Path | None, typer.Option(help="Recommend only items of this file (one id per line).")] = None,
    deny: Annotated[Path | None, typer.Option(help="Recommend no item of this file (one id per line).")] = None,
    fields: Annotated[
        Path | None, typer.Option(help="A table (CSV, TSV, JSONL or Parquet) with item_id and more columns for rules.")
    ] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Also recommend items of the history.")] = False,
    search: Annotated[
        Literal["beam", "exact", "sample"],
        typer.Option(help="exact: finds the true top K, may be slow. sample: draws the list at random with --seed."),
    ] = "beam",
    max_per_code: Annotated[
        int | None, typer.Option(min=1, help="At most this many items with the same first code.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recommend the top K items to a user, or for a history of item ids or titles.

    Items of the history are not recommended again. Rules filter items by their columns and `popularity`; docs/rules.md
    describes the rule language.

    Example: `plum recommend --workdir runs/ml-100k --history "Toy Story (1995)" --history "Fargo (1996)" --k 5`

    Example: `plum recommend --workdir runs/ml-100k --user 42 --where "topics has Comedy and not year < 1990"`
    """
    if (user is None) == (not history):
        raise PlumError("give either --user or --history", None, "see `plum recommend --help` for an example")
    loaded = load_pipeline(config, workdir, settings, device, seed)
    from plum.serving import recommend as stage

    request = stage.Request(k, where or (), allow, deny, fields, keep_seen, search, max_per_code)
    recommender = stage.Recommender(loaded)
    if user is not None:
        answer = recommender.for_user(user, request)
    else:
        answer = recommender.for_history(history or [], request)
    if json:
        listed = [item.__dict__ for item in answer.items]
        counts = {"history": answer.history, "legal_items": answer.legal_items, "note": answer.note}
        print_json({**counts, "recommendations": listed})
    else:
        _show_answer(answer, "score + noise" if search == "sample" else "score")
        if loaded.data.source.kind == "synthetic":
            console().print(SYNTHETIC)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders. NAME=FOLDER gives one a name.")],
    reference: Annotated[
        str,
        typer.Option(help="The row that all others are compared with: a retriever of the first run, or a row."),
    ] = "plum",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="recall@K, ndcg@K, mrr@K or hit@K. Repeatable. Default: recall@10 and ndcg@10."),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="Another system's lists: a table with user_id, rank, item_id. Repeatable."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of the permutation tests.")] = 2000,
    output: Annotated[
        Path | None, typer.Option(help="Write comparison.json and comparison.md into this folder.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare retrievers of several runs on the same users, with paired tests.

    Runs that differ only in their seed are joined. p-values are Holm-corrected for the number of tests.

    Example: `plum compare runs/beauty-0 runs/beauty-1 --metric recall@10 --output comparisons/beauty`

    Example: `plum compare mine=runs/beauty --lists theirs=lists.parquet --reference dense`
    """
    from plum.report.compare_table import comparison_view
    from plum.runtime import setup_logging
    from plum.studies import compare as stage

    setup_logging()
    folders, names = stage.named_paths(runs)
    files = stage.named_files(lists or ())
    result = stage.compare_runs(folders, files, metric or stage.METRICS, reference, names, resamples)
    if output is not None:
        stage.write_comparison(output, result)
    if json:
        print_json(result)
        return
    console().print(comparison_view(result))
    if output is not None:
        console().print(f"Written: {output / 'comparison.md'}", soft_wrap=True)


def show_results(config: RunConfig) -> None:
    """The comparison, example users and where the report lies."""
    from plum.report.console import console_table, examples_table
    from plum.run import artifacts, shapes

    out = console()
    metrics = artifacts.read_json(config.workdir / artifacts.EVAL_METRICS, shapes.Evaluated)
    synthetic = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY, shapes.Origin).get("synthetic")
    out.print(console_table({**metrics, "title": config.title, "synthetic": synthetic}))
    examples = artifacts.read_json(config.workdir / artifacts.EXAMPLES, list[shapes.Example])
    if examples:
        out.print(examples_table(examples, out.width))
    out.print(f"Report: {config.workdir / artifacts.REPORT}", soft_wrap=True)


def _show_answer(answer: Answer, score: str) -> None:
    """The recommendations as a table, and why it is shorter than asked for.

    Args:
        answer: what was found.
        score: what the list is ordered by.
    """
    from rich.table import Table

    title = cell(f"after {', '.join(answer.history[-3:])}")
    table = Table("", "item", "title", score, title=title, title_justify="left")
    for item in answer.items:
        table.add_row(str(item.rank), cell(item.item_id), cell(item.title or ""), f"{item.score:.3f}")
    if answer.items:
        console().print(table)
    if answer.note:
        console().print(answer.note)

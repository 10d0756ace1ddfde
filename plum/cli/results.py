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
        list[str] | None, typer.Option(help="An item id or title, oldest first; repeat the option.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many items.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Only items that satisfy this; repeat the option, all must hold."),
    ] = None,
    allow: Annotated[Path | None, typer.Option(help="Only items of this file, one id a line.")] = None,
    deny: Annotated[Path | None, typer.Option(help="No item of this file, one id a line.")] = None,
    fields: Annotated[
        Path | None, typer.Option(help="Further columns for rules, by item_id: CSV, TSV, JSONL or Parquet.")
    ] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Items of the history may come back.")] = False,
    search: Annotated[
        Literal["beam", "exact", "sample"],
        typer.Option(help="exact misses nothing and may take long; sample draws the list at random, by --seed."),
    ] = "beam",
    max_per_code: Annotated[
        int | None, typer.Option(min=1, help="At most so many items that share their first code.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The top K items for a user, or for a history given by ids or titles; items of the history are left out.

    Rules choose among the items by their columns and `popularity`; docs/rules.md tells all of the language.

    Example: `plum recommend --workdir runs/ml-100k --history "Toy Story (1995)" --history "Fargo (1996)" --k 5`

    Example: `plum recommend --workdir runs/ml-100k --user 42 --where "topics has Comedy and not year < 1990"`
    """
    if (user is None) == (not history):
        raise PlumError("give either --user or --history", None, "see `plum recommend --help` for an example")
    loaded = load_pipeline(config, workdir, settings, device, seed, record=False)
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
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders; NAME=FOLDER names one.")],
    reference: Annotated[
        str, typer.Option(help="Compared with all others: a retriever, of the first run, or a row's name.")
    ] = "plum",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="recall@K, ndcg@K, mrr@K or hit@K; repeat the option. By default recall@10 and ndcg@10."),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="Another system's lists, with columns user_id, rank, item_id; repeatable."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap and of the permutation test.")] = 2000,
    output: Annotated[
        Path | None, typer.Option(help="A folder of its own to write comparison.json and comparison.md into.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Retrievers of one or several runs side by side, on the same users, with paired tests.

    Runs that differ in nothing but the seed are joined. p-values are corrected for the number of tests (Holm).

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
    from plum.run import artifacts

    out = console()
    metrics = artifacts.read_json(config.workdir / artifacts.EVAL_METRICS)
    synthetic = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY)["synthetic"]
    out.print(console_table({**metrics, "title": config.title, "synthetic": synthetic}))
    examples = artifacts.read_json(config.workdir / artifacts.EXAMPLES)
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
    from rich.text import Text

    title = Text(f"after {', '.join(answer.history[-3:])}")  # as Text: "[red]" in a title is no markup
    table = Table("", "item", "title", score, title=title, title_justify="left")
    for item in answer.items:
        table.add_row(str(item.rank), Text(item.item_id), Text(item.title or ""), f"{item.score:.3f}")
    if answer.items:
        console().print(table)
    if answer.note:
        console().print(answer.note)

"""The command line. Heavy modules are imported inside the commands, so that ``plum --help`` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plum.errors import PlumError

if TYPE_CHECKING:
    from plum.config import RunConfig
    from plum.stages.recommend import Answer

    Action = Callable[[RunConfig, bool], None]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Generative retrieval with Semantic IDs: interaction logs in, an LLM that recommends valid items out.\n\n"
    "Example: `plum run --config pipelines/synthetic.yaml`",
)
SYNTHETIC = "Synthetic data: made up by a program."
INTERRUPTED = 130  # exit code after Ctrl-C
data_app = typer.Typer(no_args_is_help=True, help="Get, check and split data.\n\nExample: `plum data fetch ml-100k`")
app.add_typer(data_app, name="data")

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="A pipeline's YAML; by default the run folder's own.")
]
Workdir = Annotated[Path | None, typer.Option("--workdir", "-w", help="The run folder, by default runs/PIPELINE.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="One configuration value, `stage.key=value`; repeatable.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random; 0 is a seed.")]
Force = Annotated[bool, typer.Option("--force", help="Do the work again even if nothing changed.")]


def main() -> None:
    """Run the command line; a ``PlumError`` becomes one clean message and exit code 2."""
    try:
        app()
    except PlumError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # no space left, no permission: a PlumError where more can be said
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(PlumError.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns the one into the other
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        print("Stopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(INTERRUPTED)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        import plum

        print(f"plum {plum.__version__}")
        raise typer.Exit


def _stage_command(group: typer.Typer, name: str) -> Callable[[Action], Action]:
    """Make ``action(config, force)`` a command with the options that all stages share; its docstring is the help."""

    def register(action: Action) -> Action:
        def command(
            config: Config = None,
            workdir: Workdir = None,
            settings: Settings = None,
            device: Device = None,
            seed: Seed = None,
            force: Force = False,
        ) -> None:
            action(_load(config, workdir, settings, device, seed), force)

        command.__doc__ = action.__doc__
        group.command(name)(command)
        return action

    return register


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-latest-small, ml-latest, ml-1m, ml-10m, ml-20m, ...")],
) -> None:
    """Download a data set from its official source, verified, into the data home.

    The data home is the environment variable PLUM_DATA_HOME, else `data/`.

    Example: `plum data fetch ml-100k`
    """
    from plum.data.fetch import fetch
    from plum.runtime import setup_logging
    from plum.stages.prepare import data_home

    setup_logging()
    print(fetch(name, data_home()))


@_stage_command(data_app, "prepare")
def data_prepare(config: RunConfig, force: bool) -> None:
    """Read the source, check it, split it, and write the run's `data/`.

    Example: `plum data prepare --config pipelines/ml-100k.yaml`
    """
    from plum.stages import prepare

    print(prepare.run(config, force))


@data_app.command("describe")
def data_describe(
    config: Config = None,
    workdir: Workdir = None,
    settings: Settings = None,
    device: Device = None,
    seed: Seed = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print counts, density, time range, ties, nulls and percentiles of a source, before anything is trained.

    Example: `plum data describe --config pipelines/ml-100k.yaml`
    """
    loaded = _load(config, workdir, settings, device, seed, record=False)
    from plum.data.describe import describe, render
    from plum.stages.prepare import load

    description = describe(load(loaded.data))
    if json:
        _print_json(description)
        return
    _console().print(render(description))
    if loaded.data.source.kind == "synthetic":
        _console().print(SYNTHETIC)


@_stage_command(app, "tokenize")
def tokenize(config: RunConfig, force: bool) -> None:
    """Items -> vectors -> Semantic IDs: writes the run's `features/` and `tokenize/`.

    Example: `plum tokenize --config pipelines/ml-100k.yaml --set tokenize.epochs=100`
    """
    from plum.stages import pipeline

    print(pipeline.run_tokenize(config, force))


@_stage_command(app, "cpt")
def cpt(config: RunConfig, force: bool) -> None:
    """Continued pre-training on behaviour and item text: writes the run's `cpt/`.

    Example: `plum cpt --config pipelines/ml-100k.yaml --set cpt.base=path/to/a/hugging-face-model`
    """
    from plum.stages import cpt as stage

    print(stage.run(config, force))


@_stage_command(app, "finetune")
def finetune(config: RunConfig, force: bool) -> None:
    """Fine-tuning for generative retrieval: writes the run's `finetune/`.

    Example: `plum finetune --config pipelines/ml-100k.yaml --set finetune.epochs=10`
    """
    from plum.stages import finetune as stage

    print(stage.run(config, force))


@_stage_command(app, "eval")
def evaluate(config: RunConfig, force: bool) -> None:
    """Train the dense baselines and compare all retrievers: writes the run's `dense/`, `lem/` and `eval/`.

    Example: `plum eval --config pipelines/ml-100k.yaml`
    """
    from plum.stages import pipeline

    pipeline.run_eval(config, force)
    _show_results(config)


@_stage_command(app, "run")
def run(config: RunConfig, force: bool) -> None:
    """All stages, skipping those whose inputs and configuration have not changed.

    Example: `plum run --config pipelines/ml-100k.yaml --workdir runs/first --seed 1`
    """
    from plum.stages import pipeline

    pipeline.run_all(config, force)
    _show_results(config)


@app.command()
def recommend(
    config: Config = None,
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
    loaded = _load(config, workdir, settings, device, seed, record=False)
    from plum.stages import recommend as stage

    request = stage.Request(k, where or (), allow, deny, fields, keep_seen, search, max_per_code)
    recommender = stage.Recommender(loaded)
    if user is not None:
        answer = recommender.for_user(user, request)
    else:
        answer = recommender.for_history(history or [], request)
    if json:
        listed = [item.__dict__ for item in answer.items]
        counts = {"history": answer.history, "legal_items": answer.legal_items, "note": answer.note}
        _print_json({**counts, "recommendations": listed})
    else:
        _show_answer(answer, "score + noise" if search == "sample" else "score")
        if loaded.data.source.kind == "synthetic":
            _console().print(SYNTHETIC)


@app.command()
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
    from plum.evaluation.compare_table import comparison_view
    from plum.runtime import setup_logging
    from plum.stages import compare as stage

    setup_logging()
    folders, names = stage.named_paths(runs)
    files = stage.named_files(lists or ())
    result = stage.compare_runs(folders, files, metric or stage.METRICS, reference, names, resamples)
    if output is not None:
        stage.write_comparison(output, result)
    if json:
        _print_json(result)
        return
    _console().print(comparison_view(result))
    if output is not None:
        _console().print(f"Written: {output / 'comparison.md'}", soft_wrap=True)


def _load(
    config: Path | None,
    workdir: Path | None,
    settings: list[str] | None,
    device: str | None,
    seed: int | None,
    record: bool = True,
) -> RunConfig:
    """The configuration of a command; a run folder's own if no file is given."""
    from plum.config_file import load_config
    from plum.runtime import setup_logging

    if config is None and workdir is None and not settings:
        raise PlumError("no pipeline given", None, "give --config FILE, for example pipelines/synthetic.yaml")
    if config is None and workdir is not None and (workdir / "config.yaml").exists():
        config = workdir / "config.yaml"
    if config is None and not settings:
        raise PlumError(f"no run in {workdir}", "no config.yaml there", "give --config FILE, or another --workdir")
    loaded = load_config(config, settings or (), workdir=workdir, device=device, seed=seed)
    setup_logging()
    if not sys.stderr.isatty():  # transformers' progress bars, as ours, are for a terminal; read when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if record:
        from plum import artifacts

        try:
            artifacts.write_config(loaded.workdir, loaded.model_dump(mode="json"))
        except OSError as error:
            raise PlumError(f"can't write to {loaded.workdir}", str(error), "give another --workdir") from None
    return loaded


def _show_results(config: RunConfig) -> None:
    """The comparison, example users and where the report lies."""
    from rich.table import Table

    from plum import artifacts
    from plum.evaluation.report import console_table

    console = _console()
    metrics = artifacts.read_json(config.workdir / artifacts.EVAL_METRICS)
    synthetic = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY)["synthetic"]
    console.print(console_table({**metrics, "title": config.title, "synthetic": synthetic}))
    examples = artifacts.read_json(config.workdir / artifacts.EXAMPLES)
    if examples:
        table = Table("history, newest last", "plum recommends (✓ what came next)", show_lines=True)
        table.title, table.title_justify = "Example users", "left"
        for example in examples:
            found = [f"{'✓' if item['hit'] else ' '} {item['title']}" for item in example["recommendations"]["plum"]]
            table.add_row("\n".join(example["history"]), "\n".join(found))
        console.print(table)
    console.print(f"Report: {config.workdir / artifacts.REPORT}", soft_wrap=True)


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
        _console().print(table)
    if answer.note:
        _console().print(answer.note)


def _console():  # type: ignore[no-untyped-def]
    from rich.console import Console

    return Console()


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

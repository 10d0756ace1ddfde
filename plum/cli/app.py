"""The command line. Heavy modules are imported inside the commands, so that ``plum --help`` answers at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from plum.cli.ablate import ablate
from plum.cli.data import data_app
from plum.cli.init import init
from plum.cli.items import inspect, tokenize
from plum.cli.options import (
    stage_command,
)
from plum.cli.results import compare, recommend, show_results
from plum.errors import PlumError

if TYPE_CHECKING:
    from plum.config.run import RunConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Generative retrieval with Semantic IDs: interaction logs in, an LLM that recommends valid items out.\n\n"
    "Example: `plum run --config pipelines/synthetic.yaml`",
)
INTERRUPTED = 130  # exit code after Ctrl-C
app.add_typer(data_app, name="data")


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


app.command()(init)
app.command()(tokenize)


@stage_command(app, "cpt")
def cpt(config: RunConfig, force: bool) -> None:
    """Continued pre-training on behaviour and item text: writes the run's `cpt/`.

    Example: `plum cpt --config pipelines/ml-100k.yaml --set cpt.base=path/to/a/hugging-face-model`
    """
    from plum.stages import cpt as stage

    print(stage.run(config, force))


@stage_command(app, "finetune")
def finetune(config: RunConfig, force: bool) -> None:
    """Fine-tuning for generative retrieval: writes the run's `finetune/`.

    With `finetune.teacher_weight` the dense baseline, its teacher, is trained first: `dense/`.

    Example: `plum finetune --config pipelines/ml-100k.yaml --set finetune.epochs=10`
    """
    from plum.stages import pipeline

    print(pipeline.run_finetune(config, force))


@stage_command(app, "eval")
def evaluate(config: RunConfig, force: bool) -> None:
    """Train the dense baselines and compare all retrievers: writes the run's `dense/`, `lem/` and `eval/`.

    Example: `plum eval --config pipelines/ml-100k.yaml`
    """
    from plum.stages import pipeline

    pipeline.run_eval(config, force)
    show_results(config)


@stage_command(app, "run")
def run(config: RunConfig, force: bool) -> None:
    """All stages, skipping those whose inputs and configuration have not changed.

    Example: `plum run --config pipelines/ml-100k.yaml --workdir runs/first --seed 1`
    """
    from plum.stages import pipeline

    pipeline.run_all(config, force)
    show_results(config)


app.command()(inspect)
app.command()(recommend)
app.command()(compare)
app.command()(ablate)

if __name__ == "__main__":
    main()

"""The command line. Heavy modules are imported inside the commands, so that ``plum --help`` answers at once."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plum.cli.ablate import ablate
from plum.cli.base import base_app
from plum.cli.command import STAGES, START, USE, App
from plum.cli.cpt import cpt
from plum.cli.data import data_app
from plum.cli.init import init
from plum.cli.items import inspect, tokenize
from plum.cli.options import say, stage_command
from plum.cli.results import compare, recommend, show_results
from plum.cli.stopping import Stopped, stoppable
from plum.cli.streams import guarded_streams
from plum.errors import PlumError
from plum.foreign import visible
from plum.run import ranks
from plum.run.writing import DISK, explained, system_error
from plum.runtime import is_first

if TYPE_CHECKING:
    from plum.config.run import RunConfig

app = App(
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Generative retrieval with Semantic IDs: interaction logs in, an LLM that recommends valid items out.\n\n"
    "Example: `plum run --config pipelines/synthetic.yaml`",
)


def main() -> None:
    """Run the command line; a ``PlumError`` becomes one clean message and exit code 2.

    Of several processes (:mod:`plum.run.ranks`), one says what there is to say.
    """
    code: int | str | None = 1
    with guarded_streams() as lost, nullcontext() if is_first() else redirect_stdout(io.StringIO()):
        try:
            code = _exit_code()
        finally:
            ranks.leave(failed=bool(code))
    if lost and not code:
        why = lost[0].strerror
        code = _told(PlumError(f"what was printed is lost: {why}", None, "free space and run the command again"))
    ranks.end(code)


def _exit_code() -> int | str | None:
    with stoppable() as stops:
        try:
            app()
        except SystemExit as end:
            return end.code
        except PlumError as error:
            return _told(error)
        except Stopped as stop:
            return _stopped(stop)
        except Exception as error:
            if stops:  # a library has made another error of it
                return _stopped(stops[0])
            if (number := system_error(error)) in DISK:
                path = Path(getattr(error, "filename", None) or Path.cwd() / "a file")
                return _told(explained(error, int(number or 0), path))
            if not isinstance(error, OSError):
                raise
            return _told(error)
    return 0


def _told(error: Exception) -> int:
    if ranks.may_tell():
        print(f"Error: {visible(str(error))}", file=sys.stderr)
    return PlumError.exit_code


def _stopped(stop: Stopped) -> int:
    if ranks.may_tell():
        print(visible(stop.told()), file=sys.stderr)
    return stop.exit_code


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        import plum

        print(f"plum {plum.__version__}")
        raise typer.Exit


@stage_command(app, "run", START)
def run(config: RunConfig, force: bool) -> None:
    """Run all stages; skip those whose inputs and configuration have not changed.

    Example: `plum run --config pipelines/ml-100k.yaml --workdir runs/first --seed 1`
    """
    from plum.stages import pipeline

    pipeline.run_all(config, force)
    show_results(config)


@stage_command(app, "finetune", STAGES)
def finetune(config: RunConfig, force: bool) -> None:
    """Fine-tune the language model to generate the next item's Semantic ID.

    Writes `finetune/` of the run. Runs earlier stages that the run lacks. With `finetune.teacher_weight`, also trains
    the dense baseline first, its teacher, into `dense/`.

    Example: `plum finetune --config pipelines/ml-100k.yaml --set finetune.epochs=10`
    """
    from plum.stages import pipeline

    say(pipeline.run_finetune(config, force))


@stage_command(app, "eval", STAGES)
def evaluate(config: RunConfig, force: bool) -> None:
    """Train the dense baselines and compare all retrievers on the test users.

    Writes `dense/`, `lem/` and `eval/` of the run, with `eval/report.html`. Runs earlier stages that the run lacks.

    Example: `plum eval --config pipelines/ml-100k.yaml`
    """
    from plum.stages import pipeline

    pipeline.run_eval(config, force)
    show_results(config)


app.command(rich_help_panel=START)(init)
app.add_typer(data_app, name="data", rich_help_panel=START)
app.add_typer(base_app, name="base", rich_help_panel=START)
app.command(rich_help_panel=STAGES)(tokenize)
app.command(rich_help_panel=STAGES)(cpt)
app.command(rich_help_panel=USE)(recommend)
app.command(rich_help_panel=USE)(inspect)
app.command(rich_help_panel=USE)(compare)
app.command(rich_help_panel=USE)(ablate)

if __name__ == "__main__":
    main()

"""What the commands share: their options, how a configuration is loaded, where results are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plum.errors import PlumError

if TYPE_CHECKING:
    from rich.console import Console

    from plum.config.run import RunConfig

    Action = Callable[[RunConfig, bool], None]

SYNTHETIC = "Synthetic data: made up by a program."
_FILE_WIDTH = 160

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="A pipeline's YAML; by default the run folder's own.")
]
Workdir = Annotated[Path | None, typer.Option("--workdir", "-w", help="The run folder, by default runs/PIPELINE.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="One configuration value, `stage.key=value`; repeatable.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random; 0 is a seed.")]
Force = Annotated[bool, typer.Option("--force", help="Do the work again even if nothing changed.")]


def stage_command(group: typer.Typer, name: str) -> Callable[[Action], Action]:
    """Make ``action(config, force)`` a command with the options that all stages share; its docstring is the help."""

    def register(action: Action) -> Action:
        def command(
            config: ConfigFile = None,
            workdir: Workdir = None,
            settings: Settings = None,
            device: Device = None,
            seed: Seed = None,
            force: Force = False,
        ) -> None:
            action(load_pipeline(config, workdir, settings, device, seed), force)

        command.__doc__ = action.__doc__
        group.command(name)(command)
        return action

    return register


def load_pipeline(
    config: Path | None,
    workdir: Path | None,
    settings: list[str] | None,
    device: str | None,
    seed: int | None,
    record: bool = True,
) -> RunConfig:
    """The configuration of a command; a run folder's own if no file is given."""
    from plum.config.file import load_config
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
        from plum.run import artifacts

        try:
            artifacts.write_config(loaded.workdir, loaded.model_dump(mode="json"))
        except OSError as error:
            raise PlumError(f"can't write to {loaded.workdir}", str(error), "give another --workdir") from None
    return loaded


def console() -> Console:
    """Standard output, as wide as the terminal; a file or pipe is wide enough for all tables."""
    from rich.console import Console

    return Console(
        width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH,
        highlight=False,  # else rich colours parts of numbers and ids
    )


def print_json(value: object) -> None:
    """One JSON object on standard output."""
    import json

    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

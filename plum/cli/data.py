"""``plum data``: fetch, prepare and describe data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plum.cli.command import App
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
    say,
    stage_command,
)

if TYPE_CHECKING:
    from plum.config.run import RunConfig

data_app = App(help="Fetch, describe, check and split data.\n\nExample: `plum data fetch ml-100k`")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-latest-small, ml-latest, ml-1m, ml-10m, ml-20m, ...")],
) -> None:
    """Download a data set from its official source into the data home, and verify it.

    The data home is the folder that the environment variable PLUM_DATA_HOME names, by default `data/`.

    Example: `plum data fetch ml-100k`
    """
    from plum.data.fetch import fetch
    from plum.runtime import setup_logging
    from plum.stages.prepare import data_home

    setup_logging()
    say(fetch(name, data_home()))


@data_app.command("describe")
def data_describe(
    config: ConfigFile = None,
    workdir: Workdir = None,
    settings: Settings = None,
    device: Device = None,
    seed: Seed = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print counts, density, time range, ties, nulls and percentiles of a source, before anything is trained.

    Under the temporal protocol, also how many items are known before validation begins.

    Example: `plum data describe --config pipelines/ml-100k.yaml`
    """
    loaded = load_pipeline(config, workdir, settings, device, seed)
    from plum.data.describe import describe, render
    from plum.stages.prepare import known_items, load

    tables = load(loaded.data)
    description = describe(tables, known_items(tables, loaded.data))
    if json:
        print_json(description)
        return
    console().print(render(description))
    if loaded.data.source.kind == "synthetic":
        console().print(SYNTHETIC)


@stage_command(data_app, "prepare")
def data_prepare(config: RunConfig, force: bool) -> None:
    """Read the source, check every row, split by user or time, and write `data/` of the run.

    Example: `plum data prepare --config pipelines/ml-100k.yaml`
    """
    from plum.stages import pipeline

    say(pipeline.run_prepare(config, force))

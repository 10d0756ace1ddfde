"""The command ``plum cpt``."""

from __future__ import annotations

from typing import Annotated

import typer

from plum.cli.options import ConfigFile, Device, Force, Seed, Settings, Workdir, at_work, console, load_pipeline, say
from plum.foreign import cell, one_line


def cpt(
    config: ConfigFile = None,
    workdir: Workdir = None,
    settings: Settings = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    show_examples: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Train nothing: print N documents of each kind, as text."),
    ] = None,
) -> None:
    """Continue pre-training of the language model on user behaviour and item text.

    Writes `cpt/` of the run. If the run has no Semantic IDs yet, makes them first.

    Example: `plum cpt --config pipelines/ml-100k.yaml --set cpt.base=path/to/a/hugging-face-model`

    Example: `plum cpt --config pipelines/ml-100k.yaml --show-examples 3`
    """
    loaded = load_pipeline(config, workdir, settings, device, seed)
    from plum.stages import pipeline

    with at_work(loaded):
        if show_examples is None:
            say(pipeline.run_cpt(loaded, force))
            return
        for name, texts in pipeline.show_documents(loaded, show_examples).items():
            console().print(cell(name, "bold"))
            for text in texts:
                console().print(cell(f"  {one_line(text)}"), soft_wrap=True)

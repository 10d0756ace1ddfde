"""The command ``ablate``: one pipeline in several variants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plum.cli.options import Device, Force, Settings, console, print_json
from plum.errors import PlumError

FAILED = 1  # exit code if a run failed


def ablate(
    config: Annotated[Path, typer.Option("--config", "-c", help="The ablation's YAML.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run only this variant or base. Repeatable.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,...", help="Run only these seeds of the file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time; they share the cores.")] = 1,
    workdir: Annotated[
        Path | None, typer.Option("--workdir", "-w", help="The folder of all runs. Default: the file's `workdir`.")
    ] = None,
    settings: Settings = None,
    device: Device = None,
    force: Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run variants of a pipeline with several seeds, and compare them on the same users.

    Each run is a `plum run` in WORKDIR/BASE/VARIANT/seed-S. Finished runs are skipped, interrupted runs continue. If a
    run fails, the others continue and the exit code is 1. Writes `ablation.json` and `ablation.md` into WORKDIR.

    Example: `plum ablate --config pipelines/ablations/sid.yaml --jobs 2`

    Example: `plum ablate --config pipelines/ablations/sid.yaml --only random --only ml-latest-small --seeds 0`
    """
    from plum.config.ablation import read_ablation
    from plum.runtime import setup_logging

    setup_logging()
    ablation = read_ablation(config, workdir, settings or (), device)
    chosen = ablation.chosen(only or (), _numbers(seeds))
    from plum.report.ablation_table import ablation_view
    from plum.studies import ablate as stage

    result = stage.run_ablation(ablation, chosen, jobs, force)
    if json:
        print_json(result)
    else:
        console().print(ablation_view(result))
        console().print(f"Written: {ablation.workdir / stage.FILES[1]}", soft_wrap=True)
    if any(variant["failed"] for base in result["bases"] for variant in base["variants"]):
        raise typer.Exit(FAILED)


def _numbers(seeds: str | None) -> list[int] | None:
    """The seeds of ``--seeds 0,1``."""
    if seeds is None:
        return None
    parts = [part.strip() for part in seeds.split(",")]
    numbers = [int(part) for part in parts if part.isdecimal() and int(part) < 2**31]
    if len(numbers) < len(parts) or len(set(numbers)) < len(numbers):
        raise PlumError("--seeds needs whole numbers, each once", seeds, "for example --seeds 0,1,2")
    return numbers

"""``plum init``: write a pipeline for a log."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plum.cli.options import console, print_json
from plum.errors import PlumError
from plum.foreign import cell

if TYPE_CHECKING:
    from plum.recipes.columns import TimeWay
    from plum.recipes.estimate import Estimate
    from plum.recipes.make import Read
    from plum.recipes.recipe import Recipe


def init(
    log: Annotated[Path, typer.Argument(metavar="LOGFILE", help="The log: CSV, TSV, JSON Lines or Parquet.")],
    items: Annotated[Path | None, typer.Option(help="A table of items with titles, topics and so on.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. Default: LOGFILE.yaml.")] = None,
    workdir: Annotated[Path | None, typer.Option("--workdir", "-w", help="Run folder. Default: runs/PIPELINE.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=YOURS", help="A column of the log, such as `item_id=sku`. Repeatable."),
    ] = None,
    item_column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=YOURS", help="A column of the item table, `title=label`. Repeatable."),
    ] = None,
    timestamp_format: Annotated[
        str | None, typer.Option(metavar="LAYOUT", help="Layout of the times, such as `%d/%m/%Y %H:%M`.")
    ] = None,
    timestamp_unit: Annotated[
        str | None, typer.Option(metavar="UNIT", help="s, ms, us, ns, iso, auto, or position: rows are in order.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at a log and write a commented pipeline for it, with an estimate of minutes and memory.

    Finds the columns by name and content, chooses settings by size, and times a few training steps on this machine.

    Example: `plum init events.csv --items products.csv`
    """
    path = output or Path(f"{_stem(log)}.yaml")
    if path.exists() and not force:
        raise PlumError(f"{path} exists already", None, "give another --output, or --force to replace it")
    if path.suffix not in (".yaml", ".yml"):
        raise PlumError(f"--output {path} is no YAML file", None, "let its name end in .yaml")
    given, of_items = _mapping(column, "--column"), _mapping(item_column, "--item-column")
    from plum.recipes.finding import find

    times = _times(timestamp_unit, timestamp_format)
    found = find(log, items, given, of_items, times)  # before the heavy imports, which a mistake need not wait for
    from plum.recipes import make
    from plum.recipes.recipe import choose
    from plum.recipes.timing import quiet
    from plum.runtime import setup_logging

    setup_logging()
    run_folder = workdir or Path("runs") / path.stem
    with quiet():
        data = make.read(found)
        machine = make.machine_of(data, run_folder)
        recipe = choose(data.measured.sizes, machine)
        choices = make.configuration(data, recipe, log.name, run_folder)
        estimate = make.estimate(make.validated(choices), data.measured, data.seconds, data.log_mib)
    make.write(path, choices, data, estimate)
    quoted = shlex.quote(str(path))
    following = [f"plum data describe --config {quoted}", f"plum run --config {quoted}"]
    if json:
        print_json(make.as_json(data, choices, recipe, estimate, path, following))
        return
    _show(data, recipe, estimate, path, following)


def _stem(log: Path) -> str:
    """The name of a pipeline: that of the log, without suffixes; of a pattern, that of its folder."""
    named = next((part for part in (log, *log.parents) if not glob.has_magic(part.name)), log)
    return named.name.split(".")[0] or "log"


def _times(unit: str | None, layout: str | None) -> TimeWay | None:
    """How to read the times, if the options say so."""
    if unit is None and layout is None:
        return None
    from plum.data.logs import check_time_settings
    from plum.recipes.columns import TimeWay

    way = TimeWay(unit or "auto", layout)
    check_time_settings(way.unit, way.layout)
    return way


def _mapping(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """``["item_id=sku"]`` -> ``{"item_id": "sku"}``."""
    mapping: dict[str, str] = {}
    for entry in given or ():
        ours, sign, theirs = entry.partition("=")
        if not sign or not ours or not theirs:
            raise PlumError(f"{option} needs OUR_NAME=YOUR_NAME", repr(entry), f"for example {option} item_id=sku")
        if ours in mapping:
            raise PlumError(f"{option} {ours} is given twice", f"{mapping[ours]!r} and {theirs!r}", "give one of them")
        mapping[ours] = theirs
    return mapping


def _show(data: Read, recipe: Recipe, estimate: Estimate, path: Path, following: Sequence[str]) -> None:
    """What was found and chosen, for a terminal."""
    from rich.table import Table

    from plum.recipes.finding import LOG_ROWS
    from plum.recipes.make import told_minutes

    out, sizes = console(), data.measured.sizes
    table = Table(title=f"Columns, in the first {LOG_ROWS:,} rows", title_justify="left", title_style="bold")
    for name in ("plum's name", "yours", "values", "chosen by"):
        table.add_column(name, overflow="fold")
    of_items = data.found.item_roles.chosen if data.found.item_roles else {}
    rows = [("", role, entry) for role, entry in data.found.log_roles.chosen.items()]
    for where, role, entry in [*rows, *(("items: ", role, entry) for role, entry in of_items.items())]:
        table.add_row(cell(where + role), cell(entry.look.name), cell(entry.look.in_words()), cell(entry.why))
    out.print(table)
    lines = [
        f"{sizes.users:,} users, {sizes.items:,} items, {sizes.interactions:,} interactions; half of the users have "
        f"{sizes.lengths[0]:.0f} or more; {sizes.ties:.0%} tied in time",
        *(f"Note: {notice}" for notice in data.notices),
        "",
        *recipe.summary,
        "",
        f"A run takes about {told_minutes(estimate.total)} here ({_by_stage(estimate)}), within a factor of "
        f"{estimate.within:g} and if no training stops early, and {estimate.memory_mib / 1024:.1f} GiB.",
    ]
    if estimate.busy:
        lines.append(f"Other programs were at work meanwhile ({estimate.busy}): alone a run is faster.")
    lines += ["", f"Wrote {path}. Next:", *(f"    {command}" for command in following)]
    for line in lines:
        out.print(line, soft_wrap=True)


def _by_stage(estimate: Estimate) -> str:
    from plum.recipes.make import told_minutes

    long = {stage: value for stage, value in estimate.minutes.items() if value >= 0.05 * estimate.total}
    return ", ".join(f"{stage} {told_minutes(value)}" for stage, value in long.items())

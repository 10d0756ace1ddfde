"""Commands about items and their Semantic IDs: ``tokenize``, also of new items, and ``inspect``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plum.cli.options import (
    ConfigFile,
    Device,
    Force,
    Seed,
    Settings,
    Workdir,
    at_work,
    console,
    load_pipeline,
    print_json,
    say,
)
from plum.errors import PlumError
from plum.foreign import cell, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from plum.studies.inspect_items import Inspected, Item


def tokenize(
    config: ConfigFile = None,
    workdir: Workdir = None,
    settings: Settings = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    assign: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Give the items of FILE Semantic IDs with the run's tokenizer.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --assign: the folder to write. Default: `assigned/` of the run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="With --assign: print the report as one JSON object.")] = False,
) -> None:
    """Turn items into vectors, and vectors into Semantic IDs.

    Writes `features/` and `tokenize/` of the run. Prepares the data first if the run has none. If a modality has
    encoder `dense`, also trains the dense baseline first, into `dense/`.

    `--assign FILE` trains nothing: the run's tokenizer gives the items of FILE Semantic IDs, and the run stays as it
    is. FILE is Parquet, CSV, TSV or JSON Lines with `item_id`, any columns of `data/items.parquet`, and
    `vectors_MODALITY` for modalities with given vectors. The tables and index of old and new items, and a report, go
    into a separate folder.

    Example: `plum tokenize --config pipelines/ml-100k.yaml --set tokenize.max_steps=5000`

    Example: `plum tokenize --workdir runs/ml-100k --assign new_items.parquet`
    """
    if assign is None:
        if out is not None or json:
            raise PlumError("--out and --json need --assign", None, "add --assign FILE, or drop them")
        loaded = load_pipeline(config, workdir, settings, device, seed)
        from plum.stages import pipeline

        with at_work(loaded):
            say(pipeline.run_tokenize(loaded, force))
        return
    loaded = load_pipeline(config, workdir, settings, device, seed)
    from plum.run import artifacts, shapes
    from plum.run.lock import locked
    from plum.serving import assign as stage

    with locked(loaded.workdir) if out is None else nullcontext():
        folder = stage.run(loaded, assign, out, force)
    report = artifacts.read_json(folder / stage.REPORT, shapes.Assigned)
    if json:
        print_json(report)
        return
    console().print(_report_view(report))
    console().print(f"Written: {folder}", soft_wrap=True)


def inspect(
    asked: Annotated[
        str, typer.Argument(metavar="ITEM|SID", help="An item id, a title or words of it, or codes such as 12-7-3.")
    ],
    config: ConfigFile = None,
    workdir: Workdir = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Items to show for each prefix length.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the items that share each prefix of a Semantic ID, most popular first.

    Give an item or a Semantic ID. Codes may also be written `12,7,3` or `<|sid_0_12|><|sid_1_7|>`; the first codes
    alone are enough. If the text is also an item's id or title, the item is shown.

    Example: `plum inspect "Toy Story (1995)" --workdir runs/ml-100k`

    Example: `plum inspect 12-7 --workdir runs/ml-100k --n 10`
    """
    loaded = load_pipeline(config, workdir, None, None, None)
    from plum.studies import inspect_items as stage

    found = stage.inspect(loaded, asked, n)
    if json:
        print_json(asdict(found))
    else:
        _show(found)


def _report_view(report: dict[str, Any]) -> Table:
    """What became of new items, a line each."""
    from rich.table import Table

    collisions = report["collisions"]
    content, final = collisions["of_content"], collisions["of_semantic_ids"]
    rows = {"new items": report["new_items"]}
    if report["without_place"]["items"]:
        rows["left out: no free disambiguation code"] = report["without_place"]["items"]
    rows["already in the catalogue, unchanged"] = report["already_in_catalogue"]["items"]
    rows |= {f"without {name}": number for name, number in report["lacking"].items()}
    rows["without any content"] = report["without_content"]
    rows["with the same codes as another item"] = content["new_items"]
    ways = {"suffix": "of these, separated by one more code", "reassign": "of these, moved to a free Semantic ID"}
    if way := ways.get(collisions["rule"]):
        rows[way] = collisions["told_apart"]
    rows["old and new items that now share a Semantic ID"] = final["old_items"] + final["new_items"]
    table = Table(show_header=False, title=cell(f"New items of {report['file']}"), title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, number in rows.items():
        table.add_row(cell(name), f"{number:,}")
    return table


def _show(found: Inspected) -> None:
    """The item or Semantic ID, the items that share its prefixes, and those of similar content."""
    from rich.table import Table
    from rich.text import Text

    from plum.studies.inspect_items import spelt

    out = console()
    tokens = "".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(found.codes))
    sizes = "x".join(map(str, found.sizes))
    if found.note:
        out.print(cell(f"Note: {found.note}"))
    if found.item is not None:
        out.print(cell(found.item.title or "(no title)", "bold"), cell(f"item {found.item.item_id}"))
        about = [found.creator or "", ", ".join(found.topics), f"{found.item.popularity:,} training interactions"]
        out.print(cell(" · ".join(part for part in about if part)))
    out.print(Text(f"Semantic ID {spelt(found.codes)} of {sizes}  {tokens}"))
    others = "others" if found.item is not None else "items"
    table = Table("prefix", others, "training interactions, title and id of the most popular", show_lines=True)
    for prefix in found.prefixes:
        last = found.disambiguated and len(prefix.codes) == len(found.sizes)
        name = spelt(prefix.codes) + (" (last code: disambiguation)" if last else "")
        table.add_row(Text(name), f"{prefix.total:,}", Text("\n".join(map(_line, prefix.items))))
    out.print(table)
    if found.alike:
        typical = ", ".join(f"{name} {cosine:.2f}" for name, cosine in found.mean_cosines.items())
        title = "Nearest in content" + (f" (any two items: {typical})" if typical else "")
        table = Table("cosine", "Semantic ID", "same first codes", "item", title=title, title_justify="left")
        for item in found.alike:
            shared = f"{item.shared} of {len(item.codes)}"
            table.add_row(f"{item.cosine:.3f}", Text(spelt(item.codes)), shared, Text(_line(item)))
        out.print(table)


def _line(item: Item) -> str:
    """An item on one line."""
    return one_line(f"{item.popularity:>7,}  {item.title or '(no title)'}  [{item.item_id}]")

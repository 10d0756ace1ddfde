"""``plum init``: look at a log, choose a recipe, estimate what it takes, and write the pipeline."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plum.config.data import LogsSource
from plum.config.file import validate
from plum.config.run import RunConfig
from plum.data.dialect import Dialect
from plum.data.interactions import KNOWN_USERS
from plum.data.logs import load_logs
from plum.data.tables import RawTables
from plum.errors import PlumError
from plum.recipes.columns import with_options
from plum.recipes.estimate import MIB, Estimate, Other, memory, minutes, work_of
from plum.recipes.finding import Found
from plum.recipes.recipe import Choice, Machine, Recipe, choose, warnings
from plum.recipes.sizes import Measured, Sizes, measure
from plum.recipes.writing import nested, to_yaml
from plum.rules.log_rows import log_rule
from plum.run.writing import write_text

LEAST_BAD, MOST_BAD = 0.01, 0.1
"""Share of unusable rows that plum allows by default, and the most that a written pipeline allows."""

_WHY = {
    "escape": "quotes inside values are escaped so",
    "quoting": "quotes are plain text",
    "where": "the other rows name no user",
}


@dataclass(frozen=True)
class Read:
    """A data set as its pipeline will read it.

    Attributes:
        found: its columns.
        measured: its numbers.
        seconds: that reading and splitting took.
        log_mib: of the log in memory.
        bad_share: what ``max_bad_share`` must allow.
    """

    found: Found
    measured: Measured
    seconds: float
    log_mib: float
    bad_share: float

    @property
    def notices(self) -> list[str]:
        """What a user should know before a run."""
        return [*self.found.notices, *warnings(self.measured.sizes)]


def read(found: Found) -> Read:
    """Read and count the data set.

    Raises:
        PlumError: if more than a tenth of its rows can't be used, or no split of it asks anything.
    """
    start = time.perf_counter()
    found, tables = _load(found)
    measured = measure(tables, time.time())
    sizes = measured.sizes
    if not sizes.questions:
        raise PlumError(
            f"{found.log.name}: no user has a history and a later item to be tested on",
            f"{sizes.users:,} users, {sizes.interactions:,} interactions",
            "leave-one-out needs users with 3 interactions or more",
        )
    log_mib = float(tables.interactions.memory_usage(deep=True).sum()) / MIB
    share = sizes.bad_rows / max(1, sizes.rows)
    allowed = LEAST_BAD if share <= LEAST_BAD else min(MOST_BAD, round(1.2 * share + 0.005, 2))
    return Read(found, measured, time.perf_counter() - start, log_mib, allowed)


def _load(found: Found) -> tuple[Found, RawTables]:
    """Read the files; where the message of the reader names a setting that makes them readable, with this one."""
    try:
        return found, _loaded(found)
    except PlumError as error:
        for key, value in (("escape", "backslash"), ("quoting", "none"), ("where", KNOWN_USERS)):
            if f"data.source.{key}={value}" in str(error):
                other = replace(found, layout={key: value})
                with contextlib.suppress(PlumError):
                    return other, _loaded(other)
        raise


def _loaded(found: Found) -> RawTables:
    source = LogsSource.model_validate(found.source())
    try:
        return load_logs(
            source.interactions,
            source.items,
            None,
            source.columns,
            source.item_columns,
            topic_separator=source.topic_separator,
            timestamp_unit=source.timestamp_unit,
            timestamp_format=source.timestamp_format,
            encoding=source.encoding,
            dialect=Dialect(quoting=source.quoting, escape=source.escape),
            max_bad_share=MOST_BAD,
            where=log_rule(source.where, source.min_rating),
        )
    except PlumError as error:
        fix = (error.fix or "").replace("--set data.source.columns.OUR_NAME=YOUR_NAME", "--column OUR_NAME=YOUR_NAME")
        fix = fix.replace(", or allow more with --set data.max_bad_share=SHARE", "")
        fix = with_options(fix)
        if "is not in" in (error.found or "") and found.items is not None:
            fix = f"give a table that holds the items of the log, or leave --items out; {fix}"
        raise PlumError(error.what, error.found, fix or None) from error


def configuration(read_data: Read, recipe: Recipe, title: str, workdir: Path) -> list[Choice]:
    """All lines of the pipeline."""
    return [
        Choice("title", title, ""),
        Choice("workdir", str(workdir), "the run's folder"),
        Choice("seed", 0, ""),
        *_source(read_data),
        *recipe.choices,
    ]


def _source(data: Read) -> list[Choice]:
    """Where the data lie and what their columns are."""
    found, prefix = data.found, "data.source."
    choices = [
        Choice(f"{prefix}kind", "logs", ""),
        Choice(f"{prefix}interactions", str(found.log), f"{data.measured.sizes.interactions:,} interactions"),
    ]
    for role, entry in found.log_roles.chosen.items():
        why = f"such as {entry.look.example}; {entry.why}"
        choices.append(Choice(f"{prefix}columns.{role}", entry.look.name, why))
    for role in found.log_roles.left_out():
        choices.append(Choice(f"{prefix}columns.{role}", "", f"the column {role} is left out: it holds no numbers"))
    if found.item_roles is not None:
        choices.append(Choice(f"{prefix}items", str(found.items), f"{data.measured.sizes.items:,} items"))
        for role, entry in found.item_roles.chosen.items():
            why = f"such as {entry.look.example}; {entry.why}"
            choices.append(Choice(f"{prefix}item_columns.{role}", entry.look.name, why))
        if "topics" in found.item_roles.chosen:
            choices.append(Choice(f"{prefix}topic_separator", found.topic_separator, "between the topics of a text"))
    choices += _times(found)
    if found.encoding != "utf-8":
        choices.append(Choice(f"{prefix}encoding", found.encoding, "its bytes are no UTF-8"))
    for key, value in found.layout.items():
        choices.append(Choice(f"{prefix}{key}", value, _WHY[key]))
    if data.bad_share > LEAST_BAD:
        sizes = data.measured.sizes
        why = f"{sizes.bad_rows:,} of {sizes.rows:,} rows can't be used"
        choices.append(Choice("data.max_bad_share", data.bad_share, why))
    return choices


def _times(found: Found) -> list[Choice]:
    """How times are read."""
    way, entry = found.times, found.log_roles.chosen.get("timestamp")
    if entry is None:
        return [Choice("data.source.timestamp_unit", way.unit, "the order of the rows is that of the interactions")]
    units = f"{entry.look.unit}, " if entry.look.kind == "time" and entry.look.unit not in ("iso", "typed") else ""
    choices = [Choice("data.source.timestamp_unit", way.unit, f"{units}as in {entry.look.example}")]
    return choices if way.layout is None else [*choices, Choice("data.source.timestamp_format", way.layout, "as given")]


def machine_of(data: Read, workdir: Path) -> Machine:
    """The machine at hand: its cores, its device, and on a CPU whether bfloat16 pays for the recipe's model."""
    from plum.recipes.timing import half_gain
    from plum.runtime import pick_device

    machine = Machine(cores(), pick_device("auto").type)
    if machine.device != "cpu":
        return machine
    sizes = data.measured.sizes
    config = validated(configuration(data, choose(sizes, machine), "timing", workdir))
    return replace(machine, half_gain=half_gain(config, data.measured.histories, sizes.items))


def validated(choices: list[Choice]) -> RunConfig:
    """The configuration that choices make."""
    return validate(nested(choices), where="the pipeline that plum init wrote")


def estimate(config: RunConfig, measured: Measured, seconds: float, log_mib: float) -> Estimate:
    """What a run will take on this machine.

    Args:
        config: of the run.
        measured: its data.
        seconds: that reading and splitting the log took.
        log_mib: of the log in memory.
    """
    from plum.recipes.contents import features_seconds, tokenize_seconds
    from plum.recipes.timing import time_all
    from plum.runtime import peak_memory_mib

    histories, n_items, busy = measured.histories, measured.sizes.items, load_of_others()
    speed = time_all(config, histories, n_items)
    other = Other(
        data=1.5 * seconds,  # and writing the tables
        features=features_seconds(config, measured.items, histories.train),
        tokenize=tokenize_seconds(config, n_items),
    )
    work = work_of(config, histories, n_items, bool(measured.sizes.text or measured.sizes.topics))
    at_once = min(config.eval.dense.trials_at_once, len(work.dense_steps))
    parts = memory(work, speed, peak_memory_mib(), log_mib, max(config.eval.cutoffs), at_once)
    return Estimate(minutes(work, speed, other, at_once), sum(parts.values()), parts, busy)


def load_of_others() -> str:
    """How many programs wait for how many cores, in words, if there are more; blank if there are not."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, n_cores = os.getloadavg()[0], cores()
    return f"load {load:.1f} on {n_cores} cores" if load > n_cores + 0.5 else ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write(path: Path, choices: list[Choice], data: Read, found_estimate: Estimate) -> str:
    """Write the pipeline; gives its text."""
    from plum.runtime import processor

    sizes = data.measured.sizes
    header = [
        f"What:      the whole pipeline on {data.found.log.name}, as plum init wrote it; change what you like",
        f"Data:      {_counts(sizes)}",
        f"Command:   plum run --config {path}",
        f"Hardware:  {processor()}; about {told_minutes(found_estimate.total)} within a factor of "
        f"{found_estimate.within:g} if no training stops early, {found_estimate.memory_mib / 1024:.1f} GiB",
        *(f"Note:      {notice}" for notice in data.notices),
    ]
    text = to_yaml(header, choices)
    write_text(path, text, "--output")
    return text


def _counts(sizes: Sizes) -> str:
    return f"{sizes.users:,} users, {sizes.items:,} items, {sizes.interactions:,} interactions"


def told_minutes(value: float) -> str:
    """Minutes in words: ``"40 s"``, ``"12 min"``, ``"3.5 h"``.

    Example:
        >>> told_minutes(0.5), told_minutes(12.3), told_minutes(210)
        ('30 s', '12 min', '3.5 h')
    """
    if value < 1:
        return f"{max(1, round(60 * value))} s"
    return f"{value:.0f} min" if value < 90 else f"{value / 60:.1f} h"


def as_json(
    data: Read, choices: list[Choice], recipe: Recipe, found_estimate: Estimate, path: Path, next_commands: list[str]
) -> Mapping[str, Any]:
    """All that ``plum init`` found, as JSON holds it."""
    roles = {"log": data.found.log_roles, "items": data.found.item_roles}
    return {
        "columns": {
            name: {
                role: {"column": entry.look.name, "values": entry.look.in_words(), "why": entry.why}
                for role, entry in table.chosen.items()
            }
            for name, table in roles.items()
            if table is not None
        },
        "encoding": data.found.encoding,
        "timestamp_unit": data.found.times.unit,
        "topic_separator": data.found.topic_separator,
        "data": data.measured.description,
        "notices": data.notices,
        "recipe": {"summary": list(recipe.summary), "configuration": nested(choices)},
        "why": {choice.key: choice.why for choice in choices if choice.why},
        "estimate": found_estimate.as_json(),
        "output": str(path),
        "next": next_commands,
    }

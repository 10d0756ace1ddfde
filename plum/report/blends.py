"""The section of a report that says what its blends are made of and how their weights were learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.report.blocks import Cell, Columns, Facts, Heading, Picture, Row, Section, Table, Text, pictures
from plum.report.figures.training import gap_curves
from plum.report.wording import DASH, as_number, plain

_GAPS = {"stochastic_gap": "stochastic gap", "gap": "gap over all users"}


def blends(found: Mapping[str, Mapping[str, Any]]) -> Section:
    """Per blend its parts' weights, its loss, and the gap over the steps of stochastic Frank-Wolfe."""
    note = (
        "A blend's score of an item is the sum of its parts' probabilities of it, each times a weight. The weights are "
        "those of smallest cross-entropy of the validation users' targets, found by stochastic Frank-Wolfe. The gap is "
        "no less than what the loss is above its minimum. Targets that no part lists say nothing about weights and are "
        "left out of the loss."
    )
    groups: list[list[Any]] = []
    for number, (name, entry) in enumerate(found.items()):
        drawn = pictures([_picture(str(name), entry.get("trace") or [], number)])
        groups.append([Heading(str(name)), _parts(str(name), entry), _facts(entry), *drawn])
    gist = f"the weights of {', '.join(found)}, and how they were learnt" if found else ""
    return Section("blends", "Blends", gist, [Text(note), Columns(groups)] if groups else [])


def _parts(name: str, entry: Mapping[str, Any]) -> Table:
    """A row per part, the heaviest first."""
    parts = entry.get("parts") or {}
    powers = list(dict.fromkeys(power for values in parts.values() for power in values.get("powers") or {}))
    rows = []
    for part in sorted(parts, key=lambda part: -(as_number(parts[part].get("weight")) or 0.0)):
        values = parts[part]
        weights = [values.get("weight"), *((values.get("powers") or {}).get(power) for power in powers)]
        cells = [Cell(_decimals(weight)) for weight in weights]
        cells += [Cell(_percent(values.get("targets_listed"))), Cell(plain(values.get("users_without_list")))]
        rows.append(Row(str(part), cells))
    columns = ["weight", *(f"at power {power}" for power in powers), "targets in its list", "users without list"]
    return Table(f"Parts of {name}", "part", columns, rows, look="dense")


def _facts(entry: Mapping[str, Any]) -> Facts:
    steps, gap = plain(entry.get("steps")), plain(entry.get("gap"))
    ended = f"{steps} steps, gap {gap}" + ("" if entry.get("converged") else "; it did not converge")
    return Facts(
        [
            ("validation users", plain(entry.get("users"))),
            ("targets in no list", f"{plain(entry.get('targets_in_no_list'))} of {plain(entry.get('targets'))}"),
            ("loss with equal weights", plain(entry.get("loss_with_equal_weights"))),
            ("loss", plain(entry.get("loss"))),
            ("search", ended),
        ]
    )


def _picture(name: str, trace: Sequence[Mapping[str, Any]], number: int) -> Picture | None:
    """The gaps that are above 0, since the scale is logarithmic; None with fewer than two."""
    lines = {}
    for key, label in _GAPS.items():
        points = [(as_number(entry.get("step")), as_number(entry.get(key))) for entry in trace]
        lines[label] = [(step + 1.0, gap) for step, gap in points if step is not None and gap is not None and gap > 0]
    lines = {label: line for label, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    told = "; ".join(f"{label} from {line[0][1]:.3g} to {line[-1][1]:.3g}" for label, line in lines.items())
    caption = f"{name}: {told}, over the steps of stochastic Frank-Wolfe. Both axes are logarithmic."
    return Picture(gap_curves(lines, f"Gap of {caption}", f"gap{number}"), caption)


def _decimals(value: Any) -> str:
    number = as_number(value)
    return DASH if number is None else f"{number:.3f}"


def _percent(value: Any) -> str:
    number = as_number(value)
    return DASH if number is None else f"{number:.1%}"

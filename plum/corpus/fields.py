"""What a template may name: the fields of a data set, and which of them it lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from plum.config.templates import SID, Template
from plum.errors import PlumError

ITEM_FIELDS = ("title", "topics", "creator", "description")
GAP = "gap"
"""Hours since the user's last interaction."""
OF_INTERACTIONS = ("rating", "reward", GAP)


def check_fields(where: str, templates: Iterable[Template], known: Collection[str]) -> None:
    """Refuse templates with fields that no data set of this form has.

    Args:
        where: the setting, for the message.
        templates: to be checked.
        known: names beside the Semantic ID's.

    Raises:
        PlumError: naming the first unknown field and all known ones.
    """
    every = [SID, *known]
    for template in templates:
        unknown = [name for name in template.fields if name not in every]
        if unknown:
            raise PlumError(
                f"{where}: the data have no field {unknown[0]!r}",
                f"template {template.text!r}; fields: {', '.join(every)}",
                "name one of these fields, or add the column to the data",
            )


def as_text(value: object) -> str:
    """A cell as text: a list with commas, a missing or blank value as the empty text."""
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(filter(None, map(as_text, value)))
    if isinstance(value, str):
        return value if value.strip() else ""
    is_number = isinstance(value, int | float | np.number) and np.isfinite(value)
    return f"{value:.10g}" if is_number else ""


def usable(templates: Sequence[Template], there: Collection[str]) -> list[int]:
    """Numbers of the templates all of whose fields are there."""
    return [number for number, template in enumerate(templates) if set(template.fields) <= {SID, *there}]

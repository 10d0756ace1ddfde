"""Where an expression holds: masks of its conditions, combined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plum.rules.columns import Column
from plum.rules.language import Condition, Expression, Not


def holds(expression: Expression, column: Callable[[Condition], Column]) -> np.ndarray:
    """The rows that satisfy an expression, a new mask (N,).

    Args:
        expression: as parsed.
        column: condition -> the column (N,) of its field.

    Raises:
        Mistake: for an unknown field, and a condition that does not fit its field.
        RecursionError: for thousands of nested brackets.
    """
    if isinstance(expression, Condition):
        asked = column(expression)
        if expression.operator == "is null":
            return asked.null.copy()
        return ~asked.null if expression.operator == "is not null" else asked.test(expression)
    if isinstance(expression, Not):
        return ~holds(expression.part, column)
    combine = np.logical_and if expression.word == "and" else np.logical_or
    return combine.reduce([holds(part, column) for part in expression.parts])

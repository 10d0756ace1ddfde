"""Measurements that may fail without failing what they measure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from safetensors import SafetensorError

from plum.errors import PlumError

logger = logging.getLogger(__name__)
Made = TypeVar("Made")

FAILURES = (
    *(PlumError, RuntimeError, MemoryError, ValueError, LookupError, TypeError, ArithmeticError, OSError),
    SafetensorError,
)
"""What a measurement may raise: torch runs out of memory as a RuntimeError, and models and tokenizers of transformers
raise the others for inputs that they were not made for. A mistake of names (NameError, AttributeError, ImportError) and
a stop by the user pass through."""


class Attempts:
    """Calls whose failures are warned of and remembered.

    Args:
        name: of the stage, for messages.

    Attributes:
        missing: what failed -> the reason.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.missing: dict[str, str] = {}

    def make(self, what: str, call: Callable[[], Made]) -> Made | None:
        """The result of a call; None if it fails, which does not stop the others."""
        try:
            found = call()
            self.missing.pop(what, None)  # it failed at an earlier step
            return found
        except FAILURES as error:
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            self.missing[what] = reason[:300]
            logger.warning("%s: %s could not be measured and is left out (%s)", self._name, what, reason[:300])
            return None

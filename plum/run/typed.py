"""JSON of a run, read through types: right syntax of the wrong shape is a message, not an error somewhere later."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plum.errors import PlumError

SHOWN = 60
"""Characters of a wrong value in a message."""


def parse(text: bytes | str, where: str, fix: str) -> Any:
    """Parse JSON.

    Args:
        text: UTF-8 or already decoded.
        where: the file, for the message.
        fix: what to do about it, for the message.

    Raises:
        PlumError: if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise PlumError(f"{where} is not JSON", str(error), fix) from None
    except RecursionError:
        raise PlumError(f"{where} is not JSON of plum", "nested too deeply", fix) from None


def check(value: Any, shape: Any, where: str, fix: str) -> Any:
    """The same value, once it has the given shape.

    Args:
        value: of JSON.
        shape: a pydantic model, or any type; keys that it does not name are left as they are.
        where: the file, for the message.
        fix: what to do about it, for the message.

    Raises:
        PlumError: naming the first key that does not fit, and its value.
    """
    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        found = first["msg"]
        if first["type"] != "missing":
            given = repr(first["input"])
            found += f", found {given if len(given) <= SHOWN else given[:SHOWN] + '…'}"
        raise PlumError(f"{where} is not as plum writes it", f"{key}: {found}" if key else found, fix) from None
    return value


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)

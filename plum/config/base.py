"""What all sections of the configuration share: their base class and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Upper bounds are what no machine has; what this one lacks is told before the first stage (plum.stages.checks).
Count = Annotated[int, Field(ge=1, le=10**9)]
Batch = Annotated[int, Field(ge=1, le=2**16)]
Width = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Length = Annotated[int, Field(ge=1, le=2**16)]
Many = Annotated[int, Field(ge=1, le=2**20)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(ge=1e-9, le=10)]
Part = Annotated[float, Field(ge=1e-4, lt=0.5)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def names_a_path(given: Any) -> Any:
    """The value, which is not empty, since that would be the current folder, and has no zero byte."""
    if isinstance(given, str) and not given.strip():
        raise ValueError("a path can't be empty; write . for the current folder")
    if "\0" in str(given):
        raise ValueError("a path can't hold a zero byte")
    return given


def _expanded(path: Path) -> Path:
    """A path with ``~`` replaced by the home folder."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError("a path must be UTF-8, or no file of a run could name it") from None
    try:
        return path.expanduser()
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"there is no user with the home folder {path.parts[0]}") from error


UserPath = Annotated[Path, BeforeValidator(names_a_path), AfterValidator(_expanded)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values are checked, and sections are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any) -> Any:
        """Let true and false where numbers belong be refused as what they are; pydantic would read them as 1 and 0."""
        if not isinstance(given, dict):
            return given
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: without_booleans(value, kinds[name]) if name in kinds else value for name, value in given.items()}


def without_booleans(value: Any, kind: Any) -> Any:
    """The value, with true and false as text, also inside a list, where ``kind`` wants numbers."""
    if isinstance(value, list):
        return [without_booleans(entry, kind) for entry in value]
    return str(value).lower() if isinstance(value, bool) and _admits(kind, int) and not _admits(kind, bool) else value


def _admits(kind: Any, wanted: type) -> bool:
    """Whether a type, or a type inside it, is the wanted one; for int also float."""
    if kind is Any or kind is wanted or (wanted is int and kind is float):
        return True
    return any(_admits(part, wanted) for part in get_args(kind))

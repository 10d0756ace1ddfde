"""What all sections of the configuration share: their base class and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _expanded(path: Path) -> Path:
    """A path with ``~`` replaced by the home folder."""
    if "\0" in str(path):
        raise ValueError("a path can't hold a zero byte")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError("a path must be UTF-8, or no file of a run could name it") from None
    try:
        return path.expanduser()
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"there is no user with the home folder {path.parts[0]}") from error


UserPath = Annotated[Path, AfterValidator(_expanded)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values are checked, and sections are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

"""Curves for TensorBoard, Weights & Biases and MLflow, through accelerate's trackers."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plum.errors import PlumError
from plum.run.writing import make_folder

logger = logging.getLogger(__name__)
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Trackers, and the package that each needs."""


@dataclass(frozen=True)
class Report:
    """Where to send a training's curve.

    Attributes:
        to: names of trackers.
        folder: for their files.
        settings: of the training, to be told with its curve.
    """

    to: Sequence[str] = ()
    folder: Path = Path()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """See that the trackers are installed.

        Raises:
            PlumError: naming those that are not.
        """
        missing = [name for name in self.to if importlib.util.find_spec(PACKAGES[name]) is None]
        if missing:
            raise PlumError(
                f"report_to needs packages that are not installed: {', '.join(missing)}",
                None,
                "install them with `pip install 'plum-recommender[track]'`, or take them out of report_to",
            )


class Trackers:
    """The trackers of a training, open until :meth:`close`; of the first process only.

    Args:
        report: where to send the curve.
        name: of the training.

    Raises:
        PlumError: if one is not installed, or can't be started.
    """

    def __init__(self, report: Report, name: str) -> None:
        report.check()
        self._open: dict[str, Any] = {}
        for kind in report.to:
            make_folder(report.folder)
            try:
                self._open[kind] = _started(kind, report.folder, f"plum-{name}")
                self._open[kind].store_init_configuration(_flat(report.settings))
            except Exception as error:  # they speak to servers, and may raise anything
                what = f"{kind} can't be started"
                raise PlumError(what, str(error)[:300], f"set it up, or take {kind} out of report_to") from error

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of a step; a tracker that fails is left out from then on."""
        for kind, tracker in list(self._open.items()):
            try:
                tracker.log(dict(values), step=step)
            except Exception as error:  # a server that is gone must not end a training
                logger.warning("%s takes no more values: %s", kind, error)
                del self._open[kind]

    def close(self) -> None:
        """Send what waits, and end."""
        for tracker in self._open.values():
            tracker.finish()
        self._open = {}


def _started(kind: str, folder: Path, name: str) -> Any:
    """One of accelerate's trackers, at work."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if kind == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ:  # else in the working directory
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
    places: dict[str, dict[str, Any]] = {"tensorboard": {"logging_dir": folder}, "wandb": {"dir": str(folder)}}
    tracker = LOGGER_TYPE_TO_CLASS[kind](name, **places.get(kind, {}))
    tracker.start()
    return tracker


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings as ``{"scratch.layers": 4}``; what is no number or truth becomes text."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value if isinstance(value, int | float) else str(value)
    return flat

"""What a stage says of settings that changed since the folders before it were made, or don't fit them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny_run

from plum.errors import PlumError
from plum.run import artifacts
from plum.run.manifest import read_manifest
from plum.stages import dense, eval, finetune, inputs

ALL = (
    artifacts.DATA,
    artifacts.FEATURES,
    artifacts.TOKENIZE,
    artifacts.CPT,
    artifacts.FINETUNE,
    artifacts.DENSE,
)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split("/")[0] for record in caplog.records if "other settings" in record.getMessage()]


@pytest.mark.parametrize("setting", ["eval.scores_over=legal", "eval.filter_seen=false"])
def test_no_warning_where_the_run_was_made_with_these_settings(
    run_copy: Path, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    config = tiny_run.config_of(run_copy, setting, "finetune.epochs=1", "eval.dense.epochs=1")
    with caplog.at_level(logging.WARNING, logger="plum"):
        for stage in (finetune, dense, eval):
            stage.run(config)
    assert warnings_of(caplog) == []


def test_every_stage_records_what_it_is_compared_with(finished_run: Path) -> None:
    config = tiny_run.config_of(finished_run)
    for stage in ALL:
        assert read_manifest(finished_run / stage).config == inputs.recorded(config, stage)


@pytest.mark.parametrize(
    ("setting", "outdated"),
    [
        ("finetune.epochs=7", ["finetune"]),
        ("eval.scores_over=legal", ["finetune"]),  # the weights were chosen under other scores
        ("eval.filter_seen=false", ["finetune", "dense"]),
        ("eval.dense.epochs=7", ["dense"]),
        ("cpt.epochs=7", ["cpt"]),
        ("features.modalities.text.weight=2", ["tokenize"]),
        ("features.modalities.text.isotropy=whiten", ["tokenize"]),
        ("features.modalities.text.dimensions=9", ["features"]),
        ("seed=3", list(ALL)),
        ("eval.beams=60", []),
    ],
)
def test_what_changed_is_named(
    finished_run: Path, caplog: pytest.LogCaptureFixture, setting: str, outdated: list[str]
) -> None:
    with caplog.at_level(logging.WARNING, logger="plum"):
        inputs.warn_outdated(tiny_run.config_of(finished_run, setting), *ALL)
    assert warnings_of(caplog) == outdated


def test_beam_widths_that_do_not_fit_are_told_before_training(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "train", lambda *_, **__: pytest.fail("training began"))
    config = tiny_run.config_of(run_copy, "eval.beams=[20, 10]", "finetune.epochs=1")
    with pytest.raises(PlumError, match=r"2 beam widths\n.*3 levels"):
        finetune.run(config)

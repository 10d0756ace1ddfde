"""When stages run, are skipped, and refuse."""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path

import pytest
import tiny_run

from plum.errors import PlumError
from plum.serving import recommend
from plum.stages import cpt, finetune, pipeline

OTHER_SIDS = "tokenize.method=random"


def test_a_second_run_does_nothing_and_says_so(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = tiny_run.times(run_copy)
    with caplog.at_level(logging.INFO):
        pipeline.run_all(tiny_run.config_of(run_copy))
    assert tiny_run.times(run_copy) == before
    assert [record.message for record in caplog.records] == [f"{stage}: up to date" for stage in tiny_run.STAGES]


def test_the_four_commands_from_an_empty_folder_give_what_plum_run_gives(
    finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run.config_of(finished_run).model_copy(update={"workdir": tmp_path / "run"})
    made = {"data", "features", "tokenize"}
    with caplog.at_level(logging.INFO):
        for command, folder in (
            (pipeline.run_tokenize, None),
            (pipeline.run_cpt, "cpt"),
            (pipeline.run_finetune, "finetune"),
        ):
            command(config)
            made |= {folder} if folder else set()
            assert {path.name for path in (tmp_path / "run").iterdir() if path.name[0] != "."} == made
        pipeline.run_eval(config)
    assert [line for line in caplog.messages if "not there yet" in line] == [
        "tokenize needs data/, which is not there yet: making it first"
    ]
    for name in ("tokenize/semantic_ids.parquet", "finetune/model/model.safetensors", "eval/metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished_run / name).read_bytes()


def test_a_command_makes_all_that_it_lacks_and_leaves_what_is_there(run_copy: Path) -> None:
    whole = (run_copy / "finetune/model/model.safetensors").read_bytes()
    for stage in ("data", "features", "cpt", "finetune"):
        shutil.rmtree(run_copy / stage)
    before = tiny_run.times(run_copy)
    pipeline.run_finetune(tiny_run.config_of(run_copy))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"data", "features", "cpt", "finetune"}
    assert (run_copy / "finetune/model/model.safetensors").read_bytes() == whole


def test_another_finetuning_leaves_the_stages_before_it_alone(run_copy: Path) -> None:
    before = tiny_run.times(run_copy)
    pipeline.run_all(tiny_run.config_of(run_copy, "finetune.epochs=1"))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"finetune", "eval"}


def test_force_does_the_work_again_with_the_same_result(run_copy: Path) -> None:
    semantic_ids = (run_copy / "tokenize/semantic_ids.parquet").read_bytes()
    before = tiny_run.times(run_copy)
    pipeline.run_tokenize(tiny_run.config_of(run_copy), force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"features", "tokenize"}
    assert (run_copy / "tokenize/semantic_ids.parquet").read_bytes() == semantic_ids


def test_a_model_of_other_semantic_ids_is_refused_until_the_run_is_repaired(run_copy: Path) -> None:
    changed = tiny_run.config_of(run_copy, OTHER_SIDS)
    pipeline.run_tokenize(changed)
    for refused in (finetune.run, pipeline.run_eval):
        with pytest.raises(PlumError, match=r"tokenize/semantic_ids\.parquet") as error:
            refused(changed)
        assert "plum run" in str(error.value)
    with pytest.raises(PlumError, match="made from another"):
        recommend.Recommender(changed)
    before = tiny_run.times(run_copy)
    pipeline.run_all(changed)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"cpt", "finetune", "eval"}


def test_a_changed_file_is_made_again(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = run_copy / "tokenize/semantic_ids.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    before = tiny_run.times(run_copy)
    pipeline.run_all(tiny_run.config_of(run_copy))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"tokenize"}
    assert table.read_bytes() == whole
    assert "semantic_ids.parquet changed since the stage wrote it" in caplog.text


def test_settings_that_a_stage_does_not_act_on_are_told(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    finetune.run(tiny_run.config_of(run_copy))
    assert "other settings" not in caplog.text
    finetune.run(tiny_run.config_of(run_copy, OTHER_SIDS))
    assert "tokenize/ was made with other settings than the current ones" in caplog.text
    assert "`plum tokenize` or `plum run`" in caplog.text
    assert "data/ was made" not in caplog.text


def test_a_run_at_work_is_left_alone(run_copy: Path) -> None:
    with (run_copy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PlumError, match="another plum process is working"):
            finetune.run(tiny_run.config_of(run_copy, "finetune.epochs=1"))


def test_metrics_name_the_protocol_of_the_data_not_of_the_settings(run_copy: Path) -> None:
    from plum.run import artifacts

    changed = tiny_run.config_of(run_copy, "data.split.protocol=temporal", "eval.resamples=100")
    pipeline.run_eval(changed)
    assert artifacts.read_json(run_copy / "eval/metrics.json")["protocol"]["split"] == "leave-one-out"


def test_a_folder_called_scratch_is_no_base_model(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = tiny_run.times(run_copy)
    cpt.run(tiny_run.config_of(run_copy))
    assert tiny_run.times(run_copy) == before

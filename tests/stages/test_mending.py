"""A damaged file of a run: refused by what reads it, mended by ``plum run``, and what it fed is made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny_run

from plum.errors import PlumError
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.run.manifest import read_manifest
from plum.stages import pipeline
from plum.studies.compare import compare_runs

Cli = Callable[..., tuple[int, str, str]]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("data/split.parquet", ("finetune", "eval", "cpt", "recommend", "compare")),
        ("features/text.npy", ("eval", "inspect")),
        ("tokenize/index.safetensors", ("finetune", "eval", "recommend")),
        ("cpt/model/model.safetensors", ("finetune",)),
        ("finetune/model/model.safetensors", ("eval", "recommend")),
        ("finetune/model/tokenizer.json", ("eval", "recommend")),
        ("eval/recommendations.parquet", ("compare",)),
    ],
)
def test_a_flipped_bit_is_refused_by_every_command_that_reads_it(
    cli: Cli, run_copy: Path, name: str, commands: tuple[str, ...]
) -> None:
    flip(run_copy / name)
    before = tiny_run.times(run_copy)
    more = {"recommend": ["--user", "u00001"], "inspect": ["i0001"]}
    for command in commands:
        workdir = [run_copy] if command == "compare" else ["--workdir", run_copy]
        force = ["--force"] if command in ("finetune", "eval", "cpt") else []  # even then
        code, _, err = cli(command, *more.get(command, []), *workdir, *force)
        assert code == 2, command
        assert f"{name} is not what stage {name.split('/')[0]} wrote" in err
        assert f"--workdir {run_copy}`" in err
    assert tiny_run.times(run_copy) == before


def test_run_mends_a_damaged_input_and_leaves_the_rest(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy)
    whole = {path: path.read_bytes() for path in (run_copy / "data").glob("*.parquet")}
    before = tiny_run.times(run_copy)
    flip(run_copy / artifacts.SPLIT)
    pipeline.run_all(config)
    assert {path: path.read_bytes() for path in whole} == whole
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"data"}  # the others were made of these bytes


def test_the_command_that_the_message_names_mends(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, "finetune.epochs=1")
    flip(run_copy / "cpt/model/model.safetensors")
    with pytest.raises(PlumError, match="run `plum cpt --workdir"):
        pipeline.run_finetune(config)
    pipeline.run_cpt(config)
    pipeline.run_finetune(config)
    for name, digest in read_manifest(run_copy / "finetune").inputs.items():
        assert sha256(run_copy / name) == digest


@pytest.mark.slow
def test_lists_of_an_earlier_model_are_not_shown_as_those_of_a_retrained_one(run_copy: Path) -> None:
    compare_runs([run_copy], n_resamples=5)
    config = tiny_run.config_of(run_copy, "finetune.epochs=1")
    pipeline.run_finetune(config)
    with pytest.raises(PlumError, match=r"(?s)eval/ was made from another finetune/\S+ than .*plum run --workdir"):
        compare_runs([run_copy], n_resamples=5)
    pipeline.run_eval(config)
    compare_runs([run_copy], n_resamples=5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage for stage in tiny_run.STAGES if stage != "dense"])
def test_run_mends_a_damaged_manifest(cli: Cli, run_copy: Path, stage: str) -> None:
    path = run_copy / stage / artifacts.MANIFEST
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"inputs": 3}))
    code, _, err = cli("run", "--workdir", run_copy)
    assert code == 0, err
    assert json.loads(path.read_text())["outputs"].keys() == whole["outputs"].keys()


def test_a_run_that_can_not_be_written_is_read(cli: Cli, run_copy: Path) -> None:
    """As far as its readers need no lock; the memory of what was verified is not written then."""
    folders = [run_copy, *(path for path in run_copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        for command in (
            ("recommend", "--user", "u00001", "--workdir"),
            ("inspect", "i0001", "--workdir"),
            ("compare",),
        ):
            assert cli(*command, run_copy)[0] == 0
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_damaged_semantic_ids_of_new_items_are_assigned_again(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    items = pd.read_parquet(run_copy / artifacts.ITEMS)
    items.assign(item_id="n" + items["item_id"])[:5].to_parquet(tmp_path / "new.parquet")
    command = (
        "tokenize",
        "--workdir",
        run_copy,
        "--assign",
        tmp_path / "new.parquet",
        "--set",
        "data.max_bad_share=0.9",
    )
    assert cli(*command)[0] == 0
    whole = {path.name: path.read_bytes() for path in (run_copy / "assigned").glob("*.parquet")}
    flip(run_copy / "assigned/semantic_ids.parquet")
    code, _, err = cli(*command)
    assert code == 0, err
    assert "is not what stage assigned wrote" in err
    assert {path.name: path.read_bytes() for path in (run_copy / "assigned").glob("*.parquet")} == whole
    (run_copy / "assigned/manifest.json").write_text("{")
    code, _, err = cli(*command)
    assert code == 2
    assert "remove it" in err

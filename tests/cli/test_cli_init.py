"""``plum init`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import made_up_logs as made
import pytest
import tiny_run

Cli = Callable[..., tuple[int, str, str]]


def test_an_existing_pipeline_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log())
    there = tmp_path / "mine.yaml"
    there.write_text("mine", encoding="utf-8")
    code, _, err = cli("init", log, "--output", there)
    assert code == 2
    assert "exists already" in err
    assert "--force" in err
    assert there.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--column", "item_id"), "needs OUR_NAME=YOUR_NAME"),
        (("--column", "item_id=a", "--column", "item_id=b"), "is given twice"),
        (("--column", "item=sku"), "did you mean item_id?"),
        (("--column", "item_id=itemid"), "did you mean 'item_id'?"),
        (("--item-column", "title=name"), "there is no --items"),
        (("--output", "pipeline.txt"), "no YAML file"),
    ],
)
def test_mistaken_options_are_refused(cli: Cli, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    code, _, err = cli("init", made.write(tmp_path / "log.csv", made.log()), *options)
    assert code == 2
    assert told in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_from_a_log_to_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made.write(tmp_path / "events.csv", made.log(("uid", "sku", "ts")))
    made.write(tmp_path / "products.csv", made.items("sku"))
    done = tiny_run.plum("init", "events.csv", "--items", "products.csv", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["columns"]["log"]["item_id"]["column"] == "sku"
    assert found["data"]["counts"]["interactions"] == made.USERS * 8
    assert 0 < found["estimate"]["total_minutes"] < 60
    assert found["next"] == ["plum data describe --config events.yaml", "plum run --config events.yaml"]

    described = tiny_run.plum("data", "describe", "--config", "events.yaml", "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)["counts"] == found["data"]["counts"]

    tiny = ["tokenize.max_steps=5", "cpt.epochs=1", "finetune.epochs=2", "eval.resamples=50"]
    tiny += ["eval.dense.epochs=2", "eval.dense.trials_at_once=1"]
    short = [part for setting in tiny for part in ("--set", setting)]
    model = "cpt.scratch={hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, text_vocabulary: 400}"
    run = tiny_run.plum("run", "--config", "events.yaml", *short, "--set", model)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "runs/events/eval/report.html").exists()

    again = tiny_run.plum("init", "events.csv")
    assert again.returncode == 2
    assert "exists already" in again.stderr

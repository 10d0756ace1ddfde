"""Making the runs of an ablation, and what their results are, on runs made up by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_run
import numpy as np
import pytest
import tiny_run
import yaml

from plum.cli import child
from plum.config.ablation import Ablation, Run, read_ablation
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.studies import ablate, ablated

HITS = {"x": ("11000000", "11100000"), "y": ("11110000", "10110000")}
"""Variant -> of seeds 0 and 1, which users' targets are in the list."""
AGREEMENT = {"share": [0.5, 0.25], "random": [0.1, 0.0], "lift": [5.0, None], "pairs": 8}


@pytest.fixture
def ablation(tmp_path: Path) -> Ablation:
    """Variants x and y with seeds 0 and 1, whose run folders are there already, but not marked as finished."""
    tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "unused"))
    values = {
        "title": "t",
        "workdir": str(tmp_path / "out"),
        "set": ["eval.retrievers=[plum]"],
        "bases": {"tiny": {"config": "tiny.yaml", "seeds": [0, 1]}},
        "variants": {"x": [], "y": ["finetune.learning_rate=0.2"]},
    }
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    read = read_ablation(tmp_path / "ablation.yaml")
    for run in read.runs:
        made_up(run, HITS[run.variant][run.seed])
    return read


def made_up(run: Run, hits: str, agreement: dict[str, Any] | None = AGREEMENT, **other: Any) -> None:
    """A finished run's folders; its stages took 10 s and, with seed 1, 12 s each."""
    folder = run.config.workdir
    made_up_run.make_run(folder, {"plum": made_up_run.lists_with(hits)}, run.seed, **other)
    for stage in (artifacts.FEATURES, artifacts.TOKENIZE, artifacts.CPT):
        with StageRun(folder, stage, {}, run.seed, []).writing() as path:
            quality = {"uniqueness": 0.5 + run.seed / 4}
            measured = {} if agreement is None else {"cooccurrence_agreement": agreement}
            artifacts.write_json(path / "quality.json", quality | measured)
    for path in folder.glob("*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"duration_s": 10.0 + 2 * run.seed}))


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., list[str]]:
    """A program that notes its arguments and threads in `calls`, then runs a script of one's own."""

    def make(script: str = "") -> list[str]:
        path = tmp_path / "program.py"
        note = f"""
            import json, os, signal, sys, time
            from pathlib import Path
            home, workdir = Path({str(tmp_path)!r}), Path(sys.argv[sys.argv.index("--workdir") + 1])
            with (home / "calls").open("a") as file:
                file.write(json.dumps([sys.argv[1:], os.environ.get("OMP_NUM_THREADS")]) + chr(10))
        """
        path.write_text(textwrap.dedent(note) + textwrap.dedent(script))
        return [sys.executable, "-S", str(path)]

    return make


def calls(ablation: Ablation) -> list[Any]:
    """What the program was called with since this was last asked."""
    path = ablation.workdir.parent / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def variant_of(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(variant) for variant in result["bases"][0]["variants"] if variant["name"] == name)


def test_every_run_is_made_once(ablation: Ablation, program: Callable[..., list[str]]) -> None:
    ablate.run_ablation(ablation, ablation.runs, program=program())
    assert [arguments for arguments, _ in calls(ablation)] == [run.command() for run in ablation.runs]
    ablate.run_ablation(ablation, ablation.runs, program=program())
    assert not calls(ablation)
    log = ablation.runs[0].config.workdir / ablate.LOG
    log.write_text("Error: of long ago\n")
    script = 'print("once more"); sys.exit(0)'
    ablate.run_ablation(ablation, ablation.runs[:1], force=True, program=program(script))
    assert log.read_text() == "Error: of long ago\nonce more\n"
    assert [arguments for arguments, _ in calls(ablation)] == [ablation.runs[0].command(force=True)]


def test_what_changed_since_is_made_again(ablation: Ablation, program: Callable[..., list[str]]) -> None:
    ablate.run_ablation(ablation, ablation.runs, program=program())
    calls(ablation)
    changed = ablation.runs[1].config.workdir
    manifest = changed / "tokenize/manifest.json"
    manifest.write_text(manifest.read_text().replace("10.0", "11.0"))  # a stage that was run since
    (ablation.runs[2].config.workdir / ablated.FINISHED).write_text("{")
    other = read_ablation(ablation.workdir.parent / "ablation.yaml", settings=["cpt.epochs=2"])
    assert [ablated.is_finished(run) for run in ablation.runs] == [True, False, False, True]
    assert not any(ablated.is_finished(run) for run in other.runs)
    ablate.run_ablation(ablation, ablation.runs, program=program())
    assert [arguments for arguments, _ in calls(ablation)] == [run.command() for run in ablation.runs[1:3]]


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(
    ablation: Ablation, program: Callable[..., list[str]]
) -> None:
    script = """
        print("Error: an earlier one")
        if "x/seed-1" in str(workdir):
            print("10:00:00 cpt: 5 steps", "Error: no space left", "  found: 3 bytes", "  to do: buy some", sep=chr(10))
            sys.exit(2)
        if "y/seed-0" in str(workdir):
            os.kill(os.getpid(), signal.SIGKILL)
        if "y/seed-1" in str(workdir):
            sys.exit(2)
    """
    result = ablate.run_ablation(ablation, ablation.runs, program=program(script))
    assert len(calls(ablation)) == 4
    x, y = variant_of(result, "x"), variant_of(result, "y")
    log = ablation.runs[2].config.workdir / ablate.LOG
    assert x["failed"] == [{"seed": 1, "reason": "no space left (3 bytes)", "log": str(log)}]
    assert (x["seeds"], x["missing"], y["seeds"], y["missing"]) == ([0], [1], [], [0, 1])
    assert [entry["reason"] for entry in y["failed"]] == ["killed by signal 9", "an earlier one"]
    assert x["recall@10"]["mean"] == 2 / 8
    assert (y["recall@10"], y["difference"], y["uniqueness"], y["seconds"]) == (None, None, None, None)
    result = ablate.run_ablation(ablation, ablation.runs, program=program())
    assert len(calls(ablation)) == 3
    assert not variant_of(result, "x")["failed"]


def test_two_runs_at_a_time_share_the_cores(
    ablation: Ablation, program: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    script = """
        (home / ("started-" + str(os.getpid()))).touch()
        patience = time.monotonic() + 30
        while len(list(home.glob("started-*"))) < 2:  # another one must be at work beside this one
            if time.monotonic() > patience:
                sys.exit(1)
            time.sleep(0.01)
    """
    result = ablate.run_ablation(ablation, ablation.runs[:2], jobs=2, program=program(script))
    assert [threads for _, threads in calls(ablation)] == ["2", "2"]
    assert not any(variant["failed"] for variant in result["bases"][0]["variants"])
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    ablate.run_ablation(ablation, ablation.runs[2:], jobs=2, program=program())
    assert [threads for _, threads in calls(ablation)] == ["7", "7"]


def test_a_stop_stops_the_runs(
    ablation: Ablation, program: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def interrupted(_: float) -> None:
        raise Stop

    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    monkeypatch.setattr(ablate.time, "sleep", interrupted)
    with pytest.raises(Stop):
        ablate.run_ablation(ablation, ablation.runs, jobs=2, program=program("time.sleep(60)"))
    assert [process.returncode for process in started] == [-9, -9]


def test_means_and_differences_are_those_of_the_lists(ablation: Ablation) -> None:
    for run in ablation.runs:
        ablated.mark_finished(run)
    result = ablated.results(ablation, n_resamples=200)
    json.dumps(result)
    base, x, y = result["bases"][0], variant_of(result, "x"), variant_of(result, "y")
    assert (base["name"], base["n_users"], base["synthetic"]) == ("tiny", 8, False)
    assert (x["seeds"], x["missing"], x["failed"]) == ([0, 1], [], [])
    assert x["recall@10"]["seed_means"] == [2 / 8, 3 / 8]
    assert y["recall@10"]["mean"] == pytest.approx((4 + 3) / 16)
    assert x["difference"] is None
    assert y["difference"]["mean"] == pytest.approx((7 - 5) / 16)
    low, high = y["difference"]["ci95"]
    assert low <= y["difference"]["mean"] <= high
    assert y["difference"]["seed_sd"] == pytest.approx(np.std([2 / 8, 0.0], ddof=1))
    assert x["uniqueness"] == pytest.approx(0.5 + 0.25 / 2)
    assert x["cooccurrence"] == {"pairs": 8, "share": [0.5, 0.25], "random": [0.1, 0.0]}
    assert x["validation"] == pytest.approx(0.25 + 0.25 / 2)
    assert x["seconds"] == pytest.approx(6 * 11.0)  # data, features, tokenize, cpt, finetune, eval
    assert y["settings"] == ["eval.retrievers=[plum]", "finetune.learning_rate=0.2"]


def test_the_interval_of_a_difference_is_turned_round_with_it(ablation: Ablation) -> None:
    pair = {"a": "x", "b": "y", "difference": 0.2, "ci95": [-0.1, 0.5], "p_value": 0.3, "p_holm": 0.4, "seed_sd": None}
    turned = ablated._turned(pair)
    assert turned == {"mean": -0.2, "ci95": [-0.5, 0.1], "p_value": 0.3, "p_holm": 0.4, "seed_sd": None}


def test_runs_that_are_not_finished_are_left_out(ablation: Ablation) -> None:
    ablated.mark_finished(ablation.runs[3])
    result = ablated.results(ablation, n_resamples=50)
    x, y = variant_of(result, "x"), variant_of(result, "y")
    assert (x["seeds"], x["missing"], x["recall@10"]) == ([], [0, 1], None)
    assert (y["seeds"], y["missing"], y["difference"]) == ([1], [0], None)
    assert y["recall@10"]["mean"] == 3 / 8


def test_a_run_without_agreement_leaves_the_figure_open(ablation: Ablation) -> None:
    made_up(ablation.runs[0], HITS["x"][0], agreement=None)
    for run in ablation.runs:
        ablated.mark_finished(run)
    result = ablated.results(ablation, n_resamples=50)
    assert variant_of(result, "x")["cooccurrence"] is None
    assert variant_of(result, "y")["cooccurrence"] is not None


def test_a_damaged_run_is_told_and_the_others_are_shown(ablation: Ablation) -> None:
    for run in ablation.runs:
        ablated.mark_finished(run)
    (ablation.runs[0].config.workdir / "eval/recommendations.parquet").write_bytes(b"PAR1")
    x = variant_of(ablated.results(ablation, n_resamples=50), "x")
    assert (x["seeds"], x["missing"]) == ([1], [0])
    assert "recommendations.parquet" in x["failed"][0]["reason"]


def test_runs_of_other_data_are_not_compared(ablation: Ablation) -> None:
    made_up(ablation.runs[0], HITS["x"][0], first_items=("i11", "i1"))
    for run in ablation.runs:
        ablated.mark_finished(run)
    with pytest.raises(Exception, match="can't be compared"):
        ablated.results(ablation, n_resamples=50)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    arguments = [
        sys.executable,
        "-m",
        "plum.cli.child",
        "run",
        "--config",
        str(config),
        "--set",
        "tokenize.max_steps=10000000",
    ]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()  # as the kernel does when the parent is killed
        assert process.wait(60) == child.PARENT_GONE


def test_a_child_is_plum_in_all_else() -> None:
    arguments = [sys.executable, "-m", "plum.cli.child", "run"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert b"no pipeline given" in process.stderr.read()

"""`plum compare`: which runs are compared with which, what is refused, and that the figures are those of the lists."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_run
from made_up_run import BASIC, ITEMS, POPULARITY, TARGETS, lists_with, make_run, scored
from sealed import seal

from plum.errors import PlumError
from plum.evaluation.compare import compare
from plum.evaluation.significance import holm
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.studies.compare import compare_runs, named_files, named_paths, write_comparison


def names(result: Mapping[str, Any]) -> list[str]:
    return [system["name"] for system in result["systems"]]


def mean(result: Mapping[str, Any], name: str, metric: str = "recall@10") -> float:
    return next(s["metrics"][metric]["mean"] for s in result["systems"] if s["name"] == name)


def refusal(*runs: Path, **options: Any) -> str:
    with pytest.raises(PlumError) as error:
        compare_runs(runs, **options)
    return str(error.value)


def test_retrievers_of_one_run_are_compared_with_each_other(tmp_path):
    result = compare_runs([make_run(tmp_path / "a")], n_resamples=300)
    assert names(result) == ["popularity", "dense", "plum"]
    assert result["reference"] == "plum"
    assert [mean(result, name) for name in names(result)] == [1 / 8, 2 / 8, 4 / 8]
    per_user = {name: scored(found) for name, found in BASIC.items()}
    usual = compare(per_user, ["recall@10", "ndcg@10"], "plum", 300)
    for found, expected in zip(result["comparisons"], usual, strict=True):
        assert (found["metric"], found["a"], found["b"]) == (expected["metric"], expected["a"], expected["b"])
        for key in ("difference", "ci95", "p_value", "p_holm"):
            assert found[key] == pytest.approx(expected[key])
    assert json.loads(json.dumps(result)) == result


def test_runs_with_other_settings_stand_side_by_side(tmp_path):
    other = {"popularity": POPULARITY, "dense": BASIC["dense"], "plum": lists_with("11110000")}
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", other, learning_rate=0.2)]
    result = compare_runs(runs, metrics=["recall@10", "mrr@5"], n_resamples=300)
    assert names(result) == ["popularity", "dense", "a/plum", "b/plum"]  # what is the same in both is shown once
    assert result["reference"] == "a/plum"
    assert mean(result, "a/plum", "mrr@5") == pytest.approx((2 * 1 + 2 * 0.5) / 8)
    assert mean(result, "b/plum", "mrr@5") == pytest.approx(4 / 8)
    assert any("shown once: popularity, dense." in note for note in result["notes"])
    found = result["comparisons"]
    assert [(entry["metric"], entry["b"]) for entry in found] == [
        (metric, name) for metric in ("recall@10", "mrr@5") for name in ("popularity", "dense", "b/plum")
    ]
    assert [entry["p_holm"] for entry in found] == holm([entry["p_value"] for entry in found]).tolist()
    assert any("corrected for 6 tests" in note for note in result["notes"])


def test_the_reference_is_a_row_or_the_first_of_a_retriever(tmp_path):
    other = {"dense": lists_with("11110000"), "plum": lists_with("00000000")}
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", other, learning_rate=0.2)]
    assert compare_runs(runs, reference="dense", n_resamples=50)["reference"] == "a/dense"
    assert compare_runs(runs, reference="b/plum", n_resamples=50)["reference"] == "b/plum"
    assert "a/popularity, a/dense, a/plum, b/dense, b/plum" in refusal(*runs, reference="sasrec")


def test_runs_that_differ_in_the_seed_alone_are_one_system(tmp_path):
    runs = []
    for seed, hits in enumerate(("11110000", "11000000", "11111100")):
        lists = {"popularity": POPULARITY, "plum": lists_with(hits)}
        runs.append(make_run(tmp_path / f"beauty-seed{seed}", lists, seed))
    result = compare_runs(runs, n_resamples=300)
    assert names(result) == ["popularity", "plum"]
    system = result["systems"][1]
    assert system["seeds"] == [0, 1, 2]
    assert system["metrics"]["recall@10"]["seed_means"] == [0.5, 0.25, 0.75]
    assert system["metrics"]["recall@10"]["mean"] == pytest.approx(0.5)
    assert system["metrics"]["recall@10"]["seed_sd"] == pytest.approx(0.25)
    assert result["systems"][0]["metrics"]["recall@10"]["seed_sd"] == 0
    assert result["comparisons"][0]["seeds_paired"]
    assert any("do not extend to other seeds" in note for note in result["notes"])


@pytest.mark.parametrize("name", ["trials_at_once", "keep_trials"])
def test_settings_that_change_no_result_make_no_other_system(tmp_path, name):
    runs = [make_run(tmp_path / f"{seed}", {"plum": lists_with("11110000")}, seed) for seed in (0, 1)]
    runs.append(make_run(tmp_path / "2", {"plum": lists_with("11000000")}, 2))
    manifest = runs[2] / "finetune" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["config"][name] = 2
    manifest.write_text(json.dumps(content))
    assert compare_runs(runs, n_resamples=50)["systems"][0]["seeds"] == [0, 1, 2]


def test_seeds_of_two_systems_are_named_by_what_their_folders_have_in_common(tmp_path):
    runs = [make_run(tmp_path / f"small-{seed}", {"plum": lists_with("11110000")}, seed) for seed in (0, 1)]
    for seed, hits in ((0, "11000000"), (1, "10000000")):
        runs.append(make_run(tmp_path / f"large.s{seed}", {"plum": lists_with(hits)}, seed, learning_rate=0.2))
    result = compare_runs(runs, n_resamples=50)
    assert names(result) == ["small/plum", "large/plum"]
    assert [system["seeds"] for system in result["systems"]] == [[0, 1], [0, 1]]


def test_names_keep_seeds_apart_or_join_them(tmp_path):
    runs = [make_run(tmp_path / f"{seed}", {"plum": lists_with(f"{seed}1110000")}, seed) for seed in (0, 1)]
    assert names(compare_runs(runs, names=["x", "y"], n_resamples=50)) == ["x/plum", "y/plum"]
    assert compare_runs(runs, names=["x", "x"], n_resamples=50)["systems"][0]["runs"] == ["x", "x"]
    other = make_run(tmp_path / "other", seed=1, learning_rate=0.2)
    told = refusal(runs[0], other, names=["x", "x"])
    assert "two runs are called x" in told
    assert "finetune.learning_rate" in told


def test_a_stage_made_with_another_seed_makes_another_system(tmp_path):
    runs = [make_run(tmp_path / f"{seed}", {"plum": lists_with("11110000")}, seed) for seed in (0, 1)]
    with StageRun(runs[1], artifacts.FINETUNE, {"learning_rate": 0.1}, 0, []).writing(force=True):
        pass
    assert "data.seed" not in refusal(*runs, names=["x", "x"])
    assert "seeds.finetune" in refusal(*runs, names=["x", "x"])


def test_a_catalogue_in_another_order_is_the_same(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", items=ITEMS[::-1], learning_rate=0.2)]
    result = compare_runs(runs, n_resamples=50)
    assert names(result) == ["popularity", "dense", "plum"]  # same lists, whatever their rows in the catalogue


def test_the_bound_is_shown_last_and_not_tested(tmp_path):
    lists = {"optimum": lists_with("11111111"), **BASIC}
    result = compare_runs([make_run(tmp_path / "a", lists)], n_resamples=50)
    assert names(result)[-1] == "optimum"
    assert {entry["b"] for entry in result["comparisons"]} == {"popularity", "dense"}


def test_all_that_differs_is_told_at_once(tmp_path):
    first = make_run(tmp_path / "a")
    other = make_run(
        tmp_path / "b",
        {"plum": {}, "dense": lists_with("00000000", "i1")},
        seed=1,
        items=[*ITEMS[:11], "new1", "new2"],
        targets=TARGETS | {"u0": "i9", "u3": "i9"},
        protocol={"seen": "kept"},
        split_seed=1,
    )
    third = make_run(tmp_path / "c", protocol={"split": "temporal"})
    told = refusal(first, other, third)
    for text in (
        "1 items are only in the catalogue of the first, for example 'i11'",
        "2 items are only in the catalogue of the second, for example 'new1'",
        "test targets differ for 2 users, for example 'u0'",
        "seen items are filtered in the first, kept in the second",
        f"{first} and {third}: the protocol is leave-one-out in the first, temporal in the second",
        "data.split.seed breaks ties between interactions of one second unless data.split.ties is keep",
    ):
        assert text in told
    assert f"{first} and {other}: 1 items" in told
    assert "training items" not in told


def test_the_seed_of_the_split_is_named_only_where_it_differs(tmp_path):
    changed = TARGETS | {"u0": "i9"}
    first = make_run(tmp_path / "first")
    other_seed = make_run(tmp_path / "other-seed", seed=1, targets=changed)
    other_split = make_run(tmp_path / "other-split", targets=changed, split_seed=1)
    assert "data.split.seed" not in refusal(first, other_seed)  # of the run: it draws nothing in the split
    assert "data.split.seed" in refusal(first, other_split)
    # Earlier versions drew by the run's seed.
    earlier = [make_run(tmp_path / "early", split_seed=None), make_run(tmp_path / "later", seed=1, split_seed=None)]
    assert "data.split.seed" not in refusal(earlier[0], other_seed)
    assert "data.split.seed" in refusal(earlier[1], other_seed)


def test_another_order_of_training_items_is_another_split(tmp_path):
    first = make_run(tmp_path / "a")
    told = refusal(first, make_run(tmp_path / "b", first_items=("i1", "i0"), split_seed=1))
    assert "the order of training items differs for 1 users, for example 'u0'" in told
    assert "items differ for" not in told
    assert "data.split.seed" in told
    told = refusal(first, make_run(tmp_path / "c", first_items=("i1", "i11")))
    assert "training items differ for 1 users, for example 'u0'" in told
    assert "the order of" not in told


def test_runs_of_other_cutoffs_are_not_seeds_of_one_system(tmp_path):
    lists = [{"plum": lists_with(hits)} for hits in ("11110000", "11000000", "11111000")]
    runs = [make_run(tmp_path / f"a{seed}", lists[seed], seed) for seed in (0, 1)]
    assert names(compare_runs(runs, n_resamples=20)) == ["plum"]  # resamples differ, which changes no list
    longer = make_run(tmp_path / "longer", lists[2], 2, cutoffs=(1, 5, 10, 50))
    assert names(compare_runs([*runs, longer], n_resamples=20)) == ["a/plum", "longer/plum"]


def test_a_cutoff_that_lists_do_not_reach_is_refused(tmp_path):
    runs = [make_run(tmp_path / "a", cutoffs=[1, 10, 50]), make_run(tmp_path / "b", learning_rate=0.2)]
    told = refusal(*runs, metrics=["recall@50"])
    assert f"{runs[1]} reaches 10" in told
    assert str(runs[0]) not in told.split("to do")[0]
    assert mean(compare_runs(runs[:1], metrics=["recall@20"], n_resamples=20), "plum", "recall@20") == 0.5


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (["recall@5", "novelty@10", "recall"], "novelty@10, recall"),
        (["recall@0"], "recall@0"),
        ([], "no metric"),
        (["recall@5", "recall@5"], "given twice"),
    ],
)
def test_a_metric_that_can_not_be_compared_is_refused(tmp_path, metrics, told):
    assert told in refusal(make_run(tmp_path / "a"), metrics=metrics)


def test_edited_metrics_are_noticed(tmp_path):
    run = make_run(tmp_path / "a")
    metrics = artifacts.read_json(run / artifacts.EVAL_METRICS)
    metrics["retrievers"]["plum"]["ndcg@5"] += 1e-8
    artifacts.write_json(run / artifacts.EVAL_METRICS, metrics)
    assert "eval/metrics.json is not what stage eval wrote" in refusal(run)
    told = refusal(seal(run))
    assert "do not belong together" in told
    assert "ndcg@5 of plum" in told
    metrics["retrievers"]["plum"]["ndcg@5"] -= 1e-8 - 1e-11
    artifacts.write_json(run / artifacts.EVAL_METRICS, metrics)
    compare_runs([seal(run)], n_resamples=20)
    del metrics["retrievers"]["dense"]
    artifacts.write_json(run / artifacts.EVAL_METRICS, metrics)
    assert "recommendations of dense" in refusal(seal(run))
    artifacts.write_json(run / artifacts.EVAL_METRICS, {})
    assert "lacks `retrievers`" in refusal(seal(run))
    artifacts.write_json(run / artifacts.EVAL_METRICS, metrics | {"retrievers": {"plum": 0.5}})
    assert "no metrics of plum" in refusal(seal(run))


def test_edited_recommendations_are_noticed(tmp_path):
    run = make_run(tmp_path / "a")
    path = run / artifacts.RECOMMENDATIONS
    artifacts.write_table(path, artifacts.read_table(path).replace({"item_id": {"i2": "i11"}}))
    assert f"run `plum eval --workdir {run}`" in refusal(run)
    told = refusal(seal(run))
    assert "by the lists" in told
    assert f"run `plum eval --workdir {run}`" in told  # forced, it would train all baselines again


def test_a_run_that_is_not_evaluated_names_the_command(tmp_path):
    assert "no run in" in refusal(tmp_path / "nowhere")
    run = make_run(tmp_path / "a")
    shutil.rmtree(run / "eval")
    assert "has no eval/" in refusal(run)
    assert f"plum eval --workdir {run}" in refusal(run)


def test_an_evaluation_of_an_earlier_split_is_refused(tmp_path):
    run, other = make_run(tmp_path / "a"), make_run(tmp_path / "b", targets=TARGETS | {"u0": "i9"})
    shutil.rmtree(run / "data")
    shutil.copytree(other / "data", run / "data")
    assert "another data/split.parquet" in refusal(run)


def write_lists(path: Path, lists: Mapping[str, Sequence[str]], **columns: Any) -> Path:
    rows = [(user, rank, item) for user, shown in lists.items() for rank, item in enumerate(shown, 1)]
    frame = pd.DataFrame(rows, columns=["user_id", "rank", "item_id"]).assign(**columns)
    frame.to_csv(path, index=False)
    return path


def test_lists_of_another_system_are_scored_on_the_same_users(tmp_path):
    run = make_run(tmp_path / "a")
    theirs = {**lists_with("12100000"), "u7": ["i0", "unknown"], "stranger": ["i3"]}
    del theirs["u6"]
    result = compare_runs([run], {"theirs": write_lists(tmp_path / "theirs.csv", theirs)}, n_resamples=100)
    assert names(result) == ["popularity", "dense", "plum", "theirs"]
    assert mean(result, "theirs") == 3 / 8
    told = result["lists"]["theirs"]
    counts = {kind: count for kind, count in told["counts"].items() if count}
    assert counts == {"unknown_users": 1, "unknown_items": 1, "short": 7, "no_list": 1, "seen": 1}
    assert any("'stranger'" in line for line in told["explained"])
    assert any("a seen item, which the runs never recommend: 1;" in line for line in told["explained"])


def test_a_file_of_several_retrievers_gives_a_row_each(tmp_path):
    rows = pd.concat(
        [pd.read_csv(write_lists(tmp_path / "x.csv", lists_with(h), retriever=n)) for n, h in
         (("knn", "11000000"), ("als", "10000000"))]
    )  # fmt: skip
    rows.to_parquet(tmp_path / "theirs.parquet")
    extra = {"lib": tmp_path / "theirs.parquet"}
    result = compare_runs([make_run(tmp_path / "a")], extra, reference="lib/als", n_resamples=50)
    assert names(result)[-2:] == ["lib/knn", "lib/als"]
    assert result["reference"] == "lib/als"


def test_lists_with_other_ids_are_refused_not_scored_as_misses(tmp_path):
    run = make_run(tmp_path / "a")
    strange = write_lists(tmp_path / "theirs.csv", {"1": ["2", "3"]})
    told = refusal(run, extra={"theirs": strange})
    assert "recommends no item of the catalogue to any test user" in told
    assert "user '1' and item '2' in the file, 'u0' and 'i0' in the runs" in told


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ("1st", "no rank is a whole number (first: user 'u0', rank missing, item 'i2')"),
        (40, "all ranks are beyond 10 (first: user 'u0', rank 40, item 'i2')"),
    ],
)
def test_lists_that_ranks_leave_empty_are_refused_for_their_ranks(tmp_path, ranks, told):
    lists = write_lists(tmp_path / "theirs.csv", lists_with("10000000"), rank=ranks)
    assert told in refusal(make_run(tmp_path / "a"), extra={"theirs": lists})


def test_rows_that_can_not_be_read_are_told_in_the_result(tmp_path):
    path = write_lists(tmp_path / "theirs.csv", lists_with("10000000") | {f"x{n}": ["i2"] for n in range(200)})
    path.write_text(path.read_text() + "u1,1,i3,and,more\n")
    told = compare_runs([make_run(tmp_path / "a")], {"theirs": path}, n_resamples=20)["lists"]["theirs"]
    assert told["counts"]["unreadable"] == 1
    assert "Rows of the file that can't be read are left out: 1 (first:" in told["explained"][0]


def test_one_retriever_may_be_named_or_not_but_not_in_some_rows_alone(tmp_path):
    run, path = make_run(tmp_path / "a"), tmp_path / "theirs.csv"
    for name in ("knn", ""):
        write_lists(path, lists_with("10000000"), retriever=name)
        assert names(compare_runs([run], {"lib": path}, n_resamples=20))[-1] == "lib"
    frame = pd.read_csv(path)
    frame.assign(retriever=["knn", *[None] * (len(frame) - 1)]).to_csv(path, index=False)
    assert "rows name no retriever" in refusal(run, extra={"lib": path})


def test_runs_of_other_versions_are_told(tmp_path):
    runs = [make_run(tmp_path / f"a-{seed}", seed=seed) for seed in range(2)]
    assert not any("versions" in note for note in compare_runs(runs, n_resamples=20)["notes"])
    path = runs[1] / "finetune/manifest.json"
    manifest = artifacts.read_json(path)
    artifacts.write_json(path, manifest | {"versions": manifest["versions"] | {"plum": "0.0.1"}})
    (note,) = [note for note in compare_runs(runs, n_resamples=20)["notes"] if "versions" in note]
    assert "a-1 by plum 0.0.1 and" in note


def test_two_systems_of_one_name_are_refused(tmp_path):
    run = make_run(tmp_path / "a")
    told = refusal(run, extra={"plum": write_lists(tmp_path / "theirs.csv", lists_with("10000000"))})
    assert "two systems are called plum" in told
    same = make_run(tmp_path / "deeper" / "a", {"plum": lists_with("10000000")}, learning_rate=0.2)
    assert "two systems are called a/plum" in refusal(run, same)


def test_too_few_resamples_for_so_many_tests_are_told(tmp_path):
    result = compare_runs([make_run(tmp_path / "a")], n_resamples=99)
    assert any("no p (Holm) can be below 0.04" in note for note in result["notes"])
    assert min(entry["p_holm"] for entry in result["comparisons"]) >= 0.04


def test_names_are_taken_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=y").mkdir()
    paths, given = named_paths(["runs/a", "b=runs/b", "x=y", "runs/lr=0.1"])
    assert paths == [Path("runs/a"), Path("runs/b"), Path("x=y"), Path("runs/lr=0.1")]
    assert given == [None, "b", None, None]
    assert named_files(["a=x.csv", "b=y.csv"]) == {"a": Path("x.csv"), "b": Path("y.csv")}
    with pytest.raises(PlumError, match="needs a name"):
        named_files(["a=x.csv", "y.csv"])
    with pytest.raises(PlumError, match="twice"):
        named_files(["a=x.csv", "a=y.csv"])


def test_what_is_written_is_what_was_found(tmp_path):
    runs = [make_run(tmp_path / f"a{seed}", seed=seed) for seed in (0, 1)]
    extra = {"their|s": write_lists(tmp_path / "theirs.csv", lists_with("12100000"))}
    result = compare_runs(runs, extra, n_resamples=100)
    for _ in range(2):  # the second replaces the first
        write_comparison(tmp_path / "out" / "mine", result)
    folder = tmp_path / "out" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "comparison.md"]
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    assert artifacts.read_json(folder / "comparison.json") == result
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert "| plum | **0.5000** (" in text
    assert "their\\|s" in text
    for entry in result["comparisons"]:
        assert f"{abs(entry['difference']):.4f}" in text
    for part in ("## Paired differences", "## Seeds", "## Notes", "## Protocol", "## Runs"):
        assert part in text
    assert "- In lists that end before place 10, the remaining places count as misses: 8 (first: user 'u0')." in text


def test_nothing_is_replaced_that_is_no_comparison(tmp_path):
    run = make_run(tmp_path / "a")
    result = compare_runs([run], n_resamples=20)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    (tmp_path / "file").touch()
    for place in (run, tmp_path / "file"):
        with pytest.raises(PlumError, match="would be replaced"):
            write_comparison(place, result)
    with pytest.raises(PlumError, match="can't write"):
        write_comparison(tmp_path / "file" / "below", result)
    (tmp_path / "file").unlink()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_folder_one_is_in_can_be_written_to(tmp_path, monkeypatch):
    result = compare_runs([make_run(tmp_path / "a")], n_resamples=20)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for _ in range(2):
        write_comparison(Path(), result)
        assert sorted(path.name for path in Path().iterdir()) == ["comparison.json", "comparison.md"]
    assert artifacts.read_json(tmp_path / "here" / "comparison.json") == result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "here"]


def test_a_comparison_that_can_not_be_finished_leaves_the_earlier_one(tmp_path):
    result = compare_runs([make_run(tmp_path / "a")], n_resamples=20)
    write_comparison(tmp_path / "out", result)
    with pytest.raises(KeyError):
        write_comparison(tmp_path / "out", {key: value for key, value in result.items() if key != "systems"})
    assert artifacts.read_json(tmp_path / "out" / "comparison.json") == result
    assert (tmp_path / "out" / "comparison.md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]


def test_a_real_run_gives_the_figures_of_its_metrics_file(finished_run):
    stored = artifacts.read_json(finished_run / artifacts.EVAL_METRICS)
    config = tiny_run.config_of(finished_run)
    result = compare_runs([finished_run], n_resamples=config.eval.resamples, seed=config.seed)
    assert sorted(names(result)) == sorted(stored["retrievers"])
    for system in result["systems"]:
        for metric, figures in system["metrics"].items():
            assert figures["mean"] == pytest.approx(stored["retrievers"][system["name"]][metric], abs=1e-12)
            assert figures["ci95"] == pytest.approx(stored["intervals"][system["name"]][metric], abs=1e-12)
    expected = {(entry["metric"], entry["b"]): entry for entry in stored["comparisons"]}
    for entry in result["comparisons"]:
        usual = expected[entry["metric"], entry["b"]]
        assert entry["p_value"] == pytest.approx(usual["p_value"])
        assert entry["ci95"] == pytest.approx(usual["ci95"])

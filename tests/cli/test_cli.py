"""The command line as a user meets it: help, results, and one clean message for every mistake."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny_run
from sealed import seal

Cli = Callable[..., tuple[int, str, str]]
COMMANDS = (
    ("data", "fetch"),
    ("data", "prepare"),
    ("data", "describe"),
    ("init",),
    ("tokenize",),
    ("cpt",),
    ("finetune",),
    ("eval",),
    ("run",),
    ("recommend",),
    ("compare",),
    ("ablate",),
    ("inspect",),
)


def refused(result: tuple[int, str, str], *told: str) -> None:
    """The command ended with exit code 2 and one message that tells all this."""
    code, _, err = result
    assert code == 2
    assert "Traceback" not in err
    assert err.count("Error: ") == 1
    for text in told:
        assert text in err


@pytest.mark.parametrize("command", [(), ("data",), *COMMANDS], ids=" ".join)
def test_help_shows_an_example(cli: Cli, command: tuple[str, ...]) -> None:
    code, out, _ = cli(*command, "--help")
    assert code == 0
    assert "Example" in out
    assert "plum " + " ".join(command) in out


def test_help_lists_every_command(cli: Cli) -> None:
    _, out, _ = cli("--help")
    assert all(command[0] in out for command in COMMANDS)


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = "('torch', 'transformers', 'pandas', 'numpy', 'sklearn', 'faiss')"
    script = f"import sys, plum.cli.app; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_the_version_is_shown() -> None:
    import plum

    done = tiny_run.plum("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"plum {plum.__version__}")


def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    done = tiny_run.plum("run", "--config", config, "--set", "finetune.epoch=3")
    refused((done.returncode, done.stdout, done.stderr), "finetune.epoch: unknown key", "did you mean epochs?")
    assert not (tmp_path / "run").exists()


def test_all_mistakes_of_a_configuration_are_told_at_once(cli: Cli, tmp_path: Path) -> None:
    values = tiny_run.pipeline(tmp_path / "run")
    values["tokenise"] = values.pop("tokenize")
    values["finetune"]["epochs"] = 0
    values["eval"]["beams"] = 2
    config = tiny_run.write(tmp_path / "tiny.yaml", values)
    refused(
        cli("run", "--config", config, "--set", "data.source.kind=amazon"),
        "4 mistakes",
        "did you mean tokenize?",
        "finetune.epochs",
        "beams 2",
        "'amazon'",
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "give --config FILE"),
        (["run", "--config", "nowhere.yaml"], "no configuration at nowhere.yaml"),
        (["run", "--config", "."], "can't be read as YAML"),
        (["eval", "--workdir", "nowhere"], "no run in nowhere"),
        (["recommend", "--workdir", "nowhere", "--user", "u1"], "no run in nowhere"),
        (["recommend", "--workdir", "nowhere"], "give either --user or --history"),
        (["recommend", "--workdir", "nowhere", "--user", "u1", "--history", "Heat"], "give either --user or --history"),
        (["data", "fetch", "ml-100"], "did you mean ml-100k?"),
        (["compare", "nowhere"], "no run in nowhere"),
        (["compare", "nowhere", "--lists", "theirs.csv"], "needs a name"),
        (["compare", "nowhere", "--metric", "novelty@10"], "can't compare by novelty@10"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(cli(*arguments), told)


def test_recommend_names_the_missing_stage_with_its_command(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "empty"))
    refused(cli("recommend", "--user", "u1", "--config", config), "which is not there", "run `plum data prepare`")
    shutil.rmtree(run_copy / "finetune")
    missing = cli("recommend", "--user", "u1", "--workdir", run_copy)
    refused(missing, "finetune/, which is not there", "run `plum finetune`")


def test_finetune_refuses_a_model_of_other_semantic_ids(cli: Cli, run_copy: Path) -> None:
    assert cli("tokenize", "--workdir", run_copy, "--set", "tokenize.method=random")[0] == 0
    refused(cli("finetune", "--workdir", run_copy), "tokenize/semantic_ids.parquet", "run `plum cpt --workdir")


def test_a_finished_run_is_shown_again_in_a_moment(run_copy: Path) -> None:
    before = tiny_run.times(run_copy)
    done = tiny_run.plum("run", "--workdir", run_copy)
    assert done.returncode == 0
    assert done.stderr.count("up to date") == len(tiny_run.STAGES)
    assert "Recall@10" in done.stdout
    assert str(run_copy / "eval/report.html") in done.stdout
    assert tiny_run.times(run_copy) == before


@pytest.mark.slow
def test_the_log_of_a_run_holds_no_progress_bars(run_copy: Path) -> None:
    done = tiny_run.plum("finetune", "--workdir", run_copy, "--force")
    assert done.returncode == 0
    assert "\r" not in done.stderr
    assert "it/s" not in done.stderr


def test_recommend_for_a_user_gives_unseen_items(cli: Cli, finished_run: Path) -> None:
    split = pd.read_parquet(finished_run / "data/split.parquet")
    items = pd.read_parquet(finished_run / "data/items.parquet").set_index("item_id")["title"]
    user = split["user_id"].iloc[0]
    mine = split[split["user_id"] == user]["item_id"]
    code, out, _ = cli("recommend", "--workdir", finished_run, "--user", user, "--k", 7, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["history"] == [items[item] for item in mine]
    found = answer["recommendations"]
    assert [one["rank"] for one in found] == list(range(1, 8))
    assert not {one["item_id"] for one in found} & set(mine)
    assert all(one["title"] == items[one["item_id"]] for one in found)
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)


def test_recommend_for_a_history_takes_titles_and_ids(finished_run: Path) -> None:
    items = pd.read_parquet(finished_run / "data/items.parquet")
    ids, titles = items["item_id"][:2].tolist(), items["title"][:2].tolist()
    asked = ("--history", ids[0], "--history", titles[1].upper())
    done = tiny_run.plum("recommend", "--workdir", finished_run, *asked, "--json", "--k", "5")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["history"] == titles
    found = [one["item_id"] for one in answer["recommendations"]]
    assert len(found) == len(set(found)) == 5
    assert set(found) <= set(items["item_id"]) - set(ids)


def test_recommend_prints_a_table(cli: Cli, finished_run: Path) -> None:
    title = pd.read_parquet(finished_run / "data/items.parquet")["title"][0]
    code, out, _ = cli("recommend", "--workdir", finished_run, "--history", title, "--k", 3)
    assert code == 0
    assert f"after {title}" in out


def test_recommend_never_fills_a_list_that_is_short_of_items(cli: Cli, finished_run: Path) -> None:
    ids = pd.read_parquet(finished_run / "data/items.parquet")["item_id"]
    history = [part for item in ids[:-2] for part in ("--history", item)]
    code, out, _ = cli("recommend", "--workdir", finished_run, *history, "--k", 10, "--json")
    assert code == 0
    assert {one["item_id"] for one in json.loads(out)["recommendations"]} == set(ids[-2:])


@pytest.mark.slow
def test_items_without_a_title_are_shown_by_their_id(cli: Cli, tmp_path: Path) -> None:
    titles = {f"i{i}": "" if i % 2 else f"Film {'abcde'[i % 5]}" for i in range(20)}
    rows = [(f"u{u}", f"i{(u * step) % 20}", 1_000_000 + 50 * u + step) for u in range(1, 30) for step in range(1, 8)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(tmp_path / "log.csv", index=False)
    pd.DataFrame({"item_id": titles.keys(), "title": titles.values()}).to_csv(tmp_path / "items.csv", index=False)
    source = {"kind": "logs", "interactions": str(tmp_path / "log.csv"), "items": str(tmp_path / "items.csv")}
    values = tiny_run.pipeline(tmp_path / "run", source)
    values["features"]["modalities"] = {"text": {"dimensions": 4}}
    assert cli("run", "--config", tiny_run.write(tmp_path / "tiny.yaml", values))[0] == 0
    code, out, _ = cli("recommend", "--workdir", tmp_path / "run", "--history", "i1", "--json")
    answer = json.loads(out)
    assert (code, answer["history"]) == (0, ["i1"])
    assert {one["title"] for one in answer["recommendations"]} >= {None}
    assert cli("recommend", "--workdir", tmp_path / "run", "--history", "i1")[0] == 0
    refused(cli("recommend", "--workdir", tmp_path / "run", "--history", "film a"), "items have the title", "i10")


def test_who_and_what_recommend_does_not_know_is_told(cli: Cli, finished_run: Path) -> None:
    title = pd.read_parquet(finished_run / "data/items.parquet")["title"][0]
    user = pd.read_parquet(finished_run / "data/split.parquet")["user_id"][0]
    ask = ("recommend", "--workdir", finished_run)
    refused(cli(*ask, "--user", user + "x"), f"no user '{user}x'", "there are for example", user)
    refused(cli(*ask, "--history", title[:-2] + title[:-3:-1]), "similar: ", f"'{title}'")
    for name in (title.upper(), f"  {title[:-2]} ", title.split()[0]):  # as plum inspect finds it
        answers = [cli(*ask, "--history", name, "--json"), cli("inspect", name, "--workdir", finished_run, "--json")]
        assert [answer[0] for answer in answers] == [0, 0]
        found = [json.loads(answer[1]) for answer in answers]
        assert found[0]["history"] == [found[1]["item"]["title"]] == [title]
    refused(cli(*ask, "--history", "%%%"), "ids look like")
    refused(cli(*ask, "--user", user, "--k", 61), "--k 61 is more than the catalogue holds", "60 items")
    code, _, err = cli(*ask, "--user", user, "--k", 0)
    assert (code, "Traceback" in err) == (2, False)


def test_compare_shows_a_run_and_lists_from_elsewhere(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    lists = pd.read_parquet(finished_run / "eval" / "recommendations.parquet")
    popular = lists[lists["retriever"] == "popularity"].drop(columns=["retriever", "score"])
    popular.to_csv(tmp_path / "lists.csv", index=False)
    arguments = ("compare", finished_run, "--lists", f"theirs={tmp_path / 'lists.csv'}", "--metric", "ndcg@5")
    code, out, _ = cli(*arguments, "--reference", "dense", "--output", tmp_path / "out")
    assert code == 0
    assert "NDCG@5" in out
    assert "dense − system" in out
    assert (tmp_path / "out" / "comparison.md").is_file()
    code, out, _ = cli(*arguments, "--json", "--resamples", "50")
    found = {system["name"]: system["metrics"]["ndcg@5"] for system in json.loads(out)["systems"]}
    assert code == 0
    assert found["theirs"] == found["popularity"]


def test_no_figure_is_cut_in_a_file_or_in_a_narrow_terminal(finished_run: Path) -> None:
    arguments = ("compare", finished_run, "--resamples", "50")
    told = json.loads(tiny_run.plum(*arguments, "--json").stdout)["systems"]
    interval = "[" + "–".join(f"{end:.3f}" for end in told[0]["metrics"]["recall@10"]["ci95"]) + "]"
    piped, narrow = tiny_run.plum(*arguments), tiny_run.plum(*arguments, COLUMNS="80")
    assert interval in piped.stdout
    assert interval in narrow.stdout
    assert "…" not in narrow.stdout


def test_compare_refuses_a_run_without_an_evaluation(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "eval")
    done = tiny_run.plum("compare", f"mine={run_copy}", "--output", run_copy / "out")
    refused((done.returncode, done.stdout, done.stderr), "has no eval/", f"plum eval --workdir {run_copy}")
    assert not (run_copy / "out").exists()


def test_compare_joins_seeds_in_a_process_of_its_own(finished_run: Path, tmp_path: Path) -> None:
    # The same lists under another seed: means stay, and nothing varies over seeds.
    second = Path(shutil.copytree(finished_run, tmp_path / "second"))
    for path in second.glob("*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 1}))
    metrics = json.loads((second / "eval/metrics.json").read_text())
    metrics["protocol"]["seed"] = 1
    (second / "eval/metrics.json").write_text(json.dumps(metrics))
    seal(second)
    done = tiny_run.plum("compare", f"x={finished_run}", f"x={second}", "--resamples", "50", "--json")
    assert done.returncode == 0, done.stderr
    systems = {system["name"]: system for system in json.loads(done.stdout)["systems"]}
    assert systems["plum"]["seeds"] == [0, 1]
    assert systems["plum"]["metrics"]["recall@10"]["seed_sd"] == 0


def test_data_describe_counts_a_source(cli: Cli, tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    code, out, _ = cli("data", "describe", "--config", config, "--json")
    assert code == 0
    assert json.loads(out)["counts"]["users"] == 150
    assert not (tmp_path / "run").exists()
    code, out, _ = cli("data", "describe", "--config", config)
    assert (code, "150" in out) == (0, True)


def test_own_logs_go_through_data_prepare(cli: Cli, tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{(u + step) % 9}", 1_000_000 + step) for u in range(12) for step in range(5)]
    pd.DataFrame(rows, columns=["who", "item_id", "timestamp"]).to_csv(tmp_path / "log.csv", index=False)
    source = {"kind": "logs", "interactions": str(tmp_path / "log.csv"), "columns": {"user_id": "who"}}
    config = tiny_run.write(tmp_path / "own.yaml", tiny_run.pipeline(tmp_path / "run", source))
    code, out, err = cli("data", "prepare", "--config", config)
    assert (code, out.strip()) == (0, str(tmp_path / "run/data"))
    assert "12 users, 9 items, 60 interactions (36 train, 12 valid, 12 test)" in err
    refused(cli("data", "prepare", "--config", config, "--set", "data.source.columns.user_id=whom"), "whom", "who")
    refused(cli("data", "prepare", "--config", config, "--set", "data.source.interactions=gone.csv"), "gone.csv")


def test_a_data_set_without_network_is_told_where_to_place(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path / "home"))
    source = {"kind": "movielens", "release": "ml-100k"}
    config = tiny_run.write(tmp_path / "ml.yaml", tiny_run.pipeline(tmp_path / "run", source))
    refused(cli("data", "prepare", "--config", config), "ml-100k is not in", "plum data fetch ml-100k")
    refused(cli("data", "fetch", "ml-100k"), "can't be downloaded", f"place it at {tmp_path / 'home' / 'ml-100k.zip'}")


@pytest.mark.parametrize(
    ("file", "content", "command"),
    [
        ("tokenize/semantic_ids.parquet", b"PAR1 nothing", ["cpt", "--force"]),
        ("data/items.parquet", b"", ["recommend", "--user", "u1"]),
        ("tokenize/quality.json", b"{", ["recommend", "--history", "x"]),
        ("tokenize/manifest.json", b"{", ["finetune"]),
        ("tokenize/manifest.json", b'{"stage": "tokenize"}', ["finetune"]),
        ("cpt/manifest.json", b"[]", ["finetune"]),
        ("config.yaml", b"a: [", ["run"]),
    ],
)
def test_a_damaged_file_is_named(cli: Cli, run_copy: Path, file: str, content: bytes, command: list[str]) -> None:
    if file.endswith("quality.json"):
        item = pd.read_parquet(run_copy / "data/items.parquet")["item_id"][0]
        command = [item if part == "x" else part for part in command]
    (run_copy / file).write_bytes(content)
    refused(cli(*command, "--workdir", run_copy), Path(file).name)


@pytest.mark.parametrize("file", ["eval/metrics.json", "eval/manifest.json", "tokenize/manifest.json"])
def test_run_repairs_what_is_damaged(cli: Cli, run_copy: Path, file: str) -> None:
    whole = json.loads((run_copy / file).read_text())
    (run_copy / file).write_text("{")
    assert cli("run", "--workdir", run_copy)[0] == 0
    assert json.loads((run_copy / file).read_text()).keys() == whole.keys()


def test_a_run_folder_that_can_not_be_written_is_told(cli: Cli, tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    (tmp_path / "file").write_text("mine")
    refused(cli("run", "--config", config, "--workdir", tmp_path / "file"), "can't write to", "give another --workdir")
    refused(cli("run", "--config", config, "--workdir", tmp_path / "file" / "run"), "can't write to")
    refused(cli("run", "--config", config, "--workdir", "/dev/null"), "can't write to /dev/null")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_no_stage_wrote_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "thesis.txt").write_text("years of work")
    refused(cli("run", "--config", config), "is not a folder of a plum run")
    assert (tmp_path / "run/data/thesis.txt").read_text() == "years of work"


def test_ctrl_c_says_how_to_go_on(run_copy: Path) -> None:
    settings = ("--set", "tokenize.max_steps=100000", "--set", "tokenize.checkpoint_steps=4")
    started = subprocess.Popen(
        tiny_run.command("tokenize", "--workdir", run_copy, *settings),
        stderr=subprocess.PIPE,
        text=True,
        # Shells start background jobs with the signal ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    patience = time.monotonic() + 60
    while not (run_copy / ".tokenize.partial/checkpoint/state.json").exists() and time.monotonic() < patience:
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "continue from the last checkpoint" in err
    assert "Traceback" not in err

"""Stage data: sources to tables and a split that leaks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.run import artifacts
from plum.stages import cpt, dense, finetune, inputs, pipeline, prepare
from plum.stages.checks import check_named

MOVIELENS = {"kind": "movielens", "release": "ml-latest"}
N_ITEMS = 40


def run_config(workdir: Path, source: dict[str, Any], *, tags: bool = True, **split: Any) -> RunConfig:
    values = tiny_run.pipeline(workdir, source, **split)
    values["data"]["tags_as_text"] = tags
    return validate(values, "the test")


def movielens(home: Path, ratings: Iterable[tuple[int, int, int]], tags: Iterable[tuple[int, int, str, int]]) -> None:
    """A tiny release in the layout of ml-latest; rows are (user, movie, time) and (user, movie, tag, time)."""
    folder = home / "ml-latest"
    folder.mkdir(parents=True)
    rated = list(ratings)
    lines = "".join(f"{user},{movie},4.0,{time}\n" for user, movie, time in rated)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + lines)
    lines = "".join(f"{movie},Movie {movie} (1999),Drama|Action\n" for movie in sorted({row[1] for row in rated}))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + lines)
    lines = "".join(f"{user},{movie},{tag},{time}\n" for user, movie, tag, time in tags)
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + lines)


def descriptions(workdir: Path) -> dict[str, str | None]:
    items = artifacts.read_table(workdir / artifacts.ITEMS)
    return {item: text if isinstance(text, str) else None for item, text in items[["item_id", "description"]].values}


# Movies of three users, oldest first: the last is test, the one before validation.
HISTORIES = {1: [10, 20, 30, 40], 2: [40, 30, 20, 10], 3: [10, 30, 20, 40]}
RATINGS = [
    (u, movie, 1_000_000 + 100 * place + u) for u, movies in HISTORIES.items() for place, movie in enumerate(movies)
]
TAGS = [
    (1, 40, "Held Test", 1_000_000),
    (1, 30, "held valid", 1_000_000),
    (1, 10, "Good", 1_000_000),
    (2, 40, "early", 1_000_000),
    (3, 10, " good ", 1_000_050),
    (3, 10, "funny", 1_000_060),
    (9, 20, "never rated", 1_000_070),
    (2, 30, "late", 1_000_900),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_tags_on_held_out_interactions_stay_out_of_the_descriptions(home: Path, tmp_path: Path) -> None:
    movielens(home, RATINGS, TAGS)
    prepare.run(run_config(tmp_path / "run", MOVIELENS))
    assert descriptions(tmp_path / "run") == {"10": "good; funny", "20": "never rated", "30": "late", "40": "early"}


def test_tags_given_after_the_cut_off_stay_out_of_the_descriptions(home: Path, tmp_path: Path) -> None:
    movielens(home, RATINGS, TAGS)
    prepare.run(run_config(tmp_path / "run", MOVIELENS, protocol="temporal", valid_share=0.25, test_share=0.25))
    split = pd.read_parquet(tmp_path / "run" / artifacts.SPLIT)
    assert split["part"].value_counts().to_dict() == {"train": 6, "valid": 3, "test": 3}
    assert descriptions(tmp_path / "run") == {"10": "good; funny", "20": "never rated", "30": None, "40": "early"}


def test_without_tags_as_text_there_is_no_description(home: Path, tmp_path: Path) -> None:
    movielens(home, RATINGS, TAGS)
    prepare.run(run_config(tmp_path / "run", MOVIELENS, tags=False))
    assert set(descriptions(tmp_path / "run").values()) == {None}


def test_a_changed_source_is_prepared_again(home: Path, tmp_path: Path) -> None:
    movielens(home, RATINGS, TAGS)
    config = run_config(tmp_path / "run", MOVIELENS)
    prepare.run(config)
    before = tiny_run.times(tmp_path / "run")
    prepare.run(config)
    assert tiny_run.times(tmp_path / "run") == before
    with (home / "ml-latest/ratings.csv").open("a") as file:
        file.write("4,10,3.0,1000000\n4,20,3.0,1000001\n4,30,3.0,1000002\n")
    prepare.run(config)
    assert tiny_run.rerun(before, tiny_run.times(tmp_path / "run")) == {"data"}


def test_the_temporal_protocol_is_refused_for_a_source_without_times(home: Path, tmp_path: Path) -> None:
    (home / "amazon-2014").mkdir(parents=True)
    lines = "".join(f"{user} 1 2 3 {user + 3}\n" for user in range(1, 9))
    (home / "amazon-2014/Beauty.txt").write_text(lines)
    (home / "amazon-2014/Beauty_item2attributes.json").write_text('{"1": [1, 2], "2": [2]}')
    source = {"kind": "amazon-sequences", "name": "Beauty"}
    with pytest.raises(PlumError, match=r"data\.split\.protocol=leave-one-out"):
        prepare.run(run_config(tmp_path / "run", source, protocol="temporal"))
    prepare.run(run_config(tmp_path / "run", source))
    assert len(descriptions(tmp_path / "run")) == 11


def test_days_beside_sequences_allow_the_temporal_protocol(home: Path, tmp_path: Path) -> None:
    (home / "amazon-2014").mkdir(parents=True)
    (home / "amazon-2014/Beauty.txt").write_text("".join(f"{user} 1 2 3 {user + 3}\n" for user in range(1, 9)))
    days = home / "amazon-2014/Beauty_days.txt"
    days.write_text("".join(f"{user} {16000 + user} 16010 16011 16012\n" for user in range(1, 9)))
    source = {"kind": "amazon-sequences", "name": "Beauty"}
    config = run_config(tmp_path / "run", source, protocol="temporal", valid_share=0.25, test_share=0.25)
    prepare.run(config)
    split = artifacts.read_table(tmp_path / "run" / artifacts.SPLIT)
    assert {part: set(rows["item_id"]) for part, rows in split.groupby("part")} == {
        "train": {"1", "2"}, "valid": {"3"}, "test": {str(item) for item in range(4, 12)},
    }  # fmt: skip
    assert days in prepare.source_files(config.data)
    before = tiny_run.times(tmp_path / "run")
    days.write_text(days.read_text().replace("16012", "16013"))
    prepare.run(config)
    assert tiny_run.rerun(before, tiny_run.times(tmp_path / "run")) == {"data"}


def test_a_log_of_sequences_may_lie_in_the_data_home(home: Path, tmp_path: Path) -> None:
    (home / "games").mkdir(parents=True)
    (home / "games/log.txt").write_text("".join(f"{user} 1 2 3 {user + 3}\n" for user in range(1, 9)))
    (home / "games/titles.tsv").write_text("".join(f"{item}\tGame {item}\n" for item in range(1, 12)))
    source = {"kind": "logs", "layout": "sequences", "in_data_home": True, "interactions": "games/log.txt"}
    source |= {"items": "games/titles.tsv", "header": False, "item_columns": {"item_id": 1, "title": 2}}
    config = run_config(tmp_path / "run", source)
    assert prepare.source_files(config.data) == [home / "games/log.txt", home / "games/titles.tsv"]
    check_named(config, ["data"])
    prepare.run(config)
    items = artifacts.read_table(tmp_path / "run" / artifacts.ITEMS)
    assert (items["title"] == "Game " + items["item_id"]).all()
    (home / "games/titles.tsv").unlink()
    with pytest.raises(PlumError, match=r"data\.source\.items: .*titles\.tsv \(no such file\)"):
        check_named(run_config(tmp_path / "other", source), ["data"])


def test_the_amazon_set_asked_for_is_the_one_looked_for(home: Path, tmp_path: Path) -> None:
    (home / "amazon-2014").mkdir(parents=True)
    (home / "amazon-2014/Beauty.txt").write_text("1 1 2 3\n")
    with pytest.raises(PlumError, match=r"place Toys_and_Games\.txt"):
        prepare.run(run_config(tmp_path / "run", {"kind": "amazon-sequences", "name": "Toys_and_Games"}))


def write_logs(folder: Path, changed_from: int | None = None) -> dict[str, Any]:
    """Logs of 60 users over 40 items as CSV, and the source that reads them.

    With ``changed_from``, interactions from that time on are with other items: whatever must not depend on the later
    part comes out the same.
    """
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(60), 12)
    times = rng.permutation(len(users)) * 60 + 1_000_000_000
    chosen = np.concatenate([rng.choice(N_ITEMS, 12, replace=False) for _ in range(60)])
    if changed_from is not None:
        chosen = np.where(times >= changed_from, (chosen * 3 + 11) % N_ITEMS, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    log = pd.DataFrame({"who": [f"u{u}" for u in users], "what": [f"i{i}" for i in chosen], "when": times})
    log.sample(frac=1.0, random_state=1).to_csv(folder / "log.csv", index=False)
    titles = [f"{kind} {tone}" for kind in ("Film", "Song", "Game", "Book") for tone in "abcdefghij"]
    items = {"item_id": [f"i{i}" for i in range(N_ITEMS)], "name": titles, "topics": ["X|Y", "Y"] * (N_ITEMS // 2)}
    pd.DataFrame(items).to_csv(folder / "items.csv", index=False)
    return {
        "kind": "logs",
        "interactions": str(folder / "log.csv"),
        "items": str(folder / "items.csv"),
        "columns": {"user_id": "who", "item_id": "what", "timestamp": "when"},
        "item_columns": {"title": "name"},
    }


def test_own_logs_become_the_tables_of_a_run(tmp_path: Path) -> None:
    prepare.run(run_config(tmp_path / "run", write_logs(tmp_path)))
    interactions = pd.read_parquet(tmp_path / "run" / artifacts.INTERACTIONS)
    items = pd.read_parquet(tmp_path / "run" / artifacts.ITEMS)
    assert len(interactions) == 720
    assert interactions["timestamp"].dtype == np.int64
    assert (interactions["reward"] == 1).all()
    assert interactions["rating"].isna().all()
    assert items["item_id"].tolist() == [f"i{i}" for i in range(N_ITEMS)]
    assert items["title"][12] == "Song c"
    assert [list(topics) for topics in items["topics"][:2]] == [["X", "Y"], ["Y"]]
    in_time = interactions.groupby("user_id")["timestamp"].apply(lambda t: t.is_monotonic_increasing)
    assert in_time.all()
    split = pd.read_parquet(tmp_path / "run" / artifacts.SPLIT)
    assert split.groupby("user_id")["part"].agg(list).map(lambda p: p[-3:]).map(tuple).unique().tolist() == [
        ("train", "valid", "test")
    ]


def test_k_core_shrinks_the_catalogue_with_the_logs(tmp_path: Path) -> None:
    source = write_logs(tmp_path)
    with Path(source["interactions"]).open("a") as file:
        file.write("lone,i1,1000000000\nlone,i2,1000000001\n")
    with Path(source["items"]).open("a") as file:
        file.write("rare,Rare,X\n")
    prepare.run(run_config(tmp_path / "all", source))
    prepare.run(run_config(tmp_path / "core", source, k_core_users=5, k_core_items=18))
    everything = artifacts.read_table(tmp_path / "all" / artifacts.ITEMS)
    items = artifacts.read_table(tmp_path / "core" / artifacts.ITEMS)
    interactions = artifacts.read_table(tmp_path / "core" / artifacts.INTERACTIONS)
    assert "rare" in set(everything["item_id"])
    assert set(items["item_id"]) == set(interactions["item_id"])
    assert 0 < len(items) < N_ITEMS
    assert interactions["item_id"].value_counts().min() >= 18
    assert interactions["user_id"].value_counts().min() >= 5
    assert "lone" not in set(interactions["user_id"])


def test_a_split_that_asks_nothing_is_refused_before_any_training(tmp_path: Path) -> None:
    rows = [(f"u{place}", f"i{item}", 10 * place + item) for place in range(30) for item in range(4)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(tmp_path / "log.csv", index=False)
    source = {"kind": "logs", "interactions": str(tmp_path / "log.csv"), "timestamp_unit": "s"}
    with pytest.raises(PlumError, match="no user of the validation set has a history"):
        prepare.run(run_config(tmp_path / "run", source, protocol="temporal"))
    assert not (tmp_path / "run" / "data").exists()


MODELS = {
    "semantic IDs": "tokenize/semantic_ids.parquet",
    "features": "features/text.npy",
    "pre-trained model": "cpt/model/model.safetensors",
    "fine-tuned model": "finetune/model/model.safetensors",
    "fine-tuning log": "finetune/train_log.jsonl",
    "dense model": "dense/dense.safetensors",
}


def test_nothing_learnt_depends_on_what_comes_after_the_cut_offs(tmp_path: Path) -> None:
    """The temporal protocol end to end: change the later part of the logs and compare what was learnt, bit for bit."""
    config = run_config(tmp_path / "true", write_logs(tmp_path / "true_logs"), protocol="temporal")
    pipeline.run_all(config)
    interactions = pd.read_parquet(tmp_path / "true" / artifacts.INTERACTIONS)
    split = pd.read_parquet(tmp_path / "true" / artifacts.SPLIT)
    times = interactions["timestamp"].groupby(split["part"])
    first, last = times.min(), times.max()
    assert last["train"] < first["valid"] <= last["valid"] < first["test"]
    train = split[split["part"] == "train"]
    data = inputs.read_prepared(tmp_path / "true")
    counts = train["item_id"].value_counts().reindex(data.items["item_id"], fill_value=0)
    assert data.popularity.tolist() == counts.tolist()

    for name, since, same in (
        ("test", int(first["test"]), set(MODELS)),
        ("valid", int(first["valid"]), {"semantic IDs", "features", "pre-trained model"}),
    ):
        other = tmp_path / name
        changed = run_config(other, write_logs(tmp_path / f"{name}_logs", since), protocol="temporal")
        prepare.run(changed)
        assert (other / artifacts.SPLIT).read_bytes() != (tmp_path / "true" / artifacts.SPLIT).read_bytes()
        pipeline.run_tokenize(changed)
        for stage in (cpt, finetune, dense):
            stage.run(changed)
        for what in sorted(same):
            assert (other / MODELS[what]).read_bytes() == (tmp_path / "true" / MODELS[what]).read_bytes(), (name, what)


def test_users_are_asked_with_the_items_before_the_cut_off_as_history(tmp_path: Path) -> None:
    prepare.run(run_config(tmp_path / "run", write_logs(tmp_path), protocol="temporal"))
    interactions = pd.read_parquet(tmp_path / "run" / artifacts.INTERACTIONS)
    part = pd.read_parquet(tmp_path / "run" / artifacts.SPLIT)["part"]
    test_from = interactions["timestamp"][part == "test"].min()
    data = inputs.read_prepared(tmp_path / "run")
    users, histories, _ = data.histories.questions("test")
    for user, history in zip(data.histories.user_ids[users], histories, strict=True):
        mine = interactions[(interactions["user_id"] == user) & (interactions["timestamp"] < test_from)]
        assert data.items["item_id"].to_numpy()[history].tolist() == mine["item_id"].tolist()

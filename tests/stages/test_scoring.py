"""What is asked of the retrievers, read from a run's tables, by hand on a log of a few users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.evaluation.rankings import Recommendations
from plum.run import artifacts
from plum.stages import features, inputs, prepare
from plum.stages.eval import reporting, scoring
from plum.stages.eval.stage import examples

ITEMS = list("abcdefgh")
TITLES = [f"{place} {weather}" for place in ("Coast", "Island") for weather in ("Rain", "Snow", "Storm", "Sun")]
# user, item, time, rating. As numbers the users are in the order 2, 9, 10; as text "10" comes first.
LOG = [
    ("9", "a", 10, 1.0),
    ("10", "c", 10, 2.0),
    ("9", "b", 20, 1.5),
    ("9", "a", 30, 4.5),  # again, rated anew
    ("2", "f", 5, 0.5),
    ("10", "d", 20, 2.5),
    ("10", "e", 20, 3.5),  # the last two at one time
    ("2", "g", 15, 3.0),
    ("2", "h", 25, 5.0),
    ("9", "c", 25, None),
    ("7", "a", 1, 2.0),  # too short to be asked; both at one time
    ("7", "b", 1, 2.0),
]
USERS = "user_id,age,town\n9,30,Ulm\n10,20,Bonn\n99,77,Ulm\n"  # not of user 2; of one without interactions


def config_of(folder: Path, log: Sequence[tuple[Any, ...]] = LOG, users: str | None = None, **split: Any) -> RunConfig:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(log, columns=["user_id", "item_id", "timestamp", "rating"])
    frame.to_csv(folder / "log.csv", index=False)
    pd.DataFrame({"item_id": ITEMS, "title": TITLES}).to_csv(folder / "items.csv", index=False)
    source = {"kind": "logs", "interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    if users:
        (folder / "users.csv").write_text(users)
        source["users"] = str(folder / "users.csv")
    return validate(tiny_run.pipeline(folder / "run", source, **({"ties": "keep"} | split)), "the test")


def prepared(config: RunConfig) -> tuple[RunConfig, inputs.Prepared]:
    prepare.run(config)
    return config, inputs.read_prepared(config.workdir)


def told(config: RunConfig, data: inputs.Prepared, asked: scoring.Asked) -> dict[str, tuple[str, str, list[Any]]]:
    """User -> history, targets and ratings, in the log's names; None for a rating that is not known."""
    named = {
        str(data.histories.user_ids[user]): (
            "".join(data.items["item_id"].iloc[history]),
            "".join(data.items["item_id"].iloc[targets]),
            [None if np.isnan(rating) else float(rating) for rating in ratings],
        )
        for user, history, targets, ratings in zip(
            asked.users, asked.histories, asked.targets, asked.ratings, strict=True
        )
    }
    assert len(named) == len(asked.users)
    return named


def test_ratings_are_those_of_the_targets_under_leave_one_out(tmp_path: Path) -> None:
    config, data = prepared(config_of(tmp_path))
    asked = scoring.read_asked(config, data)
    assert told(config, data, asked) == {
        "10": ("cd", "e", [3.5]),
        "2": ("fg", "h", [5.0]),
        "9": ("abc", "a", [4.5]),  # the second rating of a, not the first
    }
    assert asked.tied is not None
    tied = dict(zip(data.histories.user_ids[asked.users], asked.tied.tolist(), strict=True))
    assert tied == {"10": True, "2": False, "9": False}
    assert asked.features is None


def test_ratings_are_those_of_the_targets_under_the_temporal_protocol(tmp_path: Path) -> None:
    later = [
        ("10", "h", 100, 1.0),
        ("9", "b", 100, None),
        ("9", "g", 101, 2.0),
        ("9", "b", 102, 3.0),  # a target twice, rated the second time alone
        ("new", "a", 103, 4.0),  # no history: not asked
    ]
    # 17 interactions: 5 test from 100 on, 3 validate from 25 on.
    config, data = prepared(config_of(tmp_path, [*LOG, *later], protocol="temporal", valid_share=0.18, test_share=0.3))
    asked = scoring.read_asked(config, data)
    assert told(config, data, asked) == {"10": ("cde", "h", [1.0]), "9": ("abca", "bgb", [None, 2.0, 3.0])}
    assert asked.tied is None
    summary = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY)
    assert reporting._data(summary, 2, None)["users_without_history"] == 1


def test_a_tie_counts_where_it_stands_between_the_last_two(tmp_path: Path) -> None:
    log = [
        ("early", "a", 1, None),
        ("early", "b", 1, None),
        ("early", "c", 2, None),
        ("three", "a", 4, None),
        ("three", "b", 4, None),
        ("three", "c", 4, None),
        ("late", "a", 3, None),
        ("late", "b", 9, None),
        ("late", "c", 9, None),
        ("apart", "a", 3, None),
        ("apart", "b", 5, None),
        ("apart", "c", 9, None),
    ]
    config, data = prepared(config_of(tmp_path, log))
    asked = scoring.read_asked(config, data)
    assert asked.tied is not None
    named = dict(zip(data.histories.user_ids[asked.users], asked.tied.tolist(), strict=True))
    assert named == {"early": False, "late": True, "apart": False, "three": True}
    summary = artifacts.read_json(config.workdir / artifacts.DATA_SUMMARY)
    assert summary["ties"]["users_test_tied"] == sum(named.values())


def test_the_protocol_names_the_seed_by_which_the_split_was_drawn(tmp_path: Path) -> None:
    config, data = prepared(config_of(tmp_path, seed=3))
    now = config.model_copy(update={"seed": 8})
    assert scoring._protocol(now, len(data.items))["split seed"] == 3
    path = config.workdir / "data/manifest.json"
    manifest = artifacts.read_json(path)
    del manifest["config"]["split"]["seed"]  # as earlier versions wrote it, which drew by the run's seed
    artifacts.write_json(path, manifest | {"seed": 5})
    assert scoring._protocol(now, len(data.items))["split seed"] == 5


def test_the_split_that_was_made_decides_not_the_one_that_is_set_now(tmp_path: Path) -> None:
    _, data = prepared(config_of(tmp_path))
    changed = config_of(tmp_path, protocol="temporal")
    assert scoring.read_asked(changed, data).tied is not None


def test_a_source_that_gives_no_times_has_neither_ties_nor_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "amazon-2014").mkdir()
    lines = "".join(f"{user} {user} 2 3 {user + 3}\n" for user in range(1, 12))
    (tmp_path / "amazon-2014/Beauty.txt").write_text(lines)
    (tmp_path / "amazon-2014/Beauty_item2attributes.json").write_text('{"1": [1, 2], "2": [2]}')
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path))
    source = {"kind": "amazon-sequences", "name": "Beauty"}
    config, data = prepared(validate(tiny_run.pipeline(tmp_path / "run", source), "the test"))
    asked = scoring.read_asked(config, data)
    assert len(asked.users) == 11
    assert asked.tied is None
    assert np.isnan(np.concatenate(asked.ratings)).all()
    assert [len(ratings) for ratings in asked.ratings] == [1] * 11
    assert inputs.train_times(config.workdir) is None
    assert scoring._protocol(config, len(data.items))["ties in time"] == "no times"


@pytest.mark.parametrize("ties", ["keep", "shuffle"])
def test_days_beside_sequences_tell_certain_users_from_tied_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ties: str
) -> None:
    """Users with an even number have their last two items on one day."""
    (tmp_path / "amazon-2014").mkdir()
    lines = "".join(f"{user} {user} 20 30 {user + 30}\n" for user in range(1, 12))
    days = "".join(f"{user} 16000 16001 16003 {16004 - (user + 1) % 2}\n" for user in range(1, 12))
    (tmp_path / "amazon-2014/Beauty.txt").write_text(lines)
    (tmp_path / "amazon-2014/Beauty_days.txt").write_text(days)
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path))
    source = {"kind": "amazon-sequences", "name": "Beauty"}
    config, data = prepared(validate(tiny_run.pipeline(tmp_path / "run", source, ties=ties), "the test"))
    asked = scoring.read_asked(config, data)
    names = data.histories.user_ids[asked.users].astype(int)
    assert asked.tied is not None
    assert asked.tied.tolist() == [user % 2 == 0 for user in names]
    targets = np.array([data.items["item_id"][row[0]] for row in asked.targets]).astype(int)
    last = targets == names + 30
    assert last[~asked.tied].all()
    assert last[asked.tied].all() == (ties == "keep")
    found = {one.name: names[one.users] % 2 for one in scoring._slices(asked, data, 5) if "order" in one.group}
    assert {name: set(odd) for name, odd in found.items()} == {"certain": {1}, "decided by a tie": {0}}
    assert scoring._protocol(config, len(data.items))["ties in time"] == ties
    assert inputs.train_times(config.workdir) is not None


def test_what_is_known_of_users_stands_in_the_order_asked(tmp_path: Path) -> None:
    config, data = prepared(config_of(tmp_path, users=USERS))
    asked = scoring.read_asked(config, data)
    assert data.histories.user_ids[asked.users].tolist() == ["10", "2", "9"]
    assert asked.features is not None
    assert asked.features["age"].fillna(-1).tolist() == [20, -1, 30]
    assert asked.features["town"].fillna("?").tolist() == ["Bonn", "?", "Ulm"]
    groups = {found.group for found in scoring._slices(asked, data, 5)}
    assert {"age", "order of the test item", "length of the history", "popularity of the target"} <= groups
    ages = {found.name: found.users.tolist() for found in scoring._slices(asked, data, 5) if found.group == "age"}
    assert ages == {"20": [0], "30": [2], "unknown": [1]}


def test_times_stand_in_the_order_of_the_training_histories(tmp_path: Path) -> None:
    config, data = prepared(config_of(tmp_path))
    rows = np.concatenate(data.histories.train)
    times = inputs.train_times(config.workdir)
    assert times is not None
    # Users in the order of text, each one's but the last two (user 7 has no more than two).
    assert data.histories.user_ids.tolist() == ["10", "2", "7", "9"]
    told = list(zip(data.items["item_id"].iloc[rows], times.tolist(), strict=True))
    assert told == [("c", 10), ("f", 5), ("a", 1), ("b", 1), ("a", 10), ("b", 20)]


def test_times_of_the_temporal_training_part_end_before_validation(tmp_path: Path) -> None:
    split = {"protocol": "temporal", "valid_share": 0.2, "test_share": 0.2}
    config, data = prepared(config_of(tmp_path, **split))
    times = inputs.train_times(config.workdir)
    assert times is not None
    assert len(times) == sum(map(len, data.histories.train))
    known = {(user, item, time) for user, item, time, _ in LOG}
    owners = np.repeat(data.histories.user_ids, [len(history) for history in data.histories.train])
    items = data.items["item_id"].iloc[np.concatenate(data.histories.train)]
    assert set(zip(owners, items, times.tolist(), strict=True)) <= known
    table = artifacts.read_table(config.workdir / artifacts.INTERACTIONS)
    part = artifacts.read_table(config.workdir / artifacts.SPLIT)["part"]
    assert times.max() < table["timestamp"][part == "valid"].min()


@pytest.mark.parametrize(
    ("modalities", "width"),
    [
        ({"text": {"dimensions": 3}, "taken": {"encoder": "cooccurrence", "dimensions": 2}}, 3),
        ({"text": {"dimensions": 3}, "more": {"dimensions": 2}}, 5),
        ({"taken": {"encoder": "cooccurrence", "dimensions": 2}}, None),
    ],
)
def test_content_is_all_but_cooccurrence(tmp_path: Path, modalities: dict[str, Any], width: int | None) -> None:
    values = config_of(tmp_path).model_dump(mode="json")
    values["features"] = {"modalities": modalities}
    config, _ = prepared(validate(values, "the test"))
    features.run(config)
    vectors = inputs.content_vectors(config.workdir)
    if width is None:
        assert vectors is None
        return
    assert vectors is not None
    assert vectors.shape == (len(ITEMS), width)
    text = np.load(config.workdir / "features/text.npy")
    expected = text / np.linalg.norm(text, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, :3], expected, atol=1e-6)


def test_a_validation_sample_is_some_of_the_questions_in_their_order(finished_run: Path) -> None:
    data = inputs.read_prepared(finished_run)
    users, histories, targets = data.histories.questions("valid")
    for limit in (len(users), len(users) + 1):
        found = inputs.validation_sample(data, limit, seed=0)
        assert found[0].tolist() == users.tolist()
    drawn = inputs.validation_sample(data, 20, seed=0)
    places = np.searchsorted(users, drawn[0])
    assert len(drawn[0]) == 20
    assert (np.diff(drawn[0]) > 0).all()
    assert users[places].tolist() == drawn[0].tolist()
    for place, history, target in zip(places, drawn[1], drawn[2], strict=True):
        assert np.array_equal(history, histories[place])
        assert np.array_equal(target, targets[place])
    assert inputs.validation_sample(data, 20, seed=0)[0].tolist() == drawn[0].tolist()
    assert inputs.validation_sample(data, 20, seed=1)[0].tolist() != drawn[0].tolist()


def test_lists_that_are_not_full_are_counted() -> None:
    items = np.array([[3, 1, 2], [4, -1, -1], [-1, -1, -1], [-1, 5, 6], [7, 8, 9]])
    assert scoring.delivered(items) == {"users with fewer than 3 items": 3, "users without any item": 1}
    assert scoring.delivered(items[:1]) == {"users with fewer than 3 items": 0, "users without any item": 0}


def test_examples_tell_items_of_one_title_apart(tmp_path: Path) -> None:
    config, data = prepared(config_of(tmp_path))
    asked = scoring.read_asked(config, data)
    data.items["title"] = ["Coast Rain", None, "Coast Rain", *TITLES[3:]]
    found = Recommendations(np.tile([2, 3], (len(asked.users), 1)), np.ones((len(asked.users), 2), np.float32))
    of_nine = next(one for one in examples({"plum": found}, asked, data, 3) if one["user_id"] == "9")
    assert of_nine["history"] == ["Coast Rain (a)", "b", "Coast Rain (c)"]
    assert of_nine["target"] == "Coast Rain (a)"
    assert of_nine["recommendations"]["plum"] == [
        {"title": "Coast Rain (c)", "hit": False},
        {"title": TITLES[3], "hit": False},
    ]

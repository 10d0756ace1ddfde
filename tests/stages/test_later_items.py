"""Under the temporal protocol nothing is learnt from items that come after the training cut.

Runs whose catalogues differ in these items alone give the known items the same vectors, codes and texts to the byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import later_worlds
import numpy as np
import pandas as pd
import pytest
from later_worlds import CHANGES, LATE, NEVER, config_of, usual
from sealed import seal

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.lm import folders
from plum.run import artifacts
from plum.sid.frozen import load_frozen
from plum.stages import cpt, dense, features, finetune, inputs, prepare, tokenize, trained
from plum.stages import eval as evaluation

MODALITIES: dict[str, dict[str, Any]] = {
    "text": {"dimensions": 8},
    "topics": {"encoder": "topics", "dimensions": 3},
    "price": {"encoder": "numeric", "fields": ["price"]},
    "taken": {"encoder": "cooccurrence", "dimensions": 6},
}
CONTENT = {name: MODALITIES[name] for name in ("text", "topics", "price")}
METHODS: dict[str, dict[str, Any]] = {
    "rqvae-suffix": {},
    "rqvae-sessions-share": {"pairs": "session", "pair_sampling": "pmi", "collision": "share"},
    "rqkmeans-reassign": {"method": "rqkmeans", "collision": "reassign", "capacity": 4},
    "random-suffix": {"method": "random"},
}


def run(config: RunConfig, pretrain: bool = False) -> Path:
    for stage in (prepare, features, tokenize, *([cpt] if pretrain else [])):
        stage.run(config)
    return config.workdir


def known_of(workdir: Path) -> pd.Series:
    table = pd.read_parquet(workdir / "data/known.parquet")
    return table.set_index("item_id")["known"]


def rows_of_known(workdir: Path) -> np.ndarray:
    return np.flatnonzero(known_of(workdir).to_numpy())


def files(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name not in leave_out}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs to the end of pre-training: the usual catalogue, and each change of it."""
    home = tmp_path_factory.mktemp("whole")
    worlds = {"usual": usual()} | {name: change(usual()) for name, change in CHANGES.items()}
    return {name: run(config_of(home / name, world, MODALITIES), True) for name, world in worlds.items()}


def test_known_are_the_items_with_an_interaction_before_the_cut(whole):
    known = known_of(whole["usual"])
    assert sorted(known.index[~known]) == sorted([*LATE, *NEVER])
    split = pd.read_parquet(whole["usual"] / "data/split.parquet")
    assert set(known.index[known]) == set(split["item_id"][split["part"] == "train"])
    counts = json.loads((whole["usual"] / "data/summary.json").read_text())["known_items"]
    assert counts == {"known": 30, "first_later": 6, "never": 2, "later_share": 8 / 38}


@pytest.mark.parametrize("change", CHANGES)
def test_the_changed_catalogue_has_the_same_known_items_and_training_part(whole, change):
    one, other = whole["usual"], whole[change]
    trains = [
        split[split["part"] == "train"]
        for run in (one, other)
        if (split := pd.read_parquet(run / "data/split.parquet")) is not None
    ]
    pd.testing.assert_frame_equal(*(train.reset_index(drop=True) for train in trains))
    known = [known_of(run) for run in (one, other)]
    assert known[0].index[known[0]].equals(known[1].index[known[1]])
    items = [(run / "data/items.parquet").read_bytes() for run in (one, other)]
    assert items[0] != items[1]


@pytest.mark.parametrize("change", CHANGES)
def test_vectors_of_known_items_and_encoders_are_the_same(whole, change):
    one, other = whole["usual"], whole[change]
    assert files(one / "features/encoders") == files(other / "features/encoders")
    for name in MODALITIES:
        vectors = [np.load(run / f"features/{name}.npy")[rows_of_known(run)] for run in (one, other)]
        assert vectors[0].tobytes() == vectors[1].tobytes()
    present = [pd.read_parquet(run / "features/present.parquet").iloc[rows_of_known(run)] for run in (one, other)]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in present))


@pytest.mark.parametrize("change", CHANGES)
def test_codes_of_known_items_and_the_tokenizer_are_the_same(whole, change):
    one, other = whole["usual"], whole[change]
    assert_same_codes(one, other)
    quality = [json.loads((run / "tokenize/quality.json").read_text()) for run in (one, other)]
    for key in ("levels", "uniqueness", "buckets", "reconstruction_by_modality", "neighbour_overlap", "sizes_reason"):
        assert quality[0][key] == quality[1][key]


def assert_same_codes(one: Path, other: Path) -> None:
    varying = ("semantic_ids.parquet", "index.safetensors", "quality.json")  # they hold the later items too
    assert files(one / "tokenize", varying) == files(other / "tokenize", varying)
    codes = [pd.read_parquet(run / "tokenize/semantic_ids.parquet") for run in (one, other)]
    same = [
        table.iloc[rows_of_known(run)].reset_index(drop=True) for table, run in zip(codes, (one, other), strict=True)
    ]
    pd.testing.assert_frame_equal(*same)


@pytest.mark.parametrize("change", CHANGES)
def test_the_pretrained_model_its_vocabulary_and_its_texts_are_the_same(whole, change):
    measured = ("metrics.json", "train_log.jsonl")  # they hold a figure of validation users, whose targets differ
    assert files(whole["usual"] / "cpt", measured) == files(whole[change] / "cpt", measured)
    logs = [artifacts.read_log(whole[name] / "cpt/train_log.jsonl") for name in ("usual", change)]
    learnt, others = ([{**entry, "recall@10": None} for entry in log] for log in logs)
    assert learnt == others
    counts = [json.loads((whole[name] / "cpt/metrics.json").read_text()) for name in ("usual", change)]
    assert counts[0]["tokens"] == counts[1]["tokens"]
    assert counts[0]["learnt"]["losses"] == counts[1]["learnt"]["losses"]


def test_no_word_of_a_later_item_is_learnt(whole):
    words = json.loads((whole["rewritten"] / "features/encoders/text.json").read_text())["words"]
    assert "strange" not in words
    assert "lamp" in words
    topics = json.loads((whole["rewritten"] / "features/encoders/topics.json").read_text())["words"]
    assert sorted(topics) == sorted(later_worlds.TOPICS)
    _, tokenizer = folders.run_model(whole["rewritten"] / "cpt/model")
    assert len(tokenizer("strange words that nobody knows")["input_ids"]) > 20  # no merges of what it never read


@pytest.mark.parametrize("change", CHANGES)
def test_the_comparison_can_fail(whole, change, monkeypatch, tmp_path):
    """Fitted on the whole catalogue, as if all items were known, the runs differ."""
    monkeypatch.setattr(inputs, "read_known", lambda workdir, item_ids: np.ones(len(item_ids), dtype=bool))
    runs = [
        run(config_of(tmp_path / str(n), world, CONTENT)) for n, world in enumerate((usual(), CHANGES[change](usual())))
    ]
    assert files(runs[0] / "features/encoders") != files(runs[1] / "features/encoders")
    codes = [pd.read_parquet(run / "tokenize/semantic_ids.parquet").set_index("item_id") for run in runs]
    assert not codes[0].loc["item0":"item3"].equals(codes[1].loc["item0":"item3"])


@pytest.mark.parametrize("method", list(METHODS)[1:])
@pytest.mark.parametrize("change", CHANGES)
def test_every_method_and_rule_for_collisions_gives_known_items_the_same_codes(tmp_path, method, change):
    settings = METHODS[method]
    worlds = {"usual": usual(), change: CHANGES[change](usual())}
    runs = [run(config_of(tmp_path / name, world, CONTENT, **settings)) for name, world in worlds.items()]
    assert_same_codes(*runs)


@pytest.mark.parametrize("method", METHODS)
def test_later_items_are_candidates_with_the_codes_that_new_items_get(tmp_path, method):
    workdir = run(config_of(tmp_path / "a", usual(), CONTENT, **METHODS[method]))
    table = pd.read_parquet(workdir / "tokenize/semantic_ids.parquet")
    assert table["item_id"].tolist() == usual().items["item_id"].tolist()
    later = np.flatnonzero(~known_of(workdir).to_numpy())
    frozen = load_frozen(workdir / "tokenize")
    vectors = [np.load(workdir / f"features/{modality.name}.npy")[later] for modality in frozen.modalities]
    assigned = frozen.assign(vectors, None, table["item_id"].iloc[later].tolist())
    if METHODS[method].get("collision") != "reassign":
        assert (table[["code_0", "code_1"]].to_numpy()[later] == assigned).all()
    quality = json.loads((workdir / "tokenize/quality.json").read_text())
    assert quality["all_items"]["items"] == 38
    assert quality["all_items"]["later_items"] == 8
    data = inputs.read_prepared(workdir)
    sids = inputs.read_sid_table(workdir, data.items)
    inputs.read_index(workdir, sids)  # leads to every item


def test_default_sizes_follow_the_known_items_alone(tmp_path):
    world = later_worlds.with_more(usual())
    more = later_worlds.items_of([f"idle{n}" for n in range(300)], np.random.default_rng(2))
    world = later_worlds.World(world.log, pd.concat([world.items, more], ignore_index=True))
    config = config_of(tmp_path / "a", world, CONTENT, codebook_sizes=None)
    quality = json.loads((run(config) / "tokenize/quality.json").read_text())
    assert [level["size"] for level in quality["levels"]][:3] == [16, 8, 4]  # those of 30 items; 348 would get 32
    assert "for 30 known items" in quality["sizes_reason"]


def test_more_codes_than_known_items_are_refused(tmp_path):
    config = config_of(tmp_path / "a", usual(), CONTENT, codebook_sizes=[32, 4])
    with pytest.raises(PlumError, match="30 items are too few for 32 codes") as refused:
        run(config)
    assert "8 more items are not known before validation begins" in str(refused.value)
    assert not (config.workdir / "tokenize").exists()


def test_a_modality_that_only_later_items_have_is_refused(tmp_path):
    world = usual()
    later = world.items["item_id"].isin(LATE)
    world = later_worlds.World(world.log, world.items.assign(title=world.items["title"].where(later)))
    config = config_of(tmp_path / "a", world, CONTENT)
    prepare.run(config)
    with pytest.raises(PlumError, match="none of the items that are known before validation begins has title"):
        features.run(config)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"item_id": ["a"], "known": [True]}), "is not of this catalogue"),
        (usual().items[["item_id"]].assign(known=False), "no item is known before validation begins"),
        (usual().items[["item_id"]].assign(known=1), "is not true or false"),
        (usual().items[["item_id"]], "known"),
    ],
)
def test_a_damaged_file_of_known_items_is_refused(tmp_path, table, said):
    config = config_of(tmp_path / "a", usual(), CONTENT)
    prepare.run(config)
    table.to_parquet(config.workdir / "data/known.parquet", index=False)
    seal(config.workdir)
    with pytest.raises(PlumError, match=said):
        features.run(config)


def test_leave_one_out_has_no_such_file_and_learns_from_all_items(tmp_path):
    config = config_of(tmp_path / "a", usual(), CONTENT)
    config = config.model_copy(update={"data": config.data.model_copy(update={"split": type(config.data.split)()})})
    prepare.run(config)
    assert not (config.workdir / "data/known.parquet").exists()
    assert "known_items" not in json.loads((config.workdir / "data/summary.json").read_text())
    assert inputs.read_known(config.workdir, usual().items["item_id"]).all()


def with_one_later(world: later_worlds.World) -> later_worlds.World:
    """One later item takes part wherever any did."""
    return later_worlds.World(world.log.replace({"item_id": dict.fromkeys(LATE, LATE[0])}), world.items)


TAUGHT: dict[str, Any] = {
    "dense": {
        "epochs": 2,
        "hidden_size": 8,
        "layers": 1,
        "negatives": 8,
        "search": {"block": ["pre-norm", "ligr"]},
        "keep_trials": True,
    },
    "lem": {"epochs": 2, "hidden_size": 8, "embedding_size": 12, "layers": 1, "negatives": 8},
}


def built_on_dense(folder: Path, world: later_worlds.World) -> RunConfig:
    """The run of a world with vectors of dense, both baselines trained."""
    values = config_of(folder, world, {**CONTENT, "learnt": {"encoder": "dense"}}).model_dump(mode="json")
    values["finetune"] |= {"teacher_weight": 0.5, "teacher": "trials"}
    config = validate(values | {"eval": values["eval"] | TAUGHT}, "the test")
    prepare.run(config)
    dense.run(config)
    dense.run_lem(config)
    return config


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    home = tmp_path_factory.mktemp("baselines")
    worlds = {name: CHANGES[name](usual()) for name in ("rewritten", "added")}
    worlds |= {"usual": usual(), "one": with_one_later(usual())}
    return {name: built_on_dense(home / name, world) for name, world in worlds.items()}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["rewritten", "added", "one"])
def test_dense_and_lem_are_the_same(baselines, change):
    one, other = baselines["usual"].workdir, baselines[change].workdir
    for kind in ("dense", "lem"):
        assert files(one / kind) == files(other / kind)
    assert len(files(one / "dense")) == 6  # weights of both trials beside the chosen ones
    vectors = [features.run(baselines[name]) / "learnt.npy" for name in ("usual", change)]
    assert np.load(vectors[0]).shape[0] != np.load(vectors[1]).shape[0] or change != "added"
    same = [np.load(path)[rows_of_known(path.parents[1])] for path in vectors]
    assert same[0].tobytes() == same[1].tobytes()


@pytest.mark.slow
def test_the_comparison_of_dense_can_fail(baselines, monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "read_known", lambda workdir, item_ids: np.ones(len(item_ids), dtype=bool))
    weights = [
        files(built_on_dense(tmp_path / name, world).workdir / "dense")["dense.safetensors"]
        for name, world in {"usual": usual(), "added": CHANGES["added"](usual())}.items()
    ]
    assert weights[0] != weights[1]


@pytest.mark.slow
def test_dense_never_recommends_later_items_and_has_the_validated_recall_for_known_ones(baselines):
    config = baselines["usual"]
    catalogue = inputs.read_prepared(config.workdir)
    known = known_of(config.workdir).to_numpy()
    _, histories, _ = catalogue.histories.questions("test")
    assert any((~known[rows]).any() for rows in histories)  # which dense does not read
    for kind in ("dense", "lem"):
        retriever = trained.dense_retriever(config, kind, catalogue.items)
        found = retriever.recommend(histories, 38, None).items
        assert all(set(row[row >= 0]) == set(np.flatnonzero(known)) for row in found)
        _, asked, targets = catalogue.only(known).histories.questions("valid")
        asked, targets = ([np.flatnonzero(known)[rows] for rows in part] for part in (asked, targets))
        recall = inputs.validation_metrics(retriever, asked, targets, True)["recall@10"]
        metrics = json.loads((config.workdir / kind / "metrics.json").read_text())
        assert metrics["valid_recall@10"] == pytest.approx(recall)
    assert trained.mean_of_trials(config, catalogue.items).recommend(histories, 38, None).items.shape[1] == 38


@pytest.mark.slow
def test_a_run_built_on_dense_reaches_its_report(baselines):
    config = baselines["usual"]
    for stage in (features, tokenize, cpt, finetune, evaluation):
        stage.run(config)
    assert "known.parquet" in (config.workdir / "finetune/manifest.json").read_text()
    retrievers = json.loads((config.workdir / "eval/metrics.json").read_text())["retrievers"]
    assert {"lem", "dense", "dense-mean", "plum"} <= set(retrievers)

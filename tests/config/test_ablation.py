"""The YAML of an ablation: what runs it describes, all mistakes at once, and every shipped one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import yaml

from plum.config.ablation import Ablation, read_ablation
from plum.config.file import load_config
from plum.errors import PlumError

SHIPPED = sorted((Path(__file__).parents[2] / "pipelines" / "ablations").glob("*.yaml"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a pipeline in it, tiny.yaml."""
    tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "unused"))
    return tmp_path


def file_of(home: Path, **values: Any) -> Path:
    """An ablation of that pipeline with two variants and two seeds, but for the values given."""
    there: dict[str, Any] = {
        "title": "masking",
        "workdir": str(home / "out"),
        "bases": {"tiny": {"config": "tiny.yaml", "seeds": [0, 3]}},
        "variants": {"with": [], "with out": ["tokenize.progressive_masking=false"]},
    }
    path = home / "ablation.yaml"
    path.write_text(yaml.safe_dump(there | values, sort_keys=False))
    return path


def read(home: Path, **values: Any) -> Ablation:
    return read_ablation(file_of(home, **values))


def refused(home: Path, **values: Any) -> str:
    with pytest.raises(PlumError) as caught:
        read(home, **values)
    assert not (home / "out").exists()
    return str(caught.value)


def test_there_is_a_run_of_every_variant_with_every_seed(home: Path) -> None:
    ablation = read(home)
    assert [run.name for run in ablation.runs] == [
        "tiny/with/seed-0",
        "tiny/with out/seed-0",
        "tiny/with/seed-3",
        "tiny/with out/seed-3",
    ]
    assert [run.config.seed for run in ablation.runs] == [0, 0, 3, 3]
    assert [run.config.tokenize.progressive_masking for run in ablation.runs] == [True, False, True, False]
    assert ablation.runs[3].config.workdir == home / "out/tiny/with-out/seed-3"


def test_a_run_is_an_ordinary_one(home: Path) -> None:
    command = read(home, set=["finetune.epochs=4"]).runs[3].command(force=True)
    assert command == [
        *("run", "--config", str(home / "tiny.yaml")),
        *("--set", "finetune.epochs=4", "--set", "tokenize.progressive_masking=false"),
        *("--workdir", str(home / "out/tiny/with-out/seed-3"), "--seed", "3", "--device", "auto", "--force"),
    ]


def test_later_settings_win(home: Path) -> None:
    keys = ("cpt.epochs", "finetune.epochs", "tokenize.max_steps", "eval.dense.epochs", "eval.lem.epochs")

    def setting(value: int, *places: int) -> list[str]:
        return [f"{keys[place]}={value}" for place in places]

    path = file_of(
        home,
        set=setting(11, 0, 1, 2, 3, 4),
        bases={"tiny": {"config": "tiny.yaml", "set": setting(12, 1, 2, 3, 4), "variants": {"v": setting(15, 4)}}},
        variants={"v": setting(14, 3, 4)},
    )
    config = read_ablation(path, settings=setting(13, 2, 3, 4)).runs[0].config
    assert config.eval.lem is not None
    found = [config.cpt.epochs, config.finetune.epochs, config.tokenize.max_steps]
    assert [*found, config.eval.dense.epochs, config.eval.lem.epochs] == [11, 12, 13, 14, 15]


def test_the_command_line_says_where_which_seeds_and_on_what(home: Path) -> None:
    ablation = read_ablation(file_of(home), workdir=home / "there", device="cpu")
    chosen = ablation.chosen([], [3])
    assert [run.config.seed for run in chosen] == [3, 3]
    with pytest.raises(PlumError, match=r"--seeds 7: no base has this seed\n.*0, 3"):
        ablation.chosen([], [3, 7])
    for run in ablation.runs:  # what the run is told makes the configuration that it is known by
        words = run.command()[1:]
        told = dict(pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != "--set")
        settings = [value for key, value in zip(words[::2], words[1::2], strict=True) if key == "--set"]
        made = load_config(
            Path(told["--config"]),
            settings,
            workdir=Path(told["--workdir"]),
            seed=int(told["--seed"]),
            device=told["--device"],
        )
        assert made == run.config
    assert {run.config.device for run in ablation.runs} == {"cpu"}
    assert all(run.config.workdir.is_relative_to(home / "there") for run in ablation.runs)


def test_without_a_folder_the_file_names_it(home: Path) -> None:
    assert read(home, workdir=None).workdir == Path("runs/ablations/ablation")


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ([], ["a/x", "a/y", "b/x", "b/y"]),
        (["y"], ["a/y", "b/y"]),
        (["b"], ["b/x", "b/y"]),
        (["y", "b"], ["b/y"]),
        (["x", "y"], ["a/x", "a/y", "b/x", "b/y"]),
    ],
)
def test_bases_and_variants_can_be_chosen(home: Path, only: list[str], expected: list[str]) -> None:
    bases = {name: {"config": "tiny.yaml"} for name in "ab"}
    ablation = read(home, bases=bases, variants={"x": [], "y": ["finetune.epochs=1"]})
    assert [run.name.removesuffix("/seed-0") for run in ablation.chosen(only)] == expected


def test_a_seed_that_the_chosen_bases_lack_is_told(home: Path) -> None:
    bases = {"a": {"config": "tiny.yaml", "seeds": [0, 1]}, "b": {"config": "tiny.yaml", "seeds": [0]}}
    ablation = read(home, bases=bases, variants={"x": []})
    assert [run.name for run in ablation.chosen([], [1])] == ["a/x/seed-1"]
    with pytest.raises(PlumError, match=r"--seeds 1: no base has this seed\n.*seeds of b: 0\n"):
        ablation.chosen(["b"], [1])


def test_a_name_that_is_neither_is_told(home: Path) -> None:
    with pytest.raises(PlumError, match="did you mean with out"):
        read(home).chosen(["without"])


def test_all_mistakes_come_at_once_each_one_once(home: Path) -> None:
    message = refused(
        home,
        titel="x",
        set=["cpt.epochs"],
        bases={
            "tiny": {"config": "tiny.yaml", "seed": [1]},
            "gone": {"config": "gone.yaml"},
            "again": {"config": "tiny.yaml", "variants": {"wth": []}},
        },
        variants={"with": ["finetune.epoch=3"], "with out": ["finetune.epochs=0", "seed=1", "eval.retrievers=[lem]"]},
    )
    assert "ablation.yaml: 9 mistakes in the ablation" in message
    told = [line.strip() for line in message.splitlines()[2:-1]]
    for start, end in [
        ("titel: unknown key; did you mean title?", ""),
        ("bases.tiny.seed: unknown key; did you mean seeds?", ""),
        ("bases.again.variants.wth: there is no such variant; did you mean with?", ""),
        ("--set needs key=value: cpt.epochs", "[tiny, again]"),
        (f"no configuration at {home / 'gone.yaml'}", "[gone]"),
        ("finetune.epoch: unknown key; did you mean epochs?", "[tiny/with, again/with]"),
        ("finetune.epochs: Input should be greater than or equal to 1", "[tiny/with out, again/with out]"),
        ("seed=1: the ablation sets this for every run", "[tiny/with out, again/with out]"),
        ("eval: retrievers must name plum", "[tiny/with out, again/with out]"),
    ]:
        assert sum(line.startswith(start) and line.endswith(end) for line in told) == 1, (start, told)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"bases": {"tiny": {"config": "tiny.yaml", "seeds": [0, 0]}}}, "bases.tiny.seeds: a seed is given twice"),
        ({"bases": {"tiny": {"config": "tiny.yaml", "seeds": []}}}, "bases.tiny.seeds: List should have at least 1"),
        ({"bases": {"tiny": {"seeds": [0]}}}, "bases.tiny.config: missing"),
        ({"bases": {"tiny": "tiny.yaml"}}, "bases.tiny: Input should be a valid dictionary"),
        ({"variants": {}}, "variants: Dictionary should have at least 1"),
        ({"variants": {"v": "tokenize.max_steps=1"}}, "variants.v: Input should be a valid list"),
        ({"variants": {"SID v1": [], "sid-v1": []}}, "variants.SID v1: another name makes the same folder, sid-v1"),
        ({"variants": {"++": []}}, "variants.++: a name needs a letter or a digit"),
        ({"variants": {"x": [], "y": ["data.source.n_users=99"]}}, "data: differs from that of x"),
        ({"variants": {"x": [], "y": ["eval.filter_seen=false"]}}, "eval.filter_seen: differs from that of x"),
    ],
)
def test_a_mistake_is_told(home: Path, values: dict[str, Any], told: str) -> None:
    assert told in refused(home, **values)


def test_a_variant_given_twice_is_not_lost_in_silence(home: Path) -> None:
    path = file_of(home)
    path.write_text(path.read_text() + "  with: [finetune.epochs=1]\n")
    with pytest.raises(PlumError, match="'with' is given twice"):
        read_ablation(path)


def test_variants_that_are_the_same_are_told(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(home, variants={"x": [], "y": ["finetune.epochs=2"], "z": ["finetune.epochs=3"]})
    assert [record.message for record in caplog.records] == ["tiny: variants x and y are the same pipeline"]


def test_there_are_shipped_ablations() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_ablation_loads_and_says_what_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ablation = read_ablation(path)
    assert ablation.workdir == Path("runs/ablations") / path.stem
    assert not caplog.records
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for label in ("# What:", "# Data:", "# Command:", "# Hardware:", "# Expected:"):
        assert any(line.startswith(label) for line in header), label


def changed(ours: Any, theirs: Any, key: str = "") -> set[str]:
    """Settings, ``stage.key``, in which two configurations differ; modalities are one setting."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and key != "features.modalities":
        return {
            line
            for name in ours | theirs
            for line in changed(ours.get(name), theirs.get(name), f"{key}.{name}".strip("."))
        }
    return set() if ours == theirs else {key}


def test_the_ablation_of_semantic_ids_takes_away_one_piece_at_a_time() -> None:
    pieces = {
        "minus multi-resolution": {"tokenize.codebook_sizes"},
        "minus multi-modality": {"features.modalities"},
        "minus masking": {"tokenize.progressive_masking"},
        "minus co-occurrence": {"tokenize.contrastive_weight"},
    }
    expected = {"SID-v2": set(), "SID-v1": set().union(*pieces.values())} | pieces
    expected |= {"RQ-KMeans": {"tokenize.method"}, "random": {"tokenize.method"}}
    ablation = read_ablation(next(path for path in SHIPPED if path.name == "sid.yaml"))
    assert list(ablation.variants) == list(expected)
    assert ablation.bases == ("ml-latest-small", "amazon-beauty")
    for base in ablation.bases:
        configs = {
            run.variant: run.config.model_dump(mode="json", exclude={"workdir", "seed"})
            for run in ablation.runs
            if run.base == base
        }
        found = {variant: changed(configs["SID-v2"], config) for variant, config in configs.items()}
        assert found == expected, base
        assert len(configs["SID-v1"]["features"]["modalities"]) == 1
        assert len(set(configs["SID-v1"]["tokenize"]["codebook_sizes"])) == 1

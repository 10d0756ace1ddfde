"""Settings fit the size of the data, and every one has its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up_logs as made
import pytest
import yaml

from plum.config.file import load_config, validate
from plum.recipes import make
from plum.recipes.finding import find
from plum.recipes.recipe import Choice, Machine, choose, warnings
from plum.recipes.sizes import Sizes
from plum.recipes.writing import nested, to_yaml

FEW_LONG = Sizes(
    users=943,
    items=1682,
    interactions=100_000,
    rows=100_000,
    bad_rows=0,
    train=98_114,
    questions=943,
    short_users=0,
    lengths=(65, 310),
    ties=0.76,
    tied_tests=0.44,
    seen_tests=0.0,
    temporal_users=90,
    words=4.0,
    text=("title",),
    topics=1.0,
)
MANY_SHORT = replace(
    FEW_LONG,
    users=22_363,
    items=12_101,
    interactions=198_502,
    train=153_776,
    questions=22_363,
    lengths=(6, 19),
    text=(),
)


def settings(sizes: Sizes, machine: Machine = Machine()) -> dict[str, object]:  # noqa: B008
    return {choice.key: choice.value for choice in choose(sizes, machine).choices}


def test_the_recipes_of_measured_data_are_those_that_were_measured() -> None:
    few, many = settings(FEW_LONG), settings(MANY_SHORT)
    assert few["tokenize.method"] == "rqvae"
    assert few["tokenize.codebook_sizes"] == [256, 128, 64]
    assert (few["finetune.epochs"], few["finetune.batch_size"], few["finetune.max_history"]) == (10, 16, 50)
    assert many["tokenize.method"] == "rqkmeans"
    assert many["tokenize.codebook_sizes"] == [4096, 32]
    assert (many["finetune.epochs"], many["finetune.batch_size"], many["finetune.max_history"]) == (32, 64, 20)
    assert many["cpt.corpus"] == {"behaviour": {"weight": 0.7}, "metadata": {"weight": 0.3}}


def test_codebooks_fit_the_items_that_are_learnt_from() -> None:
    assert settings(replace(FEW_LONG, items=5_000, later=3_318))["tokenize.codebook_sizes"] == [256, 128, 64]
    assert settings(replace(MANY_SHORT, items=90_000, later=77_899))["tokenize.codebook_sizes"] == [4096, 32]


@pytest.mark.parametrize("items", [12, 300, 5_000, 60_000, 2_000_000])
@pytest.mark.parametrize("users", [30, 3_000, 400_000])
@pytest.mark.parametrize("lengths", [(3.0, 6.0), (80.0, 900.0)])
@pytest.mark.parametrize("text", [(), ("title", "description")])
def test_every_size_gives_a_valid_configuration(
    items: int, users: int, lengths: tuple[float, float], text: tuple[str, ...]
) -> None:
    n = int(users * lengths[0])
    sizes = replace(
        FEW_LONG, users=users, items=items, interactions=n, train=n, questions=users, lengths=lengths, text=text
    )
    recipe = choose(sizes, Machine(cores=2, half_gain=1.6))
    source = {"kind": "logs", "interactions": "log.csv"}
    config = validate(nested(recipe.choices) | {"workdir": "x", "data": {"source": source}}, where="test")
    assert config.taught_by_dense == config.codes_of_dense == (items <= 50_000)
    assert config.cpt.precision == "bfloat16"
    assert all(choice.why for choice in recipe.choices)
    assert len(recipe.summary) == 3


def test_little_text_and_too_many_items_for_a_teacher_give_cooccurrence() -> None:
    large = replace(MANY_SHORT, items=500_000, topics=0.0)
    assert "features.modalities.cooccurrence" in settings(large)
    assert "finetune.teacher_weight" not in settings(large)
    assert "features.modalities.cooccurrence" not in settings(replace(large, text=("description",), words=80.0))


def test_repeated_consumption_keeps_seen_items() -> None:
    assert "eval.filter_seen" not in settings(FEW_LONG)
    assert settings(replace(FEW_LONG, seen_tests=0.24))["eval.filter_seen"] is False


def test_what_changes_how_figures_are_read_is_told() -> None:
    assert any("44% of the test users" in told for told in warnings(FEW_LONG))
    assert warnings(replace(FEW_LONG, tied_tests=0.0)) == []
    odd = replace(FEW_LONG, largest_user=(0.33, "0"), odd_times=0.01, short_users=500, bad_rows=7)
    told = " ".join(warnings(odd))
    assert all(part in told for part in ("'0', has 33%", "are they right", "500 of 943 users", "7 of 100,000 rows"))


def test_the_yaml_says_why_beside_each_value_and_reads_back() -> None:
    choices = [
        Choice("title", "A: #1 'log'", ""),
        Choice("data.source.columns.user_id", "User, ID", "its name"),
        Choice("cpt.scratch", {"layers": 2, "sizes": [1, 2]}, "a reason " * 20),
    ]
    text = to_yaml(["What: a test"], choices)
    assert yaml.safe_load(text) == nested(choices)
    assert text.startswith("# What: a test\n")
    assert "# its name" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_written_pipeline_describes_its_log(tmp_path: Path) -> None:
    from plum.recipes.estimate import Estimate
    from plum.stages.prepare import load

    log = made.write(tmp_path / "events.tsv", made.log(("uid", "sku", "ts")))
    data = make.read(find(log, made.write(tmp_path / "products.csv", made.items("sku"))))
    recipe = choose(data.measured.sizes, Machine())
    choices = make.configuration(data, recipe, "events", tmp_path / "run")
    make.write(tmp_path / "p.yaml", choices, data, Estimate({"cpt": 2.0}, 1024.0, {}))
    config = load_config(tmp_path / "p.yaml")
    tables = load(config.data)
    assert len(tables.interactions) == made.USERS * 8
    assert tables.items["title"].iloc[0].startswith("Brown shoe")
    assert tables.items["topics"].iloc[0] == ["shoes", "sandals", "c0"]
    assert config.workdir == tmp_path / "run"


def test_items_that_the_table_lacks_are_allowed_for_up_to_a_tenth(tmp_path: Path) -> None:
    log = made.write(tmp_path / "log.csv", made.log())
    few = made.write(tmp_path / "most.csv", made.items().iloc[3:])
    data = make.read(find(log, few))
    choices = make.configuration(data, choose(data.measured.sizes, Machine()), "", Path())
    chosen = {choice.key: choice.value for choice in choices}
    share = data.measured.sizes.bad_rows / data.measured.sizes.rows
    assert share < chosen["data.max_bad_share"] <= 0.1
    half = made.write(tmp_path / "half.csv", made.items().iloc[: made.ITEMS // 2])
    with pytest.raises(make.PlumError, match="leave --items out"):
        make.read(find(log, half))

"""A log and a catalogue under the temporal protocol, and other catalogues that differ in later items alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig

WORDS = ("red", "blue", "small", "large", "old", "new", "paper", "glass", "wooden", "lamp", "chair", "table", "box")
TOPICS = ("home", "work", "play", "food")
LATE = tuple(f"late{number}" for number in range(6))
"""Items that occur after the training cut only."""
NEVER = ("never0", "never1")


class World(NamedTuple):
    """A log in order of time, its last 40% after the training cut, and its items."""

    log: pd.DataFrame
    items: pd.DataFrame


def usual() -> World:
    rng = np.random.default_rng(0)
    known = [f"item{number}" for number in range(30)]
    users = np.tile([f"user{number}" for number in range(20)], 20)
    item = rng.permuted(np.tile(known, (20, 1)), axis=1)[:, :20].T.reshape(-1)  # no user has an item twice
    log = pd.DataFrame({"user_id": users, "item_id": item, "timestamp": 1_000_000_000 + 60 * np.arange(400)})
    late = np.arange(250, 400, 5)  # training ends at row 240
    log.loc[late, "item_id"] = np.resize(LATE, len(late))
    return World(log, items_of([*known[:20], *LATE, *known[20:], *NEVER], rng))


def items_of(ids: list[str], rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": ids,
            "title": [" ".join(rng.choice(WORDS, 4)) for _ in ids],
            "topics": ["|".join(rng.choice(TOPICS, 2, replace=False)) for _ in ids],
            "price": rng.integers(1, 100, len(ids)),
        }
    )


def with_other_texts(world: World) -> World:
    """Later items have other words, topics and prices, that no known item has; some have nothing."""
    items = world.items.astype({"price": "Int64"})
    later = items["item_id"].isin([*LATE, *NEVER])
    items.loc[later, "title"] = "strange words that nobody knows nobody knows"
    items.loc[later, "topics"] = "unheard|of"
    items.loc[later, "price"] = 10**6
    items.loc[items["item_id"] == LATE[0], ["title", "topics", "price"]] = [None, None, None]
    return World(world.log, items)


def without_later(world: World) -> World:
    """No later items: what they took part in is with known ones."""
    late = world.log["item_id"].isin(LATE)
    log = world.log.assign(item_id=world.log["item_id"].where(~late, "item3"))
    return World(log, world.items[~world.items["item_id"].isin([*LATE, *NEVER])])


def with_more(world: World) -> World:
    """Further later items, at the front of the catalogue, in place of known ones of the test part."""
    ids = [f"more{number}" for number in range(9)]
    rows = np.arange(361, 400, 5)
    item = world.log["item_id"].to_numpy(dtype=object).copy()
    item[rows] = np.resize(ids, len(rows))
    more = items_of([*ids, "idle"], np.random.default_rng(1)).assign(title="new words for new lamp")
    return World(world.log.assign(item_id=item), pd.concat([more, world.items], ignore_index=True))


CHANGES: dict[str, Callable[[World], World]] = {
    "rewritten": with_other_texts,
    "removed": without_later,
    "added": with_more,
}


def config_of(folder: Path, world: World, modalities: dict[str, Any], **tokenize: Any) -> RunConfig:
    """A tiny pipeline on the world, whose files are written into the new ``folder``."""
    folder.mkdir(parents=True)
    world.log.to_csv(folder / "log.csv", index=False)
    world.items.to_csv(folder / "items.csv", index=False)
    source = {"kind": "logs", "interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    split = {"protocol": "temporal", "valid_share": 0.2, "test_share": 0.2, "ties": "keep"}
    values = tiny_run.pipeline(folder / "run", source, **split)
    values["features"]["modalities"] = modalities
    values["tokenize"] |= {"codebook_sizes": [6, 4], **tokenize}
    values["cpt"]["scratch"]["text_vocabulary"] = 320
    return validate(values, "the test")

"""Small logs as shops have them, with columns called in many ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

START = 1_600_000_000
USERS, ITEMS = 40, 60


NAMES = ("user_id", "item_id", "timestamp")


def log(names: Sequence[str] = NAMES, per_user: int = 8, users: int = USERS) -> pd.DataFrame:
    """Interactions: user, item, seconds; ``per_user`` of each user."""
    rng = random.Random(0)
    rows = [
        (f"u{user}", rng.randrange(ITEMS), START + 86_400 * place + user)
        for user in range(users)
        for place in range(per_user)
    ]
    return pd.DataFrame(rows, columns=list(names))


def items(id_name: str = "item_id") -> pd.DataFrame:
    """Titles, categories separated by semicolons, and prices."""
    return pd.DataFrame(
        {
            id_name: range(ITEMS),
            "name": [f"Brown shoe of kind {item % 7} and size {item}" for item in range(ITEMS)],
            "categories": [f"shoes; {'boots' if item % 2 else 'sandals'}; c{item % 3}" for item in range(ITEMS)],
            "price": [10.5 + item for item in range(ITEMS)],
        }
    )


def write(path: Path, table: pd.DataFrame, separator: str = ",") -> Path:
    """Write a table as the suffix says."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else separator)
    return path

"""RecTools' own SASRec or eSASRec on the split of a run, as an outside check of the dense baseline.

    pip install "rectools[torch]==0.19.0" "pyarrow<21"   (in an environment of its own: it needs numpy 1 on Python 3.11)
    python benchmarks/rectools_sasrec.py RUN [--json] [--model sasrec] [--epochs 30] [--minutes 30] [--output LISTS]

RUN has a data/ folder (`plum data prepare --config ...`), split leave-one-out. RecTools trains on the training part,
keeps the weights of the best validation loss, and recommends to the test users from training and validation items,
without those that they had. The defaults are RecTools' own settings for Beauty but for the epochs: one block, 256 wide,
one head, dropout .2, 50 items, softmax over 256 uniform negatives (20 CPU minutes an epoch; --negatives 0 --length 20
--width 128 takes one or two). The lists go to a file that `plum compare --lists` reads; the command for it is printed.
plum itself is not needed here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

K = 50
"""Places of a list in the file."""
MISSING = (
    "rectools is not installed: pip install 'rectools[torch]==0.19.0' 'pyarrow<21', in an environment of its own "
    "(on Python 3.11 it needs numpy below 2, which plum's pinned versions are not)"
)


def read_split(run: Path) -> pd.DataFrame:
    """The interactions of a run: user_id, item_id, position, part.

    Raises:
        SystemExit: if there is no split, or a user has several validation or test items.
    """
    path = run / "data" / "split.parquet"
    if not path.is_file():
        raise SystemExit(f"{path} is missing: run `plum data prepare --config ... --workdir {run}` first")
    split = pd.read_parquet(path, columns=["user_id", "item_id", "position", "part"])
    asked = split[split["part"] != "train"]
    if asked.duplicated(["user_id", "part"]).any():
        raise SystemExit(f"{path} gives users several validation or test items: this benchmark needs leave-one-out")
    return split.sort_values(["user_id", "position"], ignore_index=True)


def known_interactions(split: pd.DataFrame) -> pd.DataFrame:
    """What RecTools may see, in its columns: training and validation; positions become days in order."""
    seen = split[split["part"] != "test"]
    return pd.DataFrame(
        {
            "user_id": seen["user_id"].astype(object),
            "item_id": seen["item_id"].astype(object),
            "weight": 1.0,
            "datetime": pd.Timestamp("2000-01-01") + pd.to_timedelta(seen["position"], unit="D"),
            "part": seen["part"].astype(object),
        }
    )


def trained_and_listed(split: pd.DataFrame, options: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Any]]:
    """RecTools' lists for the test users (user_id, item_id, rank), and facts about the training."""
    try:
        from pytorch_lightning import Trainer, seed_everything
        from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
        from rectools.dataset import Dataset
        from rectools.models import SASRecModel
        from rectools.models.nn.transformers.ligr import LiGRLayers
    except ImportError:
        raise SystemExit(MISSING) from None
    seed_everything(options.seed)
    known = known_interactions(split)
    validation = set(zip(*known.loc[known["part"] == "valid", ["user_id", "datetime"]].to_numpy().T, strict=True))

    def of_validation(rows: pd.DataFrame) -> np.ndarray:
        return np.array([key in validation for key in zip(rows["user_id"], rows["datetime"], strict=True)], dtype=bool)

    with tempfile.TemporaryDirectory() as folder:

        def trainer() -> Trainer:
            best = ModelCheckpoint(folder, "best", monitor="val_loss", save_weights_only=True)
            return Trainer(
                max_epochs=options.epochs,
                max_time={"minutes": options.minutes},
                callbacks=[best, EarlyStopping("val_loss", patience=options.patience)],
                logger=False,
                enable_progress_bar=False,
            )

        layers = {} if options.model == "sasrec" else {"transformer_layers_type": LiGRLayers}
        model = SASRecModel(
            n_blocks=options.blocks,
            n_heads=options.heads,
            n_factors=options.width,
            dropout_rate=options.dropout,
            session_max_len=options.length,
            loss="sampled_softmax" if options.negatives else "softmax",
            n_negatives=options.negatives or 1,
            lr=options.rate,
            batch_size=options.batch,
            get_val_mask_func=of_validation,
            get_trainer_func=trainer,
            **layers,
        )
        dataset = Dataset.construct(known.drop(columns="part"))
        began = time.process_time()
        model.fit(dataset)
        best = model.fit_trainer.checkpoint_callback  # of the trainer's copy that RecTools uses
        facts = {
            "train_cpu_s": round(time.process_time() - began, 1),
            "epochs": model.fit_trainer.current_epoch,
            "best_val_loss": float(best.best_model_score) if best.best_model_score is not None else None,
        }
        if best.best_model_path:
            model.load_weights_from_checkpoint(best.best_model_path)
    users = split.loc[split["part"] == "test", "user_id"].unique()
    lists = model.recommend(users, dataset, K, filter_viewed=True, on_unsupported_targets="warn")
    return lists[["user_id", "item_id", "rank"]], facts


def figures(lists: pd.DataFrame, split: pd.DataFrame) -> dict[str, float]:
    """Recall@10 and NDCG@10 of all test users, and of those whose test item RecTools can know: see ``dense_recipe``."""
    tests = split[split["part"] == "test"][["user_id", "item_id"]].astype(object)
    found = tests.merge(lists[lists["rank"] <= 10], how="left", on=["user_id", "item_id"])
    gain = (1 / np.log2(1 + found["rank"])).fillna(0.0).to_numpy()
    groups = {"all": np.ones(len(found), dtype=bool)}
    for name, parts in {"item known": ("train", "valid"), "item in training": ("train",)}.items():
        groups[name] = found["item_id"].isin(split.loc[split["part"].isin(parts), "item_id"]).to_numpy()
    result: dict[str, float] = {}
    for name, users in groups.items():
        result |= {
            f"users, {name}": int(users.sum()),
            f"recall@10, {name}": float((gain[users] > 0).mean()),
            f"ndcg@10, {name}": float(gain[users].mean()),
        }
    return result


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--model", choices=["sasrec", "esasrec"], default="sasrec", help="esasrec has LiGR blocks")
    parser.add_argument("--epochs", type=int, default=30, help="at most")
    parser.add_argument("--minutes", type=int, default=30, help="of training, at most")
    parser.add_argument(
        "--patience", type=int, default=10, help="epochs without a lower validation loss before it stops"
    )
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--length", type=int, default=50, help="most recent items of a history")
    parser.add_argument("--negatives", type=int, default=256, help="uniform ones of a position; 0 for the full softmax")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="the file of the lists; by default RUN/rectools-MODEL.parquet")
    return parser.parse_args(arguments)


def main() -> None:
    """Parse the options, train, write the lists, print."""
    options = options_of(sys.argv[1:])
    split = read_split(options.run)
    lists, facts = trained_and_listed(split, options)
    output = options.output or options.run / f"rectools-{options.model}.parquet"
    lists.to_parquet(output, index=False)
    command = f"plum compare {options.run} --lists rectools={output} --reference dense"
    found = {"model": options.model, **facts, **figures(lists, split), "lists": str(output), "compare": command}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        "\n".join(
            f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}" for name, value in found.items()
        )
    )


if __name__ == "__main__":
    main()

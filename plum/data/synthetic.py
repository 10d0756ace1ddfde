"""Synthetic interaction logs with a planted truth; ``plum.retrievers.optimum`` is the best ranking under it.

The process. A user has a hidden topic z_t: z_1 comes from a prior, then a sticky Markov chain moves it before every
further item. The item at step t comes from

    e(j | z, prev, seen) = base(j | z, prev) * 1[j not seen] / Z(z, prev, seen),
    base(j | z, prev)    = lambda * S(j | prev) + (1 - lambda) * W(j | z),

where S gives each item a handful of successors, W each topic its items with Zipf-like weights, and Z sums the
numerator. The first item has no predecessor: base(j | z) = W(j | z). No user has an item twice. Both parts are
needed to predict well: S depends on the last item only, z must be inferred from the whole history.

The truth is a dict of float64 and int64 arrays for safetensors. Item axes are in the order of the items table:

    topic_prior (Z,), transition (Z, Z), item_weights (Z, N)    P(z_1), P(z_{t+1} | z_t), W
    successor_items, successor_weights (N, R)                   S; padded with -1 and 0
    successor_share (1,)                                        lambda
    item_topic, item_second_topic, item_cold (N,)               for analysis; -1 for no second topic, 1 for cold

Further letters: Z topics, R successors of one item, T steps of the longest history.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from plum.data.synthetic_world import (
    TOPIC_WORDS,
    Catalogue,
    add_successors,
    draw_catalogue,
    item_table,
    plant_truth,
    topic_chain,
)
from plum.data.tables import RawTables
from plum.errors import PlumError

log = logging.getLogger(__name__)

USERS_PER_BLOCK = 256  # users sampled at once: bounds memory to this times n_items
EPOCH = 1_577_836_800  # 2020-01-01 00:00 UTC
START_WINDOW_S = 300 * 86_400  # users start within 300 days of each other
MEAN_GAP_S = 2 * 86_400  # between two interactions of a user


def generate(
    n_users: int = 2_000,
    n_items: int = 300,
    seed: int = 0,
    *,
    n_topics: int = 12,
    mean_length: float = 30.0,
    min_length: int = 5,
    stay: float = 0.93,
    successor_share: float = 0.35,
    n_successors: int = 4,
    zipf: float = 1.1,
    second_topic_share: float = 0.2,
    cold_share: float = 0.1,
    tie_share: float = 0.0,
) -> RawTables:
    """Draw a catalogue and the histories of its users.

    The planted truth depends only on the seed and the settings of items and topics, not on the number of users.

    Args:
        n_users: users.
        n_items: items of the catalogue.
        seed: same seed and settings, same tables.
        n_topics: 1 to ``len(TOPIC_WORDS)``.
        mean_length: mean interactions of a user, log-normal above ``min_length``; no one has over half the catalogue.
        min_length: fewest interactions of a user.
        stay: probability that the hidden topic stays from one interaction to the next.
        successor_share: lambda, the weight of the successors of the last item.
        n_successors: successors of each item.
        zipf: exponent of the popularity weights within a topic; 0 makes all alike.
        second_topic_share: share of items with two topics.
        cold_share: share of items with hardly any interactions.
        tie_share: share of interactions with the timestamp of the user's one before; 0 makes timestamps of a user
            strictly increasing.

    Returns:
        RawTables with a ``truth`` as described at the top of this module.

    Raises:
        PlumError: if a setting is out of range; it lists all that are.
    """
    _check_settings(
        {"n_users": n_users, "n_items": n_items, "n_topics": n_topics, "min_length": min_length},
        {"mean_length": mean_length, "zipf": zipf, "n_successors": n_successors},
        {"stay": stay, "successor_share": successor_share, "second_topic_share": second_topic_share},
        {"cold_share": cold_share, "tie_share": tie_share},
    )
    # Separate random streams: changing the users does not change the world.
    world_rng, text_rng, user_rng, time_rng = np.random.default_rng(seed).spawn(4)
    transition, neighbours = topic_chain(n_topics, stay, world_rng)
    catalogue = draw_catalogue(n_items, neighbours, second_topic_share, cold_share, world_rng)
    truth = plant_truth(catalogue, transition, zipf, n_successors, successor_share, world_rng)
    items = item_table(catalogue, text_rng)
    lengths = _lengths(n_users, mean_length, min_length, n_items // 2, user_rng)
    drawn, hidden = _sample_histories(truth, lengths, user_rng)
    interactions = _interaction_table(catalogue, items, lengths, drawn, hidden, tie_share, time_rng)
    log.info("synthetic data: %d users, %d items, %d interactions", n_users, n_items, len(interactions))
    return RawTables(interactions=interactions, items=items, n_rows=len(interactions), truth=truth)


def _check_settings(
    counts: dict[str, int], sizes: dict[str, float], process: dict[str, float], extras: dict[str, float]
) -> None:
    """Refuse settings out of range, all at once; ``process`` and ``extras`` are shares."""
    wrong = [f"{name}={value} is below 1" for name, value in counts.items() if value < 1]
    wrong += [f"{name}={value} is below 0" for name, value in sizes.items() if value < 0]
    wrong += [
        f"{name}={value} is not within 0 and 1" for name, value in {**process, **extras}.items() if not 0 <= value <= 1
    ]
    if process["successor_share"] == 1:
        wrong.append("successor_share=1 leaves no item to draw once all successors are seen")
    if counts["n_topics"] > len(TOPIC_WORDS):
        wrong.append(f"n_topics={counts['n_topics']}, but there are words for {len(TOPIC_WORDS)}")
    if counts["n_items"] < 2 * counts["n_topics"]:
        wrong.append(f"n_items={counts['n_items']} gives some of {counts['n_topics']} topics fewer than 2 items")
    if counts["n_items"] < 2 * counts["min_length"]:
        wrong.append(f"min_length={counts['min_length']} is over half of n_items={counts['n_items']}")
    if sizes["mean_length"] < counts["min_length"]:
        wrong.append(f"mean_length={sizes['mean_length']} is below min_length={counts['min_length']}")
    if wrong:
        raise PlumError("the settings of the synthetic data are invalid", "; ".join(wrong), "change these settings")


def _lengths(n_users: int, mean: float, low: int, high: int, rng: np.random.Generator) -> np.ndarray:
    """(U,) interactions of each user: ``low`` plus a log-normal of the remaining mean, at most ``high``."""
    sigma = 0.6
    extra = (mean - low) * rng.lognormal(-(sigma**2) / 2, sigma, size=n_users)
    return np.minimum(low + np.rint(extra).astype(np.int64), high)


def _sample_histories(
    truth: dict[str, np.ndarray], lengths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Run the process: item rows and hidden topics, each (sum of lengths,), user after user."""
    drawn, hidden = [], []
    for start in range(0, len(lengths), USERS_PER_BLOCK):
        block = lengths[start : start + USERS_PER_BLOCK]
        items, topics = _sample_block(truth, block, rng)
        kept = np.arange(items.shape[1]) < block[:, None]
        drawn.append(items[kept])
        hidden.append(topics[kept])
    return np.concatenate(drawn), np.concatenate(hidden)


def _sample_block(
    truth: dict[str, np.ndarray], lengths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Histories of a few users: (B, T) items and topics, meaningless from a user's length on."""
    n_block, n_steps = len(lengths), int(lengths.max())
    weights, share = truth["item_weights"], float(truth["successor_share"][0])
    items = np.zeros((n_block, n_steps), dtype=np.int64)
    topics = np.zeros((n_block, n_steps), dtype=np.int64)
    unseen = np.ones((n_block, weights.shape[1]))
    for step in range(n_steps):
        live = np.flatnonzero(lengths > step)
        if step == 0:
            z = _draw(np.tile(truth["topic_prior"], (len(live), 1)), rng)
            base = weights[z]
        else:
            previous = items[live, step - 1]
            z = _draw(truth["transition"][topics[live, step - 1]], rng)
            base = (1 - share) * weights[z]
            add_successors(base, truth, previous, np.full(len(live), share))
        picked = _draw(base * unseen[live], rng)
        items[live, step], topics[live, step] = picked, z
        unseen[live, picked] = 0.0
    return items, topics


def _draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column per row of non-negative ``weights`` (B, N), never one of weight zero: (B,)."""
    cumulative = np.cumsum(weights, axis=1)
    total = cumulative[:, -1]
    # Rounding could lift u * total to total itself, which would point past the last column.
    point = np.minimum(rng.random(len(weights)) * total, np.nextafter(total, 0.0))
    return (cumulative <= point[:, None]).sum(axis=1)


def _interaction_table(
    catalogue: Catalogue,
    items: pd.DataFrame,
    lengths: np.ndarray,
    drawn: np.ndarray,
    hidden: np.ndarray,
    tie_share: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Interactions with ratings and times, user after user, each in time order."""
    users = np.repeat(np.arange(len(lengths)), lengths)
    width = max(5, len(str(len(lengths) - 1)))
    user_ids = np.array([f"u{user:0{width}d}" for user in range(len(lengths))], dtype=object)
    quality = rng.normal(0.0, 0.4, size=len(items))
    match = np.where(catalogue.topic[drawn] == hidden, 4.2, np.where(catalogue.second[drawn] == hidden, 3.8, 2.8))
    rating = np.clip(np.rint(match + quality[drawn] + rng.normal(0.0, 0.7, size=len(drawn))), 1, 5)
    gaps = 1 + rng.exponential(MEAN_GAP_S, size=len(drawn)).astype(np.int64)
    gaps[rng.random(len(drawn)) < tie_share] = 0
    first = np.cumsum(lengths) - lengths
    gaps[first] = EPOCH + rng.integers(START_WINDOW_S, size=len(lengths))
    running = np.cumsum(gaps)
    timestamp = running - np.repeat(running[first] - gaps[first], lengths)
    return pd.DataFrame(
        {
            "user_id": user_ids[users],
            "item_id": items["item_id"].to_numpy()[drawn],
            "timestamp": timestamp.astype(np.int64),
            "rating": rating.astype(np.float32),
            "reward": np.ones(len(drawn), dtype=np.float32),
        }
    )

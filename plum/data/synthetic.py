"""Synthetic interaction logs with a planted truth, and the exact optimum that no retriever can beat.

The process. A user has a hidden topic z_t: z_1 comes from a prior, then a sticky Markov chain moves it before every
further item. The item at step t comes from

    e(j | z, prev, seen) = base(j | z, prev) * 1[j not seen] / Z(z, prev, seen),
    base(j | z, prev)    = lambda * S(j | prev) + (1 - lambda) * W(j | z),

where S gives each item a handful of successors, W each topic its items with Zipf-like weights, and Z sums the
numerator. The first item has no predecessor: base(j | z) = W(j | z). No user has an item twice. Both parts are
needed to predict well: S is read off the last item, z only from the whole history.

The truth is a dict of float64 and int64 arrays, fit for safetensors. Item axes are in the order of the items table:

    topic_prior (Z,), transition (Z, Z), item_weights (Z, N)    P(z_1), P(z_{t+1} | z_t), W
    successor_items, successor_weights (N, R)                   S; padded with -1 and 0
    successor_share (1,)                                        lambda
    item_topic, item_second_topic, item_cold (N,)               for analysis; -1 for no second topic, 1 for cold

Letters beside those of the package: Z topics, R successors of one item, T steps of the longest history.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plum.data.tables import RawTables
from plum.errors import PlumError
from plum.retrieval.interface import Recommendations, top_k

log = logging.getLogger(__name__)

# Each topic has its own words; no word stands in two lists, so text tells topics apart.
TOPIC_WORDS: dict[str, str] = {
    "cooking": "skillet simmer pepper dough roast basil broth oven garlic pastry marinade saucepan whisk crust savory "
    "noodle stew caramel",
    "astronomy": "comet nebula orbit telescope galaxy eclipse lunar quasar meteor starlight asteroid cosmic supernova "
    "saturn observatory twilight pulsar zenith",
    "gardening": "compost seedling trellis tulip pruning greenhouse mulch orchard lavender topsoil hedge blossom "
    "perennial watering herb fern bulb shovel",
    "sailing": "rudder harbor mast regatta spinnaker anchor tide keel lighthouse rigging voyage dinghy starboard knot "
    "lagoon mooring gale captain",
    "jazz": "saxophone swing trumpet bebop quartet improvised chord ballad syncopated bassline vinyl nightclub "
    "melody blue ragtime drummer groove encore",
    "football": "striker goalkeeper penalty derby midfield stadium header kickoff league dribble offside referee "
    "winger tackle champion corner defender trophy",
    "history": "empire dynasty medieval castle revolution archive treaty pharaoh monarch siege ancient chronicle "
    "crusade parchment republic legion throne relic",
    "travel": "passport backpack itinerary hostel island airport souvenir caravan mountain detour border village "
    "postcard monsoon bazaar frontier suitcase wander",
    "painting": "canvas easel watercolor fresco palette portrait brushstroke charcoal mural pigment gallery sketch "
    "turpentine landscape gouache varnish hue impasto",
    "coding": "compiler python recursion debugger database kernel algorithm terminal refactor pointer server query "
    "bytecode syntax variable framework cache deploy",
    "wildlife": "panther savanna falcon migration predator jungle otter elephant wetland burrow antelope rhino "
    "coral feather gorilla wolf safari den",
    "fitness": "barbell sprint cardio stretching pushup treadmill kettlebell endurance yoga squat plank dumbbell "
    "stamina workout pilates burpee muscle cooldown",
    "railways": "locomotive platform signal freight carriage tunnel steam viaduct sleeper boiler junction timetable "
    "tramway conductor narrowgauge depot coupling railcar",
    "photography": "aperture shutter lens tripod exposure darkroom flash macro negative bokeh filter viewfinder "
    "contrast panorama silhouette portraiture telephoto focus",
    "mystery": "detective alibi clue suspect ransom midnight forgery witness poison vanished cipher manor inspector "
    "motive footprint fugitive verdict shadow",
    "weather": "thunder blizzard barometer cyclone forecast drizzle humidity frost hail tornado cloudburst heatwave "
    "isobar downpour gust overcast rainfall sleet",
}
FIRST_NAMES = (
    "Ada Amir Beatriz Bruno Chen Clara Dmitri Elena Farid Freya Gita Hugo Ines Ivan Jun Kofi "
    "Lena Luca Maya Milan Nadia Nils Olga Omar Paula Quinn Rosa Samir Tara Viktor Wanda Yusuf"
)
LAST_NAMES = (
    "Abara Berg Castell Dahl Eriksen Farrow Grant Hale Ibarra Jansen Kimura Lund Marek Novak Okafor Petrov "
    "Quist Rossi Sato Tanaka Ueda Varga Weiss Yilmaz Zeller Ashby Brandt Corbin Delgado Engel Fox Garnier"
)

TRUTH_KEYS = (
    "topic_prior",
    "transition",
    "item_weights",
    "successor_items",
    "successor_weights",
    "successor_share",
)

ITEMS_PER_CREATOR = 6
N_NEIGHBOURS = 3  # topics a topic mostly moves to
NEIGHBOUR_ODDS = (0.5, 0.3, 0.15)  # the rest of the moves, 0.05, goes anywhere
SECOND_TOPIC_ODDS = 0.5  # weight of an item in its second topic, relative to its main one
COLD_ODDS = 0.03  # weight of a cold item, relative to the mean warm item of its topic
STRAY_SHARE = 0.02  # share of W spread over items of all topics: no topic is ever ruled out
USERS_PER_BLOCK = 256  # users sampled at once: bounds memory to this times n_items
EPOCH = 1_577_836_800  # 2020-01-01 00:00 UTC
START_WINDOW_S = 300 * 86_400  # users start within 300 days of each other
MEAN_GAP_S = 2 * 86_400  # between two interactions of a user


@dataclass(frozen=True)
class _Catalogue:
    """What items are, in the order of the items table.

    Attributes:
        topic: (N,) main topic.
        second: (N,) second topic, -1 where there is none.
        creator: (N,) number of the creator; a creator keeps to one topic.
        cold: (N,) bool.
    """

    topic: np.ndarray
    second: np.ndarray
    creator: np.ndarray
    cold: np.ndarray


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

    The planted truth depends on the seed and on the settings of items and topics alone: more users of the same seed
    live in the same world.

    Args:
        n_users: users.
        n_items: items of the catalogue.
        seed: same seed and settings, same tables.
        n_topics: 1 to ``len(TOPIC_WORDS)``.
        mean_length: mean interactions of a user, log-normal above ``min_length``; no one has over half the catalogue.
        min_length: interactions that every user has at least.
        stay: chance that the hidden topic stays from one interaction to the next.
        successor_share: lambda, the weight of the successors of the last item.
        n_successors: successors of each item.
        zipf: exponent of the popularity weights within a topic; 0 makes all alike.
        second_topic_share: share of items with two topics.
        cold_share: share of items with hardly any interactions.
        tie_share: share of interactions with the timestamp of the user's one before; 0 makes timestamps of a user
            strictly increasing.

    Returns:
        RawTables with a ``truth`` as told at the top of this module.

    Raises:
        PlumError: if a setting is out of range; it lists all that are.
    """
    _check_settings(
        {"n_users": n_users, "n_items": n_items, "n_topics": n_topics, "min_length": min_length},
        {"mean_length": mean_length, "zipf": zipf, "n_successors": n_successors},
        {"stay": stay, "successor_share": successor_share, "second_topic_share": second_topic_share},
        {"cold_share": cold_share, "tie_share": tie_share},
    )
    # One stream for each concern: changing the users leaves the world as it is.
    world_rng, text_rng, user_rng, time_rng = np.random.default_rng(seed).spawn(4)
    transition, neighbours = _transition(n_topics, stay, world_rng)
    catalogue = _catalogue(n_items, neighbours, second_topic_share, cold_share, world_rng)
    truth = _truth(catalogue, transition, zipf, n_successors, successor_share, world_rng)
    items = _item_table(catalogue, text_rng)
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
        wrong.append("successor_share=1 leaves nothing to draw once all successors are seen")
    if counts["n_topics"] > len(TOPIC_WORDS):
        wrong.append(f"n_topics={counts['n_topics']}, but there are words for {len(TOPIC_WORDS)}")
    if counts["n_items"] < 2 * counts["n_topics"]:
        wrong.append(f"n_items={counts['n_items']} gives some of {counts['n_topics']} topics fewer than 2 items")
    if counts["n_items"] < 2 * counts["min_length"]:
        wrong.append(f"min_length={counts['min_length']} is over half of n_items={counts['n_items']}")
    if sizes["mean_length"] < counts["min_length"]:
        wrong.append(f"mean_length={sizes['mean_length']} is below min_length={counts['min_length']}")
    if wrong:
        raise PlumError("the settings of the synthetic data can't be used", "; ".join(wrong), "change these settings")


def _transition(n_topics: int, stay: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the topic chain: (Z, Z) rows summing to one, and (Z, <=3) likely next topics."""
    if n_topics == 1:
        return np.ones((1, 1)), np.zeros((1, 0), dtype=np.int64)
    n_near = min(N_NEIGHBOURS, n_topics - 1)
    transition = np.zeros((n_topics, n_topics))
    neighbours = np.zeros((n_topics, n_near), dtype=np.int64)
    for topic in range(n_topics):
        others = rng.permutation(np.delete(np.arange(n_topics), topic))
        odds = np.full(n_topics - 1, (1 - sum(NEIGHBOUR_ODDS)) / (n_topics - 1))
        odds[:n_near] += NEIGHBOUR_ODDS[:n_near]
        transition[topic, others] = (1 - stay) * odds / odds.sum()
        transition[topic, topic] = stay
        neighbours[topic] = others[:n_near]
    return transition, neighbours


def _catalogue(
    n_items: int, neighbours: np.ndarray, second_topic_share: float, cold_share: float, rng: np.random.Generator
) -> _Catalogue:
    """Give items their topics and creators; ids tell nothing, as topics are dealt in random order."""
    n_topics = len(neighbours)
    topic = rng.permutation(np.arange(n_items) % n_topics)
    second = np.full(n_items, -1, dtype=np.int64)
    if neighbours.shape[1]:
        has_second = rng.random(n_items) < second_topic_share
        picked = neighbours[topic, rng.integers(neighbours.shape[1], size=n_items)]
        second[has_second] = picked[has_second]
    per_topic = max(1, n_items // n_topics // ITEMS_PER_CREATOR)
    creator = topic * per_topic + rng.integers(per_topic, size=n_items)
    cold = np.zeros(n_items, dtype=bool)
    for z in range(n_topics):
        mine = rng.permutation(np.flatnonzero(topic == z))
        cold[mine[: min(round(cold_share * len(mine)), len(mine) - 1)]] = True
    return _Catalogue(topic, second, creator, cold)


def _truth(
    catalogue: _Catalogue,
    transition: np.ndarray,
    zipf: float,
    n_successors: int,
    successor_share: float,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Draw the parameters of the process, as described in :func:`generate`."""
    n_topics = len(transition)
    prior = rng.uniform(0.5, 1.5, size=n_topics)
    popularity = _popularity(catalogue, n_topics, zipf, rng)
    successor_items, successor_weights = _successors(catalogue, popularity, n_successors, rng)
    return {
        "topic_prior": prior / prior.sum(),
        "transition": transition,
        "item_weights": _item_weights(catalogue, popularity, n_topics),
        "successor_items": successor_items,
        "successor_weights": successor_weights,
        "successor_share": np.array([successor_share]),
        "item_topic": catalogue.topic.astype(np.int64),
        "item_second_topic": catalogue.second,
        "item_cold": catalogue.cold.astype(np.int64),
    }


def _popularity(catalogue: _Catalogue, n_topics: int, zipf: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) weights of items in their main topic: Zipf over the warm ones, next to nothing for the cold ones."""
    popularity = np.zeros(len(catalogue.topic))
    for z in range(n_topics):
        warm = rng.permutation(np.flatnonzero((catalogue.topic == z) & ~catalogue.cold))
        popularity[warm] = (1.0 + np.arange(len(warm))) ** -zipf
        popularity[warm] /= popularity[warm].mean()
    popularity[catalogue.cold] = COLD_ODDS
    return popularity


def _item_weights(catalogue: _Catalogue, popularity: np.ndarray, n_topics: int) -> np.ndarray:
    """W: (Z, N) rows summing to one, positive everywhere."""
    n_items = len(popularity)
    weights = np.zeros((n_topics, n_items))
    weights[catalogue.topic, np.arange(n_items)] = popularity
    two = np.flatnonzero(catalogue.second >= 0)
    weights[catalogue.second[two], two] = SECOND_TOPIC_ODDS * popularity[two]
    weights /= weights.sum(axis=1, keepdims=True)
    # Strays follow popularity, so that cold items stay cold.
    weights = (1 - STRAY_SHARE) * weights + STRAY_SHARE * popularity / popularity.sum()
    return weights / weights.sum(axis=1, keepdims=True)


def _successors(
    catalogue: _Catalogue, popularity: np.ndarray, n_successors: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """S: (N, R) successor items, best first, padded with -1, and their (N, R) weights, rows summing to one."""
    n_items = len(popularity)
    # Gumbel top-R draws without replacement by odds: the creator's other works first, then the topic, then the rest.
    # Popularity counts little here, or popular items would take all places and popularity alone would predict well.
    odds = np.where(catalogue.cold, 1e-3, 1.0)
    items = np.full((n_items, n_successors), -1, dtype=np.int64)
    weights = np.zeros((n_items, n_successors))
    falling = 0.7 ** np.arange(n_successors)
    for item in range(n_items):
        near = np.where(catalogue.topic == catalogue.topic[item], 1.0, 0.1)
        near[catalogue.creator == catalogue.creator[item]] = 4.0
        score = np.log(odds * near) + rng.gumbel(size=n_items)
        score[item] = -np.inf
        best = np.argsort(-score, kind="stable")[: min(n_successors, n_items - 1)]
        items[item, : len(best)] = best
        weights[item, : len(best)] = falling[: len(best)] / falling[: len(best)].sum()
    return items, weights


def _item_table(catalogue: _Catalogue, rng: np.random.Generator) -> pd.DataFrame:
    """Items with unique titles made of the words of their topics."""
    n_items = len(catalogue.topic)
    names = list(TOPIC_WORDS)
    words = [TOPIC_WORDS[name].split() for name in names]
    creators = _creator_names(int(catalogue.creator.max()) + 1, rng)
    width = max(4, len(str(n_items - 1)))
    taken: set[str] = set()
    rows = []
    for item in range(n_items):
        z, second = int(catalogue.topic[item]), int(catalogue.second[item])
        picked = [words[z][i] for i in rng.permutation(len(words[z]))[:6]]
        extra = words[second][rng.integers(len(words[second]))] if second >= 0 else None
        title_words = [picked[0], extra or picked[1]] + ([picked[2]] if rng.random() < 0.7 else [])
        creator = creators[catalogue.creator[item]]
        about = f"{picked[3]}, {picked[4]} and {extra or picked[5]}"
        topics = [names[z]] + ([names[second]] if second >= 0 else [])
        title = _unique_title(" ".join(word.capitalize() for word in title_words), taken)
        description = f"{creator} on {about}: a piece about {' and '.join(topics)}."
        rows.append((f"i{item:0{width}d}", title, topics, creator, description))
    return pd.DataFrame(rows, columns=["item_id", "title", "topics", "creator", "description"])


def _unique_title(title: str, taken: set[str]) -> str:
    """Number a title that is taken: "Comet Orbit", "Comet Orbit 2", ... Adds the result to ``taken``."""
    candidate, number = title, 1
    while candidate in taken:
        number += 1
        candidate = f"{title} {number}"
    taken.add(candidate)
    return candidate


def _creator_names(n_creators: int, rng: np.random.Generator) -> list[str]:
    """Distinct names in random order, numbered once all pairs are used."""
    pairs = [f"{first} {last}" for first in FIRST_NAMES.split() for last in LAST_NAMES.split()]
    order = rng.permutation(len(pairs))
    names = []
    for n in range(n_creators):
        turn, index = divmod(n, len(pairs))
        names.append(pairs[order[index]] + (f" {turn + 1}" if turn else ""))
    return names


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
            _add_successors(base, truth, previous, np.full(len(live), share))
        picked = _draw(base * unseen[live], rng)
        items[live, step], topics[live, step] = picked, z
        unseen[live, picked] = 0.0
    return items, topics


def _add_successors(base: np.ndarray, truth: dict[str, np.ndarray], previous: np.ndarray, scale: np.ndarray) -> None:
    """Add ``scale`` (B,) times S(. | previous) to ``base`` (B, N), in place; ``previous`` (B,)."""
    successors = truth["successor_items"][previous]
    mass = scale[:, None] * truth["successor_weights"][previous]
    rows, columns = np.nonzero(successors >= 0)
    # An item has no successor twice, so plain fancy indexing adds each mass once.
    base[rows, successors[rows, columns]] += mass[rows, columns]


def _draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column per row of non-negative ``weights`` (B, N), never one of weight zero: (B,)."""
    cumulative = np.cumsum(weights, axis=1)
    total = cumulative[:, -1]
    # Rounding could lift u * total to total itself, which would point past the last column.
    point = np.minimum(rng.random(len(weights)) * total, np.nextafter(total, 0.0))
    return (cumulative <= point[:, None]).sum(axis=1)


def _interaction_table(
    catalogue: _Catalogue,
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


class BayesOptimal:
    """The exact ranking by P(next item | history) under a planted truth: the ceiling of every retriever.

    Forward filtering over the hidden topic:

        predicted_1 = prior,   predicted_{t+1}(z) ∝ sum_z' alpha_t(z') A(z', z),
        alpha_t(z) ∝ predicted_t(z) e(j_t | z, j_{t-1}, seen_t),
        P(j | history) = sum_z predicted(z) e(j | z, last item, seen).

    Ranking by this probability maximises the expected recall, NDCG and MRR at every cut-off. It holds for histories
    given from the user's first interaction on, without gaps.

    Args:
        truth: ``RawTables.truth`` of :func:`generate`, or the same arrays read back from safetensors. Item rows are
            rows of the items table that came with it.

    Raises:
        ValueError: if an array is missing or the shapes don't agree.
    """

    name = "optimum"

    def __init__(self, truth: dict[str, np.ndarray]) -> None:
        missing = [key for key in TRUTH_KEYS if key not in truth]
        if missing:
            raise ValueError(f"the truth lacks {', '.join(missing)}; it has {', '.join(sorted(truth)) or 'nothing'}")
        self._truth = {key: np.asarray(truth[key]) for key in TRUTH_KEYS}
        self._prior = self._truth["topic_prior"]
        self._transition = self._truth["transition"]
        self._weights = self._truth["item_weights"]
        self._share = float(self._truth["successor_share"][0])
        n_topics, self.n_items = self._weights.shape
        successors, masses = self._truth["successor_items"], self._truth["successor_weights"]
        if (
            self._prior.shape != (n_topics,)
            or self._transition.shape != (n_topics, n_topics)
            or successors.shape != masses.shape
            or len(successors) != self.n_items
        ):
            raise ValueError(f"the shapes of the truth don't agree: { {k: v.shape for k, v in self._truth.items()} }")

    def predictive(self, history: np.ndarray) -> np.ndarray:
        """Distribution of the next item.

        Args:
            history: (T,) item rows, oldest first; may be empty.

        Returns:
            (N,) float64 probabilities, zero for items of the history; they sum to one unless every item is seen.

        Raises:
            ValueError: if an item row is outside the catalogue.
        """
        return self.predictive_batch([np.asarray(history)])[0]

    def predictive_batch(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Distribution of the next item for several users at once.

        Args:
            histories: one (T,) array of item rows for each user, oldest first; may be empty.

        Returns:
            (B, N) float64 probabilities, as of :meth:`predictive`.

        Raises:
            ValueError: if an item row is outside the catalogue.
        """
        items, lengths = self._pad(histories)
        n_users, n_steps = items.shape
        predicted = np.tile(self._prior, (n_users, 1))
        unseen = np.ones((n_users, self.n_items), dtype=bool)
        # Mass of W on unseen items, kept up to date so that a step costs O(B Z) and not O(B Z N).
        open_mass = np.tile(self._weights.sum(axis=1), (n_users, 1))
        for step in range(n_steps):
            live = np.flatnonzero(lengths > step)
            item = items[live, step]
            previous = items[live, step - 1] if step else None
            emission = self._emission(item, previous, unseen[live], open_mass[live])
            alpha = predicted[live] * emission
            total = alpha.sum(axis=1, keepdims=True)
            # A history that the truth can't have made (no topic explains this item) leaves the belief as it was.
            alpha = np.where(total > 0, alpha / np.where(total > 0, total, 1.0), predicted[live])
            predicted[live] = alpha @ self._transition
            fresh = unseen[live, item]
            open_mass[live] -= np.where(fresh[:, None], self._weights.T[item], 0.0)
            unseen[live, item] = False
        return self._mixture(predicted, items, lengths, unseen)

    def recommend(
        self, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None = None
    ) -> Recommendations:
        """The K most probable next items of each user.

        Args:
            histories: (T,) item rows of each user, oldest first, from the first interaction on.
            k: entries of a list.
            seen: item rows left out of each user's list; None leaves out nothing more. Items of the history are
                never recommended, as the process never repeats one.

        Returns:
            Recommendations with log-probabilities as scores; a list is shorter than k where too few items are left.

        Raises:
            ValueError: if an item row is outside the catalogue.
        """
        parts = []
        for start in range(0, len(histories), USERS_PER_BLOCK):
            stop = start + USERS_PER_BLOCK
            with np.errstate(divide="ignore"):
                scores = np.log(self.predictive_batch(histories[start:stop]))
            parts.append(top_k(scores, k, None if seen is None else seen[start:stop]))
        if not parts:
            return Recommendations(np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.float32))
        return Recommendations(
            np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts])
        )

    def _pad(self, histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(B, T) item rows, zero after a user's (B,) length."""
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        items = np.zeros((len(histories), int(lengths.max(initial=0))), dtype=np.int64)
        for row, history in enumerate(histories):
            items[row, : len(history)] = history
        if items.size and (items.min() < 0 or items.max() >= self.n_items):
            raise ValueError(
                f"item rows run from {items.min()} to {items.max()}, the catalogue has {self.n_items} items"
            )
        return items, lengths

    def _emission(
        self, item: np.ndarray, previous: np.ndarray | None, unseen: np.ndarray, open_mass: np.ndarray
    ) -> np.ndarray:
        """e(item | z, previous, seen) for every topic.

        A repeated item, which the process never makes, is judged by its base weight alone.

        Args:
            item: (B,) the item that came.
            previous: (B,) the one before, None at the first step.
            unseen: (B, N) bool, before the item.
            open_mass: (B, Z) mass of W on unseen items.

        Returns:
            (B, Z) probabilities.
        """
        from_topic = self._weights.T[item]
        if previous is None:
            return from_topic / open_mass
        successors = self._truth["successor_items"][previous]
        masses = np.where(successors >= 0, self._truth["successor_weights"][previous], 0.0)
        hit = (masses * (successors == item[:, None])).sum(axis=1, keepdims=True)
        open_successors = (masses * np.take_along_axis(unseen, successors, axis=1)).sum(axis=1, keepdims=True)
        total = self._share * open_successors + (1 - self._share) * open_mass
        value = self._share * hit + (1 - self._share) * from_topic
        return np.divide(value, total, out=np.zeros_like(value), where=total > 0)

    def _mixture(self, predicted: np.ndarray, items: np.ndarray, lengths: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """sum_z predicted(z) e(j | z, last item, seen): (B, N) from (B, Z) beliefs."""
        begun = np.flatnonzero(lengths > 0)
        last = items[begun, lengths[begun] - 1]
        # Computed afresh: the running sum of predictive_batch would lose digits once almost all is seen.
        open_topic = unseen @ self._weights.T
        successor_part = np.zeros_like(unseen, dtype=np.float64)
        of_last = np.zeros((len(begun), self.n_items))
        _add_successors(of_last, self._truth, last, np.full(len(begun), self._share))
        successor_part[begun] = of_last * unseen[begun]
        topic_share = np.where(lengths > 0, 1 - self._share, 1.0)[:, None]
        total = topic_share * open_topic + successor_part.sum(axis=1, keepdims=True)
        belief = np.divide(predicted, total, out=np.zeros_like(predicted), where=total > 0)
        topic_part = topic_share * (belief @ self._weights) * unseen
        return topic_part + successor_part * belief.sum(axis=1, keepdims=True)

"""The made-up world of the synthetic data: its items, and the truth planted in them.

``plum.data.synthetic`` describes the process, the arrays of the truth and the letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Each topic has its own words; no word is in two lists, so text tells topics apart.
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

ITEMS_PER_CREATOR = 6
N_NEIGHBOURS = 3  # likely next topics of a topic
NEIGHBOUR_ODDS = (0.5, 0.3, 0.15)  # the other moves, 0.05, go anywhere
SECOND_TOPIC_ODDS = 0.5  # weight of an item in its second topic, relative to its main one
COLD_ODDS = 0.03  # weight of a cold item, relative to the mean warm item of its topic
STRAY_SHARE = 0.02  # share of W spread over items of all topics, so that no item rules a topic out


@dataclass(frozen=True)
class Catalogue:
    """What items are, in the order of the items table.

    Attributes:
        topic: (N,) main topic.
        second: (N,) second topic, or -1.
        creator: (N,) number of the creator; each creator has one topic.
        cold: (N,) bool.
    """

    topic: np.ndarray
    second: np.ndarray
    creator: np.ndarray
    cold: np.ndarray


def topic_chain(n_topics: int, stay: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the topic chain.

    Args:
        n_topics: Z.
        stay: probability that the topic stays; certain if there is a single topic.
        rng: of the world.

    Returns:
        (Z, Z) rows summing to one, and (Z, <=3) likely next topics.
    """
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


def draw_catalogue(
    n_items: int, neighbours: np.ndarray, second_topic_share: float, cold_share: float, rng: np.random.Generator
) -> Catalogue:
    """Draw the items' topics and creators. Topics are in random order, so that ids carry no information.

    Args:
        n_items: N.
        neighbours: (Z, <=3) likely next topics, from which second topics are drawn.
        second_topic_share: share of items with two topics.
        cold_share: share of cold items in each topic; at least one item stays warm.
        rng: of the world.
    """
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
    return Catalogue(topic, second, creator, cold)


def plant_truth(
    catalogue: Catalogue,
    transition: np.ndarray,
    zipf: float,
    n_successors: int,
    successor_share: float,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Draw the parameters of the process.

    Args:
        catalogue: N items.
        transition: (Z, Z) topic chain.
        zipf: exponent of the popularity weights within a topic.
        n_successors: R.
        successor_share: lambda.
        rng: of the world.

    Returns:
        The truth, as described in ``plum.data.synthetic``.
    """
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


def _popularity(catalogue: Catalogue, n_topics: int, zipf: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) weights of items in their main topic: Zipf over the warm ones, nearly zero for the cold ones."""
    popularity = np.zeros(len(catalogue.topic))
    for z in range(n_topics):
        warm = rng.permutation(np.flatnonzero((catalogue.topic == z) & ~catalogue.cold))
        popularity[warm] = (1.0 + np.arange(len(warm))) ** -zipf
        popularity[warm] /= popularity[warm].mean()
    popularity[catalogue.cold] = COLD_ODDS
    return popularity


def _item_weights(catalogue: Catalogue, popularity: np.ndarray, n_topics: int) -> np.ndarray:
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
    catalogue: Catalogue, popularity: np.ndarray, n_successors: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """S: (N, R) successor items, best first, padded with -1, and their (N, R) weights, rows summing to one."""
    n_items = len(popularity)
    # Gumbel top-R draws without replacement by odds: the creator's other works first, then the topic, then the rest.
    # Popularity has little weight here; otherwise popularity alone would predict well.
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


def item_table(catalogue: Catalogue, rng: np.random.Generator) -> pd.DataFrame:
    """Items with unique titles from the words of their topics.

    Args:
        catalogue: N items.
        rng: of the texts.

    Returns:
        item_id, title, topics, creator and description, N rows.
    """
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
    """Number a title that is in use: "Comet Orbit", "Comet Orbit 2", ... Adds the result to ``taken``."""
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


def add_successors(base: np.ndarray, truth: dict[str, np.ndarray], previous: np.ndarray, scale: np.ndarray) -> None:
    """Add ``scale`` (B,) times S(. | previous) to ``base`` (B, N), in place; ``previous`` (B,)."""
    successors = truth["successor_items"][previous]
    mass = scale[:, None] * truth["successor_weights"][previous]
    rows, columns = np.nonzero(successors >= 0)
    # An item has no successor twice, so plain fancy indexing adds each mass once.
    base[rows, successors[rows, columns]] += mass[rows, columns]

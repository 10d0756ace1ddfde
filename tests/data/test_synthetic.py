"""The synthetic process and its exact optimum."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from plum.data.synthetic import generate
from plum.data.synthetic_world import TOPIC_WORDS
from plum.data.tables import INTERACTION_COLUMNS, ITEM_COLUMNS, RawTables
from plum.errors import PlumError
from plum.evaluation.rankings import top_k
from plum.retrievers.optimum import BayesOptimal


@pytest.fixture(scope="module")
def tables() -> RawTables:
    return generate(n_users=600, n_items=240, seed=0, n_topics=8, mean_length=20)


def histories_of(tables: RawTables) -> list[np.ndarray]:
    """Item rows of every user, in time order."""
    row = pd.Series(np.arange(len(tables.items)), index=tables.items["item_id"])
    return [row.loc[group].to_numpy() for _, group in tables.interactions.groupby("user_id")["item_id"]]


def emission(truth: dict, item: int, z: int, previous: int | None, seen: set[int]) -> float:
    """e(item | z, previous, seen), written from the definition with plain loops."""
    n_items = truth["item_weights"].shape[1]
    share = float(truth["successor_share"][0])
    base = []
    for j in range(n_items):
        value = truth["item_weights"][z, j]
        if previous is not None:
            pairs = zip(truth["successor_items"][previous], truth["successor_weights"][previous], strict=True)
            value = (1 - share) * value + share * sum(mass for successor, mass in pairs if successor == j)
        base.append(0.0 if j in seen else value)
    return base[item] / sum(base)


def brute_force(truth: dict, history: list[int]) -> np.ndarray:
    """P(next item | history) by summing over all hidden paths."""
    n_topics, n_items = truth["item_weights"].shape
    joint = np.zeros(n_items)
    for path in itertools.product(range(n_topics), repeat=len(history) + 1):
        chance = truth["topic_prior"][path[0]]
        for a, b in itertools.pairwise(path):
            chance *= truth["transition"][a, b]
        seen: set[int] = set()
        previous = None
        for z, item in zip(path, history, strict=False):
            chance *= emission(truth, item, z, previous, seen)
            seen.add(item)
            previous = item
        for j in range(n_items):
            joint[j] += chance * emission(truth, j, path[-1], previous, seen)
    return joint / joint.sum()


def test_the_columns_are_those_of_the_contract(tables: RawTables) -> None:
    assert tuple(tables.interactions.columns) == INTERACTION_COLUMNS
    assert tuple(tables.items.columns) == ITEM_COLUMNS
    assert tables.interactions["timestamp"].dtype == np.int64
    assert tables.interactions["rating"].dtype == np.float32
    assert tables.interactions["reward"].dtype == np.float32
    assert (tables.interactions["reward"] == 1).all()
    assert set(tables.interactions["rating"]) == {1, 2, 3, 4, 5}
    assert tables.n_rows == len(tables.interactions)
    assert not tables.problems


def test_the_same_seed_gives_the_same_tables_and_another_seed_does_not() -> None:
    first, again, other = (generate(n_users=40, n_items=60, n_topics=4, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.interactions, again.interactions)
    pd.testing.assert_frame_equal(first.items, again.items)
    assert all(np.array_equal(first.truth[key], again.truth[key]) for key in first.truth)
    assert not first.interactions.equals(other.interactions)


def test_more_users_live_in_the_same_world() -> None:
    few, many = (generate(n_users=n, n_items=60, n_topics=4) for n in (10, 300))
    pd.testing.assert_frame_equal(few.items, many.items)
    assert all(np.array_equal(few.truth[key], many.truth[key]) for key in few.truth)


def test_users_differ_in_length_repeat_nothing_and_overlap_in_time(tables: RawTables) -> None:
    grouped = tables.interactions.groupby("user_id")
    assert grouped.ngroups == 600
    assert grouped.size().min() >= 5
    assert grouped.size().nunique() > 10
    assert grouped.size().mean() == pytest.approx(20, rel=0.1)
    assert not tables.interactions.duplicated(["user_id", "item_id"]).any()
    spans = grouped["timestamp"].agg(["min", "max"])
    middle = int(tables.interactions["timestamp"].median())
    assert ((spans["min"] < middle) & (spans["max"] > middle)).sum() > 50


def test_timestamps_strictly_increase_unless_ties_are_asked_for(tables: RawTables) -> None:
    gaps = tables.interactions.groupby("user_id")["timestamp"].diff().dropna()
    assert (gaps > 0).all()
    tied = generate(n_users=200, n_items=60, n_topics=4, mean_length=15, tie_share=0.3).interactions
    gaps = tied.groupby("user_id")["timestamp"].diff().dropna()
    assert (gaps >= 0).all()
    assert (gaps == 0).mean() == pytest.approx(0.3, abs=0.05)


def test_titles_are_unique_and_made_of_the_words_of_their_topics(tables: RawTables) -> None:
    assert tables.items["title"].is_unique
    assert tables.items["item_id"].is_unique
    for title, topics in zip(tables.items["title"], tables.items["topics"], strict=True):
        allowed = {word for topic in topics for word in TOPIC_WORDS[topic].split()}
        assert {word.lower() for word in title.split() if not word.isdigit()} <= allowed
    crowded = generate(n_users=1, n_items=2_500, n_topics=1, mean_length=5)
    assert crowded.items["title"].is_unique


def test_no_word_stands_in_two_topics() -> None:
    words = [word for listed in TOPIC_WORDS.values() for word in listed.split()]
    assert len(words) == len(set(words))


def test_a_creator_keeps_to_one_topic_and_some_items_have_two(tables: RawTables) -> None:
    main_topic = tables.items["topics"].str[0]
    assert (main_topic.groupby(tables.items["creator"]).nunique() == 1).all()
    assert 0.1 < (tables.items["topics"].str.len() == 2).mean() < 0.3
    names = np.array(list(TOPIC_WORDS))
    assert (names[tables.truth["item_topic"]] == main_topic).all()


def test_cold_items_exist_and_are_hardly_drawn(tables: RawTables) -> None:
    cold = tables.truth["item_cold"].astype(bool)
    drawn = tables.interactions["item_id"].value_counts().reindex(tables.items["item_id"], fill_value=0).to_numpy()
    assert cold.mean() == pytest.approx(0.1, abs=0.03)
    assert drawn[cold].mean() < 0.1 * drawn[~cold].mean()


def test_popularity_within_a_topic_is_skewed(tables: RawTables) -> None:
    for z, weights in enumerate(tables.truth["item_weights"]):
        own = np.sort(weights[tables.truth["item_topic"] == z])[::-1]
        assert own[:3].sum() > 0.3 * own.sum()


def test_ratings_are_higher_on_the_topic_of_the_moment(tables: RawTables) -> None:
    # The two neighbours of an interaction being on its topic is a good sign that the user is, too.
    row = pd.Series(tables.truth["item_topic"], index=tables.items["item_id"])
    frame = tables.interactions.assign(topic=row.loc[tables.interactions["item_id"]].to_numpy())
    grouped = frame.groupby("user_id")["topic"]
    before, after = grouped.shift(1), grouped.shift(-1)
    on, off = (before == frame["topic"]) & (after == frame["topic"]), (before == after) & (before != frame["topic"])
    assert frame.loc[on, "rating"].mean() > frame.loc[off, "rating"].mean() + 0.5


def test_the_truth_round_trips_through_safetensors(tables: RawTables, tmp_path) -> None:
    save_file(tables.truth, tmp_path / "truth.safetensors")
    back = load_file(tmp_path / "truth.safetensors")
    assert set(back) == set(tables.truth)
    for key, value in tables.truth.items():
        assert value.dtype in (np.float64, np.int64)
        assert value.ndim >= 1
        np.testing.assert_array_equal(back[key], value)
    history = histories_of(tables)[0]
    np.testing.assert_array_equal(
        BayesOptimal(back).predictive(history), BayesOptimal(tables.truth).predictive(history)
    )


def test_the_planted_distributions_sum_to_one(tables: RawTables) -> None:
    truth = tables.truth
    for key in ("topic_prior", "transition", "item_weights", "successor_weights"):
        np.testing.assert_allclose(truth[key].sum(axis=-1), 1.0)
    assert (truth["item_weights"] > 0).all()
    assert (truth["successor_items"] != np.arange(240)[:, None]).all()
    assert all(len(set(row)) == len(row) for row in truth["successor_items"])


@pytest.mark.parametrize("length", range(6))
@pytest.mark.parametrize("padded", [False, True])
def test_the_predictive_equals_the_sum_over_all_hidden_paths(length: int, padded: bool) -> None:
    truth = generate(
        n_users=1, n_items=10, seed=3, n_topics=3, n_successors=3, min_length=5, mean_length=5, successor_share=0.4
    ).truth
    if padded:  # items with fewer successors than others; the last item (row -1) must not slip in
        truth["successor_items"][::2, 2] = -1
        truth["successor_weights"][::2, 2] = 0.0
        truth["successor_weights"] /= truth["successor_weights"].sum(axis=1, keepdims=True)
        truth["successor_items"][4] = -1  # no successor at all
        truth["successor_weights"][4] = 0.0
    optimum = BayesOptimal(truth)
    rng = np.random.default_rng(length)
    for history in (list(rng.permutation(10)[:length]), [4, 9, 3, 0, 7][:length]):
        np.testing.assert_allclose(optimum.predictive(np.array(history)), brute_force(truth, history), atol=1e-12)


def test_the_predictive_sums_to_one_over_unseen_items(tables: RawTables) -> None:
    optimum = BayesOptimal(tables.truth)
    histories = [np.zeros(0, dtype=np.int64), *histories_of(tables)[:50]]
    histories.append(np.random.default_rng(0).permutation(240)[:239])  # one item left
    together = optimum.predictive_batch(histories)
    np.testing.assert_allclose(together.sum(axis=1), 1.0)
    for row, history in zip(together, histories, strict=True):
        assert (row[history] == 0).all()
        assert (np.delete(row, history) > 0).all()
        np.testing.assert_allclose(optimum.predictive(history), row, atol=1e-15)


@pytest.mark.slow
def test_sampled_next_items_match_the_predictive() -> None:
    """The sampler that makes the data and the filter agree: frequencies of the third item after the common openings."""
    tables = generate(n_users=20_000, n_items=12, seed=5, n_topics=3, min_length=3, mean_length=3, n_successors=2)
    optimum = BayesOptimal(tables.truth)
    openings: dict[tuple[int, ...], list[int]] = {}
    for history in histories_of(tables):
        openings.setdefault(tuple(history[:2]), []).append(history[2])
    common = sorted(openings.items(), key=lambda pair: -len(pair[1]))[:8]
    statistic, freedom = 0.0, 0
    for opening, following in common:
        expected = len(following) * optimum.predictive(np.array(opening))
        observed = np.bincount(following, minlength=12)
        assert observed[expected == 0].sum() == 0
        enough = expected > 5
        statistic += ((observed - expected)[enough] ** 2 / expected[enough]).sum()
        freedom += int(enough.sum()) - 1
    # A chi-square of many degrees of freedom is close to normal with variance 2 df: four standard deviations.
    assert freedom > 40
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_the_optimum_is_calibrated_on_whole_histories(tables: RawTables) -> None:
    """Surprise at the drawn item equals the entropy promised, on average: a filter that is off by anything loses."""
    histories = histories_of(tables)
    chances = BayesOptimal(tables.truth).predictive_batch([history[:-1] for history in histories])
    surprise = -np.log(chances[np.arange(len(histories)), [history[-1] for history in histories]])
    entropy = -(chances * np.log(np.where(chances > 0, chances, 1.0))).sum(axis=1)
    excess = surprise - entropy
    assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(len(excess))


def test_no_other_ranker_beats_the_optimum(tables: RawTables) -> None:
    histories = histories_of(tables)
    given, target = [history[:-1] for history in histories], np.array([history[-1] for history in histories])
    truth = tables.truth

    def hits(recommended) -> np.ndarray:
        return (recommended.items == target[:, None]).any(axis=1)

    popularity = np.bincount(np.concatenate(given), minlength=240)
    successors = np.zeros((len(given), 240))
    for row, history in enumerate(given):
        successors[row, truth["successor_items"][history[-1]]] = truth["successor_weights"][history[-1]]
    topic = truth["item_topic"][[history[-1] for history in given]]
    best = hits(BayesOptimal(truth).recommend(given, 10, given))
    rivals = {
        "popularity": hits(top_k(np.tile(popularity, (len(given), 1)), 10, given)),
        "last item's successors": hits(top_k(successors, 10, given)),
        "last item's topic": hits(top_k(truth["item_weights"][topic], 10, given)),
        "no successors": hits(BayesOptimal({**truth, "successor_share": np.zeros(1)}).recommend(given, 10, given)),
        "no drift": hits(BayesOptimal({**truth, "transition": np.eye(8)}).recommend(given, 10, given)),
    }
    for name, rival in rivals.items():
        lead = best.astype(float) - rival
        noise = lead.std() / np.sqrt(len(lead))
        assert lead.mean() > 2 * noise, f"{name}: {rival.mean():.3f} against {best.mean():.3f}"


def test_recommend_leaves_out_what_is_seen_and_gives_shorter_lists(tables: RawTables) -> None:
    optimum = BayesOptimal(tables.truth)
    history = np.random.default_rng(1).permutation(240)[:236]
    left = np.setdiff1d(np.arange(240), history)
    every = optimum.recommend([history], 10)
    assert set(every.items[0, :4]) == set(left)
    assert (every.items[0, 4:] == -1).all()
    fewer = optimum.recommend([history], 10, [left[:1]])
    assert set(fewer.items[0, :3]) == set(left[1:])
    chances = optimum.predictive(history)
    np.testing.assert_allclose(every.scores[0, :4], np.log(np.sort(chances[left])[::-1]), rtol=1e-5)
    assert optimum.recommend([], 10, []).items.shape == (0, 10)


def test_recommend_does_not_depend_on_how_users_are_batched(tables: RawTables) -> None:
    optimum = BayesOptimal(tables.truth)
    histories = histories_of(tables)[:300]  # more than one block
    together = optimum.recommend(histories, 5, histories)
    alone = optimum.recommend(histories[290:291], 5, histories[290:291])
    np.testing.assert_array_equal(together.items[290:291], alone.items)


def test_a_history_the_process_cannot_make_still_gets_an_answer(tables: RawTables) -> None:
    chances = BayesOptimal(tables.truth).predictive(np.array([3, 3, 5, 3]))
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1.0)
    assert (chances[[3, 5]] == 0).all()


def test_the_optimum_refuses_foreign_rows_and_a_truth_in_pieces(tables: RawTables) -> None:
    with pytest.raises(ValueError, match="catalogue has 240 items"):
        BayesOptimal(tables.truth).predictive(np.array([240]))
    with pytest.raises(ValueError, match="catalogue has 240 items"):
        BayesOptimal(tables.truth).predictive(np.array([-1]))
    with pytest.raises(ValueError, match="lacks topic_prior"):
        BayesOptimal({key: value for key, value in tables.truth.items() if key != "topic_prior"})
    with pytest.raises(ValueError, match="don't agree"):
        BayesOptimal({**tables.truth, "topic_prior": np.ones(3) / 3})


def test_settings_out_of_range_are_refused_all_at_once() -> None:
    with pytest.raises(PlumError) as caught:
        generate(n_users=0, n_items=10, n_topics=99, stay=1.5, successor_share=1.0)
    for part in ("n_users=0", "n_topics=99", "stay=1.5", "successor_share=1", "change these settings"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"n_topics": 1},
        {"n_topics": 2},
        {"n_successors": 0},
        {"stay": 1.0},
        {"second_topic_share": 1.0},
        {"cold_share": 1.0},
        {"zipf": 0.0},
    ],
)
def test_settings_at_the_border_work(setting: dict) -> None:
    tables = generate(**{"n_users": 20, "n_items": 40, "n_topics": 4, "mean_length": 12, **setting})
    histories = histories_of(tables)
    np.testing.assert_allclose(BayesOptimal(tables.truth).predictive_batch(histories).sum(axis=1), 1.0)

"""The optimum of synthetic data: the exact ranking under their planted truth, which no retriever can beat.

``plum.data.synthetic`` describes the process, the arrays of the truth and the letters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.data.synthetic_world import add_successors
from plum.evaluation.rankings import Recommendations, top_k

TRUTH_KEYS = (
    "topic_prior",
    "transition",
    "item_weights",
    "successor_items",
    "successor_weights",
    "successor_share",
)

USERS_PER_BLOCK = 256  # users ranked at once: bounds memory to this times n_items


class BayesOptimal:
    """The exact ranking by P(next item | history) under a planted truth: the upper bound of every retriever.

    Forward filtering over the hidden topic:

        predicted_1 = prior,   predicted_{t+1}(z) ∝ sum_z' alpha_t(z') A(z', z),
        alpha_t(z) ∝ predicted_t(z) e(j_t | z, j_{t-1}, seen_t),
        P(j | history) = sum_z predicted(z) e(j | z, last item, seen).

    Ranking by this probability maximises the expected recall, NDCG and MRR at every cut-off. Histories must be complete
    from the user's first interaction on.

    Args:
        truth: ``RawTables.truth`` of ``plum.data.synthetic.generate``, or the same arrays read back from
            safetensors. Item rows are rows of the items table that came with it.

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
            or successors.ndim != 2
            or len(successors) != self.n_items
            or successors.dtype.kind != "i"
            or (successors.size and not -1 <= successors.min() <= successors.max() < self.n_items)
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
        # Mass of W on unseen items, updated incrementally so that a step costs O(B Z) and not O(B Z N).
        open_mass = np.tile(self._weights.sum(axis=1), (n_users, 1))
        for step in range(n_steps):
            live = np.flatnonzero(lengths > step)
            item = items[live, step]
            previous = items[live, step - 1] if step else None
            emission = self._emission(item, previous, unseen[live], open_mass[live])
            alpha = predicted[live] * emission
            total = alpha.sum(axis=1, keepdims=True)
            # An item that no topic explains (impossible under the truth) does not change the belief.
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
            seen: further item rows left out of each user's list, or None. Items of the history are never recommended,
                because the process never repeats one.

        Returns:
            Recommendations with log-probabilities as scores; a list is shorter than k if too few items are left.

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

        A repeated item, which the process never generates, gets its base weight.

        Args:
            item: (B,) the observed item.
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
        # Computed again: the running sum of predictive_batch would lose digits once almost all items are seen.
        open_topic = unseen @ self._weights.T
        successor_part = np.zeros_like(unseen, dtype=np.float64)
        of_last = np.zeros((len(begun), self.n_items))
        add_successors(of_last, self._truth, last, np.full(len(begun), self._share))
        successor_part[begun] = of_last * unseen[begun]
        topic_share = np.where(lengths > 0, 1 - self._share, 1.0)[:, None]
        total = topic_share * open_topic + successor_part.sum(axis=1, keepdims=True)
        belief = np.divide(predicted, total, out=np.zeros_like(predicted), where=total > 0)
        topic_part = topic_share * (belief @ self._weights) * unseen
        return topic_part + successor_part * belief.sum(axis=1, keepdims=True)

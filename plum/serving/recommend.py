"""Recommendations from a finished run, for a user or a given history, under the rules of a request."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from plum.config.data import LogsSource
from plum.config.file import load_config
from plum.config.run import RunConfig
from plum.data.logs import read_fields, read_ids
from plum.errors import PlumError
from plum.evaluation.rankings import NO_ITEM
from plum.rules.fields import ItemFields
from plum.rules.lookup import ItemNames
from plum.rules.values import nearest
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.stages import inputs

if TYPE_CHECKING:
    from plum.retrievers.generative import Generative

Search: TypeAlias = Literal["beam", "exact", "sample"]


@dataclass(frozen=True)
class Request:
    """What may be recommended, and how much.

    Attributes:
        k: entries of the list; fewer come back if fewer items are legal.
        where: rules that must all hold; see ``plum.rules.fields``.
        allow: file of the only allowed item ids, one per line.
        deny: file of forbidden item ids, one per line.
        fields: table of further fields by item id, for the rules, read again at each request.
        keep_seen: whether items of the history may be recommended.
        search: ``beam``; ``exact``, which misses nothing but may be slow; or ``sample``, which draws the list at random
            by the run's seed.
        max_per_code: most items that share their first code; None for any number.
    """

    k: int = 10
    where: Sequence[str] = ()
    allow: Path | None = None
    deny: Path | None = None
    fields: Path | None = None
    keep_seen: bool = False
    search: Search = "beam"
    max_per_code: int | None = None


@dataclass(frozen=True)
class Recommended:
    """One recommended item; ``score`` is the log-probability of its Semantic ID, plus noise if lists are sampled."""

    rank: int
    item_id: str
    title: str | None
    score: float


@dataclass(frozen=True)
class Answer:
    """A list of recommendations.

    Attributes:
        history: titles, or ids of items without one, oldest first.
        items: best first.
        legal_items: items of the catalogue that could have been recommended.
        note: why the list is shorter than requested, if it is.
    """

    history: list[str]
    items: list[Recommended]
    legal_items: int
    note: str | None


class Recommender:
    """Answers requests from a finished run. The model is loaded at the first valid request, and kept.

    Args:
        config: the run's configuration.

    Raises:
        PlumError: if the run is not finished, or its files do not belong together.

    Example:
        >>> recommender = Recommender.open("runs/ml-100k")  # doctest: +SKIP
        >>> recommender.for_history(["Fargo (1996)"], Request(k=5, where=["topics has Comedy"])).items  # doctest: +SKIP
    """

    def __init__(self, config: RunConfig) -> None:
        needed = [artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.SID_INDEX, artifacts.QUALITY]
        StageRun(config.workdir, "recommend", {}, config.seed, [*needed, artifacts.FINETUNE_MODEL])
        self._config = config
        self._data = inputs.read_prepared(config.workdir)
        self._fields = ItemFields(self._data.items, self._data.popularity)
        self._items = ItemNames(self._data.items, self._data.popularity)
        self._retrievers: dict[int | None, Generative] = {}

    @classmethod
    def open(cls, workdir: Path | str) -> Recommender:
        """The recommender of a run folder, with the run's recorded configuration.

        Raises:
            PlumError: if there is no finished run.
        """
        file = artifacts.recorded_config(Path(workdir))
        if file is None:
            raise PlumError(f"no run in {workdir}", "no config.yaml there", "give the folder of a finished run")
        return cls(load_config(file, workdir=Path(workdir)))

    def for_user(self, user_id: str, request: Request) -> Answer:
        """The top K for a user of the logs, from all their interactions.

        Raises:
            PlumError: for an unknown user, or an invalid request (see :meth:`for_history`).
        """
        histories = self._data.histories
        place = np.flatnonzero(histories.user_ids == user_id)
        if not len(place):
            place = np.flatnonzero(histories.user_ids == unicodedata.normalize("NFC", user_id.strip()))
        if not len(place):
            near = nearest(user_id.strip(), histories.user_ids.tolist()) or histories.user_ids[:3].tolist()
            raise PlumError(f"no user {user_id!r} in this run", f"there are for example {', '.join(near)}", "name one")
        parts = (histories.train, histories.valid, histories.test)
        return self._answer(np.concatenate([part[place[0]] for part in parts]), request)

    def for_history(self, names: Sequence[str], request: Request) -> Answer:
        """The top K for a history of items, oldest first, named as for ``plum inspect``: by id, title or words of it.

        Raises:
            PlumError: if a name means no item, or several; if K or the quota is below
                1, or K is larger than the catalogue; for an invalid rule, or a file that is unreadable or has other
                items. All checks run before the model is loaded.
        """
        return self._answer(np.array([self._items.row_of(name) for name in names], dtype=np.int64), request)

    def retriever(self, max_per_code: int | None = None) -> Generative:
        """The run's model as a retriever over catalogue rows; made once per quota."""
        if max_per_code not in self._retrievers:
            from plum.decoding.beam import Quota  # loads torch, so after the checks of the request
            from plum.stages.trained import plum_retriever

            quota = None if max_per_code is None else Quota(depth=1, n=max_per_code)
            self._retrievers[max_per_code] = plum_retriever(self._config, self._data, quota)
        return self._retrievers[max_per_code]

    def _answer(self, history: np.ndarray, request: Request) -> Answer:
        n_items = len(self._data.items)
        _check(request, n_items)
        allowed = _allowed(self._config, self._fields, n_items, request)
        legal = np.ones(n_items, dtype=bool) if allowed is None else allowed.copy()
        n_allowed = int(legal.sum())
        if not request.keep_seen:
            legal[history] = False
        found = self._decode(history, request, allowed) if legal.any() else []
        names = self._names([row for row, _ in found])
        listed = [
            Recommended(rank, item_id, title, score)
            for rank, ((item_id, title), (_, score)) in enumerate(zip(names, found, strict=True), start=1)
        ]
        n_legal = int(legal.sum())
        note = None
        if len(listed) < min(request.k, n_legal):
            note = self._why_missed(len(listed), legal, request)
        elif len(listed) < request.k:
            note = _why_short(n_allowed, n_allowed - n_legal, ruled=allowed is not None)
        return Answer([title or item_id for item_id, title in self._names(history)], listed, n_legal, note)

    def _names(self, rows: Sequence[int] | np.ndarray) -> list[tuple[str, str | None]]:
        """Ids and titles of these catalogue rows only, because a request names few of millions."""
        chosen = self._data.items[["item_id", "title"]].iloc[np.asarray(rows, dtype=np.int64)]
        pairs = zip(chosen["item_id"].tolist(), chosen["title"].tolist(), strict=True)
        return [(item_id, title if isinstance(title, str) else None) for item_id, title in pairs]

    def _why_missed(self, n_found: int, legal: np.ndarray, request: Request) -> str:
        """One line on why a list lacks legal items although it has room: the quota, or the search."""
        n_legal = int(legal.sum())
        n_reachable, quota = n_legal, ""
        if request.max_per_code is not None:
            codes = inputs.read_sid_table(self._config.workdir, self._data.items).codes[legal, 0]
            n_reachable = int(np.bincount(codes).clip(max=request.max_per_code).sum())
            rule = f"at most {request.max_per_code:,} with the same first code"
            if n_found >= n_reachable:
                return f"{rule.capitalize()} leaves {n_reachable:,} of {n_legal:,} legal items."
            quota = f" ({rule})"
        # Sampling is as wide as its list, independent of eval.beams.
        remedy = "a larger --k finds more" if request.search == "sample" else "wider eval.beams find more"
        return f"The search found {n_found:,} of {n_reachable:,} legal items{quota}; {remedy}."

    def _decode(self, history: np.ndarray, request: Request, allowed: np.ndarray | None) -> list[tuple[int, float]]:
        """Catalogue rows and scores, best first."""
        retriever, seen = self.retriever(request.max_per_code), None if request.keep_seen else [history]
        if request.search == "exact":
            found = retriever.exact([history], request.k, seen, allowed)
        elif request.search == "sample":
            found = retriever.sample([history], request.k, seen, allowed, seed=self._config.seed)
        else:
            found = retriever.recommend([history], request.k, seen, allowed)
        pairs = zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True)
        return [(row, score) for row, score in pairs if row != NO_ITEM]


def _check(request: Request, n_items: int) -> None:
    """Refuse invalid numbers and combinations."""
    for option, number in (("--k", request.k), ("--max-per-code", request.max_per_code)):
        if number is not None and number < 1:
            raise PlumError(f"{option} must be at least 1", str(number), "give a larger number")
    if request.k > n_items:
        raise PlumError(f"--k {request.k} is more than the catalogue holds", f"{n_items:,} items", "give a smaller --k")
    if request.search == "exact" and request.max_per_code is not None:
        raise PlumError("exact search does not support a quota", None, "leave out --max-per-code, or use --search beam")


def _allowed(config: RunConfig, fields: ItemFields, n_items: int, request: Request) -> np.ndarray | None:
    """Mask (N,) of the items that a request's rules and lists allow, or None without any."""
    if request.fields and not request.where:
        raise PlumError("--fields has no effect without --where", None, "add a rule, such as --where 'price < 20'")
    if not (request.where or request.allow or request.deny):
        return None
    mask = np.ones(n_items, dtype=bool)
    if request.allow:
        listed = _listed(fields, request.allow)
        if not listed.any():  # most likely a mistake, unlike an empty deny list
            raise PlumError(f"{request.allow.name} is empty", "no item id", "list the allowed ids, one per line")
        mask &= listed
    if request.deny:
        mask &= ~_listed(fields, request.deny)
    if request.fields:
        source = config.data.source
        own_name = source.item_columns.get("item_id", "item_id") if isinstance(source, LogsSource) else "item_id"
        table = read_fields(request.fields, own_name, max_bad_share=config.data.max_bad_share)
        fields = fields.with_table(table, request.fields.name)
    for rule in request.where:
        mask &= fields.mask(rule)
    return mask


def _listed(fields: ItemFields, path: Path) -> np.ndarray:
    """Mask (N,) of the items whose ids a file lists."""
    try:
        return fields.allow(read_ids(path))
    except PlumError as error:
        if path.name in error.what:
            raise
        raise PlumError(f"{path.name}: {error.what}", error.found, error.fix) from None


def _why_short(allowed: int, seen: int, ruled: bool) -> str:
    """One line on how many items are allowed, ``seen`` of them left out because they are in the history."""
    if not ruled:
        return f"{allowed - seen:,} items of the catalogue are not in the history."
    satisfied = {0: "No item satisfies", 1: "1 item satisfies"}.get(allowed, f"{allowed:,} items satisfy")
    return f"{satisfied} the rules" + (f", {seen:,} of them in the history." if seen else ".")

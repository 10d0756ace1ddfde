"""Inputs of stage tokenize, read and checked before it trains: features, sizes, co-occurring pairs, a warm start."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from plum.config.items import ModalityConfig, TokenizeConfig
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.features.encoding import Encoded, refuse_useless
from plum.run import artifacts
from plum.run.manifest import has_file
from plum.sid.cooccurrence import Pairs, by_pmi, cooccurrence_pairs, sessions
from plum.sid.frozen import Modality, Shape, load_frozen
from plum.sid.methods import weights_for
from plum.sid.stability import prefix_survival
from plum.sid.standardise import fit_standardisation
from plum.sid.table import default_sizes
from plum.stages import inputs
from plum.stages.tokenize import warm
from plum.vectors.spread import mean_cosine

logger = logging.getLogger(__name__)

ALIKE = 0.5
"""A mean cosine of two items above this deserves a warning."""


def input_files(config: RunConfig) -> list[str]:
    """The files of the run that the stage reads."""
    names = [f"features/{name}.npy" for name in inputs.read_modalities(config.workdir)]
    if has_file(config.workdir, artifacts.PRESENT):
        names.append(artifacts.PRESENT)
    if config.tokenize.pairs == "session":
        names += [artifacts.INTERACTIONS, artifacts.DATA_SUMMARY]
    known = inputs.known_files(config.workdir)
    return [artifacts.ITEMS, artifacts.SPLIT, *known, artifacts.FEATURES_SUMMARY, *names]


def other_runs_files(config: RunConfig) -> list[Path]:
    """The files of other runs, for a warm start and for the comparison.

    Raises:
        PlumError: if they are this run's own, which the stage replaces.
    """
    start, earlier = config.tokenize.warm_start, _compared_with(config.tokenize)
    for name, folder in (("warm_start", start), ("compare_with", earlier)):
        if folder is not None and folder.resolve() == config.workdir.resolve():
            raise PlumError(f"tokenize.{name} is this run itself", str(folder), "give the folder of another run")
    files = [] if start is None else [start / artifacts.RQVAE, start / artifacts.TOKENIZER, *warm.vector_files(start)]
    if earlier:
        files += [earlier / artifacts.SEMANTIC_IDS, earlier / artifacts.TOKENIZER]
    return list(dict.fromkeys(files))


class Earlier(NamedTuple):
    """Another run's Semantic IDs, without any disambiguation code.

    Attributes:
        run: its folder.
        item_ids: of its catalogue, N_old.
        codes: (N_old, L) int64.
    """

    run: Path
    item_ids: list[str]
    codes: np.ndarray


def read_earlier(settings: TokenizeConfig, item_ids: pd.Series, n_levels: int) -> Earlier | None:
    """The Semantic IDs to compare with; None if there are none.

    Raises:
        PlumError: if its Semantic IDs have another number of levels, or no item is in both catalogues.
    """
    run = _compared_with(settings)
    if run is None:
        return None
    sizes = load_frozen(run / artifacts.TOKENIZE).sizes
    if len(sizes) != n_levels:
        raise PlumError(
            f"the Semantic IDs of {run} can't be compared with these",
            f"{len(sizes)} levels there, {n_levels} here",
            "leave tokenize.compare_with out, or give a run with equally many levels",
        )
    columns = [f"code_{level}" for level in range(n_levels)]
    old = artifacts.read_table(run / artifacts.SEMANTIC_IDS, ["item_id", *columns])
    if not old["item_id"].isin(item_ids).any():
        raise PlumError(
            f"{run} has no item in common with this run",
            f"{len(old):,} items there, {len(item_ids):,} here",
            "leave tokenize.compare_with out, or give a run of the same catalogue",
        )
    return Earlier(run, old["item_id"].tolist(), old[columns].to_numpy(dtype=np.int64))


def stability(earlier: Earlier | None, item_ids: pd.Series, codes: np.ndarray) -> dict[str, Any] | None:
    """How many of the earlier Semantic IDs stay the same in ``codes`` (N, L); None without earlier ones."""
    if earlier is None:
        return None
    found = prefix_survival(earlier.item_ids, earlier.codes, item_ids.tolist(), codes)
    logger.info(
        "tokenize: of %d items also in %s, %.1f%% keep their first code, %.1f%% after renaming codes",
        found["items"],
        earlier.run,
        100 * found["same"][0],
        100 * found["matched"][0],
    )
    return {"compared_with": str(earlier.run), **found}


def _compared_with(settings: TokenizeConfig) -> Path | None:
    return settings.compare_with or settings.warm_start


class Features(NamedTuple):
    """Standardised content of the items that the tokenizer learns from, N of the catalogue.

    Attributes:
        modalities: M of them.
        vectors: M arrays (N, D_m) float32; zeros for items that lack the modality.
        present: (N, M) bool.
    """

    modalities: list[Modality]
    vectors: list[np.ndarray]
    present: np.ndarray

    @property
    def gaps(self) -> np.ndarray | None:
        """``present``, or None if every item has every modality."""
        return None if self.present.all() else self.present

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the modalities, M of them."""
        return tuple(modality.weight for modality in self.modalities)

    @property
    def n_bare(self) -> int:
        """Items without any modality."""
        return int((~self.present.any(axis=1)).sum())


def read_features(
    workdir: Path,
    item_ids: pd.Series,
    warm_start: Path | None = None,
    settings: Mapping[str, ModalityConfig] | None = None,
) -> Features:
    """Read and standardise the vectors that stage features made of the known items.

    On a warm start, modalities of the same space get the standardisation of the other run; a warning names the others.

    Args:
        workdir: the run.
        item_ids: of its catalogue.
        warm_start: the folder of another run, from whose tokenizer the training starts.
        settings: of modalities by name; by default the defaults.

    Raises:
        PlumError: if vectors do not fit the catalogue, are all the same or leave nothing to quantise, or if the other
            run's tokenizer removed something else from them.
    """
    names = list(inputs.read_modalities(workdir))
    known = inputs.read_known(workdir, item_ids)
    present = read_present(workdir, names, item_ids)[known]
    known_ids = item_ids[known]
    origin = None if warm_start is None else warm.Origin.read(warm_start, known_ids)
    modalities, vectors, usual = [], [], ModalityConfig()
    for name, there in zip(names, present.T, strict=True):
        found = inputs.read_vectors(workdir, name, len(item_ids))
        found = found if known.all() else found[known]
        refuse_useless(Encoded(found, there), name, known_ids.tolist())
        gaps = None if there.all() else there
        standardisation = None if origin is None else origin.standardisation(name, found, there)
        chosen = (settings or {}).get(name, usual)
        if standardisation is not None and standardisation.isotropy != chosen.isotropy:
            raise PlumError(
                f"tokenize.warm_start: the vectors of modality {name!r} were prepared in another way there",
                f"isotropy {chosen.isotropy} here, {standardisation.isotropy} there",
                f"set features.modalities.{name}.isotropy to {standardisation.isotropy}",
            )
        standardisation = standardisation or fit_standardisation(found, name, gaps, chosen.isotropy)
        modalities.append(Modality(name, standardisation, gaps is None, chosen.weight))
        vectors.append(standardisation.apply(found, gaps))
        if vectors[-1].shape[1] > 1 and (cosine := mean_cosine(vectors[-1], there) or 0.0) > ALIKE:
            logger.warning(
                "tokenize: the mean cosine of two items' vectors of %s is %.2f as they are quantised; set "
                "features.modalities.%s.isotropy to centre, whiten or all-but-the-top",
                name,
                cosine,
                name,
            )
    if origin is not None:
        origin.warn_of_other_spaces()
    features = Features(modalities, vectors, present)
    if features.n_bare:
        logger.warning("tokenize: %d items have no content, so their codes can't differ by content", features.n_bare)
    return features


def described(workdir: Path, features: Features) -> dict[str, dict[str, Any]]:
    """What each modality brings to the Semantic IDs, as ``quality.json`` holds it.

    ``mean_cosine`` and ``items_sharing_vectors`` are of the features stage, ``mean_cosine_after`` of what is quantised.
    """
    made = inputs.read_modalities(workdir)
    told = {}
    for modality, vectors, there in zip(features.modalities, features.vectors, features.present.T, strict=True):
        told[modality.name] = {
            "dimensions": modality.width,
            "weight": modality.weight,
            "isotropy": modality.standardisation.isotropy,
            "present": float(there.mean()),
            "mean_cosine": made[modality.name].get("mean_cosine"),
            "mean_cosine_after": mean_cosine(vectors, there),
            "items_sharing_vectors": made[modality.name].get("items_sharing_vectors"),
        }
    return told


def warm_weights(settings: TokenizeConfig, features: Features, sizes: list[int]) -> dict[str, Tensor] | None:
    """The weights of the warm start; None if there is none.

    Raises:
        PlumError: if they don't fit this tokenizer's modalities, sizes or shape.
    """
    if settings.warm_start is None:
        return None
    widths = [(modality.name, modality.width) for modality in features.modalities]
    return weights_for(settings.warm_start / artifacts.TOKENIZE, widths, sizes, shape_of(settings))


def shape_of(settings: TokenizeConfig) -> Shape:
    """The shape of the configured model."""
    return Shape(settings.latent_dim, settings.hidden_dim, settings.codebook_updates == "ema")


def read_present(workdir: Path, names: list[str], item_ids: pd.Series) -> np.ndarray:
    """Which items have which modality, (N, M) bool; all True if the run has no such file."""
    if not has_file(workdir, artifacts.PRESENT):
        return np.ones((len(item_ids), len(names)), dtype=bool)
    table = artifacts.read_table(workdir / artifacts.PRESENT, ["item_id", *names])
    if not table["item_id"].equals(item_ids):
        path = workdir / artifacts.PRESENT
        found = f"{len(table):,} rows, {len(item_ids):,} items; ids or their order differ"
        raise PlumError(f"{path} is not of this catalogue", found, artifacts.made_again_by(path))
    return table[names].to_numpy(dtype=bool, copy=True)  # torch needs a writable array


def choose_sizes(settings: TokenizeConfig, n_items: int, n_later: int = 0) -> tuple[list[int], str]:
    """Codes per level, and the reason for them.

    Args:
        settings: of the stage.
        n_items: items that the tokenizer learns from.
        n_later: the other items of the catalogue.

    Raises:
        PlumError: if a level has more codes than there are items to learn from.
    """
    sizes = settings.codebook_sizes or default_sizes(n_items)
    if max(sizes) > n_items:
        later = f"; {n_later:,} more items are not known before validation begins" if n_later else ""
        raise PlumError(
            f"{n_items:,} items are too few for {max(sizes):,} codes of a level",
            f"codebook sizes {list(sizes)}{later}",
            f"set tokenize.codebook_sizes to levels of at most {n_items:,} codes, such as [4, 4]",
        )
    reason = "as tokenize.codebook_sizes says"
    if not settings.codebook_sizes:
        counted, of = ("known items", "of them") if n_later else ("items", "of the catalogue")
        reason = (
            f"for {n_items:,} {counted}: the first level is the largest power of two within a sixth {of}, "
            "from 16 to 2,048, and each next one has half as many"
        )
    logger.info("tokenize: codebook sizes %s %s", "x".join(map(str, sizes)), reason)
    return list(sizes), reason


def warn_of_repeats(settings: TokenizeConfig, features: Features, sizes: list[int]) -> None:
    """Warn if a level has more codes than the catalogue has different vectors: the others can't be used."""
    if settings.method == "random":
        return
    distinct = len(np.unique(np.concatenate(features.vectors, axis=1), axis=0))
    if distinct < max(sizes):
        logger.warning(
            "tokenize: the %s items have %s different vectors, fewer than the %s codes of a level: at least %s of "
            "these codes stay unused, and items of one vector share theirs",
            *(f"{n:,}" for n in (len(features.present), distinct, max(sizes), max(sizes) - distinct)),
        )


def training_pairs(config: RunConfig, data: inputs.Prepared) -> Pairs:
    """Co-occurring pairs in training histories, if the method uses them.

    Raises:
        PlumError: for sessions of a source without times.
    """
    settings = config.tokenize
    if settings.method != "rqvae" or not settings.contrastive_weight:
        return Pairs(np.zeros((0, 2), dtype=np.int64))
    histories = data.histories.train
    if settings.pairs == "session":
        times = inputs.train_times(config.workdir)
        if times is None:
            raise PlumError(
                "tokenize.pairs is session, but the data have no times",
                "the source gives only the order of each user's interactions",
                "set tokenize.pairs to window",
            )
        histories = sessions(histories, times, settings.session_minutes)
    found = cooccurrence_pairs(histories, settings.cooccurrence_window)
    return by_pmi(found) if settings.pair_sampling == "pmi" else Pairs(found)

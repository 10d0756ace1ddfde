"""One typed config per stage; ``plum.config.file`` reads them from YAML and ``--set key=value``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from plum.config.base import Count, Length, Section, Seed, UserPath
from plum.config.blends import HYBRID, RETRIEVERS, hint, mistakes_in_blends, parts_of
from plum.config.data import DataConfig
from plum.config.dense import DenseConfig, LemConfig, combinations
from plum.config.items import FeaturesConfig, TokenizeConfig
from plum.config.language_model import CptConfig, FinetuneConfig


class EvalConfig(Section):
    """Stage eval: which retrievers are compared, and how. The dense baselines' settings are here too."""

    retrievers: list[str] | None = None
    """Retrievers to score, plum among them: any of popularity, recencypop, textknn, itemknn, counting, lem, dense,
    dense-mean, plum, hybrid, blend, and those of ``blends``. By default all that the data and this section allow, but
    hybrid (plum and dense by reciprocal rank), which is scored only where it is named. A baseline that is not listed is
    not trained."""
    blends: dict[str, list[str]] = Field(default={})
    """Convex combinations of retrievers, by name: ``{dense+counting: [dense, popularity, textknn, itemknn]}``. Weights
    are learnt on validation users (docs/evaluation.md). Two are there in any case: counting, of popularity, recencypop,
    textknn and itemknn, and blend, of all; naming one of them here gives it other parts. A blend can't be a part."""
    blend_depth: Annotated[int, Field(ge=10, le=10_000)] = 200
    """Items of each part's list that a blend looks at; of plum's at most the last of ``beams``."""
    dense: DenseConfig = DenseConfig()
    """The dense baseline."""
    lem: LemConfig | None = None
    """The large embedding model, a second baseline; left out by default, because its large tables train slowly.
    ``lem: {}`` adds it with its defaults."""
    cutoffs: list[Annotated[int, Field(ge=1, le=1000)]] = Field(default=[1, 5, 10, 20, 50], min_length=1)
    """Values of k for Recall@k, NDCG@k and MRR@k; 10 must be among them."""
    beams: Length | Annotated[list[Length], Field(min_length=1)] = 50
    """Beam width of plum's decoder: one number, or one per level of the Semantic IDs, the disambiguation code included.
    The last must reach the largest cutoff. Wider beams are slower and find more of the exact top items."""
    scores_over: Literal["codes", "legal", "vocabulary"] = "codes"
    """What a code's probability is normalised over (docs/decoding.md): all codes of its level, the codes that may
    follow its prefix, or the model's whole vocabulary."""
    filter_seen: bool = True
    """In the headline figures, never recommend items of the user's history; the other way is reported too. Set it to
    false if users often interact with the same item again."""
    counts: Literal["train", "train+valid"] = "train"
    """What popularity, recencypop and itemknn count for the test users. train: the training part, as the trained models
    learn from it; train+valid: the validation part too, which is known before the test. Settings are chosen with counts
    of the training part either way."""
    resamples: Annotated[int, Field(ge=1, le=10**7)] = 2000
    """Resamples of each permutation test."""
    cold_below: Count = 5
    """Items with fewer training interactions count as cold."""
    examples: Annotated[int, Field(ge=0, le=1000)] = 5
    """Users whose history and recommendations the report shows."""

    def wants(self, retriever: str) -> bool:
        """Whether a retriever is to be scored if the data have what it needs."""
        return retriever != HYBRID if self.retrievers is None else retriever in self.retrievers

    @property
    def blended(self) -> dict[str, tuple[str, ...]]:
        """The parts of each blend that is to be scored, by its name, in the order of reports."""
        wanted = [name for name in RETRIEVERS if self.wants(name)]
        return {name: parts for name, parts in parts_of(self.blends, wanted).items() if self.wants(name)}

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that a run trains: their sections, their folders in the run, and their retrievers."""
        there = ["dense"] if self.lem is None else ["dense", "lem"]
        return [name for name in there if self.wants(name)]

    @model_validator(mode="after")
    def _retrievers_known(self) -> EvalConfig:
        mistakes = mistakes_in_blends(self.blends, self.retrievers)
        names = self.retrievers
        if names is not None:
            known = [*RETRIEVERS, *(name for name in self.blends if name not in RETRIEVERS)]
            unknown = [name for name in dict.fromkeys(names) if name not in known]
            mistakes += [f"there is no retriever {name!r}; {hint(name, known)}" for name in unknown]
            if "plum" not in names:
                mistakes.append("retrievers must name plum: the others are compared with it")
            if HYBRID in names and "dense" not in names:
                mistakes.append("hybrid combines plum and dense, so it needs dense too")
            if "dense-mean" in names and "dense" not in names:
                mistakes.append("dense-mean is the mean of dense's trials, so it needs dense too")
            if len(set(names)) < len(names):
                mistakes.append("a retriever is named twice")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @model_validator(mode="after")
    def _lem_has_its_section(self) -> EvalConfig:
        naming = ["retrievers"] if "lem" in (self.retrievers or ()) else []
        naming += [f"blend {name}" for name, parts in self.blends.items() if "lem" in parts]
        if naming and self.lem is None:
            raise ValueError(f"{naming[0]} names lem, which needs a section eval.lem; `lem: {{}}` uses the defaults")
        return self

    @model_validator(mode="after")
    def _beams_reach(self) -> EvalConfig:
        last = self.beams if isinstance(self.beams, int) else self.beams[-1]
        if last < max(self.cutoffs):
            raise ValueError(f"beams {self.beams} is smaller than the largest cutoff {max(self.cutoffs)}")
        if 10 not in self.cutoffs:
            raise ValueError("cutoffs must include 10, the headline")
        return self


class RunConfig(Section):
    """A whole pipeline."""

    title: str = "plum"
    """Title of the report."""
    workdir: UserPath
    """Folder that all stages write to, by default ``runs/`` and the name of the configuration file."""
    seed: Seed = 0
    """Seed of everything random except the split and synthetic data, which have their own. The same seed on the same
    machine gives the same result."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where models are trained and run. auto: CUDA if there is one, then mps, else the CPU."""
    data: DataConfig
    """Stage data."""
    features: FeaturesConfig = FeaturesConfig()
    """Stage features."""
    tokenize: TokenizeConfig = TokenizeConfig()
    """Stage tokenize."""
    cpt: CptConfig = CptConfig()
    """Stage cpt."""
    finetune: FinetuneConfig = FinetuneConfig()
    """Stage finetune."""
    eval: EvalConfig = EvalConfig()
    """Stage eval, and the dense baselines' settings."""

    @property
    def codes_of_dense(self) -> bool:
        """Whether Semantic IDs encode the dense baseline's item vectors; the baseline is then trained first."""
        return any(modality.encoder == "dense" for modality in self.features.modalities.values())

    @property
    def taught_by_dense(self) -> bool:
        """Whether the dense baseline teaches fine-tuning; it is then trained first."""
        return self.finetune.teacher_weight > 0

    @property
    def taught_by_trials(self) -> bool:
        """Whether all trials of the baseline's search teach fine-tuning."""
        return self.taught_by_dense and self.finetune.teacher == "trials"

    @model_validator(mode="after")
    def _dense_is_there_and_fits(self) -> RunConfig:
        mistakes = []
        users = {"a modality with encoder dense": self.codes_of_dense, "finetune.teacher_weight": self.taught_by_dense}
        if not self.eval.wants("dense"):
            mistakes += [f"{n} needs the dense baseline: add dense to eval.retrievers" for n, u in users.items() if u]
        if self.finetune.teacher == "trials":
            if not self.taught_by_dense:
                mistakes.append("finetune.teacher trials has no effect while finetune.teacher_weight is 0")
            if not self.eval.dense.keep_trials:
                mistakes.append("finetune.teacher trials needs the weights of all trials: set eval.dense.keep_trials")
            if len(combinations(self.eval.dense.search)) < 2:
                mistakes.append("finetune.teacher trials needs two or more trials: give eval.dense.search more values")
        if "dense-mean" in (self.eval.retrievers or ()) and not self.eval.dense.n_kept:
            mistakes.append(
                "eval.retrievers names dense-mean, the mean of dense's trials: set eval.dense.keep_trials, and "
                "eval.dense.search to two or more trials"
            )
        searched = self.eval.dense.search.get("max_history")
        shortest = min(searched or [self.eval.dense.max_history])
        if self.taught_by_dense and shortest < self.finetune.max_history:
            mistakes.append(
                f"the teacher must see as much history as fine-tuning: eval.dense.{'search.' if searched else ''}"
                f"max_history is {shortest}, finetune.max_history is {self.finetune.max_history}; raise the first or "
                "lower the second"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

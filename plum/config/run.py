"""One typed config per stage; ``plum.config.file`` reads them from YAML and ``--set key=value``."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from plum.config.base import Count, Section, Seed, UserPath
from plum.config.data import DataConfig
from plum.config.items import FeaturesConfig, TokenizeConfig
from plum.config.models import CptConfig, DenseConfig, FinetuneConfig, LemConfig, combinations

RETRIEVERS = ("popularity", "recencypop", "textknn", "itemknn", "lem", "dense", "dense-mean", "plum", "hybrid")
"""All that stage eval can score, in the order of ``plum.stages.eval.field.ABOUT``, which says what they are."""


class EvalConfig(Section):
    """Which retrievers are compared, and how."""

    retrievers: list[str] | None = None
    """Which are scored, plum among them; by default all that the data and this section allow. A baseline that is not
    named is not trained either."""
    dense: DenseConfig = DenseConfig()
    lem: LemConfig | None = None
    """The large embedding model, if it is wanted beside the others: its tables are large and take long to train."""
    cutoffs: list[Count] = Field(default=[1, 5, 10, 20, 50], min_length=1)
    beams: Count | Annotated[list[Count], Field(min_length=1)] = 50
    """Beam width of plum's decoder: one number, or one per level of the Semantic IDs, disambiguation code counted."""
    scores_over: Literal["codes", "legal", "vocabulary"] = "codes"
    """What the probability of a code is normalised over (docs/decoding.md): its level's codes, the codes that may
    follow its prefix, or the model's whole vocabulary."""
    filter_seen: bool = True
    """Headline: items of the user's history are never recommended; the other way is reported beside it."""
    resamples: Count = 2000
    """Bootstrap and permutation resamples."""
    cold_below: Count = 5
    """An item with fewer training interactions than this is cold."""
    examples: Annotated[int, Field(ge=0)] = 5

    def wants(self, retriever: str) -> bool:
        """Whether a retriever is to be scored, where the data have what it needs."""
        return self.retrievers is None or retriever in self.retrievers

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that a run trains: their sections, their folders in the run, and their retrievers."""
        there = ["dense"] if self.lem is None else ["dense", "lem"]
        return [name for name in there if self.wants(name)]

    @field_validator("retrievers")
    @classmethod
    def _retrievers_known(cls, names: list[str] | None) -> list[str] | None:
        mistakes = []
        for name in dict.fromkeys(names or ()):
            if name not in RETRIEVERS:
                near = difflib.get_close_matches(name, RETRIEVERS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(RETRIEVERS)}"
                mistakes.append(f"there is no retriever {name!r}; {hint}")
        if names is not None and "plum" not in names:
            mistakes.append("plum must be among them, the others are what it is compared with")
        if names is not None and "hybrid" in names and "dense" not in names:
            mistakes.append("hybrid is of plum and dense, so it needs dense too")
        if names is not None and "dense-mean" in names and "dense" not in names:
            mistakes.append("dense-mean is the mean of dense's trials, so it needs dense too")
        if len(set(names or ())) < len(names or ()):
            mistakes.append("a retriever is named twice")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return names

    @model_validator(mode="after")
    def _lem_has_its_section(self) -> EvalConfig:
        if self.retrievers is not None and "lem" in self.retrievers and self.lem is None:
            raise ValueError("retrievers names lem, which needs a section eval.lem; `lem: {}` takes the defaults")
        return self

    @model_validator(mode="after")
    def _beams_reach(self) -> EvalConfig:
        last = self.beams if isinstance(self.beams, int) else self.beams[-1]
        if last < max(self.cutoffs):
            raise ValueError(f"beams {self.beams} is smaller than the largest cutoff {max(self.cutoffs)}")
        if 10 not in self.cutoffs:
            raise ValueError("cutoffs must hold 10, the headline")
        return self


class RunConfig(Section):
    """A whole pipeline."""

    title: str = "plum"
    workdir: UserPath
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    tokenize: TokenizeConfig = TokenizeConfig()
    cpt: CptConfig = CptConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def codes_of_dense(self) -> bool:
        """Whether Semantic IDs are made of the dense baseline's item vectors, so that it is trained before them."""
        return any(modality.encoder == "dense" for modality in self.features.modalities.values())

    @property
    def taught_by_dense(self) -> bool:
        """Whether fine-tuning learns from the dense baseline, so that it is trained before."""
        return self.finetune.teacher_weight > 0

    @property
    def taught_by_trials(self) -> bool:
        """Whether it learns from all trials of the baseline's search."""
        return self.taught_by_dense and self.finetune.teacher == "trials"

    @model_validator(mode="after")
    def _dense_is_there_and_fits(self) -> RunConfig:
        mistakes = []
        users = {"a modality with encoder dense": self.codes_of_dense, "finetune.teacher_weight": self.taught_by_dense}
        if not self.eval.wants("dense"):
            mistakes += [
                f"{n} needs the dense baseline, which eval.retrievers leaves out" for n, u in users.items() if u
            ]
        if self.finetune.teacher == "trials":
            if not self.taught_by_dense:
                mistakes.append("finetune.teacher trials teaches nothing at finetune.teacher_weight 0")
            if not self.eval.dense.keep_trials:
                mistakes.append("finetune.teacher trials needs the weights of all: set eval.dense.keep_trials")
            if len(combinations(self.eval.dense.search)) < 2:
                mistakes.append("finetune.teacher trials needs more than one: eval.dense.search gives no choice")
        if "dense-mean" in (self.eval.retrievers or ()) and not self.taught_by_trials:
            mistakes.append("eval.retrievers names dense-mean, the mean of teachers: set finetune.teacher: trials")
        searched = self.eval.dense.search.get("max_history")
        shortest = min(searched or [self.eval.dense.max_history])
        if self.taught_by_dense and shortest < self.finetune.max_history:
            mistakes.append(
                f"a teacher must read finetune.max_history, {self.finetune.max_history} items, but "
                f"eval.dense.{'search.' if searched else ''}max_history is {shortest}: raise it, or lower the other"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

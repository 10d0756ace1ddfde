"""One typed config per stage; ``plum.config_file`` reads them from YAML and ``--set key=value``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from plum.config_data import Count, DataConfig, Section, Seed, UserPath
from plum.config_items import FeaturesConfig, TokenizeConfig
from plum.config_models import CptConfig, DenseConfig, FinetuneConfig, LemConfig


class EvalConfig(Section):
    """Which retrievers are compared, and how."""

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

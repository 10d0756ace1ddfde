"""Configuration of the language model: its pre-training and its fine-tuning."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from plum.config.base import (
    Batch,
    Count,
    Layers,
    Length,
    Rate,
    Section,
    Share,
    UserPath,
    Width,
    names_a_path,
)
from plum.config.corpus import CorpusConfig, with_short_form
from plum.config.lora import LoraConfig
from plum.config.training import RetrieverTrainingConfig

SCRATCH = "scratch"
"""The base that is no model: a new one with random weights."""


class ScratchModelConfig(Section):
    """Shape of the small Llama-type model that ``base: scratch`` trains from random weights."""

    hidden_size: Width = 128
    """Width of the model; a multiple of twice ``heads``."""
    layers: Layers = 4
    """Number of transformer blocks."""
    heads: Layers = 4
    """Attention heads per block."""
    intermediate_size: Width = 384
    """Width of the feed-forward layers."""
    text_vocabulary: Annotated[int, Field(ge=300, le=2**20)] = 2000
    """Size of the byte-level BPE vocabulary, without the tokens of Semantic IDs."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchModelConfig:
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of twice the heads, {2 * self.heads}")
        return self


class LanguageModelConfig(RetrieverTrainingConfig):
    """What pre-training and fine-tuning of the language model share."""

    learning_rate: Rate | None = None  # type: ignore[assignment]
    """Peak learning rate of AdamW. By default it follows the model: 2e-3 in cpt and 1e-3 in finetune for ``cpt.base:
    scratch``; for a pre-trained one PLUM's rates (section 3), from 1e-4 at 110M parameters to 2e-5 at 3B, or ten times
    that with ``lora``. A rate more than ten times higher or lower is warned of."""
    schedule: Literal["constant", "cosine", "wsd", "infinite"] | None = None  # type: ignore[assignment]
    """Learning rate after the warm-up. constant: the peak. cosine: down to ``final_rate``. wsd: the peak, then a decay
    over ``decay_share`` at the end (Hägele et al. 2024). infinite: down to ``plateau``, constant, then a decay at the
    end (Ibrahim et al. 2024); a later training can go on from the plateau's weights. For a pre-trained base, the
    warm-up is the re-warming of Ibrahim et al. By default a cosine, but constant in finetune for a pre-trained base, as
    in PLUM."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None  # type: ignore[assignment]
    """Number format of matrix products in training. auto: bfloat16 on CUDA, else float32. By default auto, and for a
    pre-trained base bfloat16 also on CPUs that have instructions for it."""
    lora: LoraConfig | None = None
    """Train small adapters instead of all weights (LoRA); null trains all."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout rate on the input embeddings and on every attention and feed-forward branch, in addition to the model's
    own."""
    max_steps: Count | None = None
    """Training steps in all, in place of ``epochs``; the last pass may be a part of one."""
    validate_steps: Count | None = None
    """Training steps between validations, in place of whole epochs."""
    micro_batch_size: Batch | None = None
    """Rows of a batch that each process holds in memory at a time; their gradients are added up. By default all of its
    rows. Where memory runs out, a training halves it by itself."""
    final_rate: Share = 0.1
    """Learning rate at the end of cosine, wsd and infinite, as a share of its peak."""
    decay_share: Annotated[float, Field(ge=0.001, le=1)] = 0.2
    """wsd, infinite: share of all steps in the decay at the end."""
    cooldown_share: Annotated[float, Field(ge=0.001, le=1)] = 0.2
    """infinite: share of all steps from the peak down to the plateau."""
    plateau: Annotated[float, Field(ge=0.001, le=1)] = 0.55
    """infinite: learning rate of the plateau, as a share of the peak."""
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """adamw-8bit keeps AdamW's moments in 8 bits, a quarter of their memory; needs the extra ``eight-bit``."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights, gradients and moments in training. bfloat16 halves their memory, but loses changes of a
    weight below a 256th of it: try it where float32 does not fit."""
    gradient_checkpointing: bool = False
    """Keep activations at the blocks' borders only and compute the others again: less memory, a third more work."""
    compile: bool = False
    """Compile the model with ``torch.compile``. The first steps take minutes; needs a C++ compiler on CPUs."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How the processes of ``torchrun`` or ``accelerate launch`` share a training. ddp: each holds the whole model.
    fsdp: each holds a shard of weights, gradients and moments (FSDP2). auto: fsdp after ``accelerate launch
    --use_fsdp``, else ddp."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default=[])
    """Trackers that get the training curve besides ``train_log.jsonl``, in ``tracking/`` of the run; they need the
    extra ``track``."""

    @model_validator(mode="after")
    def _settings_fit(self) -> LanguageModelConfig:
        if self.lora and self.parallel == "fsdp":
            raise ValueError("lora is not supported with parallel: fsdp; set parallel to ddp")
        if self.schedule == "infinite" and not self.final_rate:
            raise ValueError("schedule infinite decays by a factor, so final_rate must be above 0")
        shares = {"wsd": self.decay_share, "infinite": self.decay_share + self.cooldown_share}
        if self.warmup_share + shares.get(str(self.schedule), 0.0) > 1 + 1e-9:
            raise ValueError(f"the parts of schedule {self.schedule} are more than the whole training")
        return self


ADDED = (
    *("max_steps", "validate_steps", "final_rate", "decay_share", "cooldown_share", "plateau"),
    *("optimizer", "weights"),
)
"""Settings of the language model that came later and change nothing by default."""


class MeasureConfig(Section):
    """What continued pre-training is measured on, before, during and after it (docs/run-files.md).

    A measurement costs a pass over the documents of ``users`` users and ``items`` items, a beam search for each of
    them, and a title and topics written token by token for each item.
    """

    every_steps: Count | None = None
    """Steps between measurements during the training. By default, a quarter of its steps."""
    users: Annotated[int, Field(ge=0, le=10**6)] = 100
    """Held-out users (``corpus.held_out``) whose documents are measured, and validation users whose next item is
    decoded, at most."""
    items: Annotated[int, Field(ge=0, le=10**6)] = 100
    """Held-out items whose documents are measured, and whose titles, topics and Semantic IDs are asked for, at most."""
    text: UserPath | None = None
    """A plain text file in UTF-8: what the model knows of general text is measured on it, before and after."""
    characters: Count = 20_000
    """Of this text, for the bits per character."""
    gaps: Annotated[int, Field(ge=0, le=10**5)] = 100
    """Last words of its sentences that the model is to guess."""


class CptConfig(LanguageModelConfig):
    """Stage cpt: continued pre-training (PLUM section 2.2)."""

    enabled: bool = True
    """Train. If false, the base stays as it is but for the embeddings of the new tokens: the control without continued
    pre-training."""
    epochs: Count = 10
    """Passes over the users' histories, or what ``corpus.unit`` makes of them."""
    batch_size: Batch = 32
    """Blocks of ``context_length`` tokens per training step."""
    base: Annotated[str, BeforeValidator(names_a_path), AfterValidator(os.path.expanduser)] = SCRATCH
    """``scratch`` for a small model with random weights; or a decoder-only model: a local folder, a hub id, a ``.gguf``
    file, or ``package:NAME`` for one that an installed Python package holds; see docs/bases.md."""
    scratch: ScratchModelConfig = ScratchModelConfig()
    """Shape of the model if ``base`` is ``scratch``."""
    context_length: Annotated[int, Field(ge=16, le=2**20)] = 256
    """Tokens per block of training text. Blocks hold whole documents; no document sees another one of its block."""
    max_history: Length = 50
    """Items per document of a user's history; longer histories are cut into several."""
    corpus: CorpusConfig = CorpusConfig()
    """What is read. ``behaviour_share: 0.7`` in this section is short for weights of 0.7 and 0.3 for behaviour and
    metadata."""
    measure: MeasureConfig = MeasureConfig()
    """What is measured of the model, beside its training loss."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return with_short_form(given)


class FinetuneConfig(LanguageModelConfig):
    """Stage finetune: generative retrieval, history -> the next item's SID (PLUM section 2.3)."""

    epochs: Count = 30
    """Passes over the training histories, at most; see ``patience``."""
    batch_size: Batch = 16
    """Histories (or parts of long ones) per training step."""
    max_history: Length = 50
    """Most recent items of a history that the model sees (PLUM: about the last 100 watches)."""
    history_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropping each item of a training history, drawn again every epoch. Raise it if the validation
    loss rises during training."""
    loss_over: Literal["vocabulary", "level"] = "vocabulary"
    """Tokens over which the model's probabilities sum to one in the loss: all of the vocabulary, or the codes of the
    label's level only, which costs less. In decoding, ``eval.scores_over`` says it."""
    teacher_weight: Share = 0.0
    """Knowledge distillation: the teacher's share of each training label. The teacher is the dense baseline, which
    gives probabilities of the next codes; the rest of the label is the observed next item. Above 0, the baseline is
    trained before this stage."""
    teacher: Literal["chosen", "trials"] = "chosen"
    """The teacher: the model chosen by the baseline's search, or the mean score of the models of all its trials
    (``trials``, which needs ``eval.dense.keep_trials``)."""
    patience: Count = 5
    """Stop after this many validations without a better Recall@10."""
    validation_users: Count = 2000
    """Each validation decodes at most this many users, drawn by the seed."""
    validation_beams: Length = 20
    """Beam width in validation. A smaller one is faster than ``eval.beams``, and slightly less exact."""
    validate_every: Count = 1
    """Epochs between validations. Raise it if decoding takes a large part of each epoch's time."""

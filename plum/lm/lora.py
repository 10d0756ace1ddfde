"""LoRA: small adapters are trained, the model's own weights are not (Hu et al. 2021); by peft.

The rows of new tokens are trained in full, since the model knows nothing of them. Afterwards all is merged: the model
is a plain one again, and the adapter can be kept beside it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from plum.errors import PlumError
from plum.lm.rows import TrainedRows, merge_rows, train_rows
from plum.run.writing import write_tensors, write_text

logger = logging.getLogger(__name__)

INSTALL = "pip install 'plum-recommender[lora]'"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class Adaptation:
    """Shape of an adapter.

    Attributes:
        r: rank.
        alpha: the adapter's output is scaled by ``alpha / r``.
        dropout: rate on the adapter's input.
        targets: last names of the linear layers that get one; None for all but the output head.
    """

    r: int
    alpha: float
    dropout: float = 0.0
    targets: Sequence[str] | None = None


def is_installed() -> bool:
    """Whether peft is there."""
    return importlib.util.find_spec("peft") is not None


class Adapter:
    """A model's adapter in training; the model itself is changed in place and used as before.

    Args:
        model: on its device.
        shape: of the adapter.
        token_ids: the tokens whose rows are trained in full.
        base: the model's name, for the adapter's configuration.

    Raises:
        PlumError: if peft is not installed, or the model lacks a target.
    """

    def __init__(self, model: PreTrainedModel, shape: Adaptation, token_ids: Sequence[int], base: str) -> None:
        if not is_installed():
            raise PlumError("lora needs peft, which is not installed", None, f"install it: {INSTALL}")
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=shape.r,
            lora_alpha=shape.alpha,  # type: ignore[arg-type]
            lora_dropout=shape.dropout,
            target_modules=_targets(model, shape.targets),
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            task_type="CAUSAL_LM",
        )
        self.model, self.base = model, base
        self._token_ids = torch.tensor(sorted(set(token_ids)), device=model.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, for what peft asks of it
            self._peft: Any = get_peft_model(model, config)
        self._rows = train_rows(model, self._token_ids)
        trained, every = trained_parameters(model), model.num_parameters()
        logger.info("lora: %s of %s parameters are trained", f"{trained:,}", f"{every:,}")

    def finish(self, folder: Path) -> None:
        """Write the adapter in peft's format and merge it: the model is a plain one again.

        Raises:
            PlumError: if it can't be written.
        """
        tensors, config = self._stored()
        write_tensors(folder / WEIGHTS, tensors)
        write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
        self.merge()

    def merge(self) -> None:
        """Add the adapter to the model's weights and put the trained rows in their places."""
        self._peft.merge_and_unload()
        merge_rows(self.model)
        vars(self.model).pop("peft_config", None)
        self.model.requires_grad_(True)

    def _stored(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The adapter's tensors and configuration; the trained rows are what peft calls trainable tokens."""
        from peft import get_peft_model_state_dict

        tensors = get_peft_model_state_dict(self._peft, save_embedding_layers=False)
        tensors = {name: tensor for name, tensor in tensors.items() if "lora_" in name}
        layers: dict[nn.Module | None, TrainedRows] = {self.model.get_input_embeddings(): self._rows.of_input}
        if self._rows.of_head is not self._rows.of_input:
            layers[self.model.get_output_embeddings()] = self._rows.of_head
        ids = {}
        for name, module in self.model.named_modules():
            if module in layers:
                ids[name.rpartition(".")[2]] = self._token_ids.tolist()
                tensors[f"base_model.model.{name}.token_adapter.trainable_tokens_delta"] = layers[module].weight
        config = self._peft.peft_config["default"].to_dict()
        config |= {"base_model_name_or_path": self.base, "inference_mode": True, "trainable_token_indices": ids}
        config["target_modules"] = sorted(config["target_modules"])
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, config


def trained_parameters(model: nn.Module) -> int:
    """Number of the parameters that an optimizer changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _targets(model: PreTrainedModel, asked: Sequence[str] | None) -> list[str]:
    """Last names of the linear layers that get an adapter.

    Raises:
        PlumError: naming all that there are, if one is asked for that is not there.
    """
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if _is_linear(module) and module is not head]
    there = sorted({name.rpartition(".")[2] for name in linear})
    wanted = there if asked is None else list(asked)
    lacking = [name for name in wanted if name not in there]
    if lacking or not wanted:
        raise PlumError(
            f"lora.targets: {type(model).__name__} has no linear layer called {' or '.join(lacking) or 'anything'}",
            f"it has: {', '.join(there) or 'none'}",
            "name some of these, or leave targets out for all of them",
        )
    return wanted


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)

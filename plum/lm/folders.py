"""The one door through which language models come in: folders of a base (:mod:`plum.lm.bases`) and of a run's stages.

Whatever the folder holds, the result is a usable model or a ``PlumError`` that names the file. Before memory is taken
for a model, its configuration is compared with the headers of its weights. Code that a folder brings is never run.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from plum import model_files
from plum.lm.architectures import why_not
from plum.model_files import Folder, Stored
from plum.run.writing import WORKDIR, bytes_of, write_errors

# Its progress bars for loading and saving would interfere with ours and with the log.
hf_logging.disable_progress_bar()

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
LARGEST_BUFFERS = 1 << 28  # numbers: tables of positions and the like, which are made, not read


def read_model(folder: Folder) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The decoder-only model and the tokenizer that a folder holds, in float32.

    Raises:
        PlumError: if it can't be loaded or used.
    """
    model, tokenizer = _load(folder, _read_config(folder))
    regular, rows = _regular_tokens(tokenizer), _rows(model)
    if regular > rows:
        raise folder.refusal(f"the tokenizer has {regular:,} tokens, the model's embedding {rows:,} rows")
    return model, tokenizer


def check_folder(folder: Folder) -> None:
    """Look at a folder's configuration and the headers of its weights.

    Raises:
        PlumError: if they tell that it can't be used.
    """
    model_files.check_json(folder)
    _check_sizes(folder, _read_config(folder))


def run_model(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that a stage of a run wrote, in float32.

    Args:
        path: the model's folder, WORKDIR/STAGE/model.

    Raises:
        PlumError: if it is damaged, naming the file and the command.
    """
    again = f"plum {path.parent.name} --workdir {path.parent.parent} --force"
    folder = Folder(path, f"the language model in {path} can't be used", f"make it again with `{again}`")
    if not path.is_dir():
        raise folder.refusal("no such folder")
    if (where := model_files.own_code(folder)) is not None:
        raise folder.refusal(f"it asks for code of its own ({where}), which plum never writes and never runs")
    model, tokenizer = _load(folder, _read_config(folder))
    highest, rows = max(tokenizer.get_vocab().values()), _rows(model)
    if highest >= rows:
        raise folder.refusal(f"the tokenizer has a token {highest:,}, the model's embedding {rows:,} rows")
    _check_added(folder, tokenizer)
    return model, tokenizer


def save_model_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, elsewhere: str = WORKDIR
) -> None:
    """Save a model (safetensors) and its tokenizer as one Hugging Face folder, without references to foreign code.

    Args:
        model, tokenizer: to be saved.
        folder: to write into.
        elsewhere: the option that names another place, for the message.

    Raises:
        PlumError: if it can't be written.
    """
    vars(model.config).pop("auto_map", None)
    tokenizer.init_kwargs.pop("auto_map", None)
    with write_errors(folder, bytes_of(model), elsewhere):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _read_config(folder: Folder) -> PreTrainedConfig:
    """The folder's configuration, of a model that plum supports.

    Raises:
        PlumError: if it is no such one.
    """
    where = model_files.own_code(folder)
    if (folder.path / "adapter_config.json").exists():
        raise folder.refusal("it is an adapter (adapter_config.json)", "merge it with its model and save the result")
    settings = model_files.read_object(folder, model_files.CONFIG)
    kind = settings.get("model_type")
    known = CONFIG_MAPPING[kind] if isinstance(kind, str) and kind in CONFIG_MAPPING else None
    if known is not None and known not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise folder.refusal(f"model type {known.model_type} ({known.__name__}) is no decoder-only language model")
    n_tensors = len(model_files.stored_tensors(folder, model_files.weight_files(folder)))
    model_files.check_numbers(folder, model_files.CONFIG, n_tensors)
    if settings.get("quantization_config") is not None:
        raise folder.refusal("its weights are quantised (quantization_config in config.json)", "get it unquantised")
    try:
        config: Any = guarded(lambda: AutoConfig.from_pretrained(folder.path, trust_remote_code=False))
    except Exception as error:  # damaged files may raise anything
        if where is not None:
            raise folder.refusal(
                f"model type {settings.get('model_type')!r} needs code of its own ({where}), which plum never runs",
                "choose a model of an architecture that transformers itself has",
            ) from None
        raise folder.reason(model_files.CONFIG, error) from None
    if (reason := unusable(config)) is not None:
        raise folder.refusal(reason, "choose a model that docs/decoding.md lists as working")
    if where is not None:
        logger.warning("cpt.base: %s brings code of its own (%s), which is not used", folder.path, where)
    return config


def unusable(config: PreTrainedConfig) -> str | None:
    """Why a configuration is of no causal language model that plum can use; None if it is of one."""
    if getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"model type {config.model_type} ({type(config).__name__}) is no decoder-only language model"
    return why_not(config)


def _check_sizes(folder: Folder, config: PreTrainedConfig) -> None:
    """Refuse weights that are not those of the configuration's model, by the headers of their files.

    Raises:
        PlumError: if the weights hold fewer numbers than the model has, or integers.
    """
    stored = model_files.stored_tensors(folder, model_files.weight_files(folder))
    try:
        with torch.device("meta"):
            shape: Any = guarded(
                lambda: AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=False)
            )
    except Exception as error:
        raise folder.reason(model_files.CONFIG, error) from None
    parameters: dict[str, Tensor] = dict(shape.named_parameters())
    needed = sum(parameter.numel() for parameter in parameters.values())
    held = sum(tensor.numbers for tensor in stored.values())
    if needed > held:
        differing = _differing(parameters, stored)
        raise folder.refusal(
            f"config.json describes a model of {needed:,} numbers, the weights hold {held:,}{differing}"
        )
    made = sum(buffer.numel() for buffer in shape.buffers())
    if made > max(held, LARGEST_BUFFERS):
        raise folder.refusal(f"config.json describes tables of {made:,} numbers beside the weights' {held:,}")
    for name, tensor in stored.items():
        if not tensor.is_float and (name in parameters or name.endswith("weight")):
            raise folder.refusal(
                f"{tensor.file}: {name} is of type {tensor.dtype}; plum reads float32, bfloat16 and float16"
            )


def _differing(parameters: dict[str, Tensor], stored: dict[str, Stored]) -> str:
    """The first weight of another shape or, if there is none, the first missing one, in words."""
    for name, parameter in parameters.items():
        if name in stored and stored[name].shape != tuple(parameter.shape):
            shapes = f"{list(parameter.shape)} there, {list(stored[name].shape)} here"
            return f" (the first difference: {name} is {shapes})"
    missing = next((name for name in parameters if name not in stored), None)
    return "" if missing is None else f" (missing is {missing})"


def _load(folder: Folder, config: PreTrainedConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, all of their files checked."""
    model_files.check_json(folder)
    _check_sizes(folder, config)
    tokenizer = _read_tokenizer(folder)
    try:
        loaded: Any = guarded(
            lambda: AutoModelForCausalLM.from_pretrained(
                folder.path,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported, and refused below
                output_loading_info=True,
            )
        )
    except Exception as error:  # damaged files may raise anything
        raise folder.reason(", ".join(model_files.weight_files(folder)[:3]), error) from None
    model, report = loaded
    _check_report(folder, report)
    _check_weights(folder, model)
    _check_vocabulary(folder, tokenizer, _rows(model))
    return model, tokenizer


def _check_report(folder: Folder, report: dict[str, Any]) -> None:
    """Refuse a model with weights that were not in the files, and would be random."""
    if missing := sorted(report["missing_keys"]):
        raise folder.refusal(f"{len(missing)} of its weights are missing (they would be random), such as {missing[0]}")
    if other := sorted(map(str, report.get("mismatched_keys") or [])):
        raise folder.refusal(f"{len(other)} of its weights don't fit config.json, the first is {other[0]}")
    if errors := report.get("error_msgs") or report.get("conversion_errors"):
        raise folder.refusal(f"its weights can't be converted: {str(errors)[:200]}")


def _check_weights(folder: Folder, model: PreTrainedModel) -> None:
    """Refuse weights with NaN or infinity, and an embedding or output head of zeros."""
    heads = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if _has(layer)]
    all_zero = True
    for name, weight in model.named_parameters():
        low, high = weight.detach().aminmax() if weight.numel() else (weight.new_zeros(()), weight.new_zeros(()))
        if not torch.isfinite(low) or not torch.isfinite(high):
            raise folder.refusal(f"the weights hold NaN or infinity: {name}")
        is_zero = bool(low == 0) and bool(high == 0)
        if is_zero and any(weight is head for head in heads):
            raise folder.refusal(f"all numbers of {name} are 0")
        all_zero &= is_zero or weight.ndim < 2
    if all_zero:
        raise folder.refusal("all weights are 0")


def _has(layer: nn.Module | None) -> bool:
    return isinstance(getattr(layer, "weight", None), Tensor)


def _read_tokenizer(folder: Folder) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, with a padding token."""
    files = sorted(
        path.name
        for path in folder.path.iterdir()
        if path.suffix in {".json", ".model", ".txt", ".tiktoken"}
        and path.name not in {model_files.CONFIG, model_files.SHARDS, "generation_config.json"}
    )
    name = "tokenizer.json" if "tokenizer.json" in files else ", ".join(files[:3]) or "tokenizer.json"
    try:
        tokenizer: Any = guarded(
            lambda: AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
        )
    except Exception as error:  # damaged files may raise anything
        raise folder.reason(name, error) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise folder.refusal("its tokenizer has neither a padding nor an end token", "add one of them")
    return tokenizer  # type: ignore[no-any-return]


def _check_vocabulary(folder: Folder, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Refuse a tokenizer without words, or whose ids would take a far larger embedding than there is."""
    vocabulary = tokenizer.get_vocab()
    if _regular_tokens(tokenizer) < 1 or not vocabulary:
        raise folder.refusal("its tokenizer has an empty vocabulary")
    highest = max(vocabulary.values())
    if highest > max(rows, len(vocabulary)) + 4096:
        raise folder.refusal(f"its tokenizer has a token {highest:,}, the model's embedding {rows:,} rows")
    for role in ("eos_token_id", "pad_token_id", "bos_token_id"):
        number = getattr(tokenizer, role)
        if number is not None and not 0 <= number <= highest:
            raise folder.refusal(f"{role} of its tokenizer is {number}, its highest token {highest:,}")


def _check_added(folder: Folder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse added tokens, of which the codes are some, with other ids than their file gives: the library renumbers."""
    if not (folder.path / "tokenizer.json").exists():
        return
    vocabulary = tokenizer.get_vocab()
    for entry in model_files.read_object(folder, "tokenizer.json").get("added_tokens") or ():
        name, number = entry.get("content"), entry.get("id")
        if vocabulary.get(name) != number:
            raise folder.refusal(f"tokenizer.json: {name!r} can't have the id {number}")


def _regular_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the vocabulary itself, without those that were added later."""
    return int(tokenizer.vocab_size)


def _rows(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def guarded(call: Callable[[], Result]) -> Result:
    """Call into a library; a panic of tokenizers' or safetensors' Rust, which is no ``Exception``, becomes one."""
    try:
        return call()
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError(str(error)) from None

"""The door for model folders: what is damaged, odd or hostile is refused by file and reason, and no code of it runs."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from plum.errors import PlumError
from plum.lm import bases, folders, vocab

SIZES = (6, 3)
TEXTS = ["Item has title: Heat (1995)", "The topics in item are: Action, Crime", "wh = naïve café"] * 3
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the tokens of codes, as a stage writes it."""
    folder = tmp_path_factory.mktemp("run") / "cpt" / "model"
    tokenizer = vocab.train_tokenizer(TEXTS, 300)
    vocab.add_sid_tokens(tokenizer, SIZES)
    torch.manual_seed(0)
    model = vocab.scratch_model(vocab.ScratchShape(16, 2, 2, 32), tokenizer, context_length=64)
    folders.save_model_folder(model, tokenizer, folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.CRITICAL)
    return Path(shutil.copytree(made, tmp_path / "cpt" / "model"))


def edit(name: str, **values: Any) -> Damage:
    """Damage that sets keys of a JSON file; None takes a key away."""

    def damage(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        settings.update(values)
        (folder / name).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))

    return damage


def config(**values: Any) -> Damage:
    return edit("config.json", **values)


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def take(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def halve(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def zero(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size))


def zero_numbers(folder: Path) -> None:
    file = folder / "model.safetensors"
    start = 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    file.write_bytes(file.read_bytes()[:start] + bytes(file.stat().st_size - start))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def tokenizer_part(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        parts = json.loads((folder / "tokenizer.json").read_text())
        change(parts)
        (folder / "tokenizer.json").write_text(json.dumps(parts))

    return damage


def empty_vocabulary(parts: dict[str, Any]) -> None:
    parts["model"].update(vocab={}, merges=[])


def as_pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def shard(map_to: str | None = None, keep: bool = True) -> Damage:
    """The weights in two files with an index."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
        parts: list[dict[str, torch.Tensor]] = [{}, {}]
        for number, (name, tensor) in enumerate(tensors.items()):
            parts[number % 2][name] = tensor
        for name, part in zip(names, parts, strict=True):
            save_file(part, folder / name, metadata={"format": "pt"})
        if not keep:
            (folder / names[1]).unlink()
        where = {name: map_to or names[number % 2] for number, name in enumerate(tensors)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))

    return damage


LAYER = "model.layers.0.self_attn.q_proj.weight"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "half weights": (halve("model.safetensors"), "model.safetensors can't be read"),
    "empty weights": (write("model.safetensors", b""), "model.safetensors can't be read"),
    "zeroed weights": (zero("model.safetensors"), "model.safetensors can't be read"),
    "no weights": (take("model.safetensors"), "model.safetensors is missing"),
    "a pipe": (as_pipe, "model.safetensors is not a plain file"),
    "a pickle": (as_pickle, "pytorch_model.bin is a pickle"),
    "numbers of zero": (zero_numbers, "all numbers of model.embed_tokens.weight are 0"),
    "NaN": (weights(lambda t: t[LAYER].view(-1)[3:4].fill_(float("nan"))), f"NaN or infinity: {LAYER}"),
    "infinity": (weights(lambda t: t[LAYER].view(-1)[3:4].fill_(-float("inf"))), f"NaN or infinity: {LAYER}"),
    "integers": (weights(lambda t: t.update({LAYER: t[LAYER].int()})), f"{LAYER} is of type I32"),
    "bytes": (weights(lambda t: t.update({LAYER: t[LAYER].byte()})), f"{LAYER} is of type U8"),
    "a weight less": (weights(lambda t: t.pop(LAYER)), f"missing is {LAYER}"),
    "another name": (weights(lambda t: t.update({"x": t.pop(LAYER)})), f"weights are missing.*{LAYER}"),
    "another shape": (weights(lambda t: t.update({LAYER: t[LAYER][:8].repeat(1, 2).clone()})), LAYER),
    "too small": (
        weights(lambda t: t.update({LAYER: t[LAYER][:8].clone()})),
        rf"{LAYER} is \[16, 16\] there, \[8, 16\]",
    ),
    "no tensors": (weights(lambda t: t.clear()), "no tensor"),
    "half config": (halve("config.json"), "config.json can't be read"),
    "empty config": (write("config.json", b""), "config.json can't be read"),
    "zeroed config": (zero("config.json"), "config.json can't be read"),
    "a list": (write("config.json", b"[]"), "config.json holds a list"),
    "deep": (write("config.json", b"[" * 100_000), "config.json can't be read: RecursionError"),
    "no kind": (config(model_type=None), "config.json can't be read"),
    "half generation config": (halve("generation_config.json"), "generation_config.json can't be read"),
    "empty generation config": (write("generation_config.json", b""), "generation_config.json can't be read"),
    "half tokenizer": (halve("tokenizer.json"), "tokenizer.json can't be read"),
    "empty tokenizer": (write("tokenizer.json", b""), "tokenizer.json can't be read"),
    "a tokenizer of nothing": (write("tokenizer.json", b"{}"), "tokenizer.json can't be read"),
    "no tokenizer": (take("tokenizer.json"), "tokenizer"),
    "half tokenizer config": (halve("tokenizer_config.json"), "tokenizer_config.json can't be read"),
    "10^9 layers": (config(num_hidden_layers=10**9), "num_hidden_layers is 1,000,000,000"),
    "1000 layers": (config(num_hidden_layers=1000), "num_hidden_layers is 1,000, but the weights are 20 tensors"),
    "a width of 10^9": (config(hidden_size=10**9, head_dim=8), "describes a model of .* numbers, the weights hold"),
    "a vocabulary of 2^40": (config(vocab_size=2**40), "describes a model of .* numbers"),
    "a vocabulary of 2^50": (config(vocab_size=2**50), "vocab_size is 1,125,899,906,842,624"),
    "10^9 labels": (config(num_labels=10**9), "num_labels is 1,000,000,000"),
    "a smaller vocabulary": (config(vocab_size=100), "don't fit config.json|describes"),
    "a negative width": (config(hidden_size=-16), "config.json"),
    "text for a number": (config(hidden_size="wide"), "config.json can't be read"),
    "an infinite number": (write("config.json", b'{"model_type": "llama", "hidden_size": 1e999}'), "config.json"),
    "a fine one, quantised": (config(quantization_config={"quant_method": "bitsandbytes"}), "quantised"),
    "an adapter": (write("adapter_config.json", b"{}"), "adapter"),
    "an empty vocabulary": (tokenizer_part(empty_vocabulary), "empty vocabulary|can't be read"),
    "a missing shard": (shard(keep=False), "model-00002-of-00002.safetensors is missing"),
    "a shard elsewhere": (shard("../model.safetensors"), r"names '../model.safetensors', which is no safetensors file"),
    "an absolute shard": (shard("/etc/x.safetensors"), "no safetensors file of this folder"),
    "a shard that is a pickle": (shard("pytorch_model.bin"), "no safetensors file of this folder"),
    "weights elsewhere": (config(transformers_weights="../x.safetensors"), "transformers_weights in config.json"),
    "a kernel of the hub": (config(attn_implementation="someone/kernel"), "attn_implementation in config.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_of_a_run_names_the_file_and_the_command(name: str, folder: Path) -> None:
    damage, reason = DAMAGES[name]
    damage(folder)
    with pytest.raises(PlumError) as refused:
        folders.run_model(folder)
    assert re.search(reason, refused.value.found or ""), refused.value.found
    assert refused.value.what == f"the language model in {folder} can't be used"
    assert str(folder) in refused.value.what


def test_the_advice_names_the_stage(folder: Path) -> None:
    halve("model.safetensors")(folder)
    with pytest.raises(PlumError, match=re.escape(f"`plum cpt --workdir {folder.parent.parent} --force`")):
        folders.run_model(folder)
    shutil.rmtree(folder)
    with pytest.raises(PlumError, match=r"no such folder(.|\n)*--force"):
        folders.run_model(folder)


@pytest.mark.parametrize("name", DAMAGES)
def test_the_same_as_a_base_is_refused_too(name: str, folder: Path) -> None:
    DAMAGES[name][0](folder)
    with pytest.raises(PlumError, match=r"cpt\.base: no decoder-only language model could be loaded"):
        bases.base_model(str(folder))


@pytest.mark.parametrize("number", [307, 5, 4_000_000_000])
def test_a_code_that_gets_another_token_is_refused(number: int, folder: Path) -> None:
    tokenizer_part(lambda parts: parts["added_tokens"][-1].update(id=number))(folder)
    with pytest.raises(PlumError, match=rf"tokenizer.json: '<\|sid_1_2\|>' can't have the id {number}"):
        folders.run_model(folder)


def test_what_the_headers_tell_is_found_before_the_first_stage(folder: Path) -> None:
    assert bases.problem_of(str(folder)) is None
    config(num_hidden_layers=10**9)(folder)
    assert "num_hidden_layers" in str(bases.problem_of(str(folder)))


def test_a_sound_folder_is_read_whole_or_in_shards(folder: Path) -> None:
    model, tokenizer = folders.run_model(folder)
    shard()(folder)
    again, _ = folders.run_model(folder)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    codec = vocab.codec_of(tokenizer, SIZES)
    vocab.check_control_tokens(model, codec)


def test_two_codes_on_one_token_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = folders.run_model(folder)
    known = tokenizer.get_vocab()
    for other in ("<|sid_0_5|>", "wh"):
        monkeypatch.setattr(tokenizer, "get_vocab", lambda other=other: known | {other: known["<|sid_1_2|>"]})
        with pytest.raises(
            PlumError, match=rf"two names are the same token {known['<|sid_1_2|>']}(.|\n)*{re.escape(other)}"
        ):
            vocab.codec_of(tokenizer, SIZES)


@pytest.mark.parametrize("role", ["eos", "pad", "bos"])
def test_control_tokens_among_the_codes_are_refused(role: str, folder: Path) -> None:
    edit("tokenizer_config.json", **{f"{role}_token": "<|sid_1_2|>"})(folder)
    model, tokenizer = folders.run_model(folder)
    with pytest.raises(PlumError, match=r"token is the token of a code(.|\n)*in its tokenizer, which is <\|sid_1_2\|>"):
        vocab.codec_of(tokenizer, SIZES)
    config(**{f"{role}_token_id": 300})(folder)
    edit("tokenizer_config.json", **{f"{role}_token": f"<|{role}|>"})(folder)
    model, tokenizer = folders.run_model(folder)
    number = int(vocab.flat_token_ids(tokenizer, SIZES)[0])
    config(**{f"{role}_token_id": number})(folder)
    model, tokenizer = folders.run_model(folder)
    with pytest.raises(PlumError, match=rf"{role}_token_id token is the token of a code(.|\n)*config.json"):
        vocab.check_control_tokens(model, vocab.codec_of(tokenizer, SIZES))


PLANTED = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
class EvilTokenizer(PreTrainedTokenizerFast):
    pass
"""


def plant(folder: Path, native: bool) -> Path:
    """Code of its own in a folder, for a type that transformers has or not; returns the file it would write."""
    mark = folder.parent / "ran"
    (folder / "evil.py").write_text(PLANTED.format(mark=str(mark)))
    config(
        model_type="llama" if native else "evil",
        auto_map={"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"},
    )(folder)
    return mark


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr("builtins.input", asked)


@pytest.mark.usefixtures("nobody_is_asked")
@pytest.mark.parametrize("native", [True, False])
def test_code_of_a_folder_never_runs(native: bool, folder: Path) -> None:
    mark = plant(folder, native)
    with pytest.raises(PlumError, match=r"code of its own \(auto_map in config.json\)"):
        folders.run_model(folder)
    if native:  # as Phi-3's folder has it, for older versions of transformers
        bases.base_model(str(folder))
        assert bases.problem_of(str(folder)) is None
    else:
        with pytest.raises(PlumError, match=r"model type 'evil' needs code of its own \(auto_map in config.json\)"):
            bases.base_model(str(folder))
        assert "never runs" in str(bases.problem_of(str(folder)))
    assert not mark.exists()


@pytest.mark.usefixtures("nobody_is_asked")
def test_code_of_a_tokenizer_never_runs(folder: Path) -> None:
    mark = plant(folder, True)
    config(auto_map=None)(folder)
    edit(
        "tokenizer_config.json",
        tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": [None, "evil.EvilTokenizer"]},
    )(folder)
    with pytest.raises(PlumError, match=r"auto_map in tokenizer_config\.json"):
        folders.run_model(folder)
    try:
        _, tokenizer = bases.base_model(str(folder))
        assert type(tokenizer).__module__.startswith("transformers.")
    except PlumError as error:
        assert "tokenizer" in str(error)  # noqa: PT017
    assert not mark.exists()


def test_what_is_saved_refers_to_no_code(folder: Path, tmp_path: Path) -> None:
    plant(folder, True)
    edit("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.EvilTokenizer"]})(folder)
    folders.save_model_folder(*bases.base_model(str(folder)), tmp_path / "finetune" / "model")
    folders.run_model(tmp_path / "finetune" / "model")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    tokenizer = vocab.train_tokenizer(TEXTS, 300)
    shape = hf.LlamaConfig(
        vocab_size=len(tokenizer) - 1,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    folders.save_model_folder(hf.LlamaForCausalLM(shape), tokenizer, tmp_path)
    with pytest.raises(PlumError, match=r"the tokenizer has 299 tokens, the model's embedding 298 rows|rows"):
        bases.base_model(str(tmp_path))

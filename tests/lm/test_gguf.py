"""GGUF files: converted once, to the very weights and tokenizer of their source; what can't be read is refused."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf as writing
import numpy as np
import pytest
import tiny_gguf
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plum.decoding.tree import check_tree_attention
from plum.errors import PlumError
from plum.lm import bases, folders, gguf, vocab
from plum.lm.logits import check_head
from plum.model_files import Folder

Kind = writing.GGMLQuantizationType
SIZES = (5, 4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(gguf.CACHE_HOME, str(tmp_path / "cache"))
    return tmp_path / "cache" / "bases"


@pytest.fixture(scope="module")
def source() -> tuple:
    return tiny_gguf.made()


@pytest.fixture(scope="module")
def original(source: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("models") / "tiny.gguf", *source)


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "tiny.gguf"))


def folders_of(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


@pytest.mark.parametrize("tied", [True, False])
def test_weights_logits_and_tokenizer_are_those_of_the_source(tied: bool, tmp_path: Path) -> None:
    model, tokenizer = tiny_gguf.made(tied)
    path = tiny_gguf.write(tmp_path / "a.gguf", model, tokenizer)
    assert bases.problem_of(str(path)) is None
    found, words = bases.base_model(str(path))
    weights = found.state_dict()
    assert found.dtype == torch.float32
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    ids = tokenizer("The title naïve: Heat")["input_ids"]
    assert words("The title naïve: Heat", add_special_tokens=False)["input_ids"] == ids
    tokens = torch.tensor([ids])
    torch.testing.assert_close(found.eval()(input_ids=tokens).logits, model(input_ids=tokens).logits)
    assert (words.eos_token, words.pad_token) == ("<|eos|>", "<|pad|>")
    assert words.decode(ids) == "The title naïve: Heat"


@pytest.mark.parametrize(("kind", "error"), [(Kind.F16, 1e-3), (Kind.BF16, 4e-3), (Kind.Q8_0, 5e-3), (Kind.Q4_0, 0.13)])
def test_quantised_weights_are_unpacked(kind: Kind, error: float, source: tuple, tmp_path: Path) -> None:
    model, tokenizer = source
    path = tiny_gguf.write(tmp_path / "a.gguf", model, tokenizer, kind)
    found = bases.base_model(str(path))[0].state_dict()
    for name, weight in model.state_dict().items():
        assert (found[name] - weight).abs().max() <= error * weight.abs().max() * 1.01, name
    packed = torch.from_numpy(
        writing.dequantize(writing.quantize(model.model.embed_tokens.weight.numpy(force=True), kind), kind)
    )
    assert torch.equal(found["model.embed_tokens.weight"], packed)


def test_it_can_be_extended_by_codes_saved_and_decoded(file: Path, tmp_path: Path) -> None:
    model, tokenizer = bases.base_model(str(file))
    vocab.add_sid_tokens(tokenizer, SIZES)
    vocab.extend_embeddings(model, tokenizer, SIZES)
    check_head(model)
    check_tree_attention(model)
    folders.save_model_folder(model, tokenizer, tmp_path / "cpt" / "model")
    again, words = folders.run_model(tmp_path / "cpt" / "model")
    vocab.check_control_tokens(again, vocab.codec_of(words, SIZES))


def test_a_file_is_converted_once_whatever_its_name(file: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "plum")
    bases.base_model(str(file))
    first = folders_of(cache)
    assert len(first) == 1
    assert sum("converting" in record.message for record in caplog.records) == 1
    (cache / first[0] / "mark").touch()
    bases.base_model(str(file))
    assert (cache / first[0] / "mark").exists()
    assert sum("converting" in record.message for record in caplog.records) == 1


def test_a_changed_file_is_converted_anew(file: Path, cache: Path) -> None:
    before = bases.base_model(str(file))[0]
    model, tokenizer = tiny_gguf.made()
    with torch.no_grad():
        model.model.norm.weight += 1
    tiny_gguf.write(file, model, tokenizer)
    after = bases.base_model(str(file))[0]
    assert len(folders_of(cache)) == 2
    assert torch.equal(after.model.norm.weight, before.model.norm.weight + 1)


def test_an_interrupted_conversion_leaves_nothing_that_is_used(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object, __: object, folder: Path, ___: str) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders, "save_model_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            bases.base_model(str(file))
    assert all(name.startswith(".") for name in folders_of(cache))
    bases.base_model(str(file))
    assert len(folders_of(cache)) == 1


def test_a_damaged_conversion_is_named(file: Path, cache: Path) -> None:
    bases.base_model(str(file))
    made = cache / folders_of(cache)[0]
    os.truncate(made / "model.safetensors", 100)
    with pytest.raises(PlumError, match=rf"model.safetensors can't be read(.|\n)*remove {made}"):
        bases.base_model(str(file))


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def overwrite(at: int, content: bytes) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)

    return damage


def written(**options: object) -> Callable[[Path], object]:
    return lambda path: tiny_gguf.write(path, *tiny_gguf.made(), **options)  # type: ignore[arg-type]


def of_type(number: int) -> Callable[[Path], object]:
    """The type of the first tensor in the header."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        place = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
        overwrite(place, number.to_bytes(4, "little"))(path)

    return damage


def vocabulary_only(path: Path) -> None:
    writer = writing.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("Not a model at all."), "does not begin with GGUF"),
    "empty": (lambda path: path.write_bytes(b""), "does not begin with GGUF"),
    "header-cut": (cut(0.01), "cut short"),
    "tokens-cut": (cut(0.05), "cut short"),
    "weights-cut": (cut(0.99), "ends at byte .*cut short"),
    "magic-only": (lambda path: path.write_bytes(b"GGUF"), "cut short"),
    "version": (overwrite(4, (1).to_bytes(4, "little")), "GGUF version 1; 2 and 3"),
    "counts": (overwrite(8, (2**60).to_bytes(8, "little")), "damaged"),
    "architecture": (written(architecture="nonesuch"), "'nonesuch' is none that transformers reads: .*llama"),
    "split": (written(change=lambda w: w.add_uint16("split.count", 3)), "one of 3 parts"),
    "unknown-type": (of_type(999), "token_embd.weight is quantised as type 999, which gguf"),
    "unreadable-type": (of_type(int(Kind.Q8_K)), "quantised as type Q8_K, which gguf .* can't unpack"),
    "no-weights": (vocabulary_only, "no weights"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "no such file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_can_not_be_read_is_refused(name: str, file: Path, cache: Path) -> None:
    damage, reason = DAMAGES[name]
    damage(file)
    with pytest.raises(PlumError, match=r"cpt.base: no decoder-only language model") as refused:
        bases.base_model(str(file))
    assert refused.match(reason)
    assert bases.problem_of(str(file)) == refused.value.found
    assert not cache.exists() or not folders_of(cache)


@given(changes=st.lists(st.tuples(st.integers(4, 2000), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_sound_or_refused(changes: list[tuple[int, int]], original: Path, tmp_path: Path) -> None:
    content = bytearray(original.read_bytes())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with suppress(PlumError):
        gguf.check(path, Folder(path, "refused", "to do"))


def test_arrays_in_arrays_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.gguf"
    array = (9).to_bytes(4, "little") + (1).to_bytes(8, "little")
    key = (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key + array * 100_000)
    with pytest.raises(PlumError, match="cut short or damaged"):
        gguf.check(path, Folder(path, "refused", "to do"))


def test_an_architecture_that_can_not_be_decoded_is_refused(file: Path, cache: Path) -> None:
    """Mamba's state holds one sequence only; its file is no more than its keys here."""
    writer = writing.GGUFWriter(file, "mamba")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_vocab_size(10)
    writer.add_tensor("token_embd.weight", np.zeros((10, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(PlumError, match="recurrent layers"):
        bases.base_model(str(file))
    assert not folders_of(cache)


def test_a_file_that_lacks_a_weight_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny_gguf.made()
    weights = model.state_dict()
    del weights["model.layers.1.mlp.up_proj.weight"]
    monkeypatch.setattr(model, "state_dict", lambda: weights)
    tiny_gguf.write(file, model, tokenizer)
    with pytest.raises(PlumError, match=r"weights are missing .*model.layers.1.mlp.up_proj.weight"):
        bases.base_model(str(file))


def test_a_tokenizer_without_an_end_is_refused(file: Path) -> None:
    tiny_gguf.write(file, *tiny_gguf.made(), ends=False)
    with pytest.raises(PlumError, match="neither a padding nor an end token"):
        bases.base_model(str(file))


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    found = "it is a GGUF file, and gguf is not installed"
    assert bases.problem_of(str(file)) == found
    with pytest.raises(PlumError, match=rf"{found}(.|\n)*pip install 'plum-recommender\[gguf\]'"):
        bases.base_model(str(file))


def test_the_cache_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert gguf.cache_folder() == tmp_path / "cache" / "bases"
    monkeypatch.delenv(gguf.CACHE_HOME)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert gguf.cache_folder().name == "bases"
    assert tmp_path / "cache" not in gguf.cache_folder().parents

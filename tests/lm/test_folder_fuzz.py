"""Damaged model folders of any kind: each is either usable or refused with a message, soon and in little memory."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.utils import logging as hf_logging

from plum.decoding.tree import check_tree_attention
from plum.errors import PlumError
from plum.lm import documents, folders, vocab
from plum.lm.logits import check_head

pytestmark = pytest.mark.slow
SIZES = (6, 3)
SECONDS = 20  # in all
FEWEST = 20  # folders of each kind of damage, also on a machine that is busy
SLOWEST = 10  # seconds of one folder
MOST_MEMORY = 1 << 20  # KiB that may come on top
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from(
        [10**9, 2**31, 2**40, 2**63, -(10**9), 1e300, float("inf"), "", "auto", "../x", [], {}, [[]], {"a": 1}]
    ),
    st.floats(),
    st.text(max_size=5),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "cpt" / "model"
    tokenizer = vocab.train_tokenizer(["Item has title: Heat (1995)", "wh = naïve café"] * 3, 300)
    vocab.add_sid_tokens(tokenizer, SIZES)
    torch.manual_seed(0)
    model = vocab.scratch_model(vocab.ScratchShape(16, 2, 2, 32), tokenizer, context_length=64)
    folders.save_model_folder(model, tokenizer, folder)
    return folder


def flip(data: st.DataObject, file: Path) -> None:
    """One byte changes; half of the times near the start, where the headers are."""
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1) | st.integers(0, 40))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)


def cut(data: st.DataObject, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])


def blank(data: st.DataObject, file: Path) -> None:
    """A block becomes zeros, as after a lost write."""
    content = bytearray(file.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    file.write_bytes(content)


def edit(data: st.DataObject, file: Path) -> None:
    """One value of a JSON file changes, at any depth, or a key is taken away or added."""
    if file.suffix != ".json":
        return flip(data, file)
    root = json.loads(file.read_text())
    place: Any = root
    for _ in range(data.draw(st.integers(0, 3))):
        inner = list(place.values()) if isinstance(place, dict) else place
        inner = [value for value in inner if isinstance(value, dict | list) and value]
        if not inner:
            break
        place = data.draw(st.sampled_from(inner))
    if isinstance(place, dict):
        key = data.draw(st.sampled_from([*place, "auto_map", "num_hidden_layers", "layer_types"]))
        if data.draw(st.booleans()):
            place.pop(key, None)
        else:
            place[key] = data.draw(VALUES)
    else:
        place[data.draw(st.integers(0, len(place) - 1))] = data.draw(VALUES)
    file.write_text(json.dumps(root))
    return None


def use(folder: Path) -> None:
    """What a stage does with a model folder before its work."""
    model, tokenizer = folders.run_model(folder)
    codec = vocab.codec_of(tokenizer, SIZES)
    vocab.check_control_tokens(model, codec)
    documents.history_prefix(tokenizer)
    check_head(model)
    check_tree_attention(model)
    assert codec.encode(np.zeros((1, 2), dtype=np.int64)).max() < model.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize("damage", [flip, cut, blank, edit])
def test_a_damaged_folder_is_used_or_refused(damage: Any, sound: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    hf_logging.set_verbosity(logging.CRITICAL)
    end = time.monotonic() + SECONDS / 4
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"used": 0, "refused": 0}

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(shutil.copytree(sound, Path(parent) / "cpt" / "model"))
            damage(data, folder / data.draw(st.sampled_from(FILES)))
            start = time.monotonic()
            if start > end and sum(outcomes.values()) >= FEWEST:
                return
            try:
                use(folder)
            except PlumError:
                outcomes["refused"] += 1
            else:
                outcomes["used"] += 1
            assert time.monotonic() - start < SLOWEST

    run()
    assert outcomes["refused"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY

"""LoRA: what changes, what it is merged to, and what is kept."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers as hf
from tiny_lms import MODELS, SHAPE, model_of

from plum.errors import PlumError
from plum.lm import lora
from plum.lm.examples import Batch
from plum.lm.lora import Adaptation, Adapter, trained_parameters
from plum.lm.loss import next_token_loss
from plum.lm.train import train
from plum.training.loop import Recipe

pytest.importorskip("peft")
NEW, OLD = [25, 26, 27], [number for number in range(30) if number not in (25, 26, 27)]
SHAPES = Adaptation(r=2, alpha=4.0)


def untied():
    torch.manual_seed(0)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE, tie_word_embeddings=False)).train()


def made(name):
    return untied() if name == "untied" else model_of(name)


def batches(_):
    for number in range(8):
        tokens = torch.randint(0, 30, (4, 12), generator=torch.Generator().manual_seed(number))
        yield Batch(tokens, tokens)


RECIPE = Recipe(epochs=1, steps_per_epoch=8, learning_rate=0.02, weight_decay=0.1, checkpoint_steps=3)


def learnt(model, folder, name="test", stop=None):
    def stopping(epoch):
        for number, batch in enumerate(batches(epoch)):
            if number == stop:
                raise KeyboardInterrupt
            yield batch

    return train(model, RECIPE, stopping, checkpoint=folder, name=name)


def logits_of(model):
    tokens = torch.arange(24).reshape(2, 12) + 4
    with torch.no_grad():
        return model.eval()(input_ids=tokens).logits


@pytest.mark.parametrize("name", [*MODELS, "untied"])
def test_merged_gives_the_outputs_of_the_adapted_model_and_so_does_peft_with_the_kept_adapter(name, tmp_path):
    from peft import PeftModel

    model = made(name)
    base = copy.deepcopy(model)
    adapter = Adapter(model, SHAPES, NEW, "some/base")
    torch.testing.assert_close(logits_of(model), logits_of(base))  # an adapter begins as nothing
    learnt(model, tmp_path / "checkpoint")
    adapted = logits_of(model)
    adapter.finish(tmp_path / "adapter")
    torch.testing.assert_close(logits_of(model), adapted, atol=2e-5, rtol=1e-4)
    assert (adapted - logits_of(base)).abs().max() > 0.1
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [lora.CONFIG, lora.WEIGHTS]
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits_of(loaded), adapted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, "untied"])
def test_only_the_adapter_and_the_new_rows_are_trained(name, tmp_path):
    model = made(name)
    before = copy.deepcopy(model.state_dict())
    adapter = Adapter(model, SHAPES, NEW, "base")
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in key or key.startswith("trained_rows.") for key in trained)
    learnt(model, tmp_path / "checkpoint")
    for key, value in model.state_dict().items():
        plain = key.replace(".base_layer", "")
        if plain in before and before[plain].shape[0] == 30:  # the vocabulary, tied or not
            assert torch.equal(value[OLD], before[plain][OLD])
            assert not torch.equal(value[NEW], before[plain][NEW])
        elif plain in before:
            assert torch.equal(value, before[plain])
    adapter.merge()
    after = model.state_dict()
    assert set(after) == set(before)
    for key, value in after.items():
        if value.shape[0] == 30:
            assert torch.equal(value[OLD], before[key][OLD])
        elif "norm" in key or "ln_" in key or "bias" in key or "wpe" in key:
            assert torch.equal(value, before[key])
        else:
            assert not torch.equal(value, before[key])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_targets_by_name_alone_are_adapted():
    model = model_of()
    adapter = Adapter(model, Adaptation(2, 4.0, targets=("q_proj", "v_proj")), NEW, "base")
    # Two layers of 16 x 16 each for queries and values, two matrices of rank 2, and three rows of input and head.
    assert trained_parameters(model) == 2 * 2 * (2 * 16 + 16 * 2) + 2 * 3 * 16
    adapter.merge()
    assert trained_parameters(model) == sum(parameter.numel() for parameter in model_of().parameters())


def test_a_target_that_the_model_lacks_is_refused_with_all_that_there_are():
    with pytest.raises(PlumError) as error:
        Adapter(model_of("gpt2"), Adaptation(2, 4.0, targets=("q_proj", "c_fc")), NEW, "base")
    assert "no linear layer called q_proj" in str(error.value)
    assert "c_attn, c_fc, c_proj" in str(error.value)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lora, "is_installed", lambda: False)
    with pytest.raises(PlumError, match="pip install"):
        Adapter(model_of(), SHAPES, NEW, "base")


def test_a_stopped_training_resumes_to_the_same_weights(tmp_path):
    results = []
    for stops in ([None], [5, None]):
        for stop in stops:
            torch.manual_seed(0)
            model = model_of()
            adapter = Adapter(model, Adaptation(2, 4.0, dropout=0.2), NEW, "base")
            folder = tmp_path / str(len(stops))
            if stop is None:
                learnt(model, folder)
                adapter.finish(folder / "adapter")
            else:
                with pytest.raises(KeyboardInterrupt):
                    learnt(model, folder, stop=stop)
        results.append(
            model.state_dict() | {"kept": torch.tensor(list((folder / "adapter" / lora.WEIGHTS).read_bytes()))}
        )
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


def test_a_plain_folder_is_saved_after_merging(tmp_path):
    model = model_of("qwen3")
    adapter = Adapter(model, SHAPES, NEW, "base")
    learnt(model, tmp_path / "checkpoint")
    adapter.merge()
    model.save_pretrained(tmp_path / "model")
    loaded = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits_of(loaded), logits_of(model))
    assert not (tmp_path / "model/adapter_config.json").exists()


def test_the_loss_falls(tmp_path):
    model = model_of()
    Adapter(model, SHAPES, NEW, "base")
    (first, *_) = batches(0)
    before = next_token_loss(model.eval(), first).item()
    learnt(model.train(), tmp_path / "checkpoint")
    assert next_token_loss(model.eval(), first).item() < before

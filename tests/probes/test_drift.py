import pytest
import tiny_lms
import torch

from plum.probes import drift as module
from plum.probes.drift import ALL, CODES, WORDS, SavedWeights, drift, group_of, named_weights, save_weights


def of(then, now, group="attention", codes=()):
    codes = torch.tensor(codes, dtype=torch.long)
    return drift(lambda name: torch.tensor(then), [("w", torch.tensor(now))], lambda name: group, codes)


def test_distances_by_hand():
    found = of([3.0, -4.0, 0.0, 1.0], [3.0, -1.0, 4.0, -1.0])
    assert set(found) == {"attention", ALL}
    figures = found["attention"]
    assert figures["weights"] == 4
    assert figures["l2"] == pytest.approx((9 + 16 + 4) ** 0.5)
    assert figures["relative_l2"] == pytest.approx((29 / 26) ** 0.5)
    assert figures["sign_dissimilarity"] == 0.5  # the third got a sign, the fourth another one


def test_a_vocabulary_is_divided_into_words_and_codes():
    found = of([[3.0], [5.0], [4.0]], [[3.0], [9.0], [4.0]], WORDS, codes=[1])
    assert found[WORDS] == {"weights": 2, "l2": 0.0, "relative_l2": 0.0, "sign_dissimilarity": 0.0}
    assert found[CODES]["l2"] == 4.0
    assert found[ALL] == found[WORDS]


def test_weights_that_were_zero_have_no_relative_distance():
    assert of([0.0], [2.0])["attention"]["relative_l2"] is None


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="had the shape"):
        of([1.0], [1.0, 2.0])


def test_blocks_give_the_same_sums(monkeypatch):
    then, now = torch.randn(3, 5).tolist(), torch.randn(3, 5).tolist()
    whole = of(then, now)["attention"]
    monkeypatch.setattr(module, "BLOCK", 4)
    assert of(then, now)["attention"] == pytest.approx(whole)


@pytest.mark.parametrize("name", list(tiny_lms.MODELS))
def test_every_weight_of_a_model_has_a_group(name, tmp_path):
    model = tiny_lms.model_of(name)
    save_weights(tmp_path / "start.safetensors", model)
    before = SavedWeights(tmp_path / "start.safetensors")
    codes = torch.tensor([3, 4])
    assert all(entry["l2"] == 0 for entry in drift(before, named_weights(model), group_of(model), codes).values())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    found = drift(before, named_weights(model), group_of(model), codes)
    assert {WORDS, CODES, "attention", "feed-forward", "norms"} <= set(found)
    assert ("other" in found) == (name == "gpt2")  # its embeddings of positions
    n_weights = sum(parameter.numel() for parameter in model.parameters())
    assert found[ALL]["weights"] + found[CODES]["weights"] == n_weights
    for entry in found.values():  # every weight has moved by 1
        assert entry["l2"] == pytest.approx(entry["weights"] ** 0.5, rel=1e-5)


def test_an_adapters_drift_is_that_of_the_merged_model(tmp_path):
    pytest.importorskip("peft")
    from plum.lm.lora import Adaptation, Adapter

    model = tiny_lms.model_of("llama")
    new = [25, 26, 27]
    adapter = Adapter(model, Adaptation(r=2, alpha=4.0), new, "base")
    save_weights(tmp_path / "start", model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
    before, codes = SavedWeights(tmp_path / "start"), torch.tensor(new)
    wrapped = drift(before, named_weights(model), group_of(model), codes)
    adapter.merge()
    merged = drift(before, named_weights(model), group_of(model), codes)
    assert set(wrapped) == set(merged) >= {WORDS, CODES, "attention", ALL}
    for group, figures in merged.items():
        assert wrapped[group] == pytest.approx(figures, rel=1e-4)
    assert merged[WORDS]["l2"] == 0 < merged[CODES]["l2"]

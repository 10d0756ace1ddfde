import logging
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from plum.errors import PlumError
from plum.lm import bases, folders, vocab
from plum.lm.logits import check_head

SIZES = (6, 3)
TEXTS = ["Item has title: Heat (1995)", "The topics in item are: Action, Crime", "wh = naïve café"] * 3


def tokenizer_of(sids=True, size=300):
    tokenizer = vocab.train_tokenizer(TEXTS, size)
    if sids:
        assert vocab.add_sid_tokens(tokenizer, SIZES) == 9
    return tokenizer


def model_of(rows, tied, kind="llama"):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = hf.GPT2Config(
            vocab_size=rows, n_embd=16, n_layer=1, n_head=2, n_positions=32, tie_word_embeddings=tied, bos_token_id=0
        )
        return hf.GPT2LMHeadModel(config)
    return hf.LlamaForCausalLM(
        hf.LlamaConfig(
            vocab_size=rows,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            tie_word_embeddings=tied,
        )
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model and tokenizer without Semantic IDs, as one would get it from the hub."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tokenizer_of(sids=False)
    folders.save_model_folder(model_of(len(tokenizer), tied=False), tokenizer, folder)
    return folder


def test_text_with_semantic_ids_survives_a_round_trip():
    tokenizer = tokenizer_of()
    text = 'Item <|sid_0_5|><|sid_1_2|> has title: naïve  "Heat", (1995)! 東京 <|sid_0_0|>\n <|sid_1_0|> .'
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.unk_token_id not in ids


def test_each_code_is_one_token_of_its_own():
    tokenizer = tokenizer_of()
    codec = vocab.codec_of(tokenizer, SIZES)
    assert tokenizer.encode("<|sid_0_5|><|sid_1_2|>") == [codec.token_ids[0][5], codec.token_ids[1][2]]
    assert len(set(vocab.flat_token_ids(tokenizer, SIZES).tolist())) == 9
    assert vocab.add_sid_tokens(tokenizer, SIZES) == 0  # asking again adds nothing


def test_the_tokenizer_is_small_and_survives_saving(tmp_path):
    tokenizer = tokenizer_of()
    assert len(vocab.train_tokenizer(TEXTS, 270)) <= 270
    tokenizer.save_pretrained(tmp_path)
    again = hf.AutoTokenizer.from_pretrained(tmp_path)
    text = "wh = <|sid_0_1|><|sid_1_1|> Heat"
    assert again.encode(text) == tokenizer.encode(text)
    assert (again.bos_token, again.eos_token, again.pad_token) == ("<|bos|>", "<|eos|>", "<|pad|>")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 4, 40], ids=["exact", "some padding", "enough padding"])
def test_extending_leaves_old_rows_alone_and_gives_each_code_its_own(kind, tied, spare):
    tokenizer = tokenizer_of(sids=False)
    n_old = len(tokenizer)
    model = model_of(n_old + spare, tied, kind)
    old = [model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()]
    vocab.add_sid_tokens(tokenizer, SIZES)
    vocab.extend_embeddings(model, tokenizer, SIZES)
    new_ids = torch.from_numpy(vocab.flat_token_ids(tokenizer, SIZES))
    matrices = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    assert (matrices[0] is matrices[1]) == tied
    for matrix, before in zip(matrices, old, strict=True):
        assert len(matrix) == max(n_old + 9, n_old + spare) == model.config.vocab_size
        assert torch.equal(matrix[:n_old], before[:n_old])
        rows = matrix[new_ids].detach()
        assert torch.pdist(rows).min() > 0
        known = before[:n_old].detach()
        assert (rows - known.mean(0)).abs().max() < 0.6 * known.std()
    check_head(model)
    logits = model(input_ids=new_ids[None]).logits
    assert logits.shape[-1] == len(matrices[0])


def test_a_model_from_scratch_knows_the_whole_vocabulary(tmp_path):
    tokenizer = tokenizer_of()
    torch.manual_seed(0)
    model = vocab.scratch_model(vocab.ScratchShape(16, 1, 2, 32), tokenizer, context_length=64)
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 16)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    folders.save_model_folder(model, tokenizer, tmp_path)
    again, tokenizer_again = folders.run_model(tmp_path)
    tokens = torch.from_numpy(vocab.flat_token_ids(tokenizer_again, SIZES))[None]
    assert torch.equal(model(input_ids=tokens).logits, again(input_ids=tokens).logits)
    assert not list(tmp_path.glob("*.bin"))


def test_a_pretrained_checkpoint_is_extended_and_saved_again(checkpoint, tmp_path):
    model, tokenizer = bases.base_model(str(checkpoint))
    assert model.dtype == torch.float32
    vocab.add_sid_tokens(tokenizer, SIZES)
    vocab.extend_embeddings(model, tokenizer, SIZES)
    folders.save_model_folder(model, tokenizer, tmp_path)
    again, tokenizer = folders.run_model(tmp_path)
    assert vocab.codec_of(tokenizer, SIZES).n_levels == 2
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


def test_a_model_of_other_semantic_ids_is_refused():
    with pytest.raises(PlumError, match=r"no token for a code.*\n.*sid_0_6"):
        vocab.codec_of(tokenizer_of(), (7, 3))


def test_a_tokenizer_without_padding_pads_with_its_end_token(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert bases.base_model(str(tmp_path))[1].pad_token == "<|eos|>"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(PlumError, match="neither a padding nor an end token"):
        bases.base_model(str(tmp_path))


def damage_config(folder):
    (folder / "config.json").write_text("{")


def damage_weights(folder):
    (folder / "model.safetensors").write_bytes(b"hello")


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def take_weights(folder):
    (folder / "model.safetensors").unlink()


def take_one_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def take_everything(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "damage", [damage_config, damage_weights, damage_tokenizer, take_weights, take_one_weight, take_everything]
)
def test_damaged_checkpoints_give_one_clean_message(checkpoint, tmp_path, damage, caplog):
    caplog.set_level(logging.CRITICAL)
    folder = tmp_path / "base"
    shutil.copytree(checkpoint, folder)
    damage(folder)
    with pytest.raises(PlumError, match=r"cpt.base: no decoder-only language model could be loaded(.|\n)*found: ..."):
        bases.base_model(str(folder))


def test_an_encoder_decoder_is_refused(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    config = hf.T5Config(vocab_size=300, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    hf.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(PlumError, match="T5Config"):
        bases.base_model(str(tmp_path))


@pytest.mark.parametrize("name", ["", "what ever", "a/b/c"])
def test_names_that_can_be_no_model_are_refused_at_once(name):
    with pytest.raises(PlumError, match="hub id"):
        bases.base_model(name)


def test_new_rows_are_a_function_of_the_seed():
    rows = []
    for _ in range(2):
        tokenizer = tokenizer_of()
        model = model_of(280, tied=True)
        torch.manual_seed(7)
        vocab.extend_embeddings(model, tokenizer, SIZES)
        rows.append(model.get_input_embeddings().weight.detach().numpy())
    assert np.array_equal(*rows)

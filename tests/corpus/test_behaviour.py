"""Histories as documents: bare as fine-tuning reads them, or with what is known of each interaction."""

import numpy as np
import pytest

from plum.config.templates import parse_template
from plum.corpus.behaviour import BinField, ItemForm, TextField, Texts, drafts
from plum.corpus.encoder import Encoder
from plum.lm.vocab import train_tokenizer

SIDS = np.array([[500, 600], [501, 601], [502, 602]])
HISTORIES = [np.array([0, 2, 1]), np.array([], dtype=np.int64), np.array([1])]
OPENING = np.array([7], dtype=np.int32)


@pytest.fixture(scope="module")
def encoder():
    return Encoder(train_tokenizer(["by Mann"], 300))


def texts_of(encoder, *values):
    return Texts.joined([encoder.encode([value])[0] for value in values])


def histories(form, max_history=50, kept=(True, True, True)):
    return list(drafts(HISTORIES, np.array(kept), form, OPENING, max_history))


def test_bare_semantic_ids(encoder):
    found = histories(ItemForm(parse_template("{sid}"), SIDS, {}, encoder))
    assert [np.concatenate([one.head, *one.units]).tolist() for one in found] == [
        [7, 500, 600, 502, 602, 501, 601],
        [7, 501, 601],
    ]
    assert [one.owner for one in found] == [0, 2]
    assert not any(one.divisible or len(one.tail) for one in found)


def test_long_histories_are_cut_into_windows_without_overlap(encoder):
    found = histories(ItemForm(parse_template("{sid}"), SIDS, {}, encoder), max_history=2)
    assert [[unit[0] for unit in one.units] for one in found] == [[500, 502], [501], [501]]


def test_only_the_wanted_users_are_told_of(encoder):
    form = ItemForm(
        parse_template("{sid} {rating}"), SIDS, {"rating": BinField(np.arange(4), np.arange(90, 94))}, encoder
    )
    found = histories(form, kept=(False, True, True))
    assert [np.concatenate(one.units).tolist() for one in found] == [[501, 601, 93]]  # with its own rating


def test_fields_and_the_words_before_them(encoder):
    creators = TextField(texts_of(encoder, " Mann", ""), np.array([0, 1, 0, 1]))
    ratings = BinField(np.array([2, 0, -1, 1]), np.array([90, 91, 92]))
    template = parse_template("{sid} by {creator}, rated {rating} {gap};")
    form = ItemForm(template, SIDS, {"creator": creators, "rating": ratings}, encoder)
    by, mann, rated, end = (encoder.encode([text])[0].tolist() for text in (" by", " Mann", ", rated", ";"))
    units = histories(form)[0].units
    assert units[0].tolist() == [500, 600, *by, *mann, *rated, 92, *end]
    assert units[1].tolist() == [502, 602, *rated, 90, *end]  # without a creator
    assert units[2].tolist() == [501, 601, *by, *mann, *end]  # without a rating; no item has a gap


def test_blanks_between_tokens_are_no_tokens(encoder):
    form = ItemForm(
        parse_template(" {rating} {sid} "), SIDS, {"rating": BinField(np.zeros(4, int), np.array([90]))}, encoder
    )
    assert histories(form)[1].units[0].tolist() == [90, 501, 601]

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.probes.ngram import ngram_losses
from plum.sid.codec import Codec

ONE_LEVEL = Codec((np.array([5, 6]),))
TWO_LEVELS = Codec((np.array([5, 6]), np.array([7, 8, 9])))


def documents(*rows):
    return [np.array(row, dtype=np.int64) for row in rows]


def chances(trained, asked, codec, n_tokens=10):
    return np.exp(-ngram_losses(documents(*trained), documents(*asked), codec, n_tokens)).tolist()


def test_an_item_after_another_is_interpolated_with_how_often_it_occurs():
    # Once each of two items: (1 + 2 * 1/2) / (2 + 2) = 1/2. After item 5 only 6 was seen: (1 + 1 * 1/2) / (1 + 1).
    assert chances([[5, 6]], [[5, 6], [5, 5]], ONE_LEVEL) == pytest.approx([0.75, 0.25])
    # Nothing is known of what follows 6, so that its frequency alone counts.
    assert chances([[5, 6]], [[6, 6]], ONE_LEVEL) == pytest.approx([0.5])


def test_a_later_code_depends_on_the_codes_before_it_and_on_the_item_before():
    # Level 1 by frequency: 7 twice, 8 once, two kinds of three codes: 7 has (2 + 2/3) / 5 = 8/15, 8 has 1/3, 9 2/15.
    # After code 5: 7 twice and one kind, so 7 has (2 + 8/15) / 3 = 38/45, 8 has 1/9, 9 has 2/45.
    # After code 5 as the first item: 7 once, one kind, so 7 has (1 + 38/45) / 2 = 83/90, 8 has 1/18, 9 has 1/45.
    trained = [[5, 7, 6, 8, 5, 7]]
    assert chances(trained, [[5, 7], [5, 8], [5, 9]], TWO_LEVELS) == pytest.approx([83 / 90, 1 / 18, 1 / 45])
    # After item (6, 8): code 5 has frequency (2 + 2 * 1/2) / 5 = 3/5, then (1 + 3/5) / 2 = 4/5; then 7 as above, once.
    found = chances(trained, [[6, 8, 5, 7]], TWO_LEVELS)
    # 8 after 6: by frequency 1/3, after 6 (1 + 1/3) / 2 = 2/3; after item (5, 7), and so never as the first item.
    assert found == pytest.approx([2 / 3, 4 / 5, 83 / 90])


def test_words_are_counted_after_the_word_before_them():
    # Counted after a first token 1: 2 and 3. By frequency (1 + 2/10) / 4 = .3; after 1 again two kinds: (1 + .6) / 4.
    assert chances([[1, 2], [1, 3]], [[1, 2], [1, 4]], ONE_LEVEL) == pytest.approx([0.4, (0 + 2 * 0.05) / 4])


def test_an_item_of_another_document_is_not_the_one_before():
    alone = chances([[1, 5, 6]], [[1, 5]], ONE_LEVEL)
    after_another = chances([[1, 5, 6]], [[1, 6], [1, 5]], ONE_LEVEL)[1:]
    assert alone == after_another


def test_without_anything_counted_all_are_equally_likely():
    assert chances([], [[1, 2, 5, 7]], TWO_LEVELS) == pytest.approx([1 / 10, 1 / 2, 1 / 3])


def test_a_broken_semantic_id_is_refused():
    with pytest.raises(ValueError, match="code of level 1 does not follow"):
        ngram_losses(documents([5, 1, 7]), [], TWO_LEVELS, 10)
    with pytest.raises(ValueError, match="code of level 1 does not follow"):
        ngram_losses(documents([1, 5], [7]), [], TWO_LEVELS, 10)


def test_a_last_semantic_id_may_be_cut():
    assert len(ngram_losses(documents([1, 5, 7, 6]), documents([1, 5]), TWO_LEVELS, 10)) == 1


items = st.lists(st.tuples(st.sampled_from([5, 6]), st.sampled_from([7, 8, 9])), max_size=6)


@given(st.lists(items, max_size=5), items)
def test_the_chances_of_all_codes_sum_to_one(trained, before):
    counted = [[1, *(token for item in row for token in item)] for row in trained]
    start = [1, *(token for item in before for token in item)]
    for row in (start, [*start, 5]):
        level = len(row) % 2 == 0
        asked = [[*row, code] for code in ([7, 8, 9] if level else [5, 6])]
        ends = np.cumsum([len(ids) - 1 for ids in asked]) - 1
        losses = ngram_losses(documents(*counted), documents(*asked), TWO_LEVELS, 10)
        assert math.isclose(np.exp(-losses.astype(np.float64))[ends].sum(), 1.0, rel_tol=1e-5)

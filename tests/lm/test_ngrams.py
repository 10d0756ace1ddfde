"""Counted n-grams: by hand, against a plain implementation with dictionaries, and as a probability."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.lm.ngrams import ByteNgrams


def plain_bits(counted: str, text: str, longest: int) -> list[float]:
    """The same by dictionaries, one byte at a time."""
    old, new = counted.encode(), text.encode()
    grams = Counter(old[i - k : i + 1] for k in range(longest + 1) for i in range(k, len(old)))
    bits = []
    for i in range(len(new)):
        probability = 1 / 256
        for k in range(min(i, longest) + 1):
            context = new[i - k : i]
            after = [n for gram, n in grams.items() if gram[:-1] == context]
            if after:
                seen = grams[context + new[i : i + 1]]
                probability = (seen + len(after) * probability) / (sum(after) + len(after))
        bits.append(-math.log2(probability))
    return bits


def test_by_hand():
    # "aab" has a twice and b once; a is followed once by a and once by b.
    model = ByteNgrams("aab", longest=1)
    of_a, of_b = (2 + 2 / 256) / (3 + 2), (1 + 2 / 256) / (3 + 2)
    after_a = (1 + 2 * of_b) / (2 + 2)
    after_b = (2 / 256) / 5  # nothing followed b: only the shorter context counts
    assert model.bits("abc") == pytest.approx([-math.log2(p) for p in (of_a, after_a, after_b)])
    assert model.bits_per_character("abc") == pytest.approx(model.bits("abc").sum() / 3)


@given(st.text(alphabet="abé", max_size=30), st.text(alphabet="abéc", min_size=1, max_size=12), st.integers(0, 6))
@settings(deadline=None)
def test_as_a_plain_implementation(counted, text, longest):
    assert ByteNgrams(counted, longest).bits(text) == pytest.approx(plain_bits(counted, text, longest))


def test_the_probabilities_of_all_next_bytes_sum_to_one():
    model = ByteNgrams("the cat sat on the mat", longest=3)
    for context in ("", "th", "the c", "zz"):
        known = [2 ** -model.bits(context + chr(byte))[-1] for byte in range(128)]
        assert sum(known) + 128 / 128 * (1 - sum(known)) == pytest.approx(1)
        assert sum(known) < 1
        rest = 1 - sum(known)  # the other 128 bytes were never seen: they share what is left evenly
        assert rest / 128 == pytest.approx(2 ** -model.bits(context + "é")[-2])


def test_more_text_needs_fewer_bits_a_character():
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "mat", "on"]
    text = " ".join(rng.choice(words, 4000))
    assert ByteNgrams(text[:15000]).bits_per_character(text[15000:]) < ByteNgrams(text[:500]).bits_per_character(
        text[15000:]
    )


def test_no_text_has_no_bits():
    assert math.isnan(ByteNgrams("abc").bits_per_character(""))
    assert ByteNgrams("").bits_per_character("ab") == pytest.approx(8)

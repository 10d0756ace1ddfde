import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.corpus.documents import NO_TOKENS, Draft, Frame, sentences
from plum.errors import PlumError

START, END = 1, 2


def draft(units, head=(), tail=(), divisible=True):
    arrays = [np.array(part, dtype=np.int32) for part in units]
    return Draft(np.array(head, np.int32), arrays, np.array(tail, np.int32), 7, "title", divisible)


def fitted(longest, start=START, **parts):
    found = list(Frame(start, END, longest).fit(draft(**parts)))
    assert all((document.owner, document.fact) == (7, "title") for document in found)
    return [document.tokens.tolist() for document in found], found


def test_a_history_that_is_too_long_goes_on_in_the_next_document():
    texts, found = fitted(8, head=[10, 11], units=[[20, 21], [30, 31], [40, 41]], divisible=False)
    assert texts == [[1, 10, 11, 20, 21, 30, 31], [1, 10, 11, 40, 41, 2]]  # only the last one has ended
    assert [document.cuts.tolist() for document in found] == [[5], []]
    assert {document.head for document in found} == {3}


def test_every_part_of_a_text_has_its_beginning_and_its_end():
    texts, found = fitted(7, units=[[20, 21], [30, 31, 32]], tail=[50, 51])
    assert texts == [[1, 20, 21, 50, 51, 2], [1, 30, 31, 32, 50, 51, 2]]
    assert not any(len(document.cuts) for document in found)  # a part without its Semantic ID would tell nothing


def test_a_document_without_units_is_its_head():
    assert fitted(5, head=[10, 11, 12], units=[])[0] == [[1, 10, 11, 12, 2]]
    assert fitted(5, start=None, head=[10, 11, 12, 13], units=[])[0] == [[10, 11, 12, 13, 2]]
    assert fitted(5, units=[])[0] == []


def test_a_sentence_that_is_too_long_is_cut():
    assert fitted(5, units=[[20, 21, 22, 23, 24]])[0] == [[1, 20, 21, 22], [1, 23, 24, 2]]


@pytest.mark.parametrize(
    ("parts", "needed"),
    [
        ({"head": [3], "units": [[20, 21, 22, 23]], "divisible": False}, "7 tokens"),
        ({"head": [3, 4, 5, 6, 7], "units": []}, "7 tokens"),
        ({"head": [3, 4, 5], "units": [[1]], "tail": [6]}, "7 tokens"),
    ],
)
def test_what_does_not_fit_and_must_stay_whole_is_refused(parts, needed):
    with pytest.raises(PlumError, match=f"longer than the context(.|\n)*{needed} at least, cpt.context_length is 6"):
        fitted(6, **parts)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    head=st.integers(0, 3),
    tail=st.integers(0, 3),
    longest=st.integers(9, 30),
)
def test_no_unit_is_lost_and_none_is_too_long(lengths, head, tail, longest):
    stops = 100 + np.cumsum(lengths)
    units = [list(range(stop - length, stop)) for stop, length in zip(stops, lengths, strict=True)]
    texts, found = fitted(longest, head=[5] * head, units=units, tail=[6] * tail)
    assert max(map(len, texts)) <= longest
    assert [token for text in texts for token in text if token >= 100] == list(range(100, stops[-1]))
    assert [text[-1] == END for text in texts] == [True if tail else text is texts[-1] for text in texts]
    borders = {unit[0] for unit in units}
    for document in found:
        assert {int(document.tokens[cut]) for cut in document.cuts} <= borders | set(range(100, stops[-1]))


@given(st.text(alphabet="ab .!?\n。", max_size=600))
def test_sentences_are_the_text(text):
    assert "".join(sentences(text)) == text


def test_a_long_text_is_split_behind_its_sentences():
    text = "One is here. " * 20 + "Is two?\nThree!"
    assert sentences(text)[:2] == ["One is here.", " One is here."]
    assert sentences(text)[-2:] == [" Is two?", "\nThree!"]
    assert sentences("One. Two.") == ["One. Two."]
    assert sentences("") == []
    assert len(NO_TOKENS) == 0

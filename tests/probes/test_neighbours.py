import numpy as np

from plum.probes.neighbours import Titles, commonest_codes, nearest_by_sid

KNOWN = np.array([[1, 2], [1, 3], [4, 3]])


def test_the_item_that_shares_the_most_first_codes_is_nearest():
    asked = np.array([[1, 3], [4, 9], [7, 3]])  # a later code alone does not count
    assert nearest_by_sid(KNOWN, asked).tolist() == [1, 2, 0]


def test_the_majority_after_true_codes_and_after_its_own():
    known = np.array([[1, 2], [1, 2], [1, 5], [4, 3]])
    asked = np.array([[4, 0], [1, 0], [9, 0]])
    assert commonest_codes(known, asked, given=True).tolist() == [[1, 3], [1, 2], [1, 2]]
    assert commonest_codes(known, asked, given=False).tolist() == [[1, 2]] * 3


def test_codes_are_copied_from_the_nearest_title():
    titles = Titles(["Heat", "Toy Story", "Toy Soldiers"], KNOWN)
    asked = np.array([[1, 2], [4, 3]])
    assert titles.copied(["toy story 2", "soldiers"], asked, given=False).tolist() == [[1, 3], [4, 3]]
    # With the first code given, the nearest title is looked for among the items that have it.
    assert titles.copied(["toy story 2"], np.array([[4, 0]]), given=True).tolist() == [[1, 3]]
    # Among those with code 1, none shares a word with "soldiers": the majority of their second codes.
    assert titles.copied(["soldiers"], np.array([[1, 0]]), given=True).tolist() == [[4, 2]]


def test_a_title_without_known_words_gets_the_majority():
    assert Titles(["Heat", "Ran", "!"], KNOWN).copied(["?"], KNOWN[:1], given=False).tolist() == [[1, 2]]
    assert Titles(["!", "?", "."], KNOWN).copied(["Heat"], KNOWN[:1], given=False).tolist() == [[1, 2]]

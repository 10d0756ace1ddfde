"""The heat map of the first two levels: the shades that are drawn are those of the counts."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.report.figures.codes import first_two_levels


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def classes(svg):
    """The legend's classes (low, high) of counts, as they stand in the picture."""
    numbers = [text for text in texts(svg) if re.fullmatch(r"[\d,]+(–[\d,]+)?", text)]
    after = texts(svg).index("items")  # the title of the legend, which comes last
    ends = [text.replace(",", "").split("–") for text in texts(svg)[after + 1 :] if text in numbers]
    return [(int(each[0]), int(each[-1])) for each in ends]


def area(path):
    """Of all closed outlines of a path together, by the shoelace formula."""
    total = 0.0
    for part in path.split("z"):
        x, y = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", part), dtype=float).reshape(-1, 2).T
        total += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return total


def shares(svg):
    """Of the axes' area that each shade covers, the lightest first."""
    whole = re.search(r'id="levels-patch_2">\s*<path d="([^"]*)"', svg).group(1)
    drawn = re.findall(r'<path d="([^"]*)" clip-path[^>]*style="fill: var', svg)
    return [area(path) / area(whole) for path in drawn]


def test_it_names_its_axes_and_classes():
    svg = first_two_levels([[1200, 30, 4], [1, 1, 0]], "two codes")
    shown = texts(svg)
    assert {"codes of level 0, fullest first", "its codes of level 1, fullest first", "items"} <= set(shown)
    assert 'aria-label="two codes"' in svg
    assert classes(svg)[-1][1] == 1200


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [(1, 1)]), (2, [(1, 1), (2, 2)]), (3, [(1, 1), (2, 2), (3, 3)]), (40, None)]
)
def test_classes_cover_all_counts_without_a_gap(most, expected):
    svg = first_two_levels([[most, 1]], "label")
    found = classes(svg)
    assert expected is None or found == expected
    assert "var(--shade4)" in svg  # the fullest are dark, however few classes there are
    assert found[0][0] == 1
    assert found[-1][1] == most
    assert all(high + 1 == low for (_, high), (low, _) in itertools.pairwise(found))
    assert len(found) <= 5


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=6))
def test_each_shade_covers_as_many_squares_as_there_are_counts_of_its_class(counts):
    table = np.array(counts)
    table[0, 0] = max(1, table[0, 0])
    svg = first_two_levels(table.tolist(), "label")
    expected = [((table >= low) & (table <= high)).mean() for low, high in classes(svg)]
    assert shares(svg) == pytest.approx([share for share in expected if share], abs=1e-3)


def test_it_is_of_vectors_alone_and_the_same_each_time():
    counts = np.random.default_rng(0).poisson(1, (64, 64)).tolist()
    svg = first_two_levels(counts, "label")
    assert svg == first_two_levels(counts, "label")
    assert "<image" not in svg  # the page may load nothing, pictures inside pictures included
    assert svg.count("<path") < 100  # not one for each of the 4,096 squares

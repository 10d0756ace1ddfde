import itertools
import re

import numpy as np
import pytest
from full_payload import RETRIEVERS

from plum.report import drawing
from plum.report.figures import codes, data, training
from plum.report.figures import results as figures

CONES = {
    "none": np.eye(3),
    "L": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "M": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "S": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def test_nine_retrievers_differ_in_colour_and_in_marker():
    styles = drawing.styles_of(RETRIEVERS, "plum", "optimum")
    assert len({style.colour for style in styles.values()}) == 9
    assert len({style.marker for style in styles.values()}) == 9
    assert styles["plum"].colour == drawing.PLUM
    # A part of them in a picture of its own looks as it does in all others, if styles are shared: order alone decides.
    assert drawing.styles_of(RETRIEVERS[:4], "plum")[RETRIEVERS[2]] == styles[RETRIEVERS[2]]
    many = drawing.styles_of([str(i) for i in range(20)], "none")
    assert len(set(many.values())) == 20


@pytest.mark.parametrize("missing", ["none", *"LMS"])
@pytest.mark.parametrize("palette", [drawing.LIGHT, drawing.DARK], ids=["light", "dark"])
def test_colours_are_apart_for_every_kind_of_eye(missing, palette):
    """Distances in CIELAB, at least 12, with one kind of cone missing (Machado, Oliveira and Fernandes 2009)."""
    colours = [*(palette[f"s{number}"] for number in range(7)), palette["plum"], palette["ink"], palette["page"]]
    linear = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    page = luminance[-1]
    contrasts = (np.maximum(luminance, page) + 0.05) / (np.minimum(luminance, page) + 0.05)
    assert contrasts[:-1].min() >= 3
    seen = np.clip(linear @ CONES[missing].T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = xyz / [0.9505, 1.0, 1.089]
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)]
    assert min(distances) >= 12


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_difference_that_is_not_clear_has_no_colour_of_a_winner():
    def draw(clear):
        return figures.difference_bars([("a − b", (0.2, 0.1, 0.3), clear)], "difference", "label")

    assert "var(--plum)" in draw(True)
    assert "var(--plum)" not in draw(False)
    assert "var(--behind)" in figures.difference_bars([("a − b", (-0.2, -0.3, -0.1), True)], "difference", "label")


def test_pictures_name_what_they_show():
    styles = drawing.styles_of(RETRIEVERS, "plum", "optimum")
    points = {name: (0.1, 0.05, 0.2) for name in RETRIEVERS}
    curves = {name: [(1, 0.1, 0.0, 0.2), (10, 0.2, 0.1, 0.3)] for name in RETRIEVERS}
    assert {*RETRIEVERS, "1", "10", "Recall@k"} <= set(texts(figures.recall_curves(curves, styles, "label")))
    dots = texts(figures.slice_dots([("head\n3", points), ("cold\n1", {})], styles, "Recall@10", "label", 0))
    assert {*RETRIEVERS, "Recall@10", "head", "cold"} <= set(dots)
    costs = {"plum": (3e12, (0.1, 0.05, 0.2)), "dense": (2e9, (0.1, 0.1, 0.1))}
    shown = texts(figures.cost_scatter(costs, styles, "Recall@10", "label"))
    assert {"plum", "dense", "1 GFLOP", "10 TFLOP"} <= set(shown)
    assert "lem" not in shown
    assert "if spread evenly: 2.0" in texts(codes.code_spread([0, 5, 1], "label"))
    lines = figures.prefix_lines({"plum": [0.5, 0.25]}, ["1 code", "2 codes", "the item"], styles, "Recall@10", "label")
    assert {"1 code", "2 codes", "the item", "plum"} <= set(texts(lines))


def test_pictures_are_the_same_bytes_each_time_and_hold_their_identifier():
    def draw(number):
        styles = drawing.styles_of(["plum"], "plum")
        return figures.slice_dots([("head", {"plum": (0.1, 0.05, 0.2)})], styles, "Recall@10", "label", number)

    assert draw(0) == draw(0)
    identifiers = [set(re.findall(r'\bid="([^"]*)"', draw(number))) for number in (0, 1)]
    assert identifiers[0]
    assert not identifiers[0] & identifiers[1]


def test_every_colour_of_a_picture_is_one_of_the_page():
    styles = drawing.styles_of(RETRIEVERS, "plum", "optimum")
    points = {name: (0.1, 0.05, 0.2) for name in RETRIEVERS}
    pictures = [
        figures.slice_dots([("head", points)], styles, "Recall@10", "label", 0),
        figures.difference_bars([("a − b", (-0.2, -0.3, -0.1), True)], "difference", "label"),
        figures.exposure_bars({"plum": [0.5, 0.5], "dense": [1, 0]}, ["head", "tail"], 1, "label"),
        codes.codebook_usage([(4, 0.5, 1.5)], "label"),
        codes.first_two_levels([[3, 1], [1, 0]], "label"),
        data.long_tail([1, 2], [5, 0], "label"),
        training.training_curves({"loss": {"training": [(0, 2.0), (1, 1.0)]}}, "label", "training0"),
    ]
    for svg in pictures:
        assert re.findall(r"(?:fill|stroke): (?!none|var\()[^;\"]*", svg) == []
    assert set(drawing.LIGHT) == set(drawing.DARK)
    assert len(set(drawing.LIGHT.values())) == len(drawing.LIGHT)


def test_pictures_of_the_data_name_what_they_show():
    day = 86_400
    lengths = data.history_lengths([1, 3, 4, 9], [5, 2, 1], 3, "label")
    assert {"1–2", "3", "4–8", "plum reads the last 3", "test users"} <= set(texts(lengths))
    assert "plum reads" not in " ".join(texts(data.history_lengths([1, 3], [5], 50, "label")))  # all is read
    counts = {"train": [3, 1], "valid": [0, 1], "test": [0, 2]}
    times = [0, 40 * day, 80 * day]
    assert {"training", "validation", "test", "1970"} & set(texts(data.timeline(times, counts, {}, "label")))
    cut = data.timeline(times, counts, {"test begins": 50 * day}, "label")
    assert "test begins" in texts(cut)
    assert "test begins" not in texts(data.timeline(times, counts, {}, "label"))
    assert {"1", "10", "items, most popular first"} <= set(texts(data.long_tail([1, 10, 20], [50, 7, 0], "label")))


def test_losses_and_metrics_stand_in_panels_that_share_the_steps():
    losses = {"training": [(0, 2.0), (9, 1.0)], "validation loss": [(9, 1.2)]}
    svg = training.training_curves({"loss": losses, "validation": {"Recall@10": [(9, 0.5)]}}, "label", "training0")
    assert {"loss", "validation", "training", "validation loss", "Recall@10"} <= set(texts(svg))
    assert texts(svg).count("step") == 1

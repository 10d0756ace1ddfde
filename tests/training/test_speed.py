"""Speeds by a clock that is set by hand."""

from __future__ import annotations

import pytest
import torch

from plum.training import speed
from plum.training.speed import Speed, peak_flops, told


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(found, clock, *steps):
    for waited, seconds, tokens, flops in steps:
        clock.now += waited  # a validation
        found.start()
        clock.now += seconds
        found.stop(tokens, flops)


def test_steps_count_but_not_the_first_ones_nor_what_lies_between():
    clock = Clock()
    found = Speed(1000.0, clock)
    run(found, clock, (0, 50, 10, 10), (5, 9, 10, 10))
    assert found.figures() == {}
    assert found.seconds_left(7) is None
    run(found, clock, (900, 2, 30, 1200), (900, 3, 20, 800))
    assert found.figures() == {"tokens_per_second": 10.0, "mfu": 0.4}  # 50 tokens and 2,000 FLOPs in 5 seconds
    assert found.seconds_left(4) == pytest.approx(10)


def test_without_a_known_peak_there_is_no_utilisation():
    clock = Clock()
    found = Speed(None, clock)
    run(found, clock, *[(0, 2, 30, 10**15)] * 3)
    assert found.figures() == {"tokens_per_second": 15.0}


def test_a_line_of_the_log_is_due_once_in_a_while():
    clock = Clock()
    found = Speed(None, clock)
    assert not found.is_due()
    clock.now += speed.TELL_S
    assert found.is_due()
    assert not found.is_due()


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_peaks_by_the_device_s_name(monkeypatch, name, tera):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == (None if tera is None else tera * 1e12)


def test_cpus_have_no_peak():
    assert peak_flops(torch.device("cpu")) is None


def test_seconds_in_words():
    assert [told(seconds) for seconds in (5, 65.4, 3723)] == ["0:00:05", "0:01:05", "1:02:03"]

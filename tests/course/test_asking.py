"""`grade` as a cell of a notebook calls it."""

import torch

from fragile_utils.course import grade


def mass_centre(maps):  # what `grade` finds where it is called
    return maps


def right(maps):
    _, height, width = maps.shape
    moments = [maps.sum(2) @ torch.arange(height).to(maps), maps.sum(1) @ torch.arange(width).to(maps)]
    return torch.stack(moments, 1) / maps.sum((1, 2))[:, None]


def test_it_finds_the_function_where_it_is_called():
    assert "expected the shape (3, 2), got (3, 7, 4)" in repr(grade("ex-mass-centre"))
    mass_centre = right  # noqa: F841  (a local name comes first)
    assert grade("ex-mass-centre").passed


def test_it_takes_a_function_that_is_given():
    assert grade("ex-mass-centre", right).passed
    assert grade("ex-mass-centre", mass_centre=right).passed
    assert not grade("ex-mass-centre", lambda maps: maps.sum()).passed


def test_a_function_that_is_not_there():
    assert "there is no `spearman` yet" in repr(grade("ex-spearman"))


def test_a_label_that_is_not_quite_right():
    report = grade("ex-mass-center")
    assert not report.passed
    assert report.note == "there is no exercise of this name; did you mean 'ex-mass-centre'?"


def test_a_label_that_cannot_be_printed():
    assert repr(grade("\ud800\x1b[31m")).startswith(r"○ \ud800\x1b[31m: there is no exercise of this name")

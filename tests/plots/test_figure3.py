import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from fragile_utils import data, plots
from fragile_utils.plots import figure3

mpl.use("Agg")

RUNS = pd.DataFrame(
    {
        "method": ["gradient"] * 4 + ["deeplift"],
        "attack": ["topk"] * 4 + ["random-sign"],
        "eps": [8, 8, 8, 1, 8],
        "success": [True, True, False, True, True],
        "topk_intersection": [0.1, 0.3, 1.0, 0.5, 0.2],
        "rank_correlation": [0.2, 0.4, 1.0, 0.6, 0.5],
        "center_shift": [20.0, 30.0, 0.0, 10.0, 4.0],
    }
)
PAPER = data.results("figure3_paper")


@pytest.fixture
def stored(monkeypatch):
    monkeypatch.setattr(data, "results", lambda name: PAPER if name == "figure3_paper" else ({}, RUNS))


def test_means_leave_out_failures_and_stand_beside_the_papers(stored):
    table = figure3.compared("topk_intersection", "topk")
    assert list(table.index) == [("gradient", 1), ("gradient", 8)]
    row = table.loc["gradient", 8]
    np.testing.assert_allclose([row.ours, row.images, row.paper, row.difference], [0.2, 2, 0.01, 0.19])


def test_the_interval_of_two_values_is_the_two(stored):
    row = figure3.compared("center_shift", "topk").loc["gradient", 8]
    assert (row.low, row.high) == (20, 30)  # a quarter of the draws is the first twice, a quarter the second


def test_what_could_not_be_read_off_the_paper_is_missing(stored):
    assert np.isnan(figure3.compared("center_shift", "random-sign").loc["deeplift", 8].paper)


def test_the_figure_draws_both(stored):
    drawn = figure3.figure(["topk_intersection", "center_shift"], ["topk", "random-sign"])
    assert [axes.get_title() for axes in drawn.axes] == ["gradient", "DeepLIFT", "", ""]
    blue = [line for line in drawn.axes[0].lines if line.get_color() == plots.BLUE]
    (ours,) = (line for line in blue if line.get_linestyle() == "-")
    (paper,) = (line for line in blue if line.get_linestyle() == "--")
    np.testing.assert_allclose(ours.get_xydata(), [[1, 0.5], [8, 0.2]])
    np.testing.assert_allclose(paper.get_xydata(), [[1, 0.06], [2, 0.01], [4, 0.01], [8, 0.01]])


def test_results_that_the_paper_does_not_have_stand_alone(stored):
    table = figure3.compared("center_shift", "topk", "cifar10", paper=None)
    assert table.ours["gradient", 8] == 25
    assert table[["paper", "difference"]].isna().all(axis=None)
    drawn = figure3.figure(["center_shift"], ["topk"], "cifar10", paper=None)
    assert [len(line.get_xdata()) for line in drawn.axes[0].lines if line.get_linestyle() == "--"] == [0]


def test_agreement_is_the_reading_error_and_two_standard_errors(stored):
    found = figure3.agreement().set_index(["measure", "method", "attack", "eps"])
    assert len(found) == 8  # the centre under noise could not be read off for DeepLIFT
    row = found.loc["topk_intersection", "gradient", "topk", 8]
    sem = np.std([0.1, 0.3], ddof=1) / 2**0.5
    np.testing.assert_allclose([row.ours, row.images, row.paper], [0.2, 2, 0.01])
    assert row.tolerance == pytest.approx(0.01 + 2 * sem)
    assert row.agrees == (0.01 + 2 * sem >= 0.19)
    assert found.loc["center_shift", "gradient", "topk", 8].tolerance == pytest.approx(1 + 10)


def test_what_agrees_of_the_stored_results_is_what_the_book_says():
    found = figure3.agreement()
    counts = found.groupby("measure").agrees.agg(["sum", "count"])
    assert counts.loc["topk_intersection"].tolist() == [23, 42]
    assert counts.loc["rank_correlation"].tolist() == [26, 42]
    assert counts.loc["center_shift"].tolist() == [15, 30]


@pytest.mark.parametrize(("measure", "attack", "name"), [("x", "topk", "measure"), ("center_shift", "x", "attack")])
def test_names_are_checked(measure, attack, name):
    with pytest.raises(ValueError, match=f"{name}: expected one of .*, got 'x'"):
        figure3.compared(measure, attack)


def test_the_papers_values_are_those_of_its_most_quoted_cells():
    _, paper = PAPER
    assert len(paper) == 132
    value = paper.set_index(["measure", "method", "attack", "eps"]).value
    assert value["topk_intersection", "gradient", "topk", 8] == 0.01
    assert value["center_shift", "gradient", "mass-center", 8] == 74
    assert value["rank_correlation", "integrated-gradients", "random-sign", 1] == 0.83

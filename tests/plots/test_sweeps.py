"""The figure of a sweep."""

import pandas as pd
import pytest
import sweeps

from fragile_utils import experiments
from fragile_utils.experiments import report
from fragile_utils.plots import sweeps as figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("finished")
    sweeps.run(sweeps.small(about="a small sweep"), folder, shard_size=4)
    return folder


def test_the_figure_shows_the_summary(folder):
    summary = experiments.summary(sweeps.rows(folder))
    drawn = figures.figure(summary, "a note")
    assert len(drawn.axes) == 3 * 2
    assert drawn.get_suptitle() == "a note"
    assert [axes.get_title() for axes in drawn.axes[:2]] == ["gradient", "integrated gradients"]
    panel = drawn.axes[3]  # rank correlation of integrated gradients
    rows = summary[(summary.method == "integrated-gradients") & (summary.measure == "rank_correlation")]
    for container, attack in zip(panel.containers, ("random-sign", "topk"), strict=True):
        line = container.lines[0]
        assert line.get_xdata().tolist() == [4, 16]
        assert line.get_ydata().tolist() == rows[rows.attack == attack]["mean"].tolist()
    assert [text.get_text() for text in drawn.axes[1].get_legend().get_texts()] == ["random signs", "top-k"]


def test_the_figure_names_networks_and_data_where_there_are_several(folder):
    summary = experiments.summary(sweeps.rows(folder))
    both = pd.concat(
        [summary, summary.assign(model="another", attack=summary.attack.replace("topk", "mine"))], ignore_index=True
    )
    drawn = figures.figure(both)
    assert [axes.get_title() for axes in drawn.axes[:4]] == [
        f"{model}\n{method}"
        for model in ("sweeps:network", "another")
        for method in ("gradient", "integrated gradients")
    ]
    assert "another" in report.text(both)

"""The script that collects sweeps and transfer tables of several networks, and the results that it has stored."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fragile_utils import data, experiments, metrics, models

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "book" / "results" / "architectures.py"
BUDGETS = (1, 2, 4, 8)  # levels
NOISE = "noise_topk_intersection"  # with the root mean square of the attack


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as if it were run: it imports what lies beside it
        return importlib.import_module(SCRIPT.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep over three images, of which the budgets of two levels are the whole."""
    folder = tmp_path_factory.mktemp("work") / "small"
    sweep = experiments.Sweep(
        models=["cifar10"],
        data=["cifar10-samples"],
        methods=["gradient"],
        attacks=["random-sign", "topk"],
        budgets=[2, 8],
        images=3,
        steps=2,
        step_size=1,
        k=100,
    )
    experiments.run(sweep, folder)
    return folder


# --- The script ------------------------------------------------------------------------------------------------------


def test_each_number_of_a_sweep_is_found_again(script, folder):
    ((about, cells),) = script.collect([folder], {})
    table, images = script.one_table([cells], script.CELL)
    found = script.wide(table)
    _, measured = experiments.results(folder)
    (subject,) = experiments.SweepFolder.load(folder).subjects
    assert images == sorted(f"{label:04}/{name}" for label, name in zip(subject.labels, subject.names, strict=True))
    order = sorted(range(3), key=lambda i: (subject.labels[i], subject.names[i]))
    for row in measured.rename(columns={"index": "image"}).itertuples():
        (place,) = found.index[
            (found.model == row.model) & (found.attack == row.attack) & (found["index"] == order.index(row.image))
        ]
        for measure in metrics.MEASURES:
            expected = getattr(row, measure) if row.success else np.nan
            np.testing.assert_equal(found.loc[place, f"{measure}@{row.eps:g}"], expected)
    assert len(found) == 2 * 3
    assert about["sweep"]["steps"] == 2


def test_where_an_attack_failed_nothing_stands(script):
    rows = {"model": "m", "method": "g", "attack": "topk", "eps": 1.0}
    values = {key: [0.25, 0.5] for key in script.VALUES}
    found = script.wide(pd.DataFrame(rows | values | {"success": [True, False], "index": [1, 0]}))
    assert list(found["index"]) == [0, 1]
    assert list(found["topk_intersection@1"].isna()) == [True, False]
    assert found["topk_intersection@1"][1] == 0.25


def test_a_network_that_is_not_the_one_in_the_package_is_refused(script, folder):
    with pytest.raises(SystemExit, match="cifar10 has other weights than efficientnet-lite0 in this package"):
        script.collect([folder], {"cifar10": "efficientnet-lite0"})


def test_settings_do_not_say_where_a_folder_was(script):
    about = {"sweep": {"data": ["/somewhere/else/photographs", "cifar10-test"]}, "seconds": 3}
    assert script.without_paths(about) == {"sweep": {"data": ["photographs", "cifar10-test"]}, "seconds": 3}


def test_what_is_stored_is_read_as_it_was_collected(script, folder):
    ((_, cells),) = script.collect([folder], {})
    table, images = script.one_table([cells], script.CELL)
    again = script.long(script.wide(table), images)
    found, names = script.one_table([again], script.CELL)
    assert names == images
    pd.testing.assert_frame_equal(script.wide(found), script.wide(table))
    half = script.wide(table[(table.attack != "topk") | (table.eps == 2)])
    left = script.long(half, images).groupby(script.CELL).size()
    assert len(left) == 3
    assert set(left) == {3}  # a cell of which nothing is there is none


# --- What is stored --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    return data.results("architectures")


def test_each_stored_image_has_its_name(stored):
    about, table = stored
    photographs = {i for i, name in enumerate(about["images"]) if name.endswith(".JPEG")}
    assert {*table["index"]} == {*range(len(about["images"]))} == photographs
    assert len({*about["images"]}) == 48


def test_the_stored_networks_are_those_of_the_package(stored):
    _, table = stored
    assert set(table.model) == {"squeezenet", "efficientnet-lite0"} <= {*models.MODELS}


def test_networks_are_compared_on_the_same_images(stored):
    _, table = stored
    gradient = table[(table.method == "gradient") & (table.attack == "topk")]
    images = gradient.groupby("model")["index"].apply(frozenset)
    assert len({*images[["squeezenet", "efficientnet-lite0"]]}) == 1


def test_the_stored_measures_are_within_their_bounds(stored):
    _, table = stored
    shares = table.filter(regex="topk_intersection@")
    assert ((shares >= 0) & (shares <= 1) | shares.isna()).all(axis=None)
    ranks = table.filter(regex="rank_correlation@")
    assert ((ranks >= -1) & (ranks <= 1) | ranks.isna()).all(axis=None)
    assert not table.duplicated(["model", "method", "attack", "index"]).any()


def test_the_stored_transfer_of_photographs_has_all_pairs_of_networks_and_methods():
    about, table = data.results("transfer_imagenet")
    ends = len(about["networks"]) * len(about["methods"])
    pairs = table.groupby(["source", "source_method", "target", "target_method", "eps"])["index"].apply(frozenset)
    assert len(pairs) == ends**2 * len(about["budgets"])
    assert set(pairs) == {frozenset(range(about["images"]))}
    own = experiments.transfer_summary(table[table.source == table.target])
    assert (own.gap_high < 0).all()


def test_the_stored_transfer_has_all_pairs_on_the_same_images():
    about, table = data.results("transfer")
    networks = {"cifar10", "cifar10-resnet", "cifar10-vit"}
    assert set(about["networks"]) == networks
    pairs = table.groupby(["source", "target", "eps"])["index"].apply(frozenset)
    assert len(pairs) == len(networks) ** 2 * len(about["budgets"])
    assert set(pairs) == {frozenset(range(about["images"]))}
    own = experiments.transfer_summary(table[table.source == table.target])
    assert (own.gap_high < 0).all()  # on the network that was attacked, an attack takes more than noise


@pytest.mark.parametrize("name", ["transfer", "transfer_imagenet"])
def test_the_stored_transfer_is_beside_noise_of_both_sizes(name):
    """Noise of the same maximum has more energy than an attack, so that it takes more, or as much."""
    _, table = data.results(name)
    kept = [column for column in table if column.endswith("kept")]
    assert kept == ["kept", "noise_kept", "rms_noise_kept"]
    differ = table.topk_intersection < 1  # an attack that failed has no noise of its size
    gap = (table.rms_noise_topk_intersection - table.noise_topk_intersection)[differ]
    assert experiments.mean_interval(gap.to_numpy()).low > 0.02


def test_three_methods_more_have_the_same_sixteen_photographs(stored):
    _, table = stored
    more = table[(table.attack == "topk") & table.method.isin(["grad-cam", "input-x-gradient", "smoothgrad"])]
    images = more.groupby(["model", "method"])["index"]
    assert {len(found) for found in images.apply(frozenset)} == {16}
    assert len({*images.apply(frozenset)}) == 1


@pytest.fixture(scope="module")
def many():
    """Three networks for CIFAR-10 on the same 500 images, or 200 of them."""
    about, table = data.results("architectures_cifar10")
    return about, table.set_index(["model", "method", "attack"]).sort_index()


SMALL = ["cifar10", "cifar10-resnet", "cifar10-vit"]
ATTENTION = ["rollout", "attention-gradient", "attention-relevance", "grad-cam-tokens"]
WIDE = [*((name, "gradient") for name in SMALL), *((name, "deeplift") for name in SMALL[:2])]  # on all images
NARROW = [
    *((name, "input-x-gradient") for name in SMALL),
    *((name, method) for name in SMALL[:2] for method in ("grad-cam", "integrated-gradients", "smoothgrad")),
    *((SMALL[2], method) for method in ATTENTION),
]
FAILING = [("cifar10-resnet", "grad-cam")]  # the last layer is that of the prediction too, and the label is lost


def test_three_networks_have_the_same_images_of_every_method_attack_and_budget(many):
    about, table = many
    expected = {(*pair, attack) for pair in WIDE + NARROW for attack in ("random-sign", "topk", "mass-center")}
    assert set(table.index) == expected
    few = sorted(table.loc[(*NARROW[0], "topk"), "index"])
    assert len(few) == 200
    for cell in expected:
        assert sorted(table.loc[cell, "index"]) == (few if cell[:2] in NARROW else [*range(500)])
    for part in about["sweeps"]:
        assert part["shards"]["done"] == part["shards"]["of"]
        assert part["sweep"]["steps"] == {500: 100, 200: 60}[part["sweep"]["images"]]
    measures = {f"{name}@{eps}" for name in (*metrics.MEASURES, NOISE) for eps in BUDGETS}
    assert set(table.columns) == {"index"} | measures
    for eps in BUDGETS:  # an attack may fail, on few images
        found = table[f"topk_intersection@{eps}"].notna().groupby(level=[0, 1, 2]).mean()
        often = found.index.droplevel("attack").isin(FAILING)
        assert (found[~often] > 0.9).all()
        assert (found[often] > 0.84).all()


def test_on_each_of_three_networks_the_attack_takes_more_than_noise_of_its_size(many):
    _, table = many
    for (_, method), part in table.xs("topk", level="attack").groupby(level=["model", "method"]):
        small = {"rollout": {1: -0.05, 2: -0.18}, "grad-cam": {1: -0.18}}.get(method, {})  # one level takes little
        for eps in BUDGETS:
            gap = part[f"topk_intersection@{eps}"] - part[f"{NOISE}@{eps}"]
            assert experiments.mean_interval(gap.dropna()).high < small.get(eps, -0.2)


def test_the_stored_results_are_small():
    names = ("architectures.csv", "architectures_cifar10.csv.gz", "transfer.csv")
    assert sum((ROOT / "fragile_utils" / "results" / name).stat().st_size for name in names) < 1.5e6

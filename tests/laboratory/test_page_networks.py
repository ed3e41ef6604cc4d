"""The page of a network of one's own, as `fragile laboratory` writes it: it works, and steps as Python does."""

import json
import re
from itertools import product

import browsing
import numpy as np
import pytest
import torch
from golden import AIMS, agree
from PIL import Image
from written import METHODS, once

from fragile_utils import data, laboratory, models
from fragile_utils.cli import main

NETS = """
import torch
from torch import nn


def features(channels, classes):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    layers += nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(16 * 64, 24)
    return nn.Sequential(*layers, nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, classes)).eval()


def grey():
    return features(1, 2)


def score():
    return features(3, 1)
"""
HALF = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# DeepLIFT's rule for a max pool divides by how far the maximum has moved from the reference, and so does the rule's
# derivative once more. Where that is rounding or little more (1e-8 and 5e-6, in two of the 180 steps below), single
# precision does not know the slope, in Python neither: in the first of the two, 1.8 % of its signs are others than in
# double precision. What such a window of the pool hands down arrives in the 15 by 15 pixels that a unit in it sees.
SEEN = {"gradient": 0, "deeplift": 15}


def written(folder, *arguments):
    """Run the command, and return the manifest of what it has written."""
    assert main(["laboratory", "--out", str(folder), *arguments]) == 0
    return json.loads((folder / "models" / "manifest.json").read_text())


def given_by(folder, manifest, model):
    """The network of a laboratory, with the examples as they stand in its folder."""
    (network,) = manifest["networks"]
    files = [folder / "examples" / example["file"] for example in manifest["examples"]]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])
    labels = torch.tensor([example["label"] for example in manifest["examples"]])
    images = data.Batch(pixels.permute(0, 3, 1, 2).float() / 255, labels, network["classes"])
    methods = [laboratory.explanation(method["name"]) for method in network["methods"]]
    return laboratory.Network(network["name"], network["title"], model, methods, images)


NETWORKS = ["grey", "score"]
# Of all combinations of a network, a method and an aim: half of them, in which each two of these three meet.
OFTEN = {
    (network, method, aim)
    for (i, network), (j, method), (k, aim) in product(*map(enumerate, (NETWORKS, METHODS, AIMS)))
    if (i + j + k) % 2 == 0
}
COMBINED = [
    pytest.param(*combined, marks=() if combined in OFTEN else pytest.mark.slow)
    for combined in product(NETWORKS, METHODS, AIMS)
]


@pytest.fixture(scope="module", params=NETWORKS)
def own(request, tmp_path_factory):
    """A reader's network of two classes, on images of 64 pixels: one that takes grey, one that answers one score."""

    def write(home):
        home.mkdir()
        (home / "nets.py").write_text(NETS)
        (home / "classes.txt").write_text("cat\ndog\n")
        mean, std = (",".join(map(str, values)) for values in HALF)
        options = ["--mean", mean, "--std", std, "--size", "64", "--classes", "classes.txt", "--images", "3"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            written(home / "lab", "--model", f"nets.py:{request.param}", *options, "--method", *METHODS)

    home, names = once(request.param, write, tmp_path_factory), {}
    manifest = json.loads((home / "lab" / "models" / "manifest.json").read_text())
    exec(NETS, names)
    model = models.wrap(names[request.param](), *HALF, size=64, classes=("cat", "dog"))
    with browsing.served(home / "lab") as site:
        yield site, given_by(home / "lab", manifest, model)


@pytest.mark.parametrize(("own", "method", "aim"), COMBINED, indirect=["own"], scope="module")
def test_each_step_on_a_readers_network_is_that_of_the_package(browser, own, method, aim):
    site, network = own
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        agree(tab, network, method, aim, but=SEEN[method])
        assert problems == []


def test_the_page_of_a_readers_network_works(browser, own):
    site, network = own
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        assert tab.locator("#network option").all_inner_texts() == [network.title]
        assert tab.locator(".example input").count() == 3
        assert tab.locator("#region-bottom").get_attribute("max") == "64"
        tab.locator("#start").click()
        tab.locator("#play").wait_for(timeout=60_000)
        assert re.search("“(cat|dog)”", tab.locator("#status").inner_text())
        tab.locator("#play").click()
        tab.locator("#status").filter(has_text=re.compile("^After 20 steps")).wait_for(timeout=120_000)
        assert problems == []


@pytest.mark.slow
@pytest.mark.parametrize("aim", ["topk", "centre"])
def test_each_step_on_efficientnet_is_that_of_the_package(browser, aim, efficientnet_lab):
    folder, manifest = efficientnet_lab
    network = given_by(folder, manifest, models.efficientnet_lite0())
    with browsing.served(folder) as site, browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        agree(tab, network, "gradient", aim)
        assert problems == []


@pytest.fixture(scope="module")
def efficientnet_lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("efficientnet") / "lab"
    return folder, written(folder, "--model", "efficientnet-lite0", "--images", "3")

"""A sweep as a value."""

import json
import re

import pytest
import sweeps
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fragile_utils import attacks, experiments, saliency

NAMES = {
    "models": st.sampled_from(["squeezenet", "squeezenet-torchvision", "sweeps:network", "my_package.nets:large"]),
    "data": st.sampled_from(["imagenet", "cifar10-test", "imagenet-samples", "photos", "sweeps:images"]),
    "methods": st.sampled_from(
        [
            "gradient",
            {"name": "integrated-gradients", "steps": 10},
            {"name": "integrated-gradients", "steps": 20, "baseline": 0.5},
            {"name": "smoothgrad", "method": {"name": "deeplift"}, "sigma": 0.1},
            {"name": "smoothgrad", "method": {"name": "lrp", "rule": "zplus"}},
        ]
    ),
    "attacks": st.sampled_from(
        ["topk", "mass-center", "random-sign", {"name": "targeted", "region": [1, 2, 3, 4]}, {"name": "topk", "k": 7}]
    ),
    "budgets": st.floats(1e-3, 255),
}
SWEEPS = st.fixed_dictionaries(
    {name: st.lists(names, min_size=1, max_size=3, unique_by=str) for name, names in NAMES.items()},
    optional={
        "images": st.none() | st.integers(1, 1000),
        "steps": st.integers(1, 1000),
        "step_size": st.floats(1e-3, 9),
        "random_start": st.booleans(),
        "patience": st.none() | st.integers(1, 10),
        "seed": st.integers(0, 2**40),
        "size": st.none() | st.integers(1, 500),
        "fit": st.sampled_from(["crop", "stretch"]),
        "about": st.text(),
    },
)


@settings(deadline=None, max_examples=50)
@given(fields=SWEEPS)
def test_a_sweep_goes_to_json_and_back_unchanged(fields):
    sweep = experiments.Sweep.from_dict(fields)
    again = experiments.Sweep.from_json(sweep.to_json())
    assert again == sweep
    assert hash(again) == hash(sweep)
    assert again.to_json() == sweep.to_json()
    assert again.about == sweep.about
    for name, value in fields.items():
        assert sweep.to_dict()[name] == value


def test_the_parts_become_what_attacks_run_takes():
    smooth = {"name": "smoothgrad", "method": {"name": "integrated-gradients", "steps": 5}, "samples": 2}
    sweep = sweeps.small(methods=["deeplift", smooth], attacks=["topk", {"name": "topk", "k": 3}], k=9)
    parts = experiments.Parts(sweep)
    assert [parts.method(choice) for choice in sweep.methods] == [
        saliency.DeepLift(),
        saliency.SmoothGrad(saliency.IntegratedGradients(5), samples=2),
    ]
    assert [parts.attack(choice, torch.rand(2, 3, 8, 8)) for choice in sweep.attacks] == [
        attacks.TopK(9),
        attacks.TopK(3),
    ]
    assert list(sweep.labels("attacks")) == ["topk", "topk(k=3)"]
    targeted = sweeps.small(attacks={"name": "targeted", "region": [0, 1, 2, 4]})
    region = experiments.Parts(targeted).attack(targeted.attacks[0], torch.rand(2, 3, 8, 8)).region
    assert region.nonzero().tolist() == [[r, c] for r in (0, 1) for c in (1, 2, 3)]
    superpixel = sweeps.small(attacks={"name": "targeted", "region": [4, 5]})
    region = experiments.Parts(superpixel).attack(superpixel.attacks[0], torch.rand(2, 3, 8, 8)).region
    assert region.shape == (2, 8, 8)
    assert region[:, 4, 5].all()


BAD = {
    "an unknown field": ({"step": 3}, "unknown 'step'; expected some of models, data"),
    "a region of three": ({"attacks": {"name": "targeted", "region": [1, 2, 3]}}, "expected targeted with a region"),
    "no region": ({"attacks": "targeted"}, "expected targeted with a region"),
    "a method twice": ({"methods": ["lrp", "gradient", "lrp"]}, "methods: expected each once, got lrp, gradient, lrp"),
    "a budget twice": ({"budgets": [8, 8.0]}, "budgets: expected each once"),
    "a budget of 0": ({"budgets": [0]}, "budgets: expected a number above 0"),
    "a budget of 256": ({"budgets": [8, 256]}, "budgets: expected at most 255 levels, got 256"),
    "a budget in words": ({"budgets": ["large"]}, "budgets: expected a number above 0, got 'large'"),
    "no steps": ({"steps": 0}, "steps: expected a whole number"),
    "half a step": ({"steps": 1.5}, "steps: expected a whole number"),
    "no images": ({"images": 0}, "images: expected a whole number"),
    "a negative seed": ({"seed": -1}, "seed: expected a whole number, 0 or above, got -1"),
    "no yes or no": ({"random_start": 1}, "random_start: expected true or false, got 1"),
    "steps of 22 digits": (
        {"steps": 10**21},
        "steps: expected a whole number from 1 to 1000000, got 1000000000000000000",
    ),
    "a side without an end": ({"size": 10**9}, "size: expected a whole number from 1 to 4096, got 1000000000"),
    "a seed without an end": ({"seed": 10**23}, "seed: expected a whole number from 0 to 9007199254740992, got 100000"),
    "a budget without an end": ({"budgets": [10**400]}, "budgets: expected a number above 0, got one of more than 30"),
    "a long name": ({"data": "x" * 5000}, "data: expected at most 4,096 characters, got 5,000"),
    "a null character": ({"data": "a\0"}, r"data: expected a name, got 'a\\x00'"),
    "a list of lists": ({"models": [["squeezenet"]]}, r"models: expected a name, or \{.*\}, got \['squeezenet'\]"),
    "too many methods": ({"methods": ["gradient"] * 1001}, "methods: expected at most 1,000 entries, got 1,001"),
    "a region with digits": (
        {"attacks": {"name": "targeted", "region": [0, 0, 1, 10**30]}},
        "attacks: targeted: region: expected a whole number from -9007199254740992 to 9007199254740992, got 1",
    ),
    "a long remark": ({"about": "x" * 10_001}, "about: expected at most 10,000 characters, got 10,001"),
    "a remark in numbers": ({"about": 3}, "about: expected text, got 3"),
    "another fit": ({"fit": "tile"}, "fit: expected 'crop' or 'stretch', got 'tile'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_sweep_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        sweeps.small(**changes)


def test_a_file_that_is_no_sweep_is_refused_by_name(tmp_path):
    path = tmp_path / "sweep.json"
    for text, message in (
        ("{", "no JSON"),
        ("[]", "expected an object"),
        ("{}", "expected models, data, methods"),
        ('{"k": 1, "k": 2}', "expected each key once, got 'k' twice"),
        ("[" * 100_000, "expected objects and lists nested at most 20 deep"),
        ('{"k": NaN}', "expected finite numbers, got NaN"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"sweep\.json: .*{message}"):
            experiments.Sweep.load(path)
    with pytest.raises(ValueError, match=r"cannot read .*none\.json: No such file"):
        experiments.Sweep.load(tmp_path / "none.json")


def test_a_grid_without_an_end_is_refused_with_its_size(tmp_path):
    methods = [{"name": "lrp", "epsilon": (i + 1) / 1000} for i in range(300)]
    ks = [{"name": "topk", "k": i + 1} for i in range(6)]
    large = sweeps.SMALL | {
        "methods": methods,
        "attacks": ks,
        "budgets": [(i + 1) / 2 for i in range(100)],
        "steps": 300,
    }
    message = (
        "sweep: expected at most 10,000 cells, got 180,000 (1 networks x 1 data sets x 300 methods x 6 attacks x 100 "
        "budgets), about 54,000,000 steps for each image; max_cells (on the command line --max-cells) allows more"
    )
    (tmp_path / "sweep.json").write_text(json.dumps(large))
    with pytest.raises(ValueError, match=re.escape(message)):
        experiments.Sweep.load(tmp_path / "sweep.json")
    sweep = experiments.Sweep.load(tmp_path / "sweep.json", max_cells=180_000)
    with pytest.raises(ValueError, match=re.escape(message)):
        sweeps.run(sweep, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()

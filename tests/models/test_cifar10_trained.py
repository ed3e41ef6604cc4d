"""Networks trained for explanations that hold: they are what their settings say."""

import hashlib
import json
from importlib import resources

import pytest
from torch import nn

from fragile_utils import data, defences, models
from fragile_utils.models.training import PRESETS, Training

PACKAGE = resources.files("fragile_utils")


@pytest.mark.parametrize("how", models.CIFAR10_TRAINED)
def test_the_weights_are_those_of_the_training(how):
    settings, log = data.results(f"cifar10_{how}")
    weights = (PACKAGE / "resources" / f"cifar10_{how}.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == settings["sha256"]
    assert log["test_accuracy"].iloc[-1] == pytest.approx(settings["test_accuracy"], abs=1e-4)


@pytest.mark.parametrize("how", models.CIFAR10_TRAINED)
def test_all_were_trained_by_one_schedule_but_for_the_epochs_of_one(how):
    settings, _ = data.results(f"cifar10_{how}")
    found = Training.from_json(json.dumps(settings["settings"]))
    defence = defences.TRAININGS.get(how, defences.DefendedTraining(None, {"precision": "float32"}))
    fewer = {"epochs": 8} if how in ("input-gradient", "curvature") else {}
    changed = {"batch_size": 512, "learning_rate": 0.2} | fewer
    assert found == defence.apply(Training(**vars(PRESETS["small"]) | changed))
    if how != "plain":
        assert settings["loss"] == repr(defence.loss)


def test_their_accuracy_is_about_that_of_the_training():
    batch = data.cifar10_samples()
    right = {how: len(batch.correct(models.load(f"cifar10-{how}"))) for how in models.CIFAR10_TRAINED}
    assert all(right[how] >= 17 for how in ("plain", "softplus", "alignment"))
    assert all(right[how] >= 12 for how in right)


def test_softplus_networks_are_smooth():
    networks = {how: models.cifar10_trained(how) for how in models.CIFAR10_TRAINED}
    smooth = {how for how, model in networks.items() if not any(isinstance(m, nn.ReLU) for m in model.modules())}
    assert smooth == {"softplus", "curvature"}


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"how: expected one of plain, softplus, .*, got 'magic'"):
        models.cifar10_trained("magic")

"""The two tasks: what is in them, and that they are the same on every run."""

import numpy as np
import pytest
import torch

from fragile_utils import data, influence, models
from fragile_utils.influence import tasks


@pytest.fixture(scope="module")
def digits():
    return tasks.digits()


def test_digits_are_two_classes_that_the_network_has_not_seen(digits):
    assert (len(digits.train), len(digits.rest)) == (700, 300)
    assert digits.train.classes == ("4", "9")
    assert torch.bincount(torch.cat([digits.train.labels, digits.rest.labels])).tolist() == [500, 500]
    images = {image.numpy().tobytes() for image in data.mnist_samples().images[2000:2500]}  # the fours, in order
    fours = digits.train[digits.train.labels == 0]
    assert all(image.numpy().tobytes() in images for image in fours.images)


def test_the_network_has_learnt_the_other_digits():
    samples = data.mnist_samples()
    others = samples[~torch.isin(samples.labels, torch.tensor([4, 9]))]
    network = tasks.digit_network(others[::2], epochs=3)
    assert network.classes == tuple("01235678")
    answers = data.predict(network, others[1::2].images)
    names = [network.classes[i] for i in answers.tolist()]
    assert np.mean([name == true for name, true in zip(names, others[1::2].label_names, strict=True)]) > 0.9


def test_learning_trains_the_head_and_keeps_what_it_gets_right(digits):
    trained = digits.learn(l2=0.02)
    assert trained.accuracy > 0.92
    assert len(trained.test) == round(trained.accuracy * 300)
    assert torch.equal(trained.head(trained.test_features).argmax(1), trained.test.labels)
    torch.testing.assert_close(digits.features.extract(trained.test.images[:5]), trained.test_features[:5])
    expected = influence.Influence(trained.head, digits.features.extract(digits.train.images), digits.train.labels)
    few = trained.test_features[:3], trained.test.labels[:3]
    torch.testing.assert_close(trained.explain(*few), expected(*few))
    assert trained.head.l2 == 0.02


def test_the_same_seed_gives_the_same_task_and_leaves_the_global_generators_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU's generator was seeded"))
    few = data.mnist_samples()[::10]
    monkeypatch.setattr(data, "mnist_samples", lambda: few)
    state = torch.get_rng_state()
    first, again, other = (tasks.digits(train=70, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert again.train.names == first.train.names != other.train.names
    image = first.rest.images[:1]
    torch.testing.assert_close(again.features(image), first.features(image), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(other.features(image), first.features(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pair", [(4, 4), (4, 10), (4,)], ids=str)
def test_a_pair_that_is_none_is_refused(pair):
    with pytest.raises(ValueError, match="pair: expected two different digits"):
        tasks.digits(pair)


# --- Flowers ---------------------------------------------------------------------------------------------------------


def test_flowers_are_learnt_from_squeezenet_features(garden):
    task = tasks.flowers(train=16)
    assert "squeezenet" in task.name
    assert task.train.images.shape == (16, 3, 227, 227)
    trained = task.learn()
    assert trained.train_features.shape == (16, 512)
    assert trained.accuracy == 1
    assert trained.explain(trained.test_features, trained.test.labels).shape == (8, 16)


def test_inception_takes_the_same_way(garden, monkeypatch):
    monkeypatch.setitem(tasks.BACKBONES, "inception", (lambda: models.inception(None), "network.Mixed_7c"))
    task = tasks.flowers("inception", train=20)
    assert task.train.images.shape == (20, 3, 299, 299)
    assert task.features(task.rest.images[:2]).shape == (2, 2048)


def test_the_flowers_are_taken_where_there_are_any(garden, monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "flowers", lambda **_: "flowers")
    monkeypatch.setattr(tasks, "digits", lambda **_: "digits")
    assert tasks.flowers_or_digits() == "flowers"
    monkeypatch.delenv("FRAGILE_DATA")
    monkeypatch.setenv("FRAGILE_CACHE", str(tmp_path / "empty"))
    assert tasks.flowers_or_digits() == "digits"


def test_an_unknown_backbone_and_too_many_training_images_are_refused(garden):
    with pytest.raises(ValueError, match="backbone: expected one of squeezenet, inception, got 'vgg'"):
        tasks.flowers("vgg")
    with pytest.raises(ValueError, match="train: expected a whole number from 1 to 23, got 24"):
        tasks.flowers(train=24)

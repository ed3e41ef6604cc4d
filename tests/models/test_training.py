"""Training: the augmentation, the loop against one written out by hand, interrupts, settings."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import network

from fragile_utils import data, models
from fragile_utils.models import training
from fragile_utils.models.losses import CrossEntropy
from fragile_utils.models.training import Training

TINY = Training(width=4, epochs=3, batch_size=16, precision="float32")


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


# --- Augmentation ----------------------------------------------------------------------------------------------------


def test_augmentation_is_shift_reflection_and_flip():
    """Each image is among all that NumPy's own reflecting pad, cut, and flip can make of it, and all are drawn."""
    image = torch.arange(2 * 4 * 5).view(2, 4, 5)
    padded = np.pad(image.numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = [padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)]
    possible = {window.tobytes() for cut in windows for window in (cut, np.ascontiguousarray(cut[:, :, ::-1]))}
    images = image.expand(400, -1, -1, -1)
    made = training.augment(images, 1, True, torch.Generator().manual_seed(0))
    assert {np.ascontiguousarray(one).tobytes() for one in made.numpy()} == possible
    assert len(possible) == 18


def test_no_augmentation_is_the_image_itself():
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(training.augment(images, 0, False, torch.Generator()), images)


# --- The loop --------------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_for_a_fifth_and_falls_to_zero():
    settings = Training(learning_rate=0.5)
    found = [settings.rate(share) for share in (0, 0.1, 0.2, 0.6, 1)]
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.25, 0], atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.1}, {"optimiser": "adam", "learning_rate": 0.02, "hidden": 64, "batch_norm": False}],
    ids=["sgd", "adam"],
)
def test_a_network_learns_32_images_by_heart(noise, changes):
    settings = Training(
        width=8,
        epochs=60,
        batch_size=16,
        shift=0,
        flip=False,
        weight_decay=0.0,
        precision="float32",
    )
    trained = training.train(replace(settings, **changes), noise, noise)
    assert trained.log["train_accuracy"].iloc[-1] == 1
    assert trained.log["test_accuracy"].iloc[-1] >= 0.9  # of the folded network in half precision
    assert trained.log["train_loss"].iloc[-1] < 0.1 < trained.log["train_loss"].iloc[0]


def test_the_accuracy_is_that_of_the_stored_network(noise, tmp_path):
    trained = training.train(TINY, noise, noise)
    trained.stored.save(tmp_path / "w")
    model = models.cifar10_net(tmp_path / "w")
    right = (data.predict(model, noise.images) == noise.labels).double().mean().item()
    assert right == trained.log["test_accuracy"].iloc[-1]
    torch.testing.assert_close(model.normalize.mean, noise.images.mean(0), rtol=1e-3, atol=0)


def test_the_first_step_is_the_one_written_out_by_hand(noise):
    """One batch of everything, one epoch: SGD's step from the seeded weights."""
    settings = Training(
        width=4, epochs=1, batch_size=32, batch_norm=False, shift=0, flip=False, precision="float32", weight_decay=0.01
    )
    found = training.train(settings, noise, noise).stored.network
    start = network(settings.layout, batch_norm=False)
    x = (noise.images - noise.images.mean(0).half()) / noise.images.std((0, 2, 3)).half().view(-1, 1, 1)
    F.cross_entropy(start(x), noise.labels).backward()
    rate = settings.rate(0.5)
    for after, before in zip(found.parameters(), start.parameters(), strict=True):
        step = before.grad + 0.01 * before.detach()  # weight decay; with Nesterov, the first step is 1.9 times as long
        torch.testing.assert_close(after, before.detach() - rate * 1.9 * step, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generators_alone(noise, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPU's generator was seeded"))
    state = torch.get_rng_state()
    first, second, other = (training.train(replace(TINY, seed=seed), noise, noise) for seed in (1, 1, 2))
    assert same_weights(first.stored.network, second.stored.network)
    assert not same_weights(first.stored.network, other.stored.network)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"], ids=["empty", "text", "cut"])
def test_a_damaged_checkpoint_is_refused(content, noise, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt: expected a checkpoint of a training; remove it"):
        training.train(TINY, noise, noise, checkpoint=checkpoint)


def test_an_interrupted_training_goes_on_to_the_same_end(noise, tmp_path):
    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        training.train(TINY, noise, noise, checkpoint=checkpoint, report=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(ValueError, match=r"expected the checkpoint of Training\(network=.convnet., width=4.*seed=7"):
        training.train(replace(TINY, seed=7), noise, noise, checkpoint=checkpoint)
    order, n = torch.arange(len(noise)).roll(1), len(noise)
    others = {
        "images": data.Batch(1 - noise.images, noise.labels),
        "labels": data.Batch(noise.images, (noise.labels + 1) % 10),
        "an order": data.Batch(noise.images[order], noise.labels[order]),
        "two that change places": data.Batch(noise.images[[1, 0, *range(2, n)]], noise.labels),
        "fewer": data.Batch(noise.images[:-1], noise.labels[:-1]),
    }
    for other in others.values():
        with pytest.raises(
            ValueError, match="expected a checkpoint on the same training images and labels, in the same"
        ):
            training.train(TINY, other, noise, checkpoint=checkpoint)
    seen = []
    resumed = training.train(TINY, noise, noise, checkpoint=checkpoint, report=seen.append)
    assert [row["epoch"] for row in seen] == [3]
    whole = training.train(TINY, noise, noise)
    assert same_weights(resumed.stored.network, whole.stored.network)
    assert resumed.log.drop(columns="seconds").equals(whole.log.drop(columns="seconds"))
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_cannot_be_saved_is_not_lost(noise, tmp_path):
    def full(trained):
        raise OSError("no room")

    checkpoint, rows, saved = tmp_path / "checkpoint.pt", [], []
    with pytest.raises(OSError, match="no room"):
        training.train(TINY, noise, noise, checkpoint=checkpoint, save=full)
    trained = training.train(TINY, noise, noise, checkpoint=checkpoint, report=rows.append, save=saved.append)
    assert rows == []  # nothing was left to learn
    assert saved == [trained]
    assert same_weights(trained.stored.network, training.train(TINY, noise, noise).stored.network)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_is_an_error(noise):
    with pytest.raises(ValueError, match="the loss of epoch 1 is nan: try a smaller learning rate"):
        training.train(replace(TINY, learning_rate=1e20, batch_norm=False), noise, noise)


# --- Settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*training.PRESETS.values(), TINY])
def test_settings_survive_json(settings):
    assert Training.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width: expected a whole number"),
        ({"hidden": 0}, "hidden: expected a whole number"),
        ({"activation": "gelu"}, "activation: expected 'relu' or 'softplus', got 'gelu'"),
        ({"beta": 0}, "beta: expected a number above 0"),
        ({"epochs": 0}, "epochs: expected"),
        ({"batch_size": 1.5}, "batch_size: expected"),
        ({"optimiser": "rmsprop"}, "optimiser: expected one of sgd, adam, got 'rmsprop'"),
        ({"learning_rate": math.nan}, "learning_rate: expected"),
        ({"weight_decay": -1}, "weight_decay: expected"),
        ({"label_smoothing": 1}, "label_smoothing: expected a number, 0 or above and below 1"),
        ({"shift": 32}, "shift: expected a whole number from 0 to 31, got 32"),
        ({"flip": 1}, "flip: expected true or false, got 1"),
        ({"precision": "float16"}, "precision: expected one of float32, bfloat16"),
        ({"seed": -1}, "seed: expected a whole number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Training(**changes)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"heads": 3}', '{"width": 4, "width": 8}', "[" * 100_000, '{"seed": NaN}', '{"seed": 1e999}']
)
def test_what_is_not_json_of_settings_is_refused(text):
    with pytest.raises(ValueError, match="training: expected"):
        Training.from_json(text)


def test_bad_images_and_labels_are_refused(noise):
    small = data.Batch(noise.images[..., :16, :16], noise.labels)
    with pytest.raises(ValueError, match=r"held_out: expected images 32 x 32, got \(16, 16\)"):
        training.train(TINY, noise, small)
    with pytest.raises(ValueError, match="held_out: expected at least one image, got none"):
        training.train(TINY, noise, noise[:0])
    wrong = data.Batch(noise.images, noise.labels + 1)
    with pytest.raises(ValueError, match="learnt: labels: expected classes from 0 to 9, got 10"):
        training.train(TINY, wrong, noise)


DAMAGED = {
    "no file of PyTorch": b"PK\x03\x04",
    "another value": 3,
    "other settings": {"settings": 3},
    "no loss": {"settings": TINY.to_json(), "loss": None},
    "of before it knew what it learnt from": {"settings": TINY.to_json(), "learnt": None},
    "no weights": {"settings": TINY.to_json(), "network": {}, "optimiser": {}, "log": []},
    "no network": {"settings": TINY.to_json()},
    "no state": {"settings": TINY.to_json(), "network": 3},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_checkpoint_is_refused_by_name(case, noise, tmp_path):
    checkpoint, state = tmp_path / "checkpoint.pt", DAMAGED[case]
    if isinstance(state, bytes):
        checkpoint.write_bytes(state)
    else:
        if isinstance(state, dict):
            whole = {"loss": repr(CrossEntropy()), "learnt": training._Run(TINY, noise, torch.device("cpu")).learnt}
            state = {name: value for name, value in (whole | state).items() if value is not None}
        torch.save(state, checkpoint)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: expected a checkpoint of a training; remove it to start again"
    ):
        training.train(TINY, noise, noise, checkpoint=checkpoint)


def test_a_checkpoint_that_cannot_be_read_is_refused(noise, tmp_path):
    with pytest.raises(ValueError, match=f"cannot read {tmp_path}: Is a directory"):
        training.train(TINY, noise, noise, checkpoint=tmp_path)


@pytest.mark.parametrize("changes", [{"width": 10**9}, {"hidden": 10**9}, {"epochs": 10**9}, {"batch_size": 10**22}])
def test_settings_without_an_end_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}: expected a whole number from 1 to "):
        Training(**changes)


def test_a_checkpoint_by_another_loss_is_refused(noise, tmp_path):
    class Interrupt(Exception):
        pass

    def stop(row):
        raise Interrupt

    path = tmp_path / "checkpoint"
    with pytest.raises(Interrupt):
        training.train(TINY, noise, noise, checkpoint=path, report=stop)
    with pytest.raises(ValueError, match=r"training by Half\(\), got one by CrossEntropy\(\)"):
        training.train(TINY, noise, noise, loss=Half(), checkpoint=path)
    assert training.train(TINY, noise, noise, checkpoint=path).log["epoch"].tolist() == [1, 2, 3]


@dataclass(frozen=True)
class Half(CrossEntropy):
    """Half the cross-entropy, and the other half as a penalty."""

    def __call__(self, *given):
        value = super().__call__(*given)
        return value._replace(penalty=value.loss / 2)


def test_a_penalty_has_its_column(noise):
    plain, half = (training.train(TINY, noise, noise, loss=loss).log for loss in (CrossEntropy(), Half()))
    assert "train_penalty" not in plain
    np.testing.assert_allclose(half["train_penalty"], plain["train_loss"] / 2, rtol=1e-6)


def test_a_loss_that_is_none_is_refused(noise):
    with pytest.raises(ValueError, match="loss: expected a value such as"):
        training.train(TINY, noise, noise, loss=CrossEntropy)

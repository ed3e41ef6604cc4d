"""Training a network for CIFAR-10. `Training` says how; `train` does it, and goes on where an earlier run stopped."""

import contextlib
import hashlib
import io
import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from fragile_utils import data
from fragile_utils._base import checks, schema
from fragile_utils._base.files import write_bytes
from fragile_utils._base.pixels import in_bytes
from fragile_utils._base.seeds import torch_seeded
from fragile_utils.models.classifier import Classifier
from fragile_utils.models.convnet import CLASSES, SIZE
from fragile_utils.models.losses import CrossEntropy, Learner, Loss
from fragile_utils.models.stored import LAYOUTS, Layout, Stored, fold

WARM_UP = 0.2  # the share of the steps in which the learning rate rises
MOMENTUM = 0.9
LARGEST = {"width": 4096, "depth": 1000, "hidden": 2**16, "epochs": 10**5, "batch_size": 10**6}


@dataclass(frozen=True)
class Training:
    """How a network is trained. Two trainings with the same values give the same weights on the same machine.

    Parameters
    ----------
    network : {"convnet", "resnet", "vit"}
    width, hidden, depth, activation, beta
        Its layout: see `convnet.ConvNet`, `resnet.ResNet` and `vit.ViT`. What a network does not have is left as it is.
    batch_norm : bool
        Normalise each convolution's output over the batch; folded into the convolutions when training is over.
    epochs, batch_size : int
    optimiser : {"sgd", "adam"}
        "sgd" with Nesterov's momentum, 0.9; "adam" with decoupled weight decay.
    learning_rate : float
        The largest. It rises linearly from 0 over a fifth of the steps and falls linearly to 0 over the rest.
    weight_decay : float
        Of all parameters.
    label_smoothing : float
        The share of the target spread over all classes.
    shift : int
        Each image is moved by up to so many pixels in both directions, its border filled by reflection.
    flip : bool
        Mirror every other image, left to right.
    precision : {"float32", "bfloat16"}
        Of convolutions and linear layers while training; weights and losses are float32.
    seed : int
        Of the first weights, the order of the images, and the augmentation.
    """

    network: Literal["convnet", "resnet", "vit"] = "convnet"
    width: int = 32
    hidden: int | None = None
    depth: int | None = None
    activation: Literal["relu", "softplus"] = "relu"
    beta: float = 1.0
    batch_norm: bool = True
    epochs: int = 16
    batch_size: int = 128
    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 2e-4
    label_smoothing: float = 0.0
    shift: int = 4
    flip: bool = True
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in LAYOUTS:
            raise ValueError(f"network: expected one of {', '.join(LAYOUTS)}, got {self.network!r}")
        for name in {"hidden", "depth", "activation", "beta"} - self._options:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{name}: a {self.network} has none, got {getattr(self, name)!r}")
        _ = self.layout  # which checks its values
        for name, most in LARGEST.items():
            if getattr(self, name) is not None:
                schema.whole(getattr(self, name), name, high=most)
        checks.positive(self.learning_rate, "learning_rate")
        checks.non_negative(self.weight_decay, "weight_decay")
        checks.non_negative(self.label_smoothing, "label_smoothing", below=1)
        schema.whole(self.shift, "shift", 0, SIZE - 1)
        schema.whole(self.seed, "seed", 0, 2**31)
        for name in ("batch_norm", "flip"):
            schema.flag(getattr(self, name), name)
        for name, choices in (("optimiser", ("sgd", "adam")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")

    @classmethod
    def from_json(cls, text: str) -> "Training":
        """Return the training that `to_json` wrote."""
        try:
            values = schema.parse(text)
        except ValueError as error:
            raise ValueError(f"training: expected JSON: {error}") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not values.keys() <= known:
            got = ", ".join(sorted(values.keys() - known)) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"training: expected an object with keys of {', '.join(sorted(known))}; got {got}")
        return cls(**values)

    def to_json(self) -> str:
        """Return all values as one JSON object."""
        return json.dumps(asdict(self))

    @property
    def layout(self) -> Layout:
        """The network's layers."""
        given = {name: getattr(self, name) for name in self._options}
        if given.get("depth", 1) is None:
            del given["depth"]  # its own default
        return LAYOUTS[self.network](**given)

    @property
    def _options(self) -> set[str]:
        """The names of the values that the layout has."""
        return {field.name for field in fields(LAYOUTS[self.network])}

    def rate(self, progress: float) -> float:
        """Return the learning rate after the share `progress` of all steps."""
        return self.learning_rate * min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


PRESETS = {
    "small": Training(),
    "paper": Training(
        width=96, hidden=1024, batch_norm=False, optimiser="adam", learning_rate=5e-4, weight_decay=0.0, shift=0
    ),
    "resnet": Training(
        *("resnet", 16),
        depth=3,
        epochs=40,
        batch_size=512,
        learning_rate=0.3,
        weight_decay=5e-4,
        label_smoothing=0.1,
    ),
    "vit": Training(
        *("vit", 96),
        depth=6,
        epochs=60,
        batch_size=512,
        optimiser="adam",
        learning_rate=2e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
    ),
}


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gave.

    Attributes
    ----------
    settings : Training
    loss : Loss
    stored : Stored
        The network of the last epoch, without batch normalisation; its values are those that half precision holds.
    log : DataFrame
        A row for each epoch: learning rate at its end, mean training loss and accuracy on the augmented images while
        they were learnt from, mean penalty where the loss has one, accuracy on the test images, seconds.
    """

    settings: Training
    loss: Loss
    stored: Stored
    log: pd.DataFrame


def train(
    settings: Training,
    learnt: data.Batch,
    held_out: data.Batch,
    *,
    loss: Loss = CrossEntropy(),  # noqa: B008 - a frozen value
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], Any] = lambda row: None,
    save: Callable[[Trained], Any] = lambda trained: None,
) -> Trained:
    """Train a network on images 32 x 32 of ten classes. No choice depends on the test images.

    Parameters
    ----------
    settings : Training
    learnt, held_out : Batch
        Training and test images.
    loss : Loss
        What is made small; the cross-entropy by default. `defences` has others.
    device : device
    checkpoint : path, optional
        A file to which the state is written after each epoch. A training with the same values, on the same images and
        labels in the same order, that finds it goes on from there, to the same end; it is removed when the training is
        complete, and saved.
    report : callable
        Called with each row of the log.
    save : callable
        Called with what is returned. Where it raises an error the checkpoint stays, so that nothing is learnt again.

    Raises
    ------
    ValueError
        If there are no images, they are not of CIFAR-10's size, a label is out of range, the checkpoint is of another
        training, or the loss is no longer finite.
    """
    for name, batch in (("learnt", learnt), ("held_out", held_out)):
        if not len(batch):
            raise ValueError(f"{name}: expected at least one image, got none")
        if batch.images.shape[-2:] != (SIZE, SIZE):
            raise ValueError(f"{name}: expected images 32 x 32, got {tuple(batch.images.shape[-2:])}")
        checks.labels(batch.labels, len(batch), CLASSES, f"{name}: labels")
    checks.instance(loss, Loss, "loss", "CrossEntropy()")
    run = _Run(settings, learnt, torch.device(device), loss)
    log = run.resume(checkpoint) if checkpoint is not None and checkpoint.exists() else []
    for epoch in range(len(log), settings.epochs):
        start = time.monotonic()
        row = {"epoch": epoch + 1} | run.epoch(epoch)
        row["test_accuracy"] = accuracy(run.stored(), held_out)
        log.append(row | {"seconds": round(time.monotonic() - start, 1)})
        if checkpoint is not None:
            run.write(checkpoint, log)
        report(log[-1])
    trained = Trained(settings, loss, run.stored(), pd.DataFrame(log))
    save(trained)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return trained


def accuracy(stored: Stored, batch: data.Batch) -> float:
    """Return the share of the images that a network gets right, in float32."""
    device = stored.mean.device
    network = stored.network.to(memory_format=torch.channels_last)
    model = Classifier(network, stored.mean, stored.std.tolist()).to(device).eval()
    predicted = data.predict(model, batch.images.to(device, memory_format=torch.channels_last), batch_size=500)
    return (predicted == batch.labels.to(device)).double().mean().item()


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return each image (N, C, H, W) shifted by up to `shift` pixels each way, and mirrored with probability 1/2.

    What is shifted in is the image's own border, reflected. `generator` is one of the CPU.
    """
    count, _, height, width = images.shape

    def places(side: int) -> Tensor:  # (N, side): the row, or column, of the image that is shown at each place
        offset = torch.randint(-shift, shift + 1, (count, 1), generator=generator)
        return (side - 1) - ((side - 1) - (torch.arange(side) + offset).abs()).abs()

    rows, columns = places(height), places(width)
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


_DAMAGED = (RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError)
_REMOVE = "expected a checkpoint of a training; remove it to start again"


class _Run:
    """A training in progress: the network, the optimiser and the images."""

    def __init__(
        self,
        settings: Training,
        learnt: data.Batch,
        device: torch.device,
        loss: Loss = CrossEntropy(),  # noqa: B008 - a frozen value
    ) -> None:
        self.settings, self.loss = settings, loss
        # Files have 8 bits a channel: as bytes, the images take a quarter of the memory.
        self.images = in_bytes(learnt.images).to(device)
        self.labels = learnt.labels.to(device)
        self.mean = _half(learnt.images.mean(dim=0)).to(device)
        self.std = _half(learnt.images.std(dim=(0, 2, 3))).clamp(min=1e-3).to(device)
        with torch_seeded(settings.seed):
            network = settings.layout.build(settings.batch_norm)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.learner = Learner(self.network, self._normalize, settings.label_smoothing, self._precision)
        parameters = self.network.parameters()
        if settings.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(
                parameters, momentum=MOMENTUM, nesterov=True, weight_decay=settings.weight_decay
            )
        else:
            self.optimiser = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay)

    def epoch(self, number: int) -> dict[str, float]:
        """Learn from each image once. What is random depends on the seed and the epoch, not on what came before."""
        settings, device = self.settings, self.images.device
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + number)
        batches = torch.randperm(len(self.images), generator=generator).split(settings.batch_size)
        loss_sum, penalty_sum, right = torch.zeros(3, device=device, dtype=torch.float64)
        penalised = False
        self.network.train()
        for step, rows in enumerate(batches):
            rate = settings.rate((number + (step + 0.5) / len(batches)) / settings.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            rows = rows.to(device)
            x = augment(self.images[rows], settings.shift, settings.flip, generator)
            loss, logits, penalty = self.loss(self.learner, x.float().div_(255), self.labels[rows], generator)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss_sum += loss.detach() * len(rows)
            if penalty is not None:
                penalised = True
                penalty_sum += penalty.detach() * len(rows)
            right += (logits.argmax(1) == self.labels[rows]).sum()
        mean_loss = loss_sum.item() / len(self.images)
        if not math.isfinite(mean_loss):
            raise ValueError(f"the loss of epoch {number + 1} is {mean_loss}: try a smaller learning rate")
        means = {"train_loss": mean_loss, "train_accuracy": right.item() / len(self.images)}
        if penalised:
            means["train_penalty"] = penalty_sum.item() / len(self.images)
        return {"learning_rate": rate} | means

    def _normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std.view(-1, 1, 1)

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.settings.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.images.device.type, torch.bfloat16)

    def stored(self) -> Stored:
        """Return the network as it is now, as a file will hold it."""
        network = fold(self.network)
        for parameter in network.parameters():
            parameter.data = _half(parameter.data)
        return Stored(self.settings.layout, network.requires_grad_(False), self.mean, self.std)

    @cached_property
    def learnt(self) -> str:
        """What is learnt from, by its hash: images, labels, and how they are normalised."""
        digest = hashlib.sha256()
        for values in (self.images, self.labels, self.mean, self.std):
            digest.update(f"{values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.cpu().contiguous().numpy())
        return digest.hexdigest()

    def write(self, path: Path, log: list[dict[str, float]]) -> None:
        """Write the state, whole or not at all."""
        state = {"settings": self.settings.to_json(), "loss": repr(self.loss), "learnt": self.learnt, "log": log}
        state |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(path, content.getvalue())

    def resume(self, path: Path) -> list[dict[str, float]]:
        """Take over the state that `write` wrote, and return its log."""
        try:
            state = torch.load(path, map_location=self.images.device, weights_only=True)
            found = Training.from_json(state["settings"])
            same, loss = state["learnt"] == self.learnt, state["loss"]
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
        except _DAMAGED as error:
            raise ValueError(f"{path}: {_REMOVE}") from error
        if found != self.settings:
            raise ValueError(f"{path}: expected the checkpoint of {self.settings}, got one of {found}")
        if loss != repr(self.loss):
            raise ValueError(f"{path}: expected the checkpoint of a training by {self.loss}, got one by {loss}")
        if not same:
            raise ValueError(
                f"{path}: expected a checkpoint on the same training images and labels, in the same order, got one on "
                "others"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            return [dict(row) for row in state["log"]]
        except _DAMAGED as error:
            raise ValueError(f"{path}: {_REMOVE}") from error


def _half(values: Tensor) -> Tensor:
    """Round to what half precision holds."""
    return values.half().float()

"""Batches of images with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fragile_utils._base import checks, precision, schema

UNKNOWN = -1  # the label of an image whose class nobody has given


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
        In [0, 1].
    labels : Tensor (N,)
        Class indices; `UNKNOWN` (-1) where nobody has given the class.
    classes : tuple of str
        The name of each class index; empty if unknown.
    names : tuple of str
        Where each image comes from: its file name.

    Raises
    ------
    ValueError
        If something is not as described.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or self.images.ndim != 4 or len(self.images):
            checks.images(self.images)
        checks.labels(self.labels, len(self.images), least=UNKNOWN)
        for name in ("classes", "names"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(n, str) for n in given):
                raise ValueError(f"{name}: expected several names, got {schema.shown(given)}")
            object.__setattr__(self, name, tuple(given))
        if not self.names:
            object.__setattr__(self, "names", tuple(f"image {i}" for i in range(len(self))))
        if len(self.names) != len(self):
            raise ValueError(f"names: expected {len(self)}, one for each image, got {len(self.names)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Batch":
        """Return the batch of the images at `index`: a number, a slice, a list of numbers, a mask."""
        chosen = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index].reshape(-1)
        rows = chosen.to(self.images.device)
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            names=tuple(self.names[i] for i in chosen.tolist()),
        )

    def __repr__(self) -> str:
        n, _, height, width = self.images.shape
        return f"Batch({n} images, {height}x{width}, {len(self.classes)} classes, {self.images.device})"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each image's class ("unknown" where it has no label)."""
        return tuple(class_name(self.classes, label) for label in self.labels.tolist())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def split(self, first: int, seed: int = 0) -> tuple["Batch", "Batch"]:
        """Return `first` images drawn at random, and the rest: the same for a seed on any device."""
        checks.count(first, "first", at_most=len(self))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[:first]], self[order[first:]]

    def correct(self, model: nn.Module) -> "Batch":
        """Return the images that `model` gets right; the others, and those without a label, are left out."""
        return self[predict(model, self.images) == self.labels]

    def labelled_by(self, model: nn.Module) -> "Batch":
        """Return the same batch with the model's prediction as the label of each image that has none."""
        predictions = predict(model, self.images)
        return replace(self, labels=torch.where(self.labels == UNKNOWN, predictions, self.labels))

    def has_classes_of(self, model: nn.Module) -> bool:
        """Return whether labels can be those of `model`: the names of both are the same, or else as many as it has."""
        names = tuple(getattr(model, "classes", ()))
        if self.classes and names:
            return self.classes == names
        count = class_count(model, self.images)
        return len(self.classes) in (0, count) and bool((self.labels < count).all())

    def in_classes_of(self, model: nn.Module, network: str, source: str, field: str = "data") -> "Batch":
        """Return the same batch with the names of the classes of a `model`.

        Raises
        ------
        ValueError
            If the images are of other classes. The message begins with `field`, and says what the images and the model
            are called, `source` and `network`.
        """
        if not self.has_classes_of(model):
            raise ValueError(f"{field}: {source} has other classes than {network}")
        return replace(self, classes=tuple(getattr(model, "classes", ())) or self.classes)

    def for_network(self, model: nn.Module, network: str, source: str, field: str = "data") -> "Batch":
        """Return what `in_classes_of` does, and as labels, where there were none, what `model` predicts."""
        return self.in_classes_of(model, network, source, field).labelled_by(model)

    def right_for(self, model: nn.Module, network: str, source: str, field: str = "data") -> "Batch":
        """Return those images of `for_network` that `model` gets right, at least one; ValueError if there is none."""
        right = self.for_network(model, network, source, field).correct(model)
        if not len(right):
            raise ValueError(f"{field}: {network} gets none of the {len(self)} images of {source} right")
        return right


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a class index, or something readable where there is none."""
    if label == UNKNOWN:
        return "unknown"
    return classes[label] if label < len(classes) else f"class {label}"


@precision.float32()
@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """Return the class (N,) with the highest logit for each image (N, 3, H, W), in full float32."""
    checks.images(images)
    checks.evaluation_mode(model)
    return torch.cat([checks.logits(model(part), len(part)).argmax(1) for part in images.split(batch_size)])


@torch.no_grad()
def class_count(model: nn.Module, images: Tensor) -> int:
    """Return how many classes a model tells apart: as many as it has logits for the first of these images."""
    checks.images(images)
    checks.evaluation_mode(model)
    return checks.logits_shape(model(images[:1]), 1).shape[1]

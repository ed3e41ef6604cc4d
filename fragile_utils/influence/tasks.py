"""The two-class tasks whose predictions are explained by examples: flowers, as in the paper, and two digits.

Both are the same experiment: a network that was trained on other classes is frozen, its last layer is replaced by a
head for two new classes, and the head is trained on a few hundred images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fragile_utils import data, models
from fragile_utils._base import checks
from fragile_utils._base.seeds import torch_seeded
from fragile_utils.influence.features import Features
from fragile_utils.influence.functions import Influence
from fragile_utils.influence.head import Head, fit
from fragile_utils.influence.solvers import ConjugateGradients, Exact

BACKBONES: dict[str, tuple[Callable[[], models.Classifier], str]] = {
    "squeezenet": (models.squeezenet, "network.features"),  # 512 features: the last fire module
    "inception": (models.inception, "network.Mixed_7c"),  # 2,048 features, as in the paper
}


@dataclass(frozen=True)
class Task:
    """Two classes, a frozen network, and images of the classes that it has not been trained on.

    Attributes
    ----------
    name : str
        What it is, in words.
    features : Features
        The frozen network, on the device of the images.
    train, rest : Batch
        The training images of the head, and the others.
    """

    name: str
    features: Features = field(repr=False)
    train: data.Batch
    rest: data.Batch

    def learn(self, l2: float = 0.01, solver: Exact | ConjugateGradients | None = None) -> "Trained":
        """Return the task with its head trained, and the influence of its training images."""
        seen, held_out = (self.features.extract(batch.images) for batch in (self.train, self.rest))
        head = fit(seen, self.train.labels, l2=l2)
        explain = Influence(head, seen, self.train.labels, solver)
        right = head(held_out).argmax(1) == self.rest.labels
        accuracy = right.double().mean().item()
        return Trained(self, head, explain, seen, accuracy, self.rest[right], held_out[right])


@dataclass(frozen=True)
class Trained:
    """A task whose head has been trained.

    Attributes
    ----------
    task : Task
    head : Head
    explain : Influence
        The influence of ``task.train`` on a test image's loss.
    train_features : Tensor (n, D)
    accuracy : float
        On ``task.rest``.
    test : Batch
        The images of ``task.rest`` that the head gets right.
    test_features : Tensor (T, D)
    """

    task: Task
    head: Head = field(repr=False)
    explain: Influence = field(repr=False)
    train_features: Tensor = field(repr=False)
    accuracy: float
    test: data.Batch
    test_features: Tensor = field(repr=False)


def flowers(
    backbone: str = "squeezenet",
    *,
    root: str | None = None,
    train: int = 1000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    download: bool = False,
    progress: bool = False,
) -> Task:
    """Return the paper's task: roses against sunflowers, 1,000 training images, 340 others.

    Parameters
    ----------
    backbone : {"squeezenet", "inception"}
        The network trained on ImageNet. The paper takes Inception v3, whose weights are downloaded on first use.
    root, download, progress
        As in `data.flowers`.
    train : int
        How many training images, drawn at random.
    seed : int
        Of the split.
    device : device

    Raises
    ------
    ValueError
        If there are no photos, or no weights.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone: expected one of {', '.join(BACKBONES)}, got {backbone!r}")
    make, layer = BACKBONES[backbone]
    network = make()
    batch = data.flowers(root, size=network.size, download=download, progress=progress)
    parts = batch.to(device).split(checks.count(train, "train", at_most=len(batch) - 1), seed)
    name = f"roses and sunflowers, features of {backbone}"
    return Task(name, Features(network.to(device), layer), *parts)


def digits(
    pair: tuple[int, int] = (4, 9), *, train: int = 700, seed: int = 0, device: torch.device | str = "cpu"
) -> Task:
    """Return the same task on what comes with pip: two digits, a small network trained here on the other eight.

    Training takes seconds, and gives the same network for a seed on the same device and version of torch.

    Parameters
    ----------
    pair : two digits
        Classes 0 and 1.
    train : int
        How many of their 1,000 images are training images.
    seed : int
        Of the network and of the split.
    device : device
    """
    if len(set(pair)) != 2 or not set(pair) <= set(range(10)):
        raise ValueError(f"pair: expected two different digits, got {pair}")
    everything = data.mnist_samples().to(device)
    chosen = torch.isin(everything.labels, torch.tensor(pair, device=everything.labels.device))
    mine = everything[chosen]
    batch = data.Batch(mine.images, (mine.labels == pair[1]).long(), tuple(map(str, pair)), mine.names)
    parts = batch.split(checks.count(train, "train", at_most=len(batch) - 1), seed)
    network = digit_network(everything[~chosen], seed)
    name = f"the digits {pair[0]} and {pair[1]}, features of a network trained on the other eight"
    return Task(name, Features(network, "network.7"), *parts)


class Grey(nn.Module):
    """The mean of the three colours: (N, 3, H, W) to (N, 1, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=1, keepdim=True)


def digit_network(batch: data.Batch, seed: int = 0, epochs: int = 6) -> models.Classifier:
    """Train a network of two convolutions and 64 hidden units, its module ``network.7``, on images 28 x 28."""
    classes, labels = batch.labels.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    with torch_seeded(seed):
        network = nn.Sequential(
            Grey(),
            nn.Conv2d(1, 16, 5, stride=2, padding=2),  # 14 x 14
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),  # 7 x 7
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.ReLU(),
            nn.Linear(64, len(classes)),
        )
    names = [batch.classes[i] for i in classes.tolist()]
    model = models.Classifier(network, (0.13,) * 3, (0.31,) * 3, classes=names, size=28).to(batch.images.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(batch), generator=generator).to(labels.device).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(batch.images[rows]), labels[rows]).backward()
            optimiser.step()
    return model.eval().requires_grad_(False)


def flowers_or_digits(*, seed: int = 0, device: torch.device | str = "cpu") -> Task:
    """Return the flowers where their photos are at hand, else the digits; ``name`` says which. Downloads nothing."""
    return (flowers if data.has_flowers() else digits)(seed=seed, device=device)

"""What an attack found, image by image: how things were before, and how they are after."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fragile_utils import metrics, saliency
from fragile_utils.attacks.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """Images, and what there is to say of them: before an attack, after it, or at one of its iterates.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
    explanation : Tensor (N, ...)
        Their saliency maps (N, H, W); or the influences of all training examples on them (N, n).
    labels : Tensor (N,)
        What the network predicts on them.
    confidence : Tensor (N,)
        The probability of the class that is explained.
    dissimilarity : Tensor (N,)
        D, what the attack climbs.
    """

    images: Tensor = field(repr=False)
    explanation: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    confidence: Tensor = field(repr=False)
    dissimilarity: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> "Outcome":
        """Return those of some images: their indices, or a mask (N,)."""
        return Outcome(*(value[rows] for value in self._values()))

    def put(self, rows: Tensor, other: "Outcome") -> "Outcome":
        """Return the same with those of `other` in the places `rows`."""
        return Outcome(*(a.index_copy(0, rows, b) for a, b in zip(self._values(), other._values(), strict=True)))

    def where(self, chosen: Tensor, other: "Outcome") -> "Outcome":
        """Return these for the images where `chosen` (N,) is true, those of `other` for the rest."""
        pairs = zip(self._values(), other._values(), strict=True)
        return Outcome(*(torch.where(chosen.view(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in pairs))

    def _values(self) -> Sequence[Tensor]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]


def rms(change: Tensor) -> Tensor:
    """Return the root mean square (N,) of changes (N, 3, H, W)."""
    return change.square().mean(dim=(1, 2, 3)).sqrt()


@dataclass(frozen=True)
class Result:
    """What an attack on an explanation found.

    Attributes
    ----------
    attack
        What was climbed.
    settings : Settings
        With the number and size of the steps that were taken, and the sharpness of the surrogate that was used.
    labels : Tensor (N,)
        The class that is explained.
    before, after : Outcome
        Of the originals, and of the perturbed images; the original again where the attack did not succeed.
    reasons : tuple of str
        "" where the attack succeeded, else why it did not.
    iteration : Tensor (N,)
        Which iterate was kept, counted from 1; 0 for the original.
    curve : Tensor (P, N)
        D at each iterate; NaN for images that were not attacked, where an image was done early, and for iterates that
        were not measured.
    """

    attack: Any
    settings: Settings
    labels: Tensor = field(repr=False)
    before: Outcome = field(repr=False)
    after: Outcome = field(repr=False)
    reasons: tuple[str, ...] = field(repr=False)
    iteration: Tensor = field(repr=False)
    curve: Tensor = field(repr=False)

    @property
    def eps(self) -> float:
        """The budget, in units of images in [0, 1]."""
        return self.settings.eps

    @property
    def images(self) -> Tensor:
        """The perturbed images (N, 3, H, W)."""
        return self.after.images

    @property
    def labels_after(self) -> Tensor:
        """The prediction (N,) on `images`: `labels`, but on an image that the network gets wrong to begin with."""
        return self.after.labels

    @property
    def success(self) -> Tensor:
        """Whether the attack succeeded (N,), bool."""
        return torch.tensor([not reason for reason in self.reasons], device=self.labels.device)

    @property
    def linf(self) -> Tensor:
        """The largest change of any pixel (N,), in units of images in [0, 1]."""
        return (self.after.images - self.before.images).abs().amax(dim=(1, 2, 3))

    @property
    def rms(self) -> Tensor:
        """The root mean square (N,) of the change of the pixels and channels, in units of images in [0, 1]."""
        return rms(self.after.images - self.before.images)

    @property
    def confidence_before(self) -> Tensor:
        """The probability (N,) of `labels` on the originals."""
        return self.before.confidence

    @property
    def confidence(self) -> Tensor:
        """The probability (N,) of `labels` on `images`."""
        return self.after.confidence

    @property
    def dissimilarity_before(self) -> Tensor:
        """D (N,) at the originals."""
        return self.before.dissimilarity

    @property
    def dissimilarity(self) -> Tensor:
        """D (N,) at `images`."""
        return self.after.dissimilarity

    def table(self, *more: str) -> pd.DataFrame:
        """Return what became of each image: ``label``, ``label_after``, `more` properties, ``linf``, ``success``."""
        names = {"label": "labels", "label_after": "labels_after"} | {name: name for name in (*more, "linf", "success")}
        return pd.DataFrame({column: getattr(self, name).tolist() for column, name in names.items()})


@dataclass(frozen=True)
class MapResult(Result):
    """What an attack on saliency maps found.

    Attributes
    ----------
    method, guide : Method
        Whose maps were attacked, and whose directions were taken.
    surrogate_agrees : Tensor (N,), bool
        Whether the surrogate predicts what the network does on the originals.
    """

    method: saliency.Method
    guide: saliency.Method
    surrogate_agrees: Tensor = field(repr=False)

    @property
    def maps_before(self) -> Tensor:
        """The saliency maps (N, H, W) of the originals, on the network itself; zeros where one is not finite."""
        return self.before.explanation

    @property
    def maps(self) -> Tensor:
        """The saliency maps (N, H, W) of `images`, on the network itself."""
        return self.after.explanation

    @property
    def beta(self) -> float:
        """Sharpness of the surrogate."""
        return self.settings.beta

    def compare(self, k: int) -> pd.DataFrame:
        """Return a table with one row for each image: what became of its label, and the three measures of change.

        Columns: ``label``, ``label_after``, ``linf`` (in [0, 1] units), ``success``, and those of `metrics.compare`.
        """
        return self.table().join(metrics.compare(self.maps_before, self.maps, k))

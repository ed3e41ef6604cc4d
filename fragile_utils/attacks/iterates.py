"""What attacks of every kind share: the projection on the ball, and the choice of the best iterate."""

from collections.abc import Mapping

import torch
from torch import Tensor


def project(x: Tensor, originals: Tensor, eps: float) -> Tensor:
    """Return the nearest images to `x` within eps of `originals` and within [0, 1]."""
    eps = max(0.0, eps - torch.finfo(x.dtype).eps / 2)  # so that rounding never leaves the ball
    return x.clamp(originals - eps, originals + eps).clamp_(0, 1)


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability (N,) of each image's label."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def wrong_predictions(labels: Tensor, predicted: Tensor) -> list[str]:
    """Return "" for each image that is predicted as its label, else why it is not attacked."""
    pairs = zip(labels.tolist(), predicted.tolist(), strict=True)
    return ["" if got == label else f"predicted as class {got}, not {label}" for label, got in pairs]


def attackable(reasons: list[str], device: torch.device) -> Tensor:
    """Return the indices of the images that nothing speaks against attacking."""
    return torch.tensor([i for i, reason in enumerate(reasons) if not reason], dtype=torch.long, device=device)


class Best:
    """Of all iterates that are allowed, the one with the largest D; image by image, on the device.

    Parameters
    ----------
    originals : dict of Tensor (N, ...)
        What is kept of an iterate, as it is at the original images; "dissimilarity", D (N,), among it.

    Attributes
    ----------
    found : dict of Tensor (N, ...)
        The same at the best iterates. Where there was none yet, D is minus infinity and the rest is the original's.
    iteration : Tensor (N,)
        Which iterate it is, counted from 1; 0 where there was none.
    """

    def __init__(self, originals: Mapping[str, Tensor]) -> None:
        self.originals = originals
        self.found = {name: value.clone() for name, value in originals.items()}
        self.found["dissimilarity"].fill_(-torch.inf)
        self.iteration = torch.zeros_like(self.found["dissimilarity"], dtype=torch.long)

    @torch.no_grad()
    def update(self, p: int, rows: Tensor, new: Mapping[str, Tensor], allowed: Tensor) -> None:
        """Keep iterate `p` of the images `rows` where it is `allowed` and the best so far."""
        better = allowed & (new["dissimilarity"] > self.found["dissimilarity"][rows])
        for name, kept in self.found.items():
            kept.index_copy_(0, rows, _choose(better, new[name], kept[rows]))
        self.iteration.index_copy_(0, rows, torch.where(better, p, self.iteration[rows]))

    def fall_back(self, success: Tensor) -> None:
        """Return to the originals wherever there is no `success`."""
        self.found = {name: _choose(success, value, self.originals[name]) for name, value in self.found.items()}
        self.iteration = torch.where(success, self.iteration, 0)


def _choose(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `a` (N, ...) for the images where `first` (N,) is true, else `b`."""
    return torch.where(first.view(-1, *(1,) * (a.ndim - 1)), a, b)

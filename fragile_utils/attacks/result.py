"""What an attack found."""

from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from fragile_utils import metrics, saliency
from fragile_utils.attacks.base import Attack


@dataclass(frozen=True)
class Result:
    """What an attack found, image by image.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
        The perturbed images; the original where the attack did not succeed.
    maps_before, maps : Tensor (N, H, W)
        The saliency maps of the originals and of `images`, on the network itself.
    labels, labels_after : Tensor (N,)
        The class that is explained, and the prediction on `images`. They differ only on an image that the model gets
        wrong to begin with, which is not attacked.
    confidence_before, confidence : Tensor (N,)
        The probability of `labels`, on the originals and on `images`.
    surrogate_agrees : Tensor (N,), bool
        Whether the surrogate predicts what the network does on the originals.
    linf : Tensor (N,)
        The largest change of any pixel, in units of images in [0, 1].
    success : Tensor (N,), bool
        Whether some iterate kept the label and moved the map.
    reasons : tuple of str
        "" where the attack succeeded, else why it did not.
    dissimilarity_before, dissimilarity : Tensor (N,)
        D at the originals and at `images`.
    iteration : Tensor (N,)
        Which iterate was kept, counted from 1; 0 for the original.
    curve : Tensor (P, N)
        D at each iterate; NaN for images that were not attacked, where an image was done early, and for iterates that
        were not measured.
    """

    attack: Attack
    method: saliency.Method
    guide: saliency.Method
    eps: float
    steps: int
    step_size: float
    measure_every: int
    seed: int
    beta: float
    images: Tensor = field(repr=False)
    maps_before: Tensor = field(repr=False)
    maps: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    labels_after: Tensor = field(repr=False)
    confidence_before: Tensor = field(repr=False)
    confidence: Tensor = field(repr=False)
    surrogate_agrees: Tensor = field(repr=False)
    linf: Tensor = field(repr=False)
    success: Tensor = field(repr=False)
    reasons: tuple[str, ...] = field(repr=False)
    dissimilarity_before: Tensor = field(repr=False)
    dissimilarity: Tensor = field(repr=False)
    iteration: Tensor = field(repr=False)
    curve: Tensor = field(repr=False)

    def compare(self, k: int) -> pd.DataFrame:
        """Return a table with one row for each image: what became of its label, and the three measures of change.

        Columns: ``label``, ``label_after``, ``linf`` (in [0, 1] units), ``success``, and those of `metrics.compare`.
        """
        outcome = {
            "label": self.labels.tolist(),
            "label_after": self.labels_after.tolist(),
            "linf": self.linf.tolist(),
            "success": self.success.tolist(),
        }
        return pd.DataFrame(outcome).join(metrics.compare(self.maps_before, self.maps, k))

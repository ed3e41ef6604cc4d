"""How an attack moves: its budget, its steps, what is random, and how its iterates are measured."""

from dataclasses import dataclass

from fragile_utils._base import checks, schema

LEVEL = 1 / 255  # one step of an 8-bit pixel, in units of images in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Algorithm 1 needs to know beside the attack, the network and the images.

    Parameters
    ----------
    eps : float
        The largest allowed change of a pixel, in units of images in [0, 1]: ``8 / 255``.
    steps : int
        P, the number of iterates. `RandomSign` takes one step of size eps, whatever is given.
    step_size : float
        The size of a step, in units of images in [0, 1].
    seed : int
        Image i draws what is random from ``seed + i`` alone, the same on any device and in any batch. On a GPU some
        sums have no fixed order, so that two runs agree in their measures, not in every bit of the image.
    beta : float, optional
        Sharpness of the surrogate. By default that of the model (`models.Classifier.beta`); for a model that has none,
        the smallest power of two from 1 on with which the surrogate predicts as the network does on 19 of 20 images
        (`models.choose_beta`). A result's settings say what it was, and `MapResult.surrogate_agrees` what it did.
    random_start : bool
        Set out from a random point of the eps-ball instead of the original.
    measure_every : int
        Of how many iterates one is measured, and may be kept; the last always is. For a method whose maps take longer
        than its directions, such as integrated gradients, this saves most of the time, and gives little away: after its
        first steps an attack improves slowly.
    patience : int, optional
        An image is done when so many iterates in a row brought nothing better, as far as they were measured. By default
        all take all steps, as in the paper.
    tf32 : bool
        On an NVIDIA GPU, compute in TensorFloat-32: faster, with 10 bits of mantissa. Refused where the first direction
        then has other signs than in float32 on more than 1 % of the pixels.

    Raises
    ------
    ValueError
        If a value is not as described.
    """

    eps: float
    steps: int = 300
    step_size: float = 0.5 * LEVEL
    seed: int = 0
    beta: float | None = None
    random_start: bool = False
    measure_every: int = 1
    patience: int | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", checks.budget(self.eps))
        object.__setattr__(self, "step_size", checks.positive(self.step_size, "step_size"))
        object.__setattr__(self, "seed", checks.seed(self.seed))
        checks.count(self.steps, "steps")
        checks.count(self.measure_every, "measure_every")
        schema.flag(self.random_start, "random_start")
        schema.flag(self.tf32, "tf32")
        if self.patience is not None:
            checks.count(self.patience, "patience")
        if self.beta is not None:
            beta = checks.positive(self.beta, "beta")
            if not 1e-6 <= beta <= 1e6:
                raise ValueError(f"beta: expected from 1e-6 to 1e6, got {beta:g}")
            object.__setattr__(self, "beta", beta)

    def seeds(self, images: int) -> tuple[int, ...]:
        """Return the seed of each image: ``seed + i`` for image i, whatever else is in the batch."""
        return tuple(range(self.seed, self.seed + images))

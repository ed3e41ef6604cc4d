"""What a defence costs, and what it leaves of an explanation: a constant map is perfectly robust."""

import copy
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fragile_utils import metrics
from fragile_utils._base import checks
from fragile_utils.data.batch import Batch, predict
from fragile_utils.experiments.deletion import deletion, insertion, random_order
from fragile_utils.saliency import Method

BOTH = (deletion, insertion)


class Price(NamedTuple):
    """What a defended explanation costs and says.

    Attributes
    ----------
    accuracy : float
        Share of the images that the network gets right.
    seconds : float
        Of an explanation, for each image: the median of some repetitions. Processor time on a CPU.
    deletion : float
        Area under the curve of the class's probability while pixels are removed, the most salient first: the smaller,
        the more the map says. Mean over the images.
    insertion : float
        The same while they are put back: the larger, the more.
    deletion_by_chance, insertion_by_chance : float
        The same in random order.
    randomised : float
        Mean rank correlation of the maps with those of the same network with shuffled weights: near 1, the map does not
        depend on what the network has learnt.
    """

    accuracy: float
    seconds: float
    deletion: float
    insertion: float
    deletion_by_chance: float
    insertion_by_chance: float
    randomised: float


def price(model: nn.Module, method: Method, batch: Batch, *, steps: int = 20, seed: int = 0, repeats: int = 3) -> Price:
    """Return what an explanation costs and says, on images whose classes are known.

    Parameters
    ----------
    model : Module
    method : Method
    batch : Batch
        Its images are all counted for the accuracy. Those that the network gets right are explained.
    steps : int
        Of the curves of deletion and insertion.
    seed : int
        Of the random order, and of the shuffled weights.
    repeats : int
        Of the measured time.

    Raises
    ------
    ValueError
        If the network gets none of the images right, or a number is out of range.
    """
    checks.count(repeats, "repeats")
    right = predict(model, batch.images) == batch.labels
    if not right.any():
        raise ValueError("batch: expected images of which the network gets some right, got none")
    images, labels = batch.images[right], batch.labels[right]
    maps = method(model, images, labels)
    shuffled = method(with_shuffled_weights(model, seed), images, labels)
    randomised = metrics.rank_correlation(maps, shuffled).nan_to_num(1)  # a map that is constant depends on nothing
    chance = random_order(images, tuple(range(seed, seed + len(images))))
    return Price(
        right.double().mean().item(),
        _seconds(model, method, images, labels, repeats),
        *(area(model, images, labels, order, steps).mean().item() for order in (maps, chance) for area in BOTH),
        randomised.double().mean().item(),
    )


def with_shuffled_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of the network in which the values of each parameter have changed places at random.

    Each layer keeps the sizes of its weights, and nothing of what was learnt.

    References
    ----------
    After Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018, arXiv:1810.03292, section 3, who draw new
    weights.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = copy.deepcopy(model)
    for parameter in shuffled.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.data = parameter.data.flatten()[order].view_as(parameter)
    return shuffled


def _seconds(model: nn.Module, method: Method, images: Tensor, labels: Tensor, repeats: int) -> float:
    """Return how long an explanation takes, for each image."""
    on_gpu = images.is_cuda
    clock = time.perf_counter if on_gpu else time.process_time
    found = []
    for _ in range(repeats):
        start = clock()
        method(model, images, labels)
        if on_gpu:
            torch.cuda.synchronize(images.device)
        found.append((clock() - start) / len(images))
    return float(np.median(found))

"""The judge: how much a displayed explanation changed, measured with noise that no attacker has seen."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from fragile_utils import metrics
from fragile_utils._base import checks
from fragile_utils.defences.randomness import APART, is_random, redraw
from fragile_utils.saliency import Method

HELD_OUT = 2**31  # where the seeds of held-out noise begin; a generator of the CPU looks at the last 32 bits alone


def held_out(method: Method, draws: int, seed: int = 0) -> list[Method]:
    """Return the method with `draws` draws of noise of its own kind, from seeds that are used for nothing else.

    The method alone where nothing in it is random: there is one map.
    """
    checks.count(draws, "draws")
    checks.seed(seed)
    if not is_random(method):
        return [method]
    return [redraw(method, HELD_OUT + APART * (draws * seed + i)) for i in range(draws)]


def judge(
    method: Method,
    model: nn.Module,
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    k: int,
    *,
    draws: int = 8,
    seed: int = 0,
    common: bool = True,
    displayed: Sequence[Method] | None = None,
) -> pd.DataFrame:
    """Return how much the explanation of each image changed: means over held-out noise, with their Monte Carlo errors.

    Parameters
    ----------
    method : Method
        What is displayed.
    model : Module
    before, after : Tensor (N, 3, H, W)
        Originals and perturbed images.
    labels : Tensor (N,)
        The class that is explained.
    k : int
        Of the top-k intersection.
    draws : int
        How often the noise is drawn. A method without noise has one map, and no error.
    seed : int
        Of the noise.
    common : bool
        Whether an original and its perturbed image are explained with the same noise (common random numbers), so that
        they differ by the perturbation alone. If not, each has its own, as for a reader who asks twice; the same image
        then differs from itself too.
    displayed : sequence of Method, optional
        The draws themselves, in place of `draws`, `seed` and `common`: ``[method]`` where the seed is fixed: there is
        one map.

    Returns
    -------
    DataFrame
        One row for each image. Columns: those of `metrics.compare`, and the same with ``_error`` behind them: the
        standard error of the mean over the draws; NaN for a single draw, 0 where there is one map only.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """
    checks.same_shape(checks.images(before, "before"), checks.images(after, "after"))
    shown = held_out(method, draws, seed) if displayed is None else list(displayed)
    if not shown:
        raise ValueError("displayed: expected at least one method, got none")
    alike = common or displayed is not None or not is_random(method)
    others = shown if alike else held_out(method, len(shown), seed + 1)
    tables = [
        metrics.compare(first(model, before, labels), second(model, after, labels), k)
        for first, second in zip(shown, others, strict=True)
    ]
    values = torch.stack([torch.from_numpy(table.to_numpy(copy=True)) for table in tables])  # (draws, N, measures)
    error = values.std(dim=0) / len(values) ** 0.5 if len(values) > 1 else torch.full_like(values[0], torch.nan)
    if not is_random(method) or (displayed is not None and len(shown) == 1):
        error = torch.zeros_like(error)
    names = list(tables[0])
    means = pd.DataFrame(values.mean(dim=0).numpy(), columns=names)
    return means.join(pd.DataFrame(error.numpy(), columns=[f"{name}_error" for name in names]))

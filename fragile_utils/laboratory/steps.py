"""What is exported: an explanation, and a step of an attack on it, as functions of tensors.

Both are made of what the package computes with everywhere else: methods of ``saliency``, an attack of ``attacks``, and
Algorithm 1's step and projection.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fragile_utils import models, saliency
from fragile_utils.attacks import Attack, MapProblem

EXPLAIN = ("x",), ("map", "logits", "label")  # names of inputs and outputs
STEP = ("x", "x0", "label", "reference", "eps", "step_size"), ("next", "map", "logits", "d")

Step = Callable[..., tuple[Tensor, ...]]


def explanation(model: models.Classifier, method: saliency.Method) -> Step:
    """Return the function from an image x (1, 3, S, S) to its map, logits and prediction."""

    @torch.no_grad()
    def explain(x: Tensor) -> tuple[Tensor, ...]:
        _, logits = method.explain(model, x, torch.zeros(1, dtype=torch.int64))
        label = logits.argmax(1)
        attributions, logits = method.explain(model, x, label)
        return saliency.normalize(attributions), logits, label

    return explain


def attack_step(model: models.Classifier, method: saliency.Method, attack: Attack) -> Step:
    """Return the function from an iterate x, the original and the settings to the next iterate, and what x is like.

    Of x it gives map, logits and dissimilarity D; the next iterate is clip(x + a sign(grad_x D)), as in Algorithm 1.
    """
    surrogate = models.softplus_surrogate(model, constant=True)

    def step(x: Tensor, x0: Tensor, label: Tensor, reference: Tensor, eps: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        problem = MapProblem(
            images=x0,
            labels=label,
            eps=eps,
            seeds=(0,),
            attack=attack,
            model=model,
            surrogate=surrogate,
            method=method,
            guide=method.guide(),
            reference=reference,
        )
        attributions, logits = method.explain(model, x, label)
        maps = saliency.normalize(attributions)
        dissimilarity = attack.dissimilarity(maps, reference)
        return problem.clip(x + size * problem.direction(x)), maps, logits, dissimilarity

    return step

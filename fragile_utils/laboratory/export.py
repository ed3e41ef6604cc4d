"""Export: an explanation, or a step of an attack on it, as an ONNX model."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import onnx
import torch

from fragile_utils import models, saliency
from fragile_utils._base import checks, precision
from fragile_utils._base.held import PerImage, changed
from fragile_utils.attacks import LEVEL, Attack
from fragile_utils.laboratory import steps
from fragile_utils.laboratory.operators import OPERATORS
from fragile_utils.laboratory.trace import traced
from fragile_utils.laboratory.translate import translated


def export(
    model: models.Classifier, method: saliency.Method, attack: Attack | None = None, size: int | None = None
) -> onnx.ModelProto:
    """Return a step of an attack on an explanation as an ONNX model; without an attack, the explanation itself.

    The explanation takes ``x`` (1, 3, S, S) in [0, 1], and gives its saliency ``map`` (1, S, S), ``logits`` (1, C) and
    predicted ``label`` (1,). The step takes the iterate ``x``, the original ``x0``, the ``label`` (1,), the attack's
    ``reference`` as float32, the budget ``eps`` () and ``step_size`` (), both in units of images in [0, 1]. It gives
    the ``next`` iterate, and of ``x`` itself ``map``, ``logits`` and the dissimilarity ``d`` (1,). What the attack was
    made with, such as k, is in the reference alone: one model serves for all.

    Parameters
    ----------
    model : Classifier
        In evaluation mode, on the CPU, in float32.
    method : Method
        The explanation. If it draws noise, of a seed that is a number.
    attack : Attack, optional
        What is climbed.
    size : int, optional
        S, the side of images; by default that of the model.

    Raises
    ------
    ValueError
        If an argument is not as described, or something is computed that cannot be exported; it is named.
    """
    (made,) = export_all(model, method, (attack,), size)
    return made


@precision.float32()
def export_all(
    model: models.Classifier,
    method: saliency.Method,
    attacks: Sequence[Attack | None],
    size: int | None = None,
) -> list[onnx.ModelProto]:
    """Return what `export` returns for each of these attacks; the network is looked at, and explained, once for all."""
    checks.instance(model, models.Classifier, "model", "Classifier(network, mean, std)")
    checks.instance(method, saliency.Method, "method", "Gradient()")
    for attack in attacks:
        if attack is not None:
            _check_attack(attack)
    side = check_size(model, size)
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    check_model(model, images)
    method = _at_once(method)
    explain = steps.explanation(model, method)
    maps, _, label = explain(images)
    settings = torch.tensor(8 * LEVEL), torch.tensor(LEVEL)
    made = []
    for attack in attacks:
        if attack is None:
            made.append(_exported(explain, (images,), steps.EXPLAIN, f"{method}"))
        else:
            arguments = (images, images.clone(), label, attack.reference(maps).float(), *settings)
            step = steps.attack_step(model, method, attack)
            made.append(_exported(step, arguments, steps.STEP, f"{type(attack).__name__}"))
    return made


def _check_attack(attack: Attack) -> None:
    checks.instance(attack, Attack, "attack", "TopK(k=1000)")
    if type(attack).direction is not Attack.direction:
        raise ValueError(f"attack: expected one that climbs a dissimilarity, got {attack}")


def check_size(model: models.Classifier, size: int | None) -> int:
    """Return the side of images, by default that of the model."""
    if size is None and model.size is None:
        raise ValueError("size: expected the side of images in pixels, since the model names none; got None")
    return checks.count(model.size if size is None else size, "size", at_most=LARGEST)


def check_model(model: models.Classifier, images: torch.Tensor) -> int:
    """Return the number of classes of a model that can be exported for such images."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.device.type != "cpu" or (value.is_floating_point() and value.dtype != torch.float32):
            raise ValueError(f"model: expected float32 on the CPU, got {value.dtype} on {value.device} in {name}")
    return models.check_network(model, images).classes


LARGEST = 1024  # pixels
Part = TypeVar("Part", bound=PerImage)


def _exported(function: steps.Step, arguments: tuple, names: tuple, title: str) -> onnx.ModelProto:
    return translated(*traced(function, arguments, OPERATORS), arguments, *names, title)


def _at_once(part: Part) -> Part:
    """Return the same method with all points of a sum in one block, however much memory there is."""
    if isinstance(getattr(part, "seed", None), torch.Generator):
        raise ValueError("method: expected noise of a seed, the same each time, got a generator; give a number as seed")
    part = changed(part, _at_once)
    if getattr(part, "chunk", LARGEST) is None:
        part = copy.copy(part)
        object.__setattr__(part, "chunk", LARGEST)  # of a frozen one, too
    return part

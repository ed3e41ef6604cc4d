"""Attacks on saliency maps: Algorithm 1 of the paper, on a whole batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import saliency
from fragile_utils._base import checks, once, precision
from fragile_utils.attacks.algorithm import EMPTY_MAP, NO_DIRECTION, NOT_FINITE, climb_where_nothing_forbids
from fragile_utils.attacks.base import Attack, MapProblem, confidence, explained_with_graph, finite_maps
from fragile_utils.attacks.result import MapResult, Outcome
from fragile_utils.attacks.settings import LEVEL, Settings
from fragile_utils.models.door import check_network
from fragile_utils.models.kinks import kinks_left
from fragile_utils.models.surrogate import SoftplusSurrogate, beta_of, softplus_surrogate
from fragile_utils.saliency.propagation.passes import is_watched


def run(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    *,
    eps: float,
    steps: int = 300,
    step_size: float = 0.5 * LEVEL,
    seed: int = 0,
    beta: float | None = None,
    guide: saliency.Method | None = None,
    random_start: bool = False,
    measure_every: int = 1,
    patience: int | None = None,
    tf32: bool = False,
    progress: bool | Callable[[int], None] = False,
) -> MapResult:
    """Attack the explanation of each image: Algorithm 1 of the paper, on a whole batch.

    Parameters
    ----------
    attack : Attack
        What is climbed, `TopK` for example, or the baseline `RandomSign`.
    model : Module
        In evaluation mode: images in [0, 1] to logits. Maps and predictions are measured on it; directions are taken on
        its softplus surrogate.
    images : Tensor (N, 3, H, W)
        In [0, 1].
    labels : Tensor (N,)
        Their classes. An image on which the model predicts another is not attacked, and reported as such.
    method : Method
        The attribution method whose maps are attacked.
    eps, steps, step_size, seed, beta, random_start, measure_every, patience, tf32
        See `Settings`.
    guide : Method, optional
        The method that directions are taken from. By default ``method.guide()``: the method itself, but integrated
        gradients with fewer points.
    progress : bool or callable
        Show a progress bar, or call this with the number of each step that is done. An interrupt (Ctrl-C, or a
        KeyboardInterrupt that the callable raises) ends the loop and returns the best so far.

    Returns
    -------
    MapResult
        For each image, of all iterates with the prediction unchanged, the one with the largest D.

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, Algorithm 1: see `algorithm.climb`.
    """
    _check(attack, model, images, labels, method, guide)
    moves = {"random_start": random_start, "measure_every": measure_every, "patience": patience, "tf32": tf32}
    settings = Settings(eps=eps, steps=steps, step_size=step_size, seed=seed, beta=beta, **moves)
    check_resolution(images, settings.eps)
    images = images.detach().clamp(0, 1)
    if check_network(model, images).channels_last and images.device.type == "cpu":  # up to a half faster there
        images = images.contiguous(memory_format=torch.channels_last)
    beta = beta_of(model, images) if settings.beta is None else settings.beta
    surrogate = softplus_surrogate(model, beta, constant=True)
    steps, step_size = attack.schedule(settings.eps, settings.steps, settings.step_size)
    settings = replace(settings, steps=steps, step_size=step_size, beta=surrogate.beta)
    guide = method.guide() if guide is None else guide

    with once.run(), precision.float32(settings.tf32):
        attributions, logits = method.explain(model, images, labels)
        with torch.no_grad():
            by_surrogate = surrogate(images)
        shared = guide is method and _may_share(attack, model, surrogate)
        if shared:  # the originals are measured as the iterates will be: no rounding lies between them
            _, with_graph, logits_too = explained_with_graph(guide, surrogate, images, labels)
            shared = _alike(with_graph.detach(), attributions)
            attributions, logits = (with_graph.detach(), logits_too) if shared else (attributions, logits)
            del with_graph  # and all that it was computed from
        before, reference, reasons = _originals(attack, images, labels, attributions, logits)
        problem = MapProblem(
            images=images,
            labels=labels,
            eps=settings.eps,
            seeds=settings.seeds(len(images)),
            attack=attack,
            model=model,
            surrogate=surrogate,
            method=method,
            guide=guide,
            reference=reference,
            shared=shared,
        )
        if settings.tf32:
            _check_signs(problem, problem.start(settings.random_start))
        found = climb_where_nothing_forbids(problem, before, reasons, settings, progress)
    found["reasons"] = _with_kinks(found["reasons"], surrogate, images)
    return MapResult(
        attack=attack,
        method=method,
        guide=guide,
        settings=settings,
        labels=labels,
        surrogate_agrees=by_surrogate.argmax(1) == before.labels,
        **found,
    )


def run_budgets(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    *,
    budgets: Sequence[float],
    **options: Any,
) -> list[MapResult]:
    """Return `run` for each of `budgets`, in units of images in [0, 1]; other arguments and errors as there.

    Each budget starts from the original, as in the paper.
    """
    if isinstance(budgets, (Real, str)):
        raise ValueError(f"budgets: expected a sequence of numbers, got {budgets!r}")
    budgets = [checks.budget(eps, "budgets") for eps in budgets]
    if not budgets:
        raise ValueError("budgets: expected at least one, got none")
    return [run(attack, model, images, labels, method, eps=eps, **options) for eps in budgets]


def _check(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: saliency.Method,
    guide: saliency.Method | None,
) -> None:
    """Check the arguments of `run` that are no settings."""
    checks.instance(attack, Attack, "attack", "TopK(k=1000)")
    checks.instance(method, saliency.Method, "method", "Gradient()")
    if guide is not None:
        checks.instance(guide, saliency.Method, "guide", "Gradient()")
    checks.evaluation_mode(model)
    checks.images(images)
    checks.labels(labels, len(images), device=images.device)


def check_resolution(images: Tensor, eps: float) -> None:
    """Refuse images of a type in which a change within the budget is lost to rounding."""
    finest = torch.finfo(images.dtype).eps / 2  # the distance of neighbours below 1
    if eps < 4 * finest:
        raise ValueError(
            f"images: expected a type that resolves the budget {eps:.4g}, got {images.dtype}, whose values below 1 lie "
            f"{finest:.2g} apart; convert with images.double()"
        )


def _may_share(attack: Attack, model: nn.Module, surrogate: SoftplusSurrogate) -> bool:
    """Return whether an attack differentiates the map of the network itself, which has no kinks; see `MapProblem`.

    The surrogate has seen the images. A network with hooks runs by itself whenever something is measured.
    """
    return type(attack).direction is Attack.direction and not surrogate.replaced and not is_watched(model)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Return whether attributions (N, 3, H, W) are the same up to rounding.

    A method may display others than it differentiates: hard votes and soft ones, for instance.
    """
    difference, size = ((x.flatten(1).norm(dim=1)) for x in (a - b, b))
    return bool((difference <= torch.finfo(b.dtype).eps ** 0.5 * size).all())


def _originals(
    attack: Attack, images: Tensor, labels: Tensor, attributions: Tensor, logits: Tensor
) -> tuple[Outcome, Any, list[str]]:
    """Return the outcome of the original images, what the attack remembers of them, and why it cannot attack some."""
    checks.labels(labels, len(images), checks.logits(logits, len(images)).shape[1])
    (maps, known), predicted = finite_maps(attributions), logits.argmax(1)
    reference = attack.reference(maps)
    before = Outcome(images, maps, predicted, confidence(logits, labels), attack.dissimilarity(maps, reference))
    empty = maps.sum(dim=(1, 2)) == 0
    triples = zip(wrong_predictions(labels, predicted), known.tolist(), empty.tolist(), strict=True)
    reasons = [
        wrong or (NOT_FINITE if not there else EMPTY_MAP if nothing else "") for wrong, there, nothing in triples
    ]
    return before, reference, reasons


def _with_kinks(reasons: tuple[str, ...], surrogate: SoftplusSurrogate, images: Tensor) -> tuple[str, ...]:
    """Return the reasons, with the functions that keep their kinks named where there was no direction."""
    if NO_DIRECTION not in reasons or not (kinks := kinks_left(surrogate, images)):
        return reasons
    named = f"{NO_DIRECTION}, or as the surrogate keeps the kinks of {', '.join(kinks)}"
    return tuple(named if reason == NO_DIRECTION else reason for reason in reasons)


def wrong_predictions(labels: Tensor, predicted: Tensor) -> list[str]:
    """Return "" for each image that is predicted as its label, else why it is not attacked."""
    pairs = zip(labels.tolist(), predicted.tolist(), strict=True)
    return ["" if got == label else f"predicted as class {got}, not {label}" for label, got in pairs]


def _check_signs(problem: MapProblem, x: Tensor) -> None:
    """Refuse a precision in which the first direction is not that of float32."""
    found = problem.direction(x)
    with precision.float32():
        agreement = (found == problem.direction(x)).double().mean().item()
    if agreement < 0.99:
        raise ValueError(f"tf32: expected the signs of float32 on at least 99 % of the pixels, got {agreement:.1%}")

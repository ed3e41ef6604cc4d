"""Algorithm 1 of the paper, on a whole batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fragile_utils import saliency
from fragile_utils._base import checks, precision
from fragile_utils.attacks.base import LEVEL, Attack, Problem
from fragile_utils.attacks.iterates import Best, attackable, confidence, wrong_predictions
from fragile_utils.attacks.result import Result
from fragile_utils.models.surrogate import choose_beta, softplus_surrogate, unchanged

LOOK = 5  # with `patience`, how many steps to take before looking which images are done: a look waits for the device


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
) -> Result:
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
        (`surrogate.choose_beta`). `Result.beta` and `Result.surrogate_agrees` say what it was and did.
    guide : Method, optional
        The method that directions are taken from. By default ``method.guide()``: the method itself, but integrated
        gradients with fewer points.
    random_start : bool
        Set out from a random point of the eps-ball instead of the original.
    measure_every : int
        Of how many iterates one is measured, and may be kept; the last always is. For a method whose maps take longer
        than its directions, such as integrated gradients, this saves most of the time, and gives little away: after its
        first steps an attack improves slowly.
    patience : int, optional
        An image is done when so many iterates in a row brought nothing better. By default all take all steps, as in the
        paper.
    tf32 : bool
        On an NVIDIA GPU, compute in TensorFloat-32: faster, with 10 bits of mantissa. Refused where the first direction
        then has other signs than in float32 on more than 1 % of the pixels.
    progress : bool or callable
        Show a progress bar, or call this with the number of each step that is done. An interrupt (Ctrl-C, or a
        KeyboardInterrupt that the callable raises) ends the loop and returns the best so far.

    Returns
    -------
    Result
        For each image, of all iterates with the prediction unchanged, the one with the largest D.

    Raises
    ------
    ValueError
        If an argument is not as described.

    References
    ----------
    Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019, Algorithm 1.
    """
    checks.instance(attack, Attack, "attack", "TopK(k=1000)")
    checks.instance(method, saliency.Method, "method", "Gradient()")
    if guide is not None:
        checks.instance(guide, saliency.Method, "guide", "Gradient()")
    checks.evaluation_mode(model)
    checks.images(images)
    checks.labels(labels, len(images), device=images.device)
    eps, step_size, seed = checks.budget(eps), checks.positive(step_size, "step_size"), checks.seed(seed)
    steps, step_size = attack.schedule(eps, checks.count(steps, "steps"), step_size)
    checks.count(measure_every, "measure_every")
    if patience is not None:
        checks.count(patience, "patience")
    images = images.detach().clamp(0, 1)
    if images.device.type == "cpu":  # where convolutions are up to a half faster in this layout
        images = images.contiguous(memory_format=torch.channels_last)
    if beta is None and not hasattr(model, "beta"):
        beta = choose_beta(model, images)
    surrogate = softplus_surrogate(model, beta)
    surrogate.constant = True
    guide = method.guide() if guide is None else guide

    with precision.float32(tf32):
        attributions, logits = method.explain(model, images, labels)
        checks.labels(labels, len(images), checks.logits(logits, len(images)).shape[1])
        before, predicted = saliency.normalize(attributions), logits.argmax(1)
        with torch.no_grad():
            agrees = surrogate(images).argmax(1) == predicted
        reference = attack.reference(before)
        reasons = _reasons_not_to_attack(before, labels, predicted)
        rows = attackable(reasons, images.device)
        unperturbed = {
            "images": images,
            "maps": before,
            "dissimilarity": attack.dissimilarity(before, reference),
            "confidence": confidence(logits, labels),
        }

        seeds = tuple(seed + i for i in rows.tolist())
        given = (images[rows], labels[rows], reference[rows], eps, seeds)
        problem = Problem(unchanged(model), surrogate, method, guide, *given)
        best = Best({name: value[rows] for name, value in unperturbed.items()})
        x = problem.start(random_start)
        if tf32 and len(rows):
            _check_signs(attack, problem, x)
        steps_taken = steps if len(rows) else 0
        curve = _climb(attack, problem, x, best, steps_taken, step_size, measure_every, patience, progress)
    kept = best.iteration > 0
    success = kept & (best.found["dissimilarity"] > best.originals["dissimilarity"])
    best.fall_back(success)
    for i, same_label, moved in zip(rows.tolist(), kept.tolist(), success.tolist(), strict=True):
        reasons[i] = "" if moved else "no iterate moved the map" if same_label else "no iterate kept the label"

    found = {name: value.index_copy(0, rows, best.found[name]) for name, value in unperturbed.items()}
    perturbed = found["images"].contiguous()
    return Result(
        attack=attack,
        method=method,
        guide=guide,
        eps=eps,
        steps=steps,
        step_size=step_size,
        measure_every=measure_every,
        seed=seed,
        beta=surrogate.beta,
        images=perturbed,
        maps_before=before,
        maps=found["maps"],
        labels=labels,
        labels_after=predicted,
        confidence_before=unperturbed["confidence"],
        confidence=found["confidence"],
        surrogate_agrees=agrees,
        linf=(perturbed - images).abs().amax(dim=(1, 2, 3)),
        success=torch.zeros_like(labels, dtype=torch.bool).index_copy(0, rows, success),
        reasons=tuple(reasons),
        dissimilarity_before=unperturbed["dissimilarity"],
        dissimilarity=found["dissimilarity"],
        iteration=torch.zeros_like(labels).index_copy(0, rows, best.iteration),
        curve=found["dissimilarity"].new_full((len(curve), len(images)), torch.nan).index_copy(1, rows, curve),
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
) -> list[Result]:
    """Return `run` for each of `budgets`, in units of images in [0, 1]; other arguments and errors as there.

    Each budget starts from the original, as in the paper.
    """
    budgets = [checks.budget(eps, "budgets") for eps in budgets]
    if not budgets:
        raise ValueError("budgets: expected at least one, got none")
    return [run(attack, model, images, labels, method, eps=eps, **options) for eps in budgets]


def _check_signs(attack: Attack, problem: Problem, x: Tensor) -> None:
    """Refuse a precision in which the first direction is not that of float32."""
    found = attack.direction(problem, x)
    with precision.float32():
        agreement = (found == attack.direction(problem, x)).double().mean().item()
    if agreement < 0.99:
        raise ValueError(f"tf32: expected the signs of float32 on at least 99 % of the pixels, got {agreement:.1%}")


def _climb(
    attack: Attack,
    problem: Problem,
    x: Tensor,
    best: Best,
    steps: int,
    step_size: float,
    measure_every: int,
    patience: int | None,
    progress: bool | Callable[[int], None],
) -> Tensor:
    """Run Algorithm 1 from `x`, note the best iterates in `best`, and return D at each iterate (P, N)."""
    rows = torch.arange(len(x), device=x.device)  # those that are not done
    start = best.originals["dissimilarity"]
    curve: list[Tensor] = []
    try:
        for p in tqdm(range(1, steps + 1), desc="attack", unit="step", disable=progress is not True, leave=False):
            x = problem.clip(x + step_size * attack.direction(problem, x))
            measured = torch.full_like(start, torch.nan)
            if p % measure_every == 0 or p == steps:
                maps, logits = problem.evaluate(x)
                dissimilarity = attack.dissimilarity(maps, problem.reference)
                measured.index_copy_(0, rows, dissimilarity)
                # A map that vanished, or is not finite, is a failure of the method and no explanation to compare with.
                allowed = (logits.argmax(1) == problem.labels) & (maps.sum(dim=(1, 2)) > 0)
                found = {"images": x, "maps": maps, "confidence": confidence(logits, problem.labels)}
                best.update(p, rows, found | {"dissimilarity": dissimilarity}, allowed)
            curve.append(measured)
            if callable(progress):
                progress(p)
            if patience is not None and p % LOOK == 0 and p < steps:
                going = p - best.iteration[rows] < patience
                if not going.all():
                    rows, x, problem = rows[going], x[going], problem[going]
                if not len(rows):
                    break
    except KeyboardInterrupt:
        pass  # the best so far is an answer
    return torch.stack(curve) if curve else start.new_empty(0, len(start))


def _reasons_not_to_attack(maps: Tensor, labels: Tensor, predicted: Tensor) -> list[str]:
    """Return "" for each image that can be attacked, else the reason why not."""
    pairs = zip(wrong_predictions(labels, predicted), (maps.sum(dim=(1, 2)) == 0).tolist(), strict=True)
    return [wrong or ("its map is zero everywhere" if empty else "") for wrong, empty in pairs]

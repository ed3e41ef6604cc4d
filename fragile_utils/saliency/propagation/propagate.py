"""Propagation with modified local derivatives: the one mechanism behind DeepLIFT, LRP and deep Taylor decomposition.

The gradient of a score is a product of local derivatives, one for each function that the network computes. DeepLIFT
takes output differences over input differences instead; layer-wise relevance propagation takes ratios of relevances.
So all of them are one walk: `trace` runs the network once and writes down, step by step, each function that touches the
image; `propagate` goes back from the score to the image, and rules say what each step does to the multipliers m that
pass through it.

====================  ===================================================  =================================
`LocalDerivatives`    the derivatives as they are                          the gradient
`Rescale`             output difference over input difference              DeepLIFT
`EpsilonRule`         share of each input in the sum                       LRP-epsilon
`AlphaBetaRule`       shares of the positive and the negative inputs       LRP-alpha-beta; z-plus for beta = 0
`DeepTaylorRule`      z-plus; z-box in the layer that sees the pixels      deep Taylor decomposition
====================  ===================================================  =================================

The rules are differentiable operations on the values of the network, so that with ``create_graph=True`` the result has
an exact gradient with respect to the image. A function that has no rule is refused by name.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fragile_utils import checks, operations, tangents
from fragile_utils.tracing import MAX_POOL, REARRANGE, RELU, WEIGHTED, Node, Step, Trace, trace


def propagate(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    rules: "LocalDerivatives",
    reference: Tensor | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Carry the score of each image's target class back to its pixels.

    Parameters
    ----------
    model : Module
        In evaluation mode: images to logits (N, classes).
    images : Tensor (N, 3, H, W)
    targets : Tensor (N,)
        The class whose score is explained.
    rules : LocalDerivatives
        What each step does to the multipliers; see the table at the top of the module.
    reference : Tensor (1, 3, H, W) or (N, 3, H, W), for `Rescale` only
        The images against which it takes differences: one for all, or one for each.
    create_graph : bool
        Whether the result can be differentiated with respect to `images`.

    Returns
    -------
    result : Tensor (N, 3, H, W)
        The multipliers of the pixels, or, from an `EpsilonRule` and its kin, their relevances.
    logits : Tensor (N, classes)

    Raises
    ------
    ValueError
        If an argument is not as described, or the model computes what has no rule; the layer is named.
    """
    if isinstance(rules, Rescale):
        _check_reference(reference, images)
    else:
        reference = None
    if tangents.applicable(model):
        return tangents.multipliers(model, images, targets, create_graph, rules, reference)
    with torch.enable_grad():
        images = images if create_graph and images.requires_grad else images.detach().requires_grad_()
        forward = trace(model, images)
        logits = checks.logits_shape(forward.end.value, len(images))
        chosen = targets.clamp(max=logits.shape[1] - 1)[:, None]
        if isinstance(rules, Rescale):
            _pair(forward, trace(model, reference.detach().requires_grad_()))
    carried = {forward.end: torch.zeros_like(logits).scatter(1, chosen, 1)}
    with torch.set_grad_enabled(create_graph), forward.activations:
        for step in reversed(forward.steps):
            if (m := carried.pop(step.output, None)) is not None:
                for node, share in zip(step.inputs, rules(step, m), strict=True):
                    carried[node] = carried[node] + share if node in carried else share
    result = carried.get(forward.image, torch.zeros_like(images))
    return (result, logits) if create_graph else (result.detach(), logits.detach())


def _check_reference(reference: Tensor | None, images: Tensor) -> None:
    if not isinstance(reference, Tensor) or reference.shape not in (images.shape, (1, *images.shape[1:])):
        expected = f"reference: expected shape {tuple(images.shape)}, or one image for all"
        raise ValueError(f"{expected}, got {checks.described(reference)}")


def _pair(forward: Trace, reference: Trace) -> None:
    if [step.function for step in forward.steps] != [step.function for step in reference.steps]:
        raise ValueError("model: expected the same steps on the images and on the reference, got others")
    for step, other in zip(forward.steps, reference.steps, strict=True):
        step.reference = other


@dataclass(frozen=True)
class LocalDerivatives:
    """The derivatives as they are: what arrives at the image is the gradient of the score.

    Rules are called with a step and the multipliers m of its output, and return those of each of its inputs.
    """

    def __call__(self, step: Step, m: Tensor) -> list[Tensor]:
        return getattr(self, step.kind)(step, m)

    def derivative(self, step: Step, m: Tensor) -> list[Tensor]:
        graph = torch.is_grad_enabled()
        return list(torch.autograd.grad(step.output.value, step.arguments, m, retain_graph=True, create_graph=graph))

    rearrange = constant = combine = weighted = homogeneous = activation = max_pool = derivative

    def is_derivative(self, step: Step) -> bool:
        """Return whether the rule of a step is its derivative."""
        return getattr(type(self), step.kind) is LocalDerivatives.derivative

    def operation(self, step: Step, given: tuple[Any, ...]) -> operations.Operation:
        """Return the operation of a step whose rule is not its derivative; `given` are the usual arguments of one."""
        return operations.Ruled(*given[:2], self)


# --- DeepLIFT --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rescale(LocalDerivatives):
    """DeepLIFT's rescale rule: the slope of an activation is (f(x) - f(x0)) / (x - x0), x0 from the reference.

    The contributions (x - x0) m of the pixels sum to the difference of the scores. So do those at each step: in a max
    pool, what the maximum gained goes to the pixel that is the maximum now, and what it lost to the one that was.

    References
    ----------
    Shrikumar, Greenside, Kundaje, *Learning Important Features Through Propagating Activation Differences*, ICML 2017,
    arXiv:1704.02685, section 3.5.1. Max pooling as in Captum, except that a pixel which is the maximum of several
    windows gets the sum of their shares (Captum 0.9 keeps one).
    """

    def operation(self, step: Step, given: tuple[Any, ...]) -> operations.Operation:
        if step.function in RELU:
            return operations.SecantOfSoftplus(*given)
        return operations.RescaledMaxPool(*given) if step.kind == MAX_POOL else super().operation(step, given)

    def activation(self, step: Step, m: Tensor) -> list[Tensor]:
        reference = step.reference
        slopes = (LocalDerivatives.derivative(self, s, torch.ones_like(s.output.value))[0] for s in (step, reference))
        pairs = ((s.arguments[0], s.output.value) for s in (step, reference))
        return [m * _Secant.apply(*next(pairs), *next(pairs), *slopes)]

    homogeneous = activation

    def max_pool(self, step: Step, m: Tensor) -> list[Tensor]:
        (x,), y, before = step.arguments, step.output.value, step.reference
        (x0,), y0 = before.arguments, before.output.value
        gained = y >= y0
        places = torch.where(gained, step.indices, before.indices)
        share = m * operations.slope(y - y0, operations.taken(x - x0, places), gained.to(y.dtype))
        return [torch.zeros_like(x).flatten(2).scatter_add(2, places.flatten(2), share.flatten(2)).view_as(x)]


class _Secant(torch.autograd.Function):
    """The slope between two points, (y - y0) / (x - x0), as a function of x.

    Its derivative is (f'(x) - slope) / (x - x0). Where the points are close, that is a small difference of large
    numbers over a small number: in float32, noise that drowns the rest. There the slope is (f'(x) + f'(x0)) / 2.
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, x0: Tensor, y0: Tensor, slope: Tensor, slope0: Tensor) -> Tensor:
        run = x - x0
        secant = operations.slope(y - y0, run, slope)
        ctx.save_for_backward(run, secant, slope, slope0)
        return secant

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        run, secant, slope, slope0 = ctx.saved_tensors
        rise = torch.where(operations.close(run), (slope - slope0) / 2, slope - secant)
        return grad * operations.slope(rise, run, 0), None, None, None, None, None


# --- Layer-wise relevance propagation --------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpsilonRule(LocalDerivatives):
    """LRP-epsilon: a value passes its relevance R to its inputs in proportion to their share in the sum.

    With z = sum_i w_i x_i + b, R_i = x_i w_i R / (z + epsilon sign z). In multipliers, R = x m, this is
    m_i = w_i m |z| / (|z| + epsilon). An activation passes on its relevance as it is, which multiplies m by f(z) / z.
    For ReLU and leaky ReLU that is f'(z), and f'(z) is what their softplus surrogate takes too: f(z) / z has a pole at
    0 there, as for any activation with f(0) other than 0. A max pool passes all to the maximum. Normalisation by
    constants leaves relevance on its pixel.

    References
    ----------
    Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*,
    PLoS ONE 2015, equation 58. In multipliers: Ancona et al., *Towards Better Understanding of Gradient-based
    Attribution Methods*, ICLR 2018, arXiv:1711.06104, proposition 1.
    """

    epsilon: float = 1e-9

    def is_derivative(self, step: Step) -> bool:
        return super().is_derivative(step) and not any(node.pixels for node in step.inputs)

    def __call__(self, step: Step, m: Tensor) -> list[Tensor]:
        """Return the multipliers m of the inputs; from the first layer on, for pixels, their relevances."""
        if not step.output.pixels:
            shares = super().__call__(step, m)
            return [
                node.value * share if node.pixels else share for node, share in zip(step.inputs, shares, strict=True)
            ]
        if step.kind == REARRANGE:
            return self.derivative(step, m)
        if step.arguments[0].shape != m.shape:
            raise ValueError(
                f"{step}: expected a normalisation that keeps the shape of the image, got {tuple(m.shape)}"
            )
        return [m]

    def constant(self, step: Step, m: Tensor) -> list[Tensor]:
        return self.derivative(step, m * (1 - self.epsilon / (step.output.value.abs() + self.epsilon)))

    combine = weighted = constant

    def activation(self, step: Step, m: Tensor) -> list[Tensor]:
        (z,) = step.arguments
        return [m * step.output.value / torch.where(z == 0, 1, z)]

    def stable(self, z: Tensor) -> Tensor:
        return torch.where(z >= 0, z + self.epsilon, z - self.epsilon)


@dataclass(frozen=True)
class AlphaBetaRule(EpsilonRule):
    """LRP-alpha-beta: what raises a value and what lowers it are kept apart, weighted by alpha and -beta.

    R_i = (alpha z_i+ / z+ - beta z_i- / z-) R, where z_i+ and z_i- are the positive and negative parts of w_i x_i, and
    z+ and z- their sums with the same part of the bias, away from 0 by epsilon. Other steps follow the epsilon rule.
    Where nothing lowers a value, z- is 0 and beta hands down nothing; on a softplus surrogate it is next to 0, and beta
    hands the relevance to units that are all but inactive. Epsilon decides what counts as 0.

    References
    ----------
    Bach et al., as above, equation 60. With alpha 1 and beta 0 it is the z-plus rule of Montavon et al., *Explaining
    Nonlinear Classification Decisions with Deep Taylor Decomposition*, Pattern Recognition 2017, arXiv:1512.02479,
    section 4.1, which assumes inputs at or above 0 and biases at or below 0.
    """

    alpha: float = 1.0
    beta: float = 0.0

    def operation(self, step: Step, given: tuple[Any, ...]) -> operations.Operation:
        positive = step.kind == WEIGHTED and step.inputs[0].positive and not step.inputs[0].pixels
        if positive and (self.alpha, self.beta) == (1, 0) and not isinstance(step.options.get("padding"), str):
            return operations.ZPlus(*given, self.epsilon)
        return super().operation(step, given)

    def weighted(self, step: Step, m: Tensor) -> list[Tensor]:
        (x,) = step.arguments
        weight, bias = step.weights
        relevance = m * step.output.value
        up, down = _signs(weight)
        bias_up, bias_down = _signs(bias)
        parts = [(self.alpha, up, down, bias_up), (-self.beta, down, up, bias_down)]
        above = below = 0
        for factor, of_positive, of_negative, constant in parts:
            if factor == 0:
                continue
            with torch.enable_grad():
                inputs, z = [x], step.call(x, of_positive, constant)
                if not step.inputs[0].positive:
                    inputs = list(_signs(x))
                    z = step.call(inputs[0], of_positive, constant) + step.call(inputs[1], of_negative, None)
            back = _transpose(z, inputs, factor * relevance / self.stable(z))
            above, below = above + back[0], below + back[-1]
        return [torch.where(x >= 0, above, below)]


@dataclass(frozen=True)
class DeepTaylorRule(AlphaBetaRule):
    """Deep Taylor decomposition: the z-plus rule, and in the layer that sees the pixels the z-box rule.

    z-box uses that a pixel is between low_i and high_i: R_i = z_i R / sum_i z_i, with
    z_i = w_i x_i - w_i+ low_i - w_i- high_i. The bounds are a black and a white image, normalised as the image is.

    References
    ----------
    Montavon et al., as above, section 4.1 and equation 14 (z-box).
    """

    def __call__(self, step: Step, m: Tensor) -> list[Tensor]:
        if step.output.pixels or not any(node.pixels for node in step.inputs):
            return super().__call__(step, m)
        if step.kind != WEIGHTED:
            raise ValueError(f"{step}: expected a convolution or linear layer to be the first to see the pixels")
        (pixels,), (x,) = step.inputs, step.arguments
        weight, _ = step.weights
        black, white = (_replayed(pixels, value) for value in (0, 1))
        bounds = torch.minimum(black, white), torch.maximum(black, white)
        with torch.enable_grad():
            terms = [x, *(bound.detach().requires_grad_() for bound in bounds)]
            kernels = [weight, *_signs(weight)]
            of_terms = [step.call(term, kernel, None) for term, kernel in zip(terms, kernels, strict=True)]
            z = of_terms[0] - of_terms[1] - of_terms[2]
        back = _transpose(z, terms, m * step.output.value / self.stable(z))
        return [sum(term * share for term, share in zip(terms, back, strict=True))]


def _transpose(z: Tensor, inputs: list[Tensor], m: Tensor) -> tuple[Tensor, ...]:
    """Return the transpose of the linear map from each of `inputs` to `z`, applied to `m`."""
    return torch.autograd.grad(z, inputs, m, create_graph=torch.is_grad_enabled())


def _signs(x: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the positive and the negative part."""
    return (None, None) if x is None else (x.clamp(min=0), x.clamp(max=0))


def _replayed(node: Node, value: float) -> Tensor:
    """Return what the steps up to `node` make of an image of one `value`."""
    if node.step is None:
        return torch.full_like(node.value, value)
    return node.step.call(*(_replayed(previous, value) for previous in node.step.inputs))

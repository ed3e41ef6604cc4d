"""Layer-wise relevance propagation and deep Taylor decomposition: the methods and their rules."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency.method import Method
from fragile_utils.saliency.propagation.operations import Operation, ZPlus
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import LocalDerivatives
from fragile_utils.saliency.propagation.trace import REARRANGE, WEIGHTED, Node, Step


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation: the score handed down layer by layer, to each input in proportion to its share.

    Parameters
    ----------
    rule : {"epsilon", "zplus", "alphabeta"}
        How convolutions and linear layers share: by all terms of the sum, by the positive ones, or by the positive and
        the negative ones apart. Other layers follow the epsilon rule.
    epsilon : float
        Added to each denominator, away from zero. The larger, the more relevance weakly activated units swallow.
    alpha, beta : float
        Weights of the positive and the negative terms for "alphabeta": alpha - beta = 1.

    References
    ----------
    Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*,
    PLoS ONE 2015; see `propagation.EpsilonRule` and `propagation.AlphaBetaRule` for the equations.
    """

    rule: Literal["epsilon", "zplus", "alphabeta"] = "epsilon"
    epsilon: float = 1e-9
    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        checks.positive(self.epsilon, "epsilon")
        checks.positive(self.alpha, "alpha")
        if self.rule not in ("epsilon", "zplus", "alphabeta"):
            raise ValueError(f"rule: expected 'epsilon', 'zplus' or 'alphabeta', got {self.rule!r}")
        if not (isinstance(self.beta, Real) and self.beta >= 0 and math.isclose(self.alpha - self.beta, 1)):
            raise ValueError(f"expected beta >= 0 and alpha - beta = 1, got alpha={self.alpha}, beta={self.beta}")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        if self.rule == "epsilon":
            rules = EpsilonRule(self.epsilon)
        elif self.rule == "zplus":
            rules = AlphaBetaRule(self.epsilon, alpha=1.0, beta=0.0)
        else:
            rules = AlphaBetaRule(self.epsilon, self.alpha, self.beta)
        return propagate(model, images, targets, rules, create_graph=create_graph)


@dataclass(frozen=True)
class DeepTaylor(Method):
    """Deep Taylor decomposition: the z-box rule in the layer that sees the pixels, the z-plus rule after it.

    References
    ----------
    Montavon et al., *Explaining Nonlinear Classification Decisions with Deep Taylor Decomposition*, Pattern Recognition
    2017, arXiv:1512.02479; see `propagation.DeepTaylorRule`.
    """

    epsilon: float = 1e-9

    def __post_init__(self) -> None:
        checks.positive(self.epsilon, "epsilon")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        rules = DeepTaylorRule(self.epsilon)
        return propagate(model, images, targets, rules, create_graph=create_graph)


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

    def operation(self, step: Step, given: tuple[Any, ...]) -> Operation:
        positive = step.kind == WEIGHTED and step.inputs[0].positive and not step.inputs[0].pixels
        if positive and (self.alpha, self.beta) == (1, 0) and not isinstance(step.options.get("padding"), str):
            return ZPlus(*given, self.epsilon)
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

"""Layer-wise relevance propagation and deep Taylor decomposition: the methods, their rules, and what these compute."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.once import once
from fragile_utils.models.surrogate import softplus_and_slope
from fragile_utils.saliency.deeplift import close
from fragile_utils.saliency.method import Method
from fragile_utils.saliency.propagation.elementwise import Elementwise
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.operation import Bends, Linear, Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Node, Step, Untraceable
from fragile_utils.saliency.propagation.weighted import Weighted


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
    PLoS ONE 2015; see `EpsilonRule` and `AlphaBetaRule` for the equations.
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

    Parameters
    ----------
    epsilon : float
        Added to each denominator, away from zero.

    References
    ----------
    Montavon et al., *Explaining Nonlinear Classification Decisions with Deep Taylor Decomposition*, Pattern Recognition
    2017, arXiv:1512.02479; see `DeepTaylorRule`.
    """

    epsilon: float = 1e-9

    def __post_init__(self) -> None:
        checks.positive(self.epsilon, "epsilon")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        return propagate(model, images, targets, DeepTaylorRule(self.epsilon), create_graph=create_graph)


# --- The rules -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpsilonRule(Rule):
    """LRP-epsilon: a value passes its relevance R to its inputs in proportion to their share in the sum.

    With z = sum_i w_i x_i + b, R_i = x_i w_i R / (z + epsilon sign z). In multipliers, R = x m, this is
    m_i = w_i m |z| / (|z| + epsilon). An activation passes on its relevance as it is, which multiplies m by f(z) / z.
    For ReLU and leaky ReLU that is f'(z), and f'(z) is what their softplus surrogate takes too: f(z) / z has a pole at
    0 there, as for any activation with f(0) other than 0. ReLU6, and what else is ReLU up to some value, is treated
    alike: see `RatioOfReLU`. Close to a pole the gradient of a relevance is right, and huge: differences show it only
    over steps of 1e-8. A max pool passes all to the maximum. Normalisation by constants leaves relevance on its pixel.

    References
    ----------
    Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*,
    PLoS ONE 2015, equation 58. In multipliers: Ancona et al., *Towards Better Understanding of Gradient-based
    Attribution Methods*, ICLR 2018, arXiv:1711.06104, proposition 1.
    """

    epsilon: float = 1e-9

    def is_derivative(self, step: Step) -> bool:
        kinds = (Kind.REARRANGE, Kind.HOMOGENEOUS, Kind.MAX_POOL)
        return step.kind in kinds and not any(node.pixels for node in step.inputs)

    def operation(self, step: Step, setting: Setting) -> Operation:
        if step.kind in (Kind.GENERAL, Kind.DETACHED):
            raise Untraceable(f"{step} has no propagation rule of LRP: {step.kind.value}")
        if step.output.pixels:
            return derivative(step, setting) if step.kind is Kind.REARRANGE else OnItsPixel(step, setting)
        if any(node.pixels for node in step.inputs):
            return Relevances(self.of_layer(step, setting._replace(over=False, back=False)))
        return self.of_layer(step, setting)

    def of_layer(self, step: Step, setting: Setting) -> Operation:
        """Return the operation of a step that is more than a normalisation of pixels, in multipliers."""
        if step.kind is Kind.ACTIVATION:
            return (RatioOfReLU if _is_relu_near_zero(step, setting) else Ratio)(step, setting)
        if step.kind in (Kind.CONSTANT, Kind.COMBINE, Kind.WEIGHTED):
            return Absorbing(derivative(step, setting), self.epsilon)
        return derivative(step, setting)


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

    def of_layer(self, step: Step, setting: Setting) -> Operation:
        if step.kind is Kind.WEIGHTED:
            return RaisedAndLowered(step, setting, self)
        return super().of_layer(step, setting)


@dataclass(frozen=True)
class DeepTaylorRule(AlphaBetaRule):
    """Deep Taylor decomposition: the z-plus rule, and in the layer that sees the pixels the z-box rule.

    z-box uses that a pixel is between low_i and high_i: R_i = z_i R / sum_i z_i, with
    z_i = w_i x_i - w_i+ low_i - w_i- high_i. The bounds are a black and a white image, normalised as the image is.

    References
    ----------
    Montavon et al., as above, section 4.1 and equation 14 (z-box).
    """

    def operation(self, step: Step, setting: Setting) -> Operation:
        if step.output.pixels or not any(node.pixels for node in step.inputs):
            return super().operation(step, setting)
        if step.kind is not Kind.WEIGHTED:
            raise Untraceable(f"{step}: expected a convolution or linear layer to be the first to see the pixels")
        return Box(step, setting, self.epsilon)


# --- What the rules compute ------------------------------------------------------------------------------------------


def _away_from_zero(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z >= 0, epsilon, -epsilon).to(z.dtype).add_(z)


def _times(factor: float, t: Tensor) -> Tensor:
    """Return t times a factor, in its memory."""
    return t if factor == 1 else t.mul_(factor)


class OnItsPixel(Linear):
    """Normalisation by constants: relevance stays on its pixel."""

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        if step.inputs[0].shape != step.output.shape:
            got = tuple(step.output.shape)
            raise Untraceable(f"{step}: expected a normalisation that keeps the shape of the image, got {got}")
        self.normalisation = derivative(step, setting)

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Any]:
        return self.normalisation.forward(inputs)

    def transposed(self, m: Tensor, kept: Any) -> list[Tensor | None]:
        return self.normalisation.transposed(m, kept)

    def propagate(self, m: Tensor, kept: Any, keep: bool) -> tuple[list[Tensor | None], Any]:
        return [m], None

    def tangent(self, tangents: list[Tensor], kept: Any) -> Tensor:
        return tangents[0]


class Weighed(NamedTuple):
    """The inputs of a layer, and what the layer keeps."""

    inputs: list[Tensor]
    of_layer: Any


class HandedDown(NamedTuple):
    """The multipliers of the inputs of a layer, and what the layer needs to differentiate them."""

    shares: list[Tensor]
    of_layer: Any


class Relevances(Operation):
    """The layer that sees the pixels: it hands down relevances, x m, in place of multipliers m."""

    def __init__(self, layer: Operation) -> None:
        super().__init__(layer.step, layer.setting)
        self.layer = layer

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Weighed]:
        value, kept = self.layer.forward(inputs)
        return value, Weighed(inputs, kept)

    def transposed(self, m: Tensor, kept: Weighed) -> list[Tensor | None]:
        return self.layer.transposed(m, kept.of_layer)

    def propagate(self, m: Tensor, kept: Weighed, keep: bool) -> tuple[list[Tensor | None], HandedDown]:
        shares, propagated = self.layer.propagate(m, kept.of_layer, keep)
        weighed = [self._weigh(i, x, share) for i, (x, share) in enumerate(zip(kept.inputs, shares, strict=True))]
        return weighed, HandedDown(shares, propagated)

    def differentiate(self, tangents: list[Tensor], kept: Weighed, propagated: HandedDown) -> tuple[Tensor, Bends]:
        weighed = [self._weigh(i, x, t) for i, (x, t) in enumerate(zip(kept.inputs, tangents, strict=True))]
        tangent, bends = self.layer.differentiate(weighed, kept.of_layer, propagated.of_layer)
        of_inputs = list(bends.of_inputs) or [None] * len(tangents)
        for i, (t, share) in enumerate(zip(tangents, propagated.shares, strict=True)):
            if self.step.inputs[i].pixels:
                of_inputs[i] = t * share if of_inputs[i] is None else of_inputs[i] + t * share
        return tangent, Bends(of_inputs, bends.of_value)

    def _weigh(self, i: int, x: Tensor, m: Tensor) -> Tensor:
        return x * m if self.step.inputs[i].pixels else m


class Ratio(Operation):
    """An activation that passes on its relevance: m f(z) / z."""

    def __init__(self, step: Step, setting: Setting) -> None:
        super().__init__(step, setting)
        self.activation: Elementwise = derivative(step, setting._replace(over=False, back=False))

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, tuple[Any, Tensor, Tensor]]:
        (z,) = inputs
        value, kept = self.activation.forward([z])
        z = torch.where(z == 0, 1, z)
        return value, (kept, value / z, z)

    def transposed(self, m: Tensor, kept: tuple[Any, Tensor, Tensor]) -> list[Tensor | None]:
        return self.activation.transposed(m, kept[0])

    def propagate(
        self, m: Tensor, kept: tuple[Any, Tensor, Tensor], keep: bool
    ) -> tuple[list[Tensor | None], Tensor | None]:
        of_derivative, ratio, z = kept
        bend = m * (self.activation.slope(of_derivative) - ratio) / z if keep else None
        return [m * ratio], bend

    def differentiate(
        self, tangents: list[Tensor], kept: tuple[Any, Tensor, Tensor], propagated: Tensor
    ) -> tuple[Tensor, Bends]:
        (t,) = tangents
        return t * kept[1], Bends([propagated * t])


class BesideReLU(NamedTuple):
    """An activation that is ReLU near 0, of the surrogate: its slope as ReLU has it, and the ratio of the rest."""

    of_derivative: Any  # what the derivative keeps
    slope: Tensor  # s'(z), with s softplus
    ratio: Tensor  # (r(z) - r(0)) / z, with r = f - s
    z: Tensor

    @property
    def total(self) -> Tensor:
        """By what multipliers are multiplied."""
        return self.slope + self.ratio


class RatioOfReLU(Ratio):
    """ReLU6 of the surrogate, or ReLU up to another value, without the pole that f(z) / z has at 0.

    f is softplus s and a rest r, which is 0 near 0 but for rounding and tails. As for ReLU alone, s'(z) stands in place
    of s(z) / z; the rest has (r(z) - r(0)) / z. The sharper softplus is, the closer to min(z, 6) / z for z above 0.
    """

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, BesideReLU]:
        (z,) = inputs
        value, kept = self.activation.forward([z])
        softplus, slope = softplus_and_slope(z, self.setting.beta)
        at_zero, _ = self.activation.forward([z.new_zeros(1)])
        rest = (value - softplus) - (at_zero - softplus_and_slope(z.new_zeros(1), self.setting.beta)[0])
        ratio = torch.where(close(z), self.activation.slope(kept) - slope, rest / z)
        return value, BesideReLU(kept, slope, ratio, z)

    def transposed(self, m: Tensor, kept: BesideReLU) -> list[Tensor | None]:
        return self.activation.transposed(m, kept.of_derivative)

    def propagate(self, m: Tensor, kept: BesideReLU, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        bend = None
        if keep:
            of_softplus = m * kept.slope * (1 - kept.slope) * self.setting.beta
            of_rest = m * (self.activation.slope(kept.of_derivative) - kept.slope - kept.ratio) / kept.z
            curvature = self.activation.curvature(m, kept.of_derivative)
            bend = of_softplus + torch.where(close(kept.z), curvature - of_softplus, of_rest)
        return [m * kept.total], bend

    def differentiate(self, tangents: list[Tensor], kept: BesideReLU, propagated: Tensor) -> tuple[Tensor, Bends]:
        (t,) = tangents
        return t * kept.total, Bends([propagated * t])


def _is_relu_near_zero(step: Step, setting: Setting) -> bool:
    """Return whether an activation is ReLU between -0.01 and 0.01, and the surrogate's is another."""
    if step.constants:
        return False
    z = torch.linspace(-0.01, 0.01, 3, dtype=torch.float64)
    with setting.activations:
        smoothed = step.call(z)
    return bool(torch.equal(step.call(z), z.clamp(min=0)) and smoothed[1] > 0)


class Absorbed(NamedTuple):
    """The value of a layer, and what the layer keeps."""

    value: Tensor
    of_layer: Any


class Absorbing(Operation):
    """A linear layer by the epsilon rule: of its multipliers, |z| / (|z| + epsilon) is handed down."""

    def __init__(self, layer: Linear, epsilon: float) -> None:
        super().__init__(layer.step, layer.setting)
        self.layer, self.epsilon = layer, epsilon

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Absorbed]:
        value, kept = self.layer.forward(inputs)
        return value, Absorbed(value.clone(), kept)  # a copy: what follows may overwrite it

    def transposed(self, m: Tensor, kept: Absorbed) -> list[Tensor | None]:
        return self.layer.transposed(m, kept.of_layer)

    def propagate(self, m: Tensor, kept: Absorbed, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        share = 1 - self.epsilon / (kept.value.abs() + self.epsilon)
        return self.layer.transposed(m * share, kept.of_layer), m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Absorbed, propagated: Tensor) -> tuple[Tensor, Bends]:
        t = self.layer.tangent(tangents, kept.of_layer)
        away = kept.value.abs() + self.epsilon
        bend = t * propagated * self.epsilon * kept.value.sign() / away.square()
        return t * (1 - self.epsilon / away), Bends(of_value=bend)


class Part(NamedTuple):
    """What raises the values of a layer, or what lowers them: p = W x+ + V x- + b."""

    factor: float
    of_positive: Tensor  # W: the weights of inputs at or above 0
    of_negative: Tensor  # V: of those below
    away: Tensor  # p, away from zero
    ratio: Tensor  # z / p


class Parts(NamedTuple):
    """The two parts, or one; where the inputs are at or above 0, None if everywhere; and the weights."""

    parts: list[Part]
    positive: Tensor | None
    weight: Tensor
    x: Tensor  # the input


class RaisedAndLowered(Weighted):
    """A convolution or a linear layer by the alpha-beta rule; z-plus, if beta is 0.

    With p = W+ x+ + W- x- + b+, the sum of what raises z, multipliers m of z become W+^T (m z / p) for inputs at or
    above 0 and W-^T (m z / p) for those below; with what lowers z, the other way round.
    """

    def __init__(self, step: Step, setting: Setting, rule: AlphaBetaRule) -> None:
        super().__init__(step, setting)
        self.rule = rule

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Parts]:
        x, *_ = inputs
        weight, bias = (self.chosen(t, inputs) for t in self.step.weights)
        z = self.apply(x, weight, bias)
        positive = None if self.step.inputs[0].positive and not self.step.inputs[0].pixels else x >= 0
        (up, down), (bias_up, bias_down) = (
            [self.chosen(t, inputs) for t in _signs(weights)] for weights in self.step.weights
        )
        parts = []
        for factor, w, v, b in ((self.rule.alpha, up, down, bias_up), (-self.rule.beta, down, up, bias_down)):
            if factor != 0:
                away = _away_from_zero(self._sum(x, positive, w, v, b), self.rule.epsilon)
                parts.append(Part(factor, w, v, away, z / away))
        return z, Parts(parts, positive, weight, x)

    def propagate(self, m: Tensor, kept: Parts, keep: bool) -> tuple[list[Tensor | None], Tensor | None]:
        shares = [self._back(_times(part.factor, m * part.ratio), part, kept.positive) for part in kept.parts]
        return [sum(shares[1:], shares[0])], m if keep else None

    def differentiate(self, tangents: list[Tensor], kept: Parts, propagated: Tensor) -> tuple[Tensor, Bends]:
        tangent = of_x = of_z = None
        for part in kept.parts:
            t = self._sum(tangents[0], kept.positive, part.of_positive, part.of_negative, None)
            t = _times(part.factor, t)
            by_z = (t * propagated).div_(part.away)
            by_x = self._back((by_z * part.ratio).neg_(), part, kept.positive)
            t.mul_(part.ratio)
            tangent = t if tangent is None else tangent.add_(t)
            of_x, of_z = (by_x, by_z) if of_x is None else (of_x + by_x, of_z + by_z)
        return tangent, Bends([of_x], of_value=of_z)

    def _sum(self, x: Tensor, positive: Tensor | None, w: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Return W x + b, or W x + V x + b with W for the inputs where the image's are `positive`, V for the others."""
        if positive is None:
            return self.apply(x, w, bias)
        return self.apply(x * positive, w, bias) + self.apply(x * ~positive, v, None)

    def _back(self, m: Tensor, part: Part, positive: Tensor | None) -> Tensor:
        """Return the transpose of that, applied to `m`."""
        above = self.transpose(m, part.of_positive)
        return above if positive is None else torch.where(positive, above, self.transpose(m, part.of_negative))


class Boxed(NamedTuple):
    """What the layer that sees the pixels needs for z-box."""

    weight: Tensor
    below: Tensor  # x - high
    value: Tensor
    away: Tensor  # sum_i z_i, away from zero
    width: Tensor  # low - high


class Bounds(NamedTuple):
    """The bounds of the pixels, black and white, and what the layer makes of them."""

    high: Tensor
    width: Tensor  # low - high
    terms: Tensor  # W high + W+ (low - high)


class Box(Weighted):
    """The layer that sees the pixels by the z-box rule: it hands down relevances.

    With z = W x - W+ low - W- high and s = m y / z, y being the value of the layer,
    R = x W^T s - low W+^T s - high W-^T s. As W- = W - W+, that is z = W (x - high) - W+ (low - high) and
    R = (x - high) W^T s - (low - high) W+^T s.
    """

    def __init__(self, step: Step, setting: Setting, epsilon: float) -> None:
        super().__init__(step, setting)
        self.epsilon = epsilon

    def forward(self, inputs: list[Tensor], at_reference: Any = None) -> tuple[Tensor, Boxed]:
        (x,) = inputs
        weight, bias = self.step.weights
        bounds = once("bounds", (self,), lambda: self._bounds(x))
        value = self.apply(x, weight, None)
        away = _away_from_zero(value - bounds.terms, self.epsilon)
        if bias is not None:
            value = value + bias.view(-1, *[1] * (value.ndim - 2))
        kept = value.clone()  # a copy: what follows may overwrite it
        return value, Boxed(weight, x - bounds.high, kept, away, bounds.width)

    def propagate(self, m: Tensor, kept: Boxed, keep: bool) -> tuple[list[Tensor | None], Any]:
        s = (m * kept.value).div_(kept.away)
        of_x = self.transpose(s, kept.weight)
        up, _ = _signs(kept.weight)
        return [kept.below * of_x - kept.width * self.transpose(s, up)], (m, of_x) if keep else None

    def differentiate(
        self, tangents: list[Tensor], kept: Boxed, propagated: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Bends]:
        (t,), (m, of_x) = tangents, propagated
        u = self._terms(kept.below * t, kept.width * t).div_(kept.away)
        by_value = u * m
        by_terms = (by_value * kept.value).div_(kept.away).neg_()
        return u.mul_(kept.value), Bends([t * of_x + self.transpose(by_terms, kept.weight)], of_value=by_value)

    def _terms(self, below: Tensor, width: Tensor) -> Tensor:
        weight, _ = self.step.weights
        up, _ = _signs(weight)
        return self.apply(below, weight, None).sub_(self.apply(width, up, None))

    def _bounds(self, like: Tensor) -> Bounds:
        black, white = (_replayed(self.step.inputs[0], value, like) for value in (0, 1))
        low, high = torch.minimum(black, white), torch.maximum(black, white)
        return Bounds(high, low - high, self._terms(high, high - low))


def _signs(x: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the positive and the negative part of weights."""
    return (None, None) if x is None else once("signs", (x,), lambda: (x.clamp(min=0), x.clamp(max=0)))


def _replayed(node: Node, value: float, like: Tensor) -> Tensor:
    """Return what the steps up to `node` make of an image of one `value`."""
    if node.step is None:
        return torch.full(node.shape, value, dtype=like.dtype, device=like.device)
    return node.step.call(*(_replayed(previous, value, like) for previous in node.step.inputs))

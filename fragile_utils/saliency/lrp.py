"""Layer-wise relevance propagation and deep Taylor decomposition: the methods and their rules."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.saliency.method import Method
from fragile_utils.saliency.propagation.kinds import Kind
from fragile_utils.saliency.propagation.operation import Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.rule import Rule
from fragile_utils.saliency.propagation.steps import Step, Untraceable
from fragile_utils.saliency.relevance.activations import Ratio, RatioOfReLU, is_relu_near_zero
from fragile_utils.saliency.relevance.pixels import Box, OnItsPixel, Relevances
from fragile_utils.saliency.relevance.shares import Absorbing, RaisedAndLowered


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
        if not math.isclose(self.alpha - checks.non_negative(self.beta, "beta"), 1):
            raise ValueError(f"expected alpha - beta = 1, got alpha={self.alpha}, beta={self.beta}")

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
            return (RatioOfReLU if is_relu_near_zero(step, setting) else Ratio)(step, setting)
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
            return RaisedAndLowered(step, setting, alpha=self.alpha, beta=self.beta, epsilon=self.epsilon)
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

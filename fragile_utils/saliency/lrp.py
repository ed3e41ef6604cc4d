"""Methods that hand the score down layer by layer: DeepLIFT, layer-wise relevance propagation, deep Taylor."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from torch import Tensor, nn

from fragile_utils import checks, propagation
from fragile_utils.baseline import Baseline
from fragile_utils.method import Method


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT with the rescale rule: contributions to the difference of the scores of image and reference.

    They sum to that difference exactly. A network of layers without a rule is refused; see `tracing`.

    Parameters
    ----------
    baseline : Baseline, or what one is made of
        The reference x0; the paper's by default, the mean that the model subtracts.

    References
    ----------
    Shrikumar, Greenside, Kundaje, *Learning Important Features Through Propagating Activation Differences*, ICML 2017,
    arXiv:1704.02685, section 3.5.1; see `propagation.Rescale`.
    """

    baseline: Baseline | str | float | Tensor = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "baseline", Baseline(self.baseline))

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        reference = self.baseline.image(model, images)
        rules = propagation.Rescale()
        multipliers, logits = propagation.propagate(model, images, targets, rules, reference, create_graph)
        return multipliers * ((images if create_graph else images.detach()) - reference), logits


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
            rules = propagation.EpsilonRule(self.epsilon)
        elif self.rule == "zplus":
            rules = propagation.AlphaBetaRule(self.epsilon, alpha=1.0, beta=0.0)
        else:
            rules = propagation.AlphaBetaRule(self.epsilon, self.alpha, self.beta)
        return propagation.propagate(model, images, targets, rules, create_graph=create_graph)


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
        rules = propagation.DeepTaylorRule(self.epsilon)
        return propagation.propagate(model, images, targets, rules, create_graph=create_graph)

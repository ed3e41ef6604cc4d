"""How an attack on a method is misled: a method whose attacks take their directions from another one."""

from dataclasses import dataclass

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.once import once
from fragile_utils.models.adapter import centred_logits
from fragile_utils.models.surrogate import SoftplusSurrogate
from fragile_utils.saliency.gradient import Gradient
from fragile_utils.saliency.method import Method


@dataclass(frozen=True)
class Guided(Method):
    """The maps of `method`; an attack on them takes its directions from `by`.

    Parameters
    ----------
    method, by : Method
    """

    method: Method
    by: Method

    def __post_init__(self) -> None:
        checks.instance(self.method, Method, "method", "Gradient()")
        checks.instance(self.by, Method, "by", "Gradient()")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        return self.method.explain(model, images, targets, create_graph)

    def guide(self) -> Method:
        """Return the guide of `by`."""
        return self.by.guide()


@dataclass(frozen=True)
class OfProbability(Method):
    """Explain the probability of the class in place of its score.

    Where the probability is near one it is flat, and its gradient says little of what moves the score. The code that
    the paper's authors published takes the directions of its attack on integrated gradients from the probability, and
    measures maps of the score: `guided_by_probability`.

    Parameters
    ----------
    method : Method
    """

    method: Method

    def __post_init__(self) -> None:
        checks.instance(self.method, Method, "method", "Gradient()")

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the attributions of the probability, and logits (N, classes) of mean 0 with these probabilities."""
        attributions, probabilities = self.method.explain(_probabilities_of(model), images, targets, create_graph)
        return attributions, centred_logits(probabilities)

    def guide(self) -> Method:
        """Return the same of the method's guide."""
        return OfProbability(self.method.guide())


def guided_by_probability(method: Method = Gradient()) -> Guided:  # noqa: B008 - a frozen value
    """Return the method with attacks guided by its map of the probability, as in the authors' published code."""
    return Guided(method, by=OfProbability(method))


class _Probabilities(nn.Module):
    """A network with softmax at its end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).softmax(dim=1)


def _probabilities_of(model: nn.Module) -> nn.Module:
    if not isinstance(model, SoftplusSurrogate):
        return once("probabilities", (model,), lambda: _Probabilities(model))
    return model.derived(
        "probabilities", lambda: SoftplusSurrogate(_Probabilities(model.model), model.beta, model.constant)
    )

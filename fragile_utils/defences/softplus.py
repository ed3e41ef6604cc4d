"""The softplus explanation: what is displayed is the explanation of a smoother network."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.models.surrogate import SoftplusSurrogate, softplus_surrogate
from fragile_utils.saliency import Gradient, Method
from fragile_utils.saliency.method import logits_of


@dataclass(frozen=True)
class SoftplusExplanation(Method):
    """The explanation of the network with log(1 + exp(beta x)) / beta in place of ReLU, for the prediction with ReLU.

    The smaller beta, the smaller the second derivatives, by which the change of an explanation is bounded. An attack
    that takes its directions from this method differentiates what is displayed: it is exact, whatever the `beta` of its
    own surrogate.

    Parameters
    ----------
    beta : float
        Sharpness, on the scale of the network's activations.
    method : Method
        What is displayed of the smoother network.

    Raises
    ------
    ValueError
        If a parameter is not as described.

    References
    ----------
    Dombrowski et al., *Explanations can be manipulated and geometry is to blame*, NeurIPS 2019, arXiv:1906.07983,
    section 4.
    """

    beta: float
    method: Method = Gradient()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", checks.positive(self.beta, "beta"))
        checks.instance(self.method, Method, "method", "Gradient()")

    def guide(self) -> "SoftplusExplanation":
        """Return the same of the method's guide."""
        return replace(self, method=self.method.guide())

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        attributions, _ = self.method.explain(_at_beta(model, self.beta), images, targets, create_graph)
        return attributions, logits_of(model, images, create_graph)


def _at_beta(model: nn.Module, beta: float) -> SoftplusSurrogate:
    """Return the network of `model`, itself perhaps a surrogate, with softplus of this sharpness."""
    if not isinstance(model, SoftplusSurrogate):
        return softplus_surrogate(model, beta)
    return model.derived(beta, lambda: SoftplusSurrogate(model.model, beta, model.constant))

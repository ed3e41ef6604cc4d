"""Captum's methods as methods of this package, to compare with."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.contents import by_content
from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.method import Method, logits_of


@dataclass(frozen=True, init=False, eq=False)
class Captum(Method):
    """Any attribution method of Captum, to compare with: ``Captum(captum.attr.DeepLift, baselines=Baseline())``.

    It explains; it cannot be attacked, since Captum's attributions have no gradient, or a wrong one.

    Parameters
    ----------
    attribution : callable
        From a model to a Captum attribution: a class such as ``captum.attr.Saliency``, or a function such as
        ``lambda model: NoiseTunnel(Saliency(model))``.
    **arguments
        Passed to its ``attribute``; a `Baseline` as the images that it stands for.

    References
    ----------
    Kokhlikyan et al., *Captum: A unified and generic model interpretability library for PyTorch*, 2020,
    arXiv:2009.07896.
    """

    attribution: Callable[[nn.Module], Any]
    arguments: dict[str, Any]

    def __init__(self, attribution: Callable[[nn.Module], Any], /, **arguments: Any) -> None:
        if not callable(attribution):
            raise ValueError(f"attribution: expected a function from a model to an attribution, got {attribution!r}")
        object.__setattr__(self, "attribution", attribution)
        object.__setattr__(self, "arguments", arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Captum) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.attribution, tuple(sorted(self.arguments))))

    def _key(self) -> tuple:
        return self.attribution, {name: by_content(value) for name, value in self.arguments.items()}

    def explain(
        self, model: nn.Module, images: Tensor, targets: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        if create_graph:
            raise ValueError("Captum's attributions cannot be differentiated correctly; take a method of this module")
        images = images.detach()
        arguments = {
            name: value.image(model, images).expand_as(images) if isinstance(value, Baseline) else value
            for name, value in self.arguments.items()
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks and attributes", UserWarning)
            attribution = self.attribution(model)
            result = attribution.attribute(images.clone().requires_grad_(), target=targets, **arguments)
        if not isinstance(result, Tensor) or result.shape != images.shape:
            expected = f"Captum: expected attributions of shape {tuple(images.shape)}"
            raise ValueError(f"{expected}, got {checks.described(result)}")
        return result.detach(), logits_of(model, images, False)

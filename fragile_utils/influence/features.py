"""What comes out of one layer of a frozen network: the features of which a `head.Head` makes classes.

A network is cut there by `torch.fx`, so that what follows is not computed.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn

from fragile_utils._base import checks, precision
from fragile_utils.models.door import check_network
from fragile_utils.models.planes import check_plane, plane_is_last


class Features(nn.Module):
    """The output of one layer of a network, averaged over the image plane: images (N, 3, H, W) to features (N, D).

    What follows that layer is not computed. Differentiable with respect to the images.

    Parameters
    ----------
    model : Module
        In evaluation mode; images in [0, 1] to anything. It is copied, and left as it is.
    layer : str
        The name of the layer, ``network.features`` for `models.squeezenet` (512 features: the last fire module). What
        it returns are features (N, D), or maps (N, D, h, w), the channels before the image plane: those of PyTorch's
        own layers for images (`nn.Conv2d`), or a plane that grows with the image, as it is seen to at the first call.

    Raises
    ------
    ValueError
        If there is no such layer, the network calls it more than once or not at all, or it cannot be traced. When
        called: if the output is neither of the two.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        checks.evaluation_mode(model)
        if layer not in dict(model.named_modules()) or not layer:
            raise ValueError(f"layer: expected the name of a module of the network, got {layer!r}")
        try:
            model = copy.deepcopy(model)  # what follows freezes it
            self.network = _cut(model, model.get_submodule(layer))
        except Exception as error:  # torch.fx raises what the network's own code raises
            raise ValueError(f"layer: the network cannot be cut at {layer!r}: {error}") from error
        self.layer = layer
        self.channels_first = plane_is_last(model.get_submodule(layer))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        out = self.network(images)
        if not isinstance(out, Tensor) or out.ndim not in (2, 4):
            raise ValueError(
                f"layer: expected an output (N, D) or (N, D, h, w) of {self.layer}, got {checks.described(out)}"
            )
        if out.ndim == 2:
            return out
        if not self.channels_first:
            expected = f"layer: expected an output (N, D, h, w) of {self.layer}"
            check_plane(lambda larger: self.network(larger).shape, images, out.shape, expected)
            self.channels_first = True
        return out.mean(dim=(2, 3))

    @precision.float32()
    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Return the features (N, D) of images (N, 3, H, W), computed in batches.

        Raises
        ------
        ValueError
            If an argument is not as described, or `models.check_network` refuses the network: it mixes the images of a
            batch, for instance.
        """
        checks.images(images)
        check_network(Signed(self), images)
        return torch.cat([self(part) for part in images.split(checks.count(batch_size, "batch_size"))])


class Signed(nn.Module):
    """Features (N, D) beside their negatives (N, 2 D): to `check_network` they are logits, and never probabilities."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.training = features.training

    def forward(self, images: Tensor) -> Tensor:
        seen = self.features(images)
        return torch.cat([seen, -seen], dim=1)


class _Tracer(fx.Tracer):
    """A tracer that keeps what one of the modules returns, at each of its calls."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(autowrap_modules=(math, torchvision.ops))
        self.module = module
        self.outputs: list[Any] = []

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        out = super().call_module(m, forward, args, kwargs)
        if m is self.module:
            self.outputs.append(out)
        return out


def _cut(model: nn.Module, layer: nn.Module) -> fx.GraphModule:
    """Return the network up to a layer of it."""
    tracer = _Tracer(layer)
    graph = tracer.trace(model)
    if len(tracer.outputs) != 1:
        raise ValueError(f"expected a layer that is called once, got {len(tracer.outputs)} calls; name another")
    last = tracer.outputs[0].node
    for node in reversed(graph.nodes):  # also what would change the output in place
        if node is last:
            break
        graph.erase_node(node)
    graph.output(last)
    return fx.GraphModule(model, graph)

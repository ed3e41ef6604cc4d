"""What a training makes small: the cross-entropy, or what a defence puts in its place."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LossValue(NamedTuple):
    """A loss, the logits (N, classes) of the images that were learnt from, and the penalty in it, if there is one."""

    loss: Tensor
    logits: Tensor
    penalty: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Learner:
    """The network that is trained, as a loss sees it: it takes images in [0, 1].

    Attributes
    ----------
    network : Module
    normalize : callable
        From images in [0, 1] to what the network takes.
    label_smoothing : float
    precision : callable
        The context in which the network runs.
    """

    network: nn.Module
    normalize: Callable[[Tensor], Tensor]
    label_smoothing: float = 0.0
    precision: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, 3, H, W) in [0, 1]."""
        with self.precision():
            logits = self.network(self.normalize(images).contiguous(memory_format=torch.channels_last))
        return logits.float() if logits.dtype != torch.float64 else logits

    def cross_entropy(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Return the cross-entropy, with the labels smoothed."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction=reduction)

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """For the time being, batch normalisation by its running statistics, as in the network that is stored."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)

    @contextlib.contextmanager
    def unnoticed(self) -> Iterator[None]:
        """For the time being, images do not count as seen: batch normalisation leaves its running statistics alone.

        It normalises by the statistics of the images at hand, and has derivatives of all orders (PyTorch's has two).
        """
        norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.forward = partial(_by_batch, norm)
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward  # that of the class stands again


def _by_batch(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return what batch normalisation gives in training, for x (N, C, H, W)."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    x = (x - mean) / (var + norm.eps).sqrt()
    return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


class Loss:
    """What a training makes small. A subclass, a frozen dataclass, says so in a call."""

    def __call__(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> LossValue:
        """Return the loss of a batch: images (N, 3, H, W) in [0, 1]; `generator`, of the CPU, draws what is random."""
        raise TypeError(f"{type(self).__name__} does not say what it makes small: expected it to define __call__()")


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """The cross-entropy of the images themselves."""

    def __call__(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> LossValue:
        logits = learner.logits(images)
        return LossValue(learner.cross_entropy(logits, labels), logits)

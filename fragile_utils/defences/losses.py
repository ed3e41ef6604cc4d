"""What a network is trained by, so that its explanations hold: penalties on derivatives, and adversarial images.

Derivatives are taken with respect to images in [0, 1]. Batch normalisation goes by the statistics of the batch at hand,
and is differentiated through them, as in the cross-entropy. By its running statistics, which lag behind the weights, a
penalty can be made small without a smoother network: smaller weights, which the cross-entropy does not notice, suffice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.curvature.hessian import check_smooth
from fragile_utils.models.losses import Learner, Loss, LossValue
from fragile_utils.saliency.method import leaf


@dataclass(frozen=True)
class Penalised(Loss):
    """The cross-entropy, plus `weight` times a penalty. A subclass says in `penalty` what it is.

    Parameters
    ----------
    weight : float
        lambda.
    share : float
        On which share of the images of each batch the penalty is computed, as its mean; it takes most of the time.
    """

    weight: float
    share: float = 1.0

    def __post_init__(self) -> None:
        checks.positive(self.weight, "weight")
        if checks.positive(self.share, "share") > 1:
            raise ValueError(f"share: expected at most 1, got {self.share!r}")

    def __call__(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> LossValue:
        some = slice(max(1, round(self.share * len(images))))
        with learner.unnoticed():  # they are seen below
            penalty = self.penalty(learner, images[some], labels[some], generator)
        logits = learner.logits(images)
        return LossValue(learner.cross_entropy(logits, labels) + self.weight * penalty, logits, penalty)

    def penalty(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean penalty of some images, as a scalar. Differentiable with respect to the parameters."""
        raise TypeError(f"{type(self).__name__} does not say what it penalises: expected it to define penalty()")


@dataclass(frozen=True)
class GradientPenalty(Penalised):
    """The input-gradient penalty |grad_x l(x, y)|^2, with l the cross-entropy.

    References
    ----------
    Ross, Doshi-Velez, *Improving the Adversarial Robustness and Interpretability of Deep Neural Networks by
    Regularizing their Input Gradients*, AAAI 2018, arXiv:1711.09404, equation 3; the penalty is that of Drucker, LeCun,
    1992.
    """

    def penalty(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return _loss_gradient(learner, images, labels).square().flatten(1).sum(dim=1).mean()


_smooth: WeakSet[nn.Module] = WeakSet()  # the networks that have been looked at: once, and not at each step


@dataclass(frozen=True)
class CurvaturePenalty(Penalised):
    """The curvature |H v|^2 of the score of the image's class, v ~ N(0, I), of which the mean is |H|_F^2.

    H is the Hessian with respect to the image, which a ReLU network does not have: it takes one with softplus, and a
    network of ReLUs is refused.

    References
    ----------
    Dombrowski et al., *Towards Robust Explanations for Deep Neural Networks*, Pattern Recognition 121, 2022,
    arXiv:2012.10425, section 4.
    """

    def penalty(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if learner.network not in _smooth:
            with learner.settled():
                check_smooth(learner.network, learner.normalize(images), "train one with activation='softplus'")
            _smooth.add(learner.network)
        x = images.detach().requires_grad_()
        gradient = _score_gradient(learner, x, labels)
        v = torch.randn(images.shape, generator=generator).to(images)
        (product,) = torch.autograd.grad((gradient * v).sum(), x, create_graph=True)
        return product.square().flatten(1).sum(dim=1).mean()


@dataclass(frozen=True)
class AlignmentPenalty(Penalised):
    """The angle between the gradient of the score at an image and at one beside it: 1 - cos(g(x), g(x + eps s)).

    s are random signs. What it asks for is what an explanation needs: not that the gradient is small, but that it has
    one direction. A ReLU network has no second derivative and still learns from it, through its parameters.

    Parameters
    ----------
    eps : float
        In units of images in [0, 1].

    References
    ----------
    After Joo et al., *Towards More Robust Interpretation via Local Gradient Alignment*, AAAI 2023, arXiv:2211.15900,
    whose neighbours are others.
    """

    eps: float = 8 / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.budget(self.eps)

    def penalty(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        signs = (2 * torch.randint(0, 2, images.shape, generator=generator) - 1).to(images)
        both = torch.cat([images, (images + self.eps * signs).clamp(0, 1)]).detach().requires_grad_()
        here, beside = _score_gradient(learner, both, labels.repeat(2)).flatten(1).chunk(2)
        return 1 - torch.cosine_similarity(here, beside, dim=1, eps=1e-12).mean()


@dataclass(frozen=True)
class IGNorm(Penalised):
    """The largest |IG(x, x')|_1 within eps: integrated gradients of the cross-entropy, from x to x'.

    Parameters
    ----------
    eps : float
        Of the ball in the maximum norm, in units of images in [0, 1].
    points : int
        On the path, at the middle of as many parts.
    steps : int
        Of the search for x', which sets out from random signs of eps and moves by ``2 eps / steps`` at a time.

    References
    ----------
    Chen et al., *Robust Attribution Regularization*, NeurIPS 2019, arXiv:1905.09957, "IG-NORM".
    """

    eps: float = 4 / 255
    points: int = 3
    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.budget(self.eps)
        checks.count(self.points, "points")
        checks.count(self.steps, "steps")

    def penalty(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        signs = (2 * torch.randint(0, 2, images.shape, generator=generator) - 1).to(images)
        other = (images + self.eps * signs).clamp(0, 1)

        def size(x: Tensor) -> Tensor:
            return self.norms(learner, images, x, labels).sum()

        other = _climbed(size, other, images, self.eps, self.steps, 2 * self.eps / self.steps)
        return self.norms(learner, images, other, labels).mean()

    def norms(self, learner: Learner, images: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        """Return |IG(x, x')|_1 (N,), differentiable with respect to x' and the parameters."""
        places = (torch.arange(self.points).to(images) + 0.5) / self.points
        path = torch.cat([torch.lerp(images, other, place) for place in places])
        gradients = _loss_gradient(learner, path, labels.repeat(self.points), keep=True)
        mean = gradients.unflatten(0, (self.points, len(images))).mean(dim=0)
        return ((other - images) * mean).abs().flatten(1).sum(dim=1)


@dataclass(frozen=True)
class AdversarialTraining(Loss):
    """The cross-entropy at the worst image that `steps` of projected gradient ascent find within eps.

    It sets out from a random point of the ball and moves by ``2.5 eps / steps`` at a time.

    Parameters
    ----------
    eps : float
        Of the ball in the maximum norm, in units of images in [0, 1].
    steps : int

    References
    ----------
    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018, arXiv:1706.06083.
    """

    eps: float = 4 / 255
    steps: int = 3

    def __post_init__(self) -> None:
        checks.budget(self.eps)
        checks.count(self.steps, "steps")

    def __call__(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> LossValue:
        with learner.settled():
            worst = self.worst(learner, images, labels, generator)
        logits = learner.logits(worst)
        return LossValue(learner.cross_entropy(logits, labels), logits)

    def worst(self, learner: Learner, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the image that was found for each, within eps and [0, 1]."""
        start = 2 * torch.rand(images.shape, generator=generator).to(images) - 1
        x = (images + self.eps * start).clamp(0, 1)

        def loss(x: Tensor) -> Tensor:
            return learner.cross_entropy(learner.logits(x), labels, reduction="sum")

        return _climbed(loss, x, images, self.eps, self.steps, 2.5 * self.eps / self.steps)


def _climbed(
    value: Callable[[Tensor], Tensor], x: Tensor, images: Tensor, eps: float, steps: int, step_size: float
) -> Tensor:
    """Return what `x` becomes in steps along the signs of the slope of a value, within eps of `images` and [0, 1]."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (direction,) = torch.autograd.grad(value(x), x)
        moved = x.detach() + step_size * direction.sign()
        # Not `attacks.project`: its rounding, by which nothing leaves the budget, would train other weights.
        x = moved.clamp(images - eps, images + eps).clamp(0, 1)
    return x.detach()


def _score_gradient(learner: Learner, x: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the logit of each image's class with respect to the leaf `x`, with a graph."""
    scores = learner.logits(x).gather(1, labels[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient


def _loss_gradient(learner: Learner, images: Tensor, labels: Tensor, keep: bool = False) -> Tensor:
    """Return the gradient of each image's cross-entropy, with a graph; `keep` that of `images` too."""
    x = leaf(images, keep)
    loss = learner.cross_entropy(learner.logits(x), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    return gradient

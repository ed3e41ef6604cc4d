"""A trained last layer on the features of a frozen network: how a large network is put to a small task.

`fit` trains a `Head` on features (see ``features``): multinomial logistic regression on standardised features. Its
training loss is convex, so that the result is determined by the training examples alone, not by a seed or by when
training stopped. That is what influence functions need.
"""

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils.influence.solvers import ConjugateGradients, Exact, TrainingHessian


class Head(nn.Module):
    """A trained last layer: standardise the features, then multinomial logistic regression. Made by `fit`.

    Softmax does not change when all logits grow by the same amount, so K classes need K - 1 weight vectors. They are
    the coordinates `theta` (K - 1, D + 1), bias last, in an orthonormal basis of the logits that sum to zero. For
    l2 > 0 this is the usual symmetric parametrisation, whose optimum lies in that subspace, and nothing is singular.

    Features (N, D) of any floating-point type to logits (N, K) in float64.
    """

    def __init__(self, mean: Tensor, scale: Tensor, theta: Tensor, l2: float) -> None:
        super().__init__()
        for name, value in {"mean": mean, "scale": scale, "theta": theta}.items():
            self.register_buffer(name, value)
        self.register_buffer("basis", _sum_to_zero(len(theta) + 1, theta.device))
        self.l2 = l2
        self.eval()

    @property
    def classes(self) -> int:
        return len(self.basis)

    def inputs(self, features: Tensor) -> Tensor:
        """Return what the weights act on (N, D + 1): the standardised features, and a one for the bias."""
        standard = (features.double() - self.mean) / self.scale
        return torch.cat([standard, standard.new_ones(len(standard), 1)], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.inputs(features) @ self.theta.T @ self.basis.T

    def linear(self) -> nn.Linear:
        """Return the K usual weight vectors and biases as a layer on standardised features, for other libraries."""
        layer = nn.Linear(len(self.mean), self.classes, dtype=torch.float64, device=self.theta.device)
        weights = self.basis @ self.theta
        layer.weight.data, layer.bias.data = weights[:, :-1].clone(), weights[:, -1].clone()
        return layer.eval()

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy (N,) of each example, without the l2 term."""
        check_examples(features, labels, self)
        return nn.functional.cross_entropy(self(features), labels, reduction="none")

    def gradients(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of each example's loss with respect to `theta` as two factors.

        The gradient of example i is the outer product of ``residuals[i]`` (K - 1,) and ``inputs[i]`` (D + 1,).
        Differentiable with respect to the features.
        """
        inputs = self.inputs(features)
        label = nn.functional.one_hot(labels, self.classes)
        others = (inputs @ self.theta.T @ self.basis.T).softmax(1) * (1 - label)
        residuals = others - label * others.sum(1, keepdim=True)  # softmax minus label, exact also where it is tiny
        return residuals @ self.basis, inputs

    def refit(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> "Head":
        """Return this head trained again, standardising as before, with other weights (n,) of the examples.

        The objective stays (1 / n) sum_i weights_i L(z_i) + (l2 / 2) |theta|^2 with the same n, so that a weight of
        zero leaves an example out and changes nothing else: the experiment that influence predicts.
        """
        check_examples(features, labels, self)
        weights = torch.ones(len(features)) if weights is None else weights
        expected = f"weights: expected {len(labels)} finite numbers, none negative, as a tensor"
        if not isinstance(weights, Tensor) or weights.shape != labels.shape:
            raise ValueError(f"{expected}, got {checks.described(weights)}")
        if not torch.isfinite(weights).all() or weights.min() < 0:
            raise ValueError(f"{expected}, got values from {weights.min():g} to {weights.max():g}")
        theta = _minimise(self.inputs(features), labels, weights.to(self.mean), self.basis, self.l2)
        return Head(self.mean, self.scale, theta, self.l2)


def fit(features: Tensor, labels: Tensor, *, l2: float = 0.01) -> Head:
    """Train a head to convergence (Newton's method, in float64).

    Minimises the mean cross-entropy plus (l2 / 2) |theta|^2, the bias included, on features standardised to mean 0 and
    standard deviation 1; a feature that does not vary becomes 0.

    Parameters
    ----------
    features : Tensor (n, D)
        Of the training examples.
    labels : Tensor (n,)
        Their classes, 0 to K - 1, each with at least one example.
    l2 : float
        At least 0.

    Raises
    ------
    ValueError
        If the features are not finite, or so large or small that their variance is not held by float64; fewer than two
        classes or not all classes have examples; or there is no optimum: separable classes need l2 > 0.
    """
    check_features(features)
    checks.labels(labels, len(features), device=features.device)
    present = labels.unique().tolist()
    if len(present) < 2:
        raise ValueError(f"labels: expected examples of at least two classes, got only class {present[0]}")
    if present != list(range(len(present))):
        raise ValueError(f"labels: expected examples of each class from 0 to {present[-1]}, got those of {present}")
    checks.non_negative(l2, "l2")
    exact = features.double()
    mean, deviation = exact.mean(0), exact.std(0, correction=0)
    if not torch.isfinite(deviation).all() or ((deviation == 0) & (exact != exact[0]).any(0)).any():
        raise ValueError(
            f"features: expected values whose variance float64 holds, got some up to {exact.abs().max():.3g}; "
            "multiply them by a number"
        )
    scale = torch.where(deviation > 1e-7 * mean.abs(), deviation, 1.0)
    theta = torch.zeros(len(present) - 1, features.shape[1] + 1, dtype=torch.float64, device=features.device)
    return Head(mean, scale, theta, float(l2)).refit(features, labels)


def _minimise(inputs: Tensor, labels: Tensor, weights: Tensor, basis: Tensor, l2: float) -> Tensor:
    """Return the optimal theta (K - 1, D + 1), by Newton's method with a line search."""
    theta = inputs.new_zeros(basis.shape[1], inputs.shape[1])
    target = nn.functional.one_hot(labels, len(basis)).to(inputs)
    damping = 0.0 if l2 > 0 else 1e-7  # so that a step exists where the loss is flat; the optimum stays the same
    solver = Exact() if theta.numel() <= 3000 else ConjugateGradients(tolerance=1e-6)

    def objective(theta: Tensor) -> tuple[float, Tensor]:
        log = (inputs @ theta.T @ basis.T).log_softmax(1)
        return (-(weights * (target * log).sum(1)).mean() + l2 / 2 * theta.square().sum()).item(), log.exp()

    value, probabilities = objective(theta)
    for _ in range(100):
        gradient = basis.T @ (weights[:, None] * (probabilities - target)).T @ inputs / len(inputs) + l2 * theta
        if gradient.abs().max() < 1e-11:
            return theta
        if l2 == 0 and ((probabilities.argmax(1) == labels) | (weights == 0)).all():
            raise ValueError("l2: the classes are separable, so that without l2 the weights grow for ever; give l2 > 0")
        hessian = TrainingHessian(inputs, probabilities, basis, l2 + damping, weights)
        step = solver.solver(hessian)(gradient[None])[0]
        slope, length = (step * gradient).sum().item(), 1.0
        while length > 1e-6 and not (found := objective(theta - length * step))[0] <= value - 1e-4 * length * slope:
            length /= 2
        if length <= 1e-6:  # the objective is flat up to rounding
            break
        theta, (value, probabilities) = theta - length * step, found
    if not gradient.abs().max() < 1e-8:
        raise ValueError(f"the head did not converge (largest gradient {gradient.abs().max():.1g}); give a larger l2")
    return theta


def _sum_to_zero(classes: int, device: torch.device) -> Tensor:
    """Return an orthonormal basis (K, K - 1) of the vectors that sum to zero (Helmert's)."""
    steps = torch.arange(1, classes, dtype=torch.float64, device=device)
    above = torch.ones(classes, classes - 1, dtype=torch.float64, device=device).triu()
    below = torch.zeros_like(above)
    below[1:].diagonal().copy_(-steps)
    return (above + below) / (steps * (steps + 1)).sqrt()


# --- What a well-formed input is -------------------------------------------------------------------------------------


def check_features(features: Tensor) -> None:
    expected = "features: expected a finite floating-point tensor (N, D)"
    if not isinstance(features, Tensor):
        raise ValueError(f"{expected}, got {type(features).__name__}")
    if features.ndim != 2 or features.numel() == 0 or not features.is_floating_point():
        raise ValueError(f"{expected}, got {features.dtype} of shape {tuple(features.shape)}")
    if features.device.type == "mps":
        raise ValueError("features: expected them on a device with float64; move them to the cpu")
    if not torch.isfinite(features).all():
        raise ValueError(f"{expected}, got values that are not finite (NaN or infinity)")


def check_examples(features: Tensor, labels: Tensor, head: Head) -> None:
    check_features(features)
    if features.shape[1] != len(head.mean):
        raise ValueError(
            f"features: expected {len(head.mean)} columns, as the head was trained on, got {features.shape[1]}"
        )
    checks.labels(labels, len(features), head.classes, device=features.device)

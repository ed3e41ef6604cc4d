"""The gradient, and the gradient times the image: against Captum."""

import captum.attr
import pytest
import torch
from captum._utils.gradient import compute_gradients
from references import batch, cifar, gradient_of, relative_error
from torch import nn

from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import Gradient, InputXGradient, IntegratedGradients


@pytest.mark.parametrize(
    ("method", "attribution", "options"),
    [(Gradient(), captum.attr.Saliency, {"abs": False}), (InputXGradient(), captum.attr.InputXGradient, {})],
    ids=["gradient", "input-x-gradient"],
)
def test_gradients_equal_captums(case, method, attribution, options):
    model, images, targets = case
    expected = attribution(model).attribute(images.clone().requires_grad_(), target=targets, **options)
    assert relative_error(method.attribute(model, images, targets), expected.detach()) < 1e-10


def with_graph(forward_fn, inputs, target_ind=None, additional_forward_args=None):
    """What Captum calls `gradient_func`, keeping the graph."""
    with torch.enable_grad():
        scores = forward_fn(*inputs).gather(1, target_ind[:, None])
        return torch.autograd.grad(scores.sum(), inputs, create_graph=True)


@pytest.mark.parametrize(
    ("method", "attribution", "options"),
    [
        (Gradient(), captum.attr.Saliency, {"abs": False}),
        (InputXGradient(), captum.attr.InputXGradient, {}),
        (
            IntegratedGradients(steps=6, baseline=0.5, chunk=4),
            captum.attr.IntegratedGradients,
            {"baselines": 0.5, "n_steps": 6, "method": "riemann_right"},
        ),
    ],
    ids=["gradient", "input-x-gradient", "integrated-gradients"],
)
def test_the_gradient_equals_captums_with_a_graph_and_not_without(method, attribution, options):
    model, (images, targets) = softplus_surrogate(cifar()), batch()
    got = gradient_of(lambda x: method.explain(model, x, targets, create_graph=True)[0], images)
    other = attribution(model)
    other.gradient_func = with_graph
    want = gradient_of(lambda x: other.attribute(x, target=targets, **options), images)
    assert relative_error(got, want) < 1e-6  # Captum rounds the places on the path to float32
    if attribution is not captum.attr.Saliency:  # whose attributions have no graph at all
        other.gradient_func = compute_gradients
        wrong = gradient_of(lambda x: other.attribute(x, target=targets, **options), images)
        assert relative_error(wrong, want) > 0.1  # as Captum comes: a gradient, and the wrong one


class Ending(nn.Module):
    """A linear layer, with what becomes of the image before it and of the scores after it."""

    def __init__(self, before, after):
        super().__init__()
        self.before, self.after, self.last = before, after, nn.Linear(768, 5)

    def forward(self, images):
        return self.after(self.last(self.before(images).flatten(1)))


CUT_OFF = {
    "input": (lambda x: x.detach(), lambda z: z),
    "scores": (lambda x: x, lambda z: z.detach()),
    "constant": (lambda x: torch.ones_like(x), lambda z: z),
}


@pytest.mark.parametrize("ways", CUT_OFF.values(), ids=CUT_OFF)
@pytest.mark.parametrize("method", [Gradient(), InputXGradient()], ids=["gradient", "input-x-gradient"])
def test_scores_that_do_not_depend_on_the_image_are_refused_by_name(method, ways):
    model, (images, targets) = Ending(*ways).double().eval(), batch()
    for create_graph in (False, True):
        with pytest.raises(ValueError, match="model: expected scores that depend on the image, got constants"):
            method(model, images, targets, create_graph)


def test_inference_mode_is_refused_by_name():
    identity = Ending(lambda x: x.sin(), lambda z: z).double().eval()
    images, targets = batch()
    with torch.inference_mode(), pytest.raises(ValueError, match=r"got a call in torch\.inference_mode\(\)"):
        Gradient()(identity, images, targets)

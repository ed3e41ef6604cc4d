"""One class in place of all logits, memory that is used again, and walks where autograd would do: all as if not."""

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from propagated import RULES
from torch import nn

from fragile_utils import attacks, saliency
from fragile_utils._base import once
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency.propagation import passes, programs
from fragile_utils.saliency.propagation.propagate import propagate
from fragile_utils.saliency.propagation.walks import Walks


class Squeezed(nn.Module):
    """Branches side by side below a max pool, one of them read twice; a last convolution of one pixel, then ReLU."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = F.relu(self.first((x.flip(1) - 0.4) / 0.3), inplace=True)
        x = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        x = F.max_pool2d(x, 3, 2)
        x = F.relu(self.norm(x) + x)
        return torch.flatten(F.adaptive_avg_pool2d(F.relu(self.last(x)), 1), 1)


class Twice(nn.Module):
    """One convolution whose output two activations read: none may compute in its memory."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last(F.relu(x) + 2 * F.relu(x) + F.relu(F.max_pool2d(x, 3, 1, 1))).mean((2, 3))


NETWORKS = {"squeezed": Squeezed, "tiny": Tiny, "twice": Twice}


@pytest.fixture(params=NETWORKS)
def case(request):
    """A network, images, targets and vectors, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = NETWORKS[request.param]().double().eval().requires_grad_(False)
        images, vectors = torch.rand(2, 3, 3, 16, 16, dtype=torch.float64)
    return model, images.contiguous(memory_format=torch.channels_last), torch.tensor([0, 2, 0]), vectors - 0.5


def test_the_score_of_one_class_is_its_logit_in_value_gradient_and_product(case):
    model, images, targets, vectors = case
    surrogate = softplus_surrogate(model, 3.0)
    program = programs.program_of(surrogate, images)
    assert program.score is not None
    ends = F.one_hot(targets, program.shape[1]).double()
    whole = Walks(program, images, ends)
    one = Walks(program.score, images, torch.ones(3, 1, dtype=torch.float64), targets)
    torch.testing.assert_close(one.value, whole.value.gather(1, targets[:, None]))
    torch.testing.assert_close(one.multipliers, whole.multipliers)
    torch.testing.assert_close(one.product(vectors), whole.product(vectors))
    torch.testing.assert_close(whole.value, surrogate(images))


@pytest.mark.parametrize("name", RULES)
def test_a_class_alone_is_explained_as_among_all(case, name, monkeypatch):
    model, images, targets, vectors = case
    reference = torch.full_like(images[:1], 0.4)

    def found():
        x = images.clone().requires_grad_()
        result, logits = propagate(softplus_surrogate(model, 3.0), x, targets, RULES[name], reference, True)
        (gradient,) = torch.autograd.grad((result * vectors).sum() + logits.square().sum(), x)
        return result.detach(), logits.detach(), gradient

    alone = found()
    monkeypatch.setattr("fragile_utils.saliency.propagation.program._head", lambda steps: None)
    for got, wanted in zip(alone, found(), strict=True):
        assert (got - wanted).norm() <= 1e-6 * wanted.norm() + 1e-12


def test_layers_that_mix_classes_at_the_end_keep_all_logits():
    images = torch.rand(2, 3, 8, 8)
    for end in (nn.Softmax(1), nn.LayerNorm(4), nn.Flatten(0, 0)):
        model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 4), end).eval()
        program = programs.program_of(softplus_surrogate(model.requires_grad_(False), 3.0), images)
        assert (program.score is None) == (not isinstance(end, nn.Flatten))


@pytest.mark.parametrize("name", RULES)
def test_nothing_that_is_read_again_is_overwritten(case, name):
    """Images, vectors and weights stay as they are; a second product, and a second pass, are as the first."""
    model, images, targets, vectors = case
    surrogate, reference = softplus_surrogate(model, 3.0), torch.full_like(images[:1], 0.4)
    given = [images, vectors, targets, reference, *model.state_dict().values()]
    copies = [t.clone() for t in given]
    with once.run():
        made = [passes.Pass(surrogate, images, targets, RULES[name], reference) for _ in range(2)]
        multipliers, logits = made[0].multipliers.clone(), made[0].logits.clone()
        first = made[0].product(vectors).clone()
        made[0].product(2 * vectors)
        for one in made:
            torch.testing.assert_close(one.product(vectors), first, rtol=0, atol=0)
            torch.testing.assert_close(one.transposed(logits), made[0].transposed(logits), rtol=0, atol=0)
            torch.testing.assert_close(one.multipliers, multipliers, rtol=0, atol=0)
            torch.testing.assert_close(one.logits, logits, rtol=0, atol=0)
    assert all(torch.equal(t, copy) for t, copy in zip(given, copies, strict=True))


def test_a_map_in_a_run_is_that_of_autograd(case):
    model, images, targets, _ = case
    by_autograd = saliency.Gradient().explain(model, images, targets)
    with once.run():
        assert passes.walks_are_quicker(model, images)
        by_walks = saliency.Gradient().explain(model, images, targets)
    for got, wanted in zip(by_walks, by_autograd, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_network_that_is_watched_is_left_to_autograd(case):
    model, images, targets, _ = case
    seen = []
    handle = model.first.register_forward_hook(lambda *given: seen.append(1))
    with once.run():
        assert not passes.walks_are_quicker(model, images)
        saliency.Gradient().explain(model, images, targets)
    assert seen
    handle.remove()


@pytest.mark.parametrize("method", [saliency.Gradient(), saliency.DeepLift(0.4), saliency.IntegratedGradients(3, 0.4)])
def test_attributions_alone_are_those_of_explain(case, method):
    model, images, targets, vectors = case
    surrogate = softplus_surrogate(model, 3.0)
    gradients = []
    for explain in (method.attributions, lambda *given: method.explain(*given)[0]):
        x = images.clone().requires_grad_()
        gradients += torch.autograd.grad((explain(surrogate, x, targets, True) * vectors).sum(), x)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("case", ["twice"], indirect=True)
def test_weights_that_change_between_runs_are_seen(case):
    model, images, _, _ = case
    attack = {"attack": attacks.TopK(20), "method": saliency.Gradient(), "eps": 4 / 255, "steps": 2}
    first = attacks.run(model=model, images=images, labels=model(images).argmax(1), **attack)
    with torch.no_grad():
        model.first.weight.mul_(-1)
    second = attacks.run(model=model, images=images, labels=model(images).argmax(1), **attack)
    torch.testing.assert_close(second.maps_before, saliency.Gradient()(model, images, second.labels))
    assert not torch.allclose(first.maps_before, second.maps_before)

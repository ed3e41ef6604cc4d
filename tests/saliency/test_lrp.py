"""Layer-wise relevance propagation and deep Taylor decomposition: against Captum, zennit, and the rules written out."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from propagated import RULES, run
from references import CLASSES, apart, batch, cifar, relative_error
from torch import nn

from fragile_utils import models
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import LRP, DeepTaylor
from fragile_utils.saliency.lrp import DeepTaylorRule, EpsilonRule
from fragile_utils.saliency.propagation.propagate import propagate


def test_lrp_epsilon_equals_captums(case):
    model, images, targets = case
    other = apart(model)
    expected = captum.attr.LRP(other.network).attribute(other.normalize(images).requires_grad_(), target=targets)
    expected = expected.detach().flip(1)  # both networks take blue, green, red
    assert relative_error(LRP("epsilon", epsilon=1e-9).attribute(model, images, targets), expected) < 1e-6


# --- The axioms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [LRP(), LRP("zplus"), DeepTaylor()], ids=repr)
def test_relevance_is_conserved_where_there_are_no_biases(method):
    model, (images, targets) = cifar(bias=False), batch(4)
    attributions, logits = method.explain(model, images, targets)
    torch.testing.assert_close(
        attributions.sum((1, 2, 3)), logits.gather(1, targets[:, None]).squeeze(1), rtol=1e-5, atol=1e-7
    )


def test_deep_taylor_relevances_of_a_positive_score_are_not_negative():
    model, (images, _) = cifar(bias=False), batch(8)
    logits = model(images)
    attributions = DeepTaylor().attribute(model, images, logits.argmax(1))
    assert (logits.amax(1) > 0).all()
    assert attributions.min() >= -1e-12


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRP("gamma"), "rule: expected 'epsilon', 'zplus' or 'alphabeta', got 'gamma'"),
        (lambda: LRP(epsilon=0), "epsilon: expected a number above 0, got 0"),
        (lambda: LRP("alphabeta", alpha=2, beta=2), "alpha - beta = 1"),
        (lambda: LRP("alphabeta", alpha=0.5, beta=-0.5), "beta: expected a number, 0 or above, got -0.5"),
        (lambda: LRP("alphabeta", beta="1"), "beta: expected a number, 0 or above, got '1'"),
        (lambda: LRP("alphabeta", beta=10**400), "beta: expected a number, 0 or above, got one of more than 30 digits"),
        (lambda: DeepTaylor(epsilon=-1), "epsilon: expected a number above 0"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- Against zennit, and weight by weight ----------------------------------------------------------------------------


def zennit_maps(model, images, targets, rule, epsilon=1e-6):
    """Return zennit's relevances of the normalised image, channels in the order of the image."""
    pytest.importorskip("zennit")
    from zennit import attribution, composites, rules, types

    inner = {
        "lrp-epsilon": rules.Epsilon(epsilon),
        "lrp-zplus": rules.ZPlus(epsilon),
        "lrp-alphabeta": rules.AlphaBeta(2, 1, epsilon),
        "deep-taylor": rules.ZPlus(epsilon),
    }[rule]
    layers = [(types.Activation, rules.Pass()), (types.AvgPool, rules.Norm(epsilon))]
    layers += [(types.Convolution, inner), (types.Linear, inner)]
    composite = composites.LayerMapComposite(layers)
    if rule == "deep-taylor":
        low, high = (model.normalize(torch.full((1, 3, 1, 1), v, dtype=images.dtype)) for v in (0.0, 1.0))
        first = [(types.Convolution, rules.ZBox(low, high, epsilon))]
        composite = composites.SpecialFirstLayerMapComposite(layers, first)
    normalized = model.normalize(images)
    with attribution.Gradient(
        model.network, composite, attr_output=lambda out: out * F.one_hot(targets, out.shape[1])
    ) as run:
        _, relevance = run(normalized)
    return relevance.flip(1) if model.normalize.bgr else relevance


LRP_RULES = ["lrp-epsilon", "lrp-zplus", "lrp-alphabeta", "deep-taylor"]


@pytest.mark.parametrize("rule", LRP_RULES)
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
def test_relevances_equal_zennits_on_a_small_network(rule, bgr):
    model, (images, targets) = cifar(bgr=bgr), batch()
    got, _ = propagate(model, images, targets, RULES[rule])
    assert relative_error(got, zennit_maps(model, images, targets, rule)) < 1e-10


@pytest.mark.parametrize("rule", LRP_RULES)
def test_relevances_equal_zennits_on_squeezenet(rule, squeezenet, samples):
    model = models.squeezenet().double()
    images = F.interpolate(samples.images[:2].double(), 67)
    targets = model(images).argmax(1)
    got, _ = propagate(model, images, targets, RULES[rule])
    assert relative_error(got, zennit_maps(model, images, targets, rule)) < 1e-6


def dense(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
    return models.Classifier(network, (0.5,) * 3, (0.5,) * 3).double().eval()


def naive_layer(x, weight, bias, relevance, rule, epsilon, box):
    """Hand the relevance of one image's outputs to its inputs, weight by weight, as the rules are written."""
    result = torch.zeros_like(x)
    for j, (row, b) in enumerate(zip(weight, bias, strict=True)):
        z = row * x
        up, down = z.clamp(min=0), z.clamp(max=0)
        if rule == "deep-taylor" and box:
            low, high = -torch.ones_like(x), torch.ones_like(x)
            terms = [(1, z - row.clamp(min=0) * low - row.clamp(max=0) * high, 0.0)]
        elif rule in ("deep-taylor", "lrp-zplus"):
            terms = [(1, up, b.clamp(min=0))]
        elif rule == "lrp-alphabeta":
            terms = [(2, up, b.clamp(min=0)), (-1, down, b.clamp(max=0))]
        else:
            terms = [(1, z, b)]
        for factor, term, constant in terms:
            total = term.sum() + constant
            total = total + (epsilon if total >= 0 else -epsilon)
            result += factor * term / total * relevance[j]
    return result


@pytest.mark.parametrize("rule", LRP_RULES)
def test_relevances_equal_the_rules_written_weight_by_weight(rule):
    model, (images, targets) = dense(), batch(3, size=2)
    targets = targets % 3
    got, logits = propagate(model, images, targets, RULES[rule])
    first, last = model.network[1], model.network[3]
    for image, target, of_image, scores in zip(images, targets, got, logits, strict=True):
        x = (image.flatten() - 0.5) / 0.5
        hidden = first(x).relu()
        relevance = scores * F.one_hot(target, 3)
        relevance = naive_layer(hidden, last.weight, last.bias, relevance, rule, 1e-6, box=False)
        relevance = naive_layer(x, first.weight, first.bias, relevance, rule, 1e-6, box=True)
        torch.testing.assert_close(of_image.flatten(), relevance, rtol=1e-9, atol=1e-12)


class Patched(nn.Module):
    """A linear layer on each of four patches of 2 x 2 pixels, ReLU, and a linear layer on all that they give."""

    def __init__(self, channels):
        super().__init__()
        self.embed, self.last = nn.Linear(12, channels), nn.Linear(4 * channels, 3)

    def patches(self, images):
        return images.reshape(-1, 3, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 12)

    def forward(self, images):
        return self.last(self.embed(self.patches(images)).relu().flatten(1))


@pytest.mark.parametrize("rule", LRP_RULES)
@pytest.mark.parametrize("channels", [4, 5], ids=["as many channels as patches", "more channels"])
def test_relevances_of_patches_equal_the_rules_written_weight_by_weight(rule, channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Patched(channels)
        nn.init.uniform_(network.embed.bias, 0.5, 1.5)
    model, (images, targets) = models.Classifier(network, (0.5,) * 3, (0.5,) * 3).double().eval(), batch(2, size=4)
    targets = targets % 3
    got, logits = propagate(model, images, targets, RULES[rule])
    first, last = network.embed, network.last
    for of_image, patches, target, scores in zip(
        network.patches(got), network.patches((images - 0.5) / 0.5), targets, logits, strict=True
    ):
        hidden = first(patches).relu().flatten()
        relevance = scores * F.one_hot(target, 3)
        relevance = naive_layer(hidden, last.weight, last.bias, relevance, rule, 1e-6, box=False).view(4, channels)
        for patch, above, found in zip(patches, relevance, of_image, strict=True):
            expected = naive_layer(patch, first.weight, first.bias, above, rule, 1e-6, box=True)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_on_the_surrogate_relevance_takes_the_derivative_of_softplus():
    class Elementwise(nn.Module):
        def forward(self, images):
            return torch.relu(4 * images[:, 0] - 2).flatten(1)

    images = torch.linspace(0.3, 0.7, 16, dtype=torch.float64).view(1, 1, 4, 4).repeat(1, 3, 1, 1)
    z = 4 * images[0, 0].flatten() - 2
    surrogate = softplus_surrogate(Elementwise().eval(), beta=3.0)
    for target in range(16):
        relevance, _ = propagate(surrogate, images, torch.tensor([target]), EpsilonRule())
        expected = torch.zeros(16, dtype=torch.float64)
        expected[target] = z[target] * torch.sigmoid(3 * z[target])  # not softplus(z): that has a pole in z
        torch.testing.assert_close(relevance[0, 0].flatten(), expected)


def test_deep_taylor_needs_a_weighted_layer_at_the_pixels():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, CLASSES, 8), nn.Flatten()).double().eval()
    images, targets = batch()
    with pytest.raises(ValueError, match=r"^0 \(.*avg_pool2d\): expected a convolution"):
        run(model, images, targets, DeepTaylorRule())
    relevance, _ = run(model, images, targets, EpsilonRule())
    assert relevance.shape == images.shape


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus])
def test_gradients_near_the_poles_of_epsilon_are_those_of_differences_that_are_short_enough(activation):
    """With epsilon 1e-9 relevances have poles: differences of 1e-5 can be off by more than the gradient itself."""
    with torch.random.fork_rng():
        torch.manual_seed(14)
        layers = [nn.Conv2d(3, 6, 3, padding=1), activation(), nn.Conv2d(6, 6, 3, stride=2), activation()]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 7 * 7, CLASSES))
    model, (images, targets) = softplus_surrogate(network.double().eval().requires_grad_(False), 3.0), batch()
    vectors, direction = torch.randn(2, *images.shape, dtype=torch.float64)

    def value(x):
        return (propagate(model, x, targets, EpsilonRule(1e-9), create_graph=True)[0] * vectors).sum()

    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    difference = (value(images + 1e-9 * direction) - value(images - 1e-9 * direction)) / 2e-9
    assert abs((gradient * direction).sum() - difference) <= 1e-5 * abs(difference)

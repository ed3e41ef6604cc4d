"""Networks of any make, as classifiers: the same function, the same derivatives, and what is unclear is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import Tiny
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fragile_utils import attacks, models, saliency
from fragile_utils.models.adapter import LUMA
from fragile_utils.saliency.propagation import passes

SIZE = 16
CLASSES = 5


class Ends(nn.Module):
    """A small network, and a function of its logits."""

    def __init__(self, function, channels=3):
        super().__init__()
        with torch.random.fork_rng():
            self.net = Tiny()
            if channels == 1:
                self.net.first = nn.Conv2d(1, 6, 3, stride=2)
        self.function = function

    def forward(self, images):
        return self.function(self.net(images))


class Output:
    """As libraries return their answers."""

    def __init__(self, logits):
        self.logits = logits


def made(function=lambda z: z, channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Ends(function, channels).double().eval().requires_grad_(False)


def batch(count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


def grey(images):
    return sum(weight * images[:, [i]] for i, weight in enumerate(LUMA))


def two(z):
    return torch.stack([-z / 2, z / 2], 1)


def in_place(z):
    p = z.softmax(1)
    p *= 2
    return p


NAMED = "its part"
CASES = {  # what the network returns, and the logits that are expected of the scores z, up to a shift of all
    "logits": (lambda z: z, lambda z: z, None),
    "a dict": (lambda z: {"scores": z, "features": z[:, :, None, None].expand(-1, -1, 2, 2)}, lambda z: z, "'scores'"),
    "a dict with logits": (lambda z: {"logits": z, "loss": z.mean(1)}, lambda z: z, "'logits'"),
    "a tuple": (lambda z: (z, None), lambda z: z, "the part 0"),
    "an object": (Output, lambda z: z, "'logits'"),
    "softmax": (lambda z: z.softmax(1), lambda z: z, "the softmax at the end"),
    "softmax of a library": (lambda z: Output(F.softmax(z, dim=-1)), lambda z: z, "the softmax at the end"),
    "log-softmax": (lambda z: F.log_softmax(z, 1), lambda z: z, "the log-softmax at the end"),
    "a module of softmax": (nn.Softmax(1), lambda z: z, "the softmax at the end"),
    "one score": (lambda z: z[:, :1], lambda z: two(z[:, 0]), "one score z of the second"),
    "one number": (lambda z: z[:, 0], lambda z: two(z[:, 0]), "one score z of the second"),
    "a sigmoid": (lambda z: torch.sigmoid(z[:, :1]), lambda z: two(z[:, 0]), "the sigmoid at the end"),
    "a sigmoid, squeezed": (lambda z: torch.sigmoid(z[:, :1]).squeeze(1), lambda z: two(z[:, 0]), "the sigmoid"),
    "several sigmoids": (torch.sigmoid, lambda z: z, "do not exclude each other"),
    "a map of one pixel": (lambda z: z[:, :, None, None], lambda z: z, None),
    "softmax of a map": (lambda z: z[:, :, None, None].softmax(1).flatten(1), lambda z: z, "the softmax"),
    "softmax written out": (
        lambda z: z.exp() / z.exp().sum(1, keepdim=True),
        lambda z: z - z.mean(1, keepdim=True),
        "the logits whose mean is 0",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_logits_are_those_of_the_network_and_what_was_done_is_said(case):
    returned, expected, said = CASES[case]
    network, images = made(returned), batch()
    wrapped = models.wrap(network, (0.5,) * 3, (0.25,) * 3, size=SIZE)
    z = network.net((images - 0.5) / 0.25)
    torch.testing.assert_close(wrapped(images), expected(z), rtol=1e-9, atol=1e-9)
    assert wrapped.outputs == wrapped(images).shape[1]
    assert wrapped.adapted == () if said is None else any(said in line for line in wrapped.adapted)
    assert repr(wrapped).startswith(f"Wrapped(Ends, {wrapped.outputs} classes, images of 16 x 16 pixels)")
    assert all(line in repr(wrapped) for line in wrapped.adapted)
    models.check_network(wrapped, images)


@pytest.mark.parametrize("case", CASES)
def test_second_derivatives_are_those_of_the_expected_logits(case):
    returned, expected, _ = CASES[case]
    network, images = made(returned), batch(2)
    wrapped = models.wrap(network, (0.5,) * 3, (0.25,) * 3, size=SIZE)
    targets, vectors = torch.tensor([0, 1]), batch(2).flip(3) - 0.5

    def score(x):
        logits = expected(network.net((x - 0.5) / 0.25))
        return logits.gather(1, targets[:, None]).sum()

    surrogate = models.softplus_surrogate(wrapped, 3.0)
    with models.surrogate.Smooth(3.0):
        gradient = torch.func.grad(score)(images)
        product = torch.func.grad(lambda x: (torch.func.grad(score)(x) * vectors).sum())(images)
    passed = passes.Pass(surrogate, images, targets)
    by_name = (passed.multipliers, passed.product(vectors))
    x = images.clone().requires_grad_()
    (g,) = torch.autograd.grad(surrogate(x).gather(1, targets[:, None]).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g, x, vectors)
    for got in (by_name, (g.detach(), h)):
        torch.testing.assert_close(got[0], gradient, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(got[1], product, rtol=1e-9, atol=1e-12)
    assert product.abs().amax() > 1e-3


@pytest.mark.parametrize("case", ["softmax", "a sigmoid", "softmax written out", "an object"])
def test_directions_of_an_attack_are_those_of_finite_differences(case):
    wrapped = models.wrap(made(CASES[case][0]), size=SIZE, beta=3.0)
    images, targets = batch(2), torch.tensor([1, 1])
    surrogate = models.softplus_surrogate(wrapped)
    attack, method = attacks.TopK(20), saliency.Gradient()
    reference = attack.reference(method(surrogate, images, targets))

    def dissimilarity(x):
        return attack.dissimilarity(method(surrogate, x, targets, create_graph=True), reference)

    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dissimilarity(x).sum(), x)
    step = 1e-6 * (batch(2).flip(2) - 0.5)
    slope = (dissimilarity(images + step) - dissimilarity(images - step)) / 2
    torch.testing.assert_close(slope.detach(), (gradient * step).flatten(1).sum(1), rtol=1e-4, atol=1e-12)


def test_maps_in_grey_are_those_of_the_same_network_in_colour():
    network, images, targets = made(channels=1), batch(), torch.tensor([0, 1, 2])
    wrapped = models.wrap(network, (0.4,), (0.3,), size=SIZE, beta=2.0)
    torch.testing.assert_close(wrapped(images), network((grey(images) - 0.4) / 0.3))
    assert any("it takes images in grey" in line for line in wrapped.adapted)
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network((grey(x) - 0.4) / 0.3).gather(1, targets[:, None]).sum(), x)
    torch.testing.assert_close(saliency.Gradient().attribute(wrapped, images, targets), gradient)
    for method in (saliency.IntegratedGradients(steps=5), saliency.DeepLift(), saliency.LRP(), saliency.DeepTaylor()):
        assert method(wrapped, images, targets).sum((1, 2)) == pytest.approx([1, 1, 1])


def test_whether_it_takes_grey_and_which_size_are_found_out():
    wrapped = models.wrap(made(channels=1), (0.4,) * 3, (0.3,) * 3, size=SIZE)
    assert wrapped.network.grey

    class Lenet(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(28 * 28, 10)

        def forward(self, x):
            return self.last(x.view(-1, 28 * 28))

    found = models.wrap(Lenet().eval())
    assert (found.size, found.outputs, found.network.grey) == (28, 10, True)
    assert any("28 x 28 pixels: the first size that it accepts" in line for line in found.adapted)


def test_images_need_not_be_square():
    class Oblong(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16 * 24, CLASSES)

        def forward(self, x):
            return {"scores": self.last(F.relu(self.first(x)).flatten(1)), "pixels": x}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Oblong().double().eval().requires_grad_(False)
    wrapped = models.wrap(network, (0.5,) * 3, (0.25,) * 3, size=(16, 24))
    assert (wrapped.size, wrapped.shape) == (None, (16, 24))
    assert repr(wrapped).startswith("Wrapped(Oblong, 5 classes, images of 16 x 24 pixels)")
    images, targets = torch.rand(2, 3, 16, 24, dtype=torch.float64), torch.tensor([0, 1])
    torch.testing.assert_close(wrapped(images), network((images - 0.5) / 0.25)["scores"])
    pixels = images.clone().requires_grad_()
    scores = network((pixels - 0.5) / 0.25)["scores"].gather(1, targets[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    torch.testing.assert_close(saliency.Gradient().attribute(wrapped, images, targets), gradient)
    with pytest.raises(ValueError, match="images of 24 x 16 pixels"):
        models.wrap(nn.Sequential(nn.Flatten(), nn.Linear(5, 5)).eval(), size=(24, 16))


def test_the_network_is_left_as_it_is():
    network = made(lambda z: z.softmax(1))
    before, answer = copy.deepcopy(network.state_dict()), network(batch())
    wrapped = models.wrap(network, size=SIZE)
    wrapped(batch())
    assert network.net is wrapped.network.network.net
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network(batch()), answer, rtol=0, atol=0)
    assert not network.training


class Casting(nn.Module):
    """Computes in a type of its own, with a last layer in another."""

    def __init__(self, inner, last):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3).to(inner)
        self.last = nn.Linear(4, CLASSES).to(last)

    def forward(self, x):
        return self.last(self.inner(x.to(self.inner.weight.dtype)).relu().mean((2, 3)).to(self.last.weight.dtype))


@pytest.mark.parametrize("types", [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)], ids=str)
def test_a_network_of_several_types_is_left_as_it_is_and_takes_images_of_float32(types):
    network = Casting(*types).eval()
    wrapped = models.wrap(network, size=SIZE)
    assert (network.inner.weight.dtype, network.last.weight.dtype) == types
    images = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(wrapped(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_network_in_half_precision_that_takes_no_images_of_float32_is_refused_with_the_way_out(dtype):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(CLASSES), nn.LogSoftmax(1))
    network(torch.rand(1, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match=rf"of {dtype} and cannot take images of torch.float32; convert with model.fl"):
        models.wrap(network.to(dtype).eval(), size=SIZE)
    assert models.wrap(network.float(), size=SIZE).outputs == CLASSES


def test_beta_follows_the_scale_of_the_input_and_is_found_on_images_without_one():
    assert models.wrap(made(), (0,) * 3, (0.5,) * 3, size=SIZE).beta == pytest.approx(127.5)
    assert models.wrap(made(), size=SIZE, beta=7.0).beta == 7
    unknown = models.wrap(made(), size=SIZE)
    assert not hasattr(unknown, "beta")
    result = attacks.run(
        attacks.TopK(9), unknown, batch(1), unknown(batch(1)).argmax(1), saliency.Gradient(), eps=0.1, steps=2
    )
    assert result.beta == models.choose_beta(unknown, batch(1))


def test_attention_inside_is_not_taken_for_the_end():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.last = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, CLASSES)

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            gates = torch.sigmoid(tokens.mean((1, 2)))  # (N,), and not the end
            mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
            return (self.last(mixed.mean(1)) * gates[:, None]).softmax(1)

    network = Attends().double().eval().requires_grad_(False)
    wrapped = models.wrap(network, size=SIZE)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(wrapped(batch()).softmax(1), network(batch()))
    assert wrapped.network.ending == "call"


REFUSED = {
    "two parts": (lambda z: (z, z * 2), {}, r"to be scores .*, got 0, 1; say which: .*output=0\)"),
    "no scores": (lambda z: {"boxes": z[:, :4].reshape(-1, 2, 2)}, {}, "it returns a dict of boxes"),
    "classes and no scores": (lambda z: z.argmax(1), {}, "expected scores"),
    "a number between 0 and 1": (
        lambda z: 1 / (1 + (-z[:, 0]).exp()),
        {},
        r"a logit; .*say which: .*probabilities=True\)",
    ),
    "changed in place": (in_place, {}, "its softmax at the end is changed in place"),
    "no probabilities": (lambda z: z, {"probabilities": True}, "probabilities: expected numbers from 0 to 1"),
    "rounded": (
        lambda z: (z * 1e5).exp().clamp(max=1e300) / (z * 1e5).exp().clamp(max=1e300).sum(1, keepdim=True),
        {},
        "some of its probabilities are rounded to 0",
    ),
    "an unknown part": (lambda z: (z, z), {"output": 2}, "output: 2 is no part of a tuple of 2"),
    "too few names": (lambda z: z, {"classes": ["cat", "dog"]}, "classes: expected 5 names, got 2"),
    "two means": (lambda z: z, {"mean": (1, 2)}, "mean: expected 3 numbers, or 1"),
    "three sizes": (lambda z: z, {"size": (16, 16, 3)}, r"size: expected .* or height and width, got \(16, 16, 3\)"),
    "another size": (lambda z: z, {"size": 64}, "images of 64 x 64 pixels.*mat1 and mat2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_unclear_is_refused_with_the_way_out(case):
    function, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        models.wrap(made(function), **{"size": SIZE} | options)


def test_what_is_unclear_can_be_said():
    z = made().net(batch())
    chosen = models.wrap(made(lambda z: (z, z * 2)), size=SIZE, output=1)
    torch.testing.assert_close(chosen(batch()), 2 * z)
    written = models.wrap(made(lambda z: 1 / (1 + (-z[:, 0]).exp())), size=SIZE, probabilities=True)
    torch.testing.assert_close(written(batch()), two(z[:, 0]))
    bounded = models.wrap(made(lambda z: torch.sin(z[:, 0]) ** 2), size=SIZE, probabilities=False)
    torch.testing.assert_close(bounded(batch()), two(torch.sin(z[:, 0]) ** 2))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_is_refused_and_a_compiled_network_unwrapped():
    with pytest.raises(ValueError, match=r"TorchScript cannot be attacked exactly.*FUNCTION@WEIGHTS.*\.pt2"):
        models.wrap(torch.jit.trace(made().net, batch()), size=SIZE)
    wrapped = models.wrap(torch.compile(made()), size=SIZE)
    torch.testing.assert_close(wrapped(batch()), made()(batch()))
    assert any("torch.compile is left out" in line for line in wrapped.adapted)
    compiled_in_place = made()
    compiled_in_place.compile(backend="eager")
    wrapped = models.wrap(compiled_in_place, size=SIZE)
    torch.testing.assert_close(wrapped(batch()), made()(batch()))
    with models.surrogate.Smooth(3.0):
        expected = made()(batch())
    torch.testing.assert_close(models.softplus_surrogate(wrapped, 3.0)(batch()), expected)


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="expected evaluation mode, got training mode"):
        models.wrap(made().train(), size=SIZE)

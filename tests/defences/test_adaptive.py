"""Attacks that know the defence: their directions against naive loops, and what they reach."""

from dataclasses import dataclass

import pytest
import torch
from networks import Tiny
from small_attacks import REGION

from fragile_utils import attacks, defences, saliency
from fragile_utils.attacks import MapProblem, MassCenter, Targeted, TopK
from fragile_utils.defences import Aggregate, ExpectationOverTransformation, ThroughMembers, Transfer, redraw
from fragile_utils.models import softplus_surrogate
from fragile_utils.saliency import DeepLift, Gradient, InputXGradient, SmoothGrad

OPTIONS = {"eps": 0.05, "steps": 10, "step_size": 0.01, "beta": 8.0}
OBJECTIVES = [TopK(20), MassCenter(), Targeted(REGION)]
by_name = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda attack: type(attack).__name__)


@pytest.fixture
def setting(tiny, tiny_batch):
    """The network, images and labels, in float64."""
    tiny = tiny.double()
    images = tiny_batch[0].double()
    return tiny, images, tiny(images).argmax(1)


def problem(attack, model, images, labels, method):
    maps = method(model, images, labels)
    surrogate = softplus_surrogate(model, OPTIONS["beta"])
    return MapProblem(
        images=images,
        labels=labels,
        eps=0.05,
        seeds=tuple(range(len(images))),
        attack=attack,
        model=model,
        surrogate=surrogate,
        method=method,
        guide=method.guide(),
        reference=attack.reference(maps),
    )


def gradient_map(network, x, labels):
    (gradient,) = torch.autograd.grad(network(x).gather(1, labels[:, None]).sum(), x, create_graph=True)
    return gradient


@by_name
def test_the_direction_of_the_expectation_is_that_of_a_loop_over_its_samples(setting, objective):
    model, images, labels = setting
    attack = ExpectationOverTransformation(objective, samples=5, seed=3)
    given = problem(attack, model, images, labels, SmoothGrad(samples=9, sigma=0.1))
    generator = torch.Generator().manual_seed(3)
    x, of_original = images, objective.reference(SmoothGrad(samples=9, sigma=0.1)(model, images, labels))
    for _ in range(3):  # fresh noise at each step
        noise = torch.randn(5, 1, *images.shape[1:], generator=generator)
        leaf = x.clone().requires_grad_()
        total = torch.zeros_like(leaf)
        for sample in noise:
            total = total + gradient_map(given.surrogate, leaf + 0.1 * sample, labels)
        value = objective.dissimilarity(saliency.normalize(total / 5), of_original)  # of the mean
        (expected,) = torch.autograd.grad(value.sum(), leaf)
        got = attack.direction(given, x)
        clear = expected.abs() > 1e-10 * expected.abs().max()
        assert torch.equal(got[clear], expected.sign()[clear])
        x = x + 0.005 * got


def test_it_is_the_loss_of_the_mean_and_not_the_mean_of_losses(setting):
    model, images, labels = setting
    attack = ExpectationOverTransformation(TopK(20), samples=4, seed=3)
    given = problem(attack, model, images, labels, SmoothGrad(samples=4, sigma=0.3))
    noise = torch.randn(4, 1, *images.shape[1:], generator=torch.Generator().manual_seed(3))
    x = images.clone().requires_grad_()
    each = [saliency.normalize(gradient_map(given.surrogate, x + 0.3 * sample, labels)) for sample in noise]
    losses = sum(TopK(20).dissimilarity(maps, given.reference.of_attack) for maps in each)
    (other,) = torch.autograd.grad(losses.sum(), x)
    assert (attack.direction(given, images) == other.sign()).double().mean() < 0.98


def test_two_runs_draw_the_same_and_two_seeds_do_not(setting):
    model, images, labels = setting
    method = SmoothGrad(samples=4, sigma=0.1, seed=77)
    runs = [
        attacks.run(ExpectationOverTransformation(TopK(20), seed=seed), model, images, labels, method, **OPTIONS)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0].images, runs[1].images)
    assert not torch.equal(runs[0].images, runs[2].images)


def test_what_the_expectation_finds_holds_under_noise_that_it_never_saw(setting):
    model, images, labels = setting
    shown = SmoothGrad(samples=8, sigma=0.1)
    attack = ExpectationOverTransformation(TopK(20), samples=8)
    result = attacks.run(attack, model, images, labels, redraw(shown, 500), **OPTIONS)
    noise = attacks.run(attacks.RandomSign(), model, images, labels, redraw(shown, 500), **OPTIONS)
    measured = [
        defences.judge(shown, model, images, r.images, labels, 20, draws=6).topk_intersection for r in (result, noise)
    ]
    assert result.success.sum() >= 4
    assert measured[0].mean() < measured[1].mean()


def test_images_that_are_done_take_their_part_of_the_memory(setting):
    model, images, labels = setting
    attack = ExpectationOverTransformation(TopK(20), samples=2)
    options = OPTIONS | {"steps": 40, "patience": 1}
    result = attacks.run(attack, model, images, labels, SmoothGrad(samples=2), **options)
    assert result.curve.isnan().any()


def test_the_expectation_refuses_what_is_not_random(setting):
    with pytest.raises(ValueError, match="expected one that averages over noise"):
        attacks.run(ExpectationOverTransformation(TopK(20)), *setting, Gradient(), **OPTIONS)


@by_name
@pytest.mark.parametrize("over", ["mean", "maximum"])
def test_the_direction_through_members_is_that_of_each_image_alone(setting, objective, over):
    model, images, labels = setting
    method = Aggregate((Gradient(), InputXGradient()))
    attack = ThroughMembers(objective, over)
    given = problem(attack, model, images, labels, method)
    got = attack.direction(given, images)
    for i in range(len(images)):
        alone = given[torch.arange(len(images)) == i]
        x = alone.images.clone().requires_grad_()
        gradient = gradient_map(given.surrogate, x, alone.labels)
        maps = [saliency.normalize(gradient), saliency.normalize(gradient * x)]
        reference = alone.reference
        of = objective if not isinstance(objective, Targeted) else Targeted(REGION)
        values = [of.dissimilarity(member, reference) for member in maps]
        climbed = sum(values) if over == "mean" else max(values, key=lambda value: value.item())
        (expected,) = torch.autograd.grad(climbed.sum(), x)
        clear = expected.abs() > 1e-10 * expected.abs().max()
        assert torch.equal(got[i : i + 1][clear], expected.sign()[clear])


def test_members_are_those_of_an_aggregate(setting):
    with pytest.raises(ValueError, match="expected an Aggregate"):
        attacks.run(ThroughMembers(TopK(20)), *setting, Gradient(), **OPTIONS)


def test_transfer_takes_its_directions_elsewhere_and_measures_here(setting):
    model, images, labels = setting
    other = Tiny(seed=3).double().eval().requires_grad_(False)
    attack = Transfer(TopK(20), softplus_surrogate(other, 8.0), InputXGradient())
    given = problem(attack, model, images, labels, Gradient())
    x = images.clone().requires_grad_()
    maps = saliency.normalize(gradient_map(softplus_surrogate(other, 8.0), x, labels) * x)
    (expected,) = torch.autograd.grad(TopK(20).dissimilarity(maps, given.reference.of_attack).sum(), x)
    clear = expected.abs() > 1e-10 * expected.abs().max()
    assert torch.equal(attack.direction(given, images)[clear], expected.sign()[clear])
    result = attacks.run(attack, model, images, labels, Gradient(), **OPTIONS)
    torch.testing.assert_close(result.maps, Gradient()(model, result.images, labels))


@pytest.mark.parametrize("held", ["reference", "noise"])
def test_the_method_of_a_transfer_keeps_what_it_holds_for_each_image(held, setting):
    """Where the first image is wrong, against the attack on the others alone."""
    model, images, labels = setting
    own = torch.rand(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(4))

    def attack(first):
        noise = SmoothGrad(samples=2, sigma=0.1, seed=7 + first, shared=False)
        return Transfer(TopK(20), method=noise if held == "noise" else DeepLift(own[first:]))

    options = OPTIONS | {"steps": 20, "patience": 1}
    alone = attacks.run(attack(1), model, images[1:], labels[1:], Gradient(), **options, seed=1)
    wrong = torch.cat([(labels[:1] + 1) % 5, labels[1:]])
    result = attacks.run(attack(0), model, images, wrong, Gradient(), **options)
    assert alone.curve.isnan().any()  # some were done before others
    torch.testing.assert_close(result.images[1:], alone.images)


def test_transfer_from_the_same_network_and_method_is_the_attack(setting):
    plain = attacks.run(TopK(20), *setting, Gradient(), **OPTIONS)
    assert torch.equal(attacks.run(Transfer(TopK(20)), *setting, Gradient(), **OPTIONS).images, plain.images)


def test_adaptive_attacks_are_values():
    assert ExpectationOverTransformation(TopK(5), 3) == ExpectationOverTransformation(TopK(5), 3)
    assert repr(ThroughMembers(TopK(5))) == "ThroughMembers(attack=TopK(k=5), over='maximum')"
    assert repr(Transfer(TopK(5))) == "Transfer(TopK(k=5), by Gradient())"
    assert "from another Tiny" in repr(Transfer(TopK(5), Tiny().eval()))
    assert ExpectationOverTransformation(attacks.RandomSign()).schedule(0.1, 9, 0.01) == (1, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExpectationOverTransformation(TopK), "attack: expected a value such as"),
        (lambda: ExpectationOverTransformation(TopK(5), 0), "samples: expected a whole number"),
        (lambda: ExpectationOverTransformation(TopK(5), seed=0.1), "seed: expected a whole number"),
        (lambda: ThroughMembers(TopK(5), "minimum"), "over: expected 'mean' or 'maximum'"),
        (lambda: Transfer(TopK(5), Tiny()), "model: expected evaluation mode"),
        (lambda: Transfer(TopK(5), None, Gradient), "method: expected a value such as"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_attack_whose_own_direction_would_be_lost_is_refused():
    with pytest.raises(ValueError, match="attack: expected one that climbs by its own slope"):
        ThroughMembers(ExpectationOverTransformation(TopK(20)))
    with pytest.raises(ValueError, match="attack: expected one that climbs by its own slope"):
        ThroughMembers(Transfer(TopK(20)))
    with pytest.raises(ValueError, match="attack: expected one that takes its directions from the method"):
        ExpectationOverTransformation(Transfer(TopK(20)))


@dataclass(frozen=True)
class Own(defences.Adaptive):
    """A reader's, that says in `direction` how it climbs."""

    def direction(self, problem, x):
        return self.attack.direction(problem, x)


@by_name
def test_a_readers_own_climbs_what_it_is_given(setting, objective):
    found, plain = (attacks.run(attack, *setting, Gradient(), **OPTIONS) for attack in (Own(objective), objective))
    assert torch.equal(found.images, plain.images)
    assert found.success.any()

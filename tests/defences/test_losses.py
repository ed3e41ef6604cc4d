"""Losses that defend: against naive loops and finite differences, and that they fall."""

import contextlib
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fragile_utils import defences
from fragile_utils.data import Batch
from fragile_utils.defences import AdversarialTraining, AlignmentPenalty, CurvaturePenalty, GradientPenalty, IGNorm
from fragile_utils.models import training
from fragile_utils.models.losses import CrossEntropy, Learner, Loss

PENALTIES = [
    GradientPenalty(0.3),
    CurvaturePenalty(0.02),
    AlignmentPenalty(0.7, eps=0.05),
    IGNorm(0.2, eps=0.05, points=2, steps=2),
]
each_penalty = pytest.mark.parametrize("loss", PENALTIES, ids=lambda loss: type(loss).__name__)


def setting(seed=0, count=4):
    """A small smooth network with batch normalisation, in float64, its images and labels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Softplus(3), nn.Flatten(), nn.Linear(4 * 9, 5)
        ).double()
        network[1].running_mean.normal_()
        network[1].running_var.uniform_(0.5, 2)
        images, labels = torch.rand(count, 3, 8, 8).double(), torch.arange(count) % 5
    return Learner(network, lambda x: (x - 0.4) / 0.25, label_smoothing=0.1), images, labels


def generator():
    return torch.Generator().manual_seed(5)


def signs(shape):
    return (2 * torch.randint(0, 2, shape, generator=generator()) - 1).double()


def naive(loss, learner, images, labels):
    """The mean penalty, by `torch.func`, of the sum over images: batch normalisation makes each depend on all."""
    network = learner.network.train()
    weights = {name: value.detach() for name, value in network.named_parameters()}

    def logits(x):
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        return torch.func.functional_call(network, weights | buffers, learner.normalize(x))

    def cost(x, labels=labels):
        return F.cross_entropy(logits(x), labels, label_smoothing=0.1, reduction="sum")

    def score(x, labels=labels):
        return logits(x).gather(1, labels[:, None]).sum()

    drawn = torch.randn(images.shape, generator=generator()).double()
    beside = (images + loss.eps * signs(images.shape)).clamp(0, 1) if hasattr(loss, "eps") else None
    if isinstance(loss, GradientPenalty):
        each = torch.func.grad(cost)(images).square().flatten(1).sum(1)
    elif isinstance(loss, CurvaturePenalty):
        hessian = torch.autograd.functional.hessian(score, images).reshape(2 * (images.numel(),))
        each = (hessian @ drawn.flatten()).reshape(images.shape).square().flatten(1).sum(1)
    elif isinstance(loss, AlignmentPenalty):
        both = torch.cat([images, beside])
        here, there = torch.func.grad(score)(both, labels.repeat(2)).flatten(1).chunk(2)
        each = 1 - F.cosine_similarity(here, there)
    else:

        def norms(other):
            path = torch.cat([images + (other - images) * place for place in (0.25, 0.75)])
            at = torch.func.grad(cost)(path, labels.repeat(2)).chunk(2)
            return ((other - images) * (at[0] + at[1]) / 2).abs().flatten(1).sum(1)

        other = beside
        for _ in range(2):
            other = other + loss.eps * torch.func.grad(lambda x: norms(x).sum())(other).sign()
            other = other.clamp(images - loss.eps, images + loss.eps).clamp(0, 1)
        each = norms(other)
    return each.mean()


@each_penalty
def test_the_penalty_is_its_formula_on_the_batch(loss):
    learner, images, labels = setting()
    learner.network.train()
    found = loss(learner, images, labels, generator())
    expected = naive(loss, *setting())
    torch.testing.assert_close(found.penalty, expected)
    logits = setting()[0].network.train()(learner.normalize(images))
    torch.testing.assert_close(
        found.loss, F.cross_entropy(logits, labels, label_smoothing=0.1) + loss.weight * expected
    )


@each_penalty
def test_smaller_weights_before_a_normalisation_do_not_make_it_smaller(loss):
    learner, images, labels = setting()
    learner.network.train()
    before = loss(learner, images, labels, generator()).penalty
    with torch.no_grad():
        learner.network[0].weight *= 0.5
        learner.network[0].bias *= 0.5
        learner.network[1].eps /= 4
    torch.testing.assert_close(loss(learner, images, labels, generator()).penalty, before)


@each_penalty
def test_its_gradient_in_the_parameters_is_that_of_finite_differences(loss):
    learner, images, labels = setting()
    learner.network.train()
    parameters = [*learner.network.parameters()]
    kept = {name: value.clone() for name, value in learner.network.named_buffers()}

    def value():
        with torch.no_grad():
            for name, buffer in learner.network.named_buffers():
                buffer.copy_(kept[name])  # what a forward pass in training changes
        return loss(learner, images, labels, generator()).loss

    gradients = torch.autograd.grad(value(), parameters)
    steps = [1e-6 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(7)) for p in parameters]
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.add_(sign * step)
        values.append(value().item())
    slope = sum((gradient * step).sum().item() for gradient, step in zip(gradients, steps, strict=True))
    assert (values[0] - values[1]) / 2 == pytest.approx(slope, rel=1e-3)


@each_penalty
def test_the_running_statistics_see_each_image_once(loss):
    learner, images, labels = setting()
    learner.network.train()
    loss(learner, images, labels, generator())
    assert learner.network.training
    assert learner.network[1].num_batches_tracked == 1


def test_a_share_of_the_images_is_the_penalty_of_the_first():
    learner, images, labels = setting(count=8)
    part = GradientPenalty(1.0, share=0.25)(learner, images, labels, generator()).penalty
    torch.testing.assert_close(part, naive(GradientPenalty(1.0), setting(count=8)[0], images[:2], labels[:2]))


def test_the_mean_curvature_is_the_frobenius_norm_of_the_hessian():
    learner, images, labels = setting(count=1)
    score = lambda x: learner.network.eval()(learner.normalize(x))[0, labels[0]]  # noqa: E731
    truth = torch.autograd.functional.hessian(score, images).square().sum().item()
    draws = torch.Generator().manual_seed(0)
    many = CurvaturePenalty(1.0).penalty(learner, images.expand(3000, -1, -1, -1), labels.expand(3000), draws)
    assert many.item() == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_curvature_of_a_network_of_relus_is_refused_once_and_not_looked_for_again(batch_norm, monkeypatch):
    learner, images, labels = setting()
    looked, kept = [], defences.losses.check_smooth
    monkeypatch.setattr(defences.losses, "check_smooth", lambda *given: looked.append(given) or kept(*given))
    for _ in range(3):
        CurvaturePenalty(1.0)(learner, images, labels, generator())
    assert len(looked) == 1
    learner.network.train()
    statistics = learner.network[1].running_mean.clone()
    network = nn.Sequential(*(layer for layer in learner.network if batch_norm or layer is not learner.network[1]))
    network[-3] = nn.ReLU()
    with pytest.raises(ValueError, match=r"one that computes ReLU .* train one with activation='softplus'"):
        CurvaturePenalty(1.0)(replace(learner, network=network.train()), images, labels, generator())
    assert network.training
    assert torch.equal(learner.network[1].running_mean, statistics)


def test_a_training_by_the_curvature_of_relus_is_refused():
    batch = Batch(torch.rand(4, 3, 32, 32, generator=generator()), torch.arange(4))
    settings = training.Training(width=4, epochs=1, batch_norm=False, precision="float32")
    with pytest.raises(ValueError, match="expected a smooth network, got one that computes ReLU"):
        training.train(settings, batch, batch, loss=CurvaturePenalty(1.0))


def test_adversarial_images_are_within_the_ball_and_worse_than_random_ones():
    learner, images, labels = setting()
    learner.network.eval()
    loss = AdversarialTraining(eps=0.05, steps=5)
    worst = loss.worst(learner, images, labels, generator())
    assert (worst - images).abs().max() <= 0.05 + 1e-12
    assert 0 <= worst.min() <= worst.max() <= 1
    random = (images + 0.05 * signs(images.shape)).clamp(0, 1)
    costs = [F.cross_entropy(learner.logits(x), labels, reduction="none") for x in (images, random, worst)]
    assert (costs[2] > costs[0].maximum(costs[1])).all()
    found = loss(learner, images, labels, generator())
    torch.testing.assert_close(found.loss, learner.cross_entropy(learner.logits(worst), labels))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        (GradientPenalty(10.0), {}),
        (CurvaturePenalty(1e-3), {"activation": "softplus", "beta": 3.0}),
        (AlignmentPenalty(1.0), {}),
        (IGNorm(0.3, eps=8 / 255, points=2), {}),
        (AdversarialTraining(eps=16 / 255, steps=2), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_network_trained_by_it_has_less_of_it(loss, changes):
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[:, 0, :16] += 0.5 * (torch.arange(64) % 2).view(-1, 1, 1)  # half of them are red above
    learnt = Batch(images.clamp(0, 1), torch.arange(64) % 2)
    settings = training.Training(
        width=4, epochs=40, batch_size=16, shift=0, flip=False, precision="float32", learning_rate=0.05, **changes
    )  # 160 steps: the running statistics settle
    without, with_it = (training.train(settings, learnt, learnt, loss=one) for one in (CrossEntropy(), loss))

    def measured(trained):
        stored = trained.stored
        learner = Learner(stored.network, lambda x: (x - stored.mean) / stored.std.view(-1, 1, 1))
        if isinstance(loss, AdversarialTraining):
            return loss(learner, learnt.images, learnt.labels, generator()).loss.item()
        return loss.penalty(learner, learnt.images, learnt.labels, generator()).item()

    assert measured(with_it) < 0.8 * measured(without)
    assert with_it.log["train_accuracy"].iloc[-1] > 0.8
    assert ("train_penalty" in with_it.log) == isinstance(loss, defences.Penalised)


def test_every_training_builds_its_network():
    for name, defence in defences.TRAININGS.items():
        settings = defence.apply(training.PRESETS["small"])
        assert isinstance(defence.loss, Loss), name
        assert isinstance(defence.loss, CurvaturePenalty) <= (settings.activation == "softplus")
        assert settings.precision == "float32"


def test_a_learner_keeps_to_its_precision():
    learner, images, _ = setting()
    entered = []

    @contextlib.contextmanager
    def noted():
        entered.append(True)
        yield

    replace(learner, precision=noted).logits(images)
    assert entered == [True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientPenalty(0), "weight: expected a number above 0"),
        (lambda: GradientPenalty(1, share=1.5), "share: expected at most 1"),
        (lambda: AlignmentPenalty(1, eps=2), "eps: expected at most 1"),
        (lambda: IGNorm(1, points=0), "points: expected a whole number"),
        (lambda: AdversarialTraining(steps=0), "steps: expected a whole number"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

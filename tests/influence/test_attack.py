"""The contract of the attack on influence, on a small network, and the attack written out naively."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Tiny
from torch import nn

from fragile_utils import attacks, influence
from fragile_utils.attacks import Best

ATTACKS = {
    "gradient-sign": influence.GradientSign(),
    "iterated": influence.Iterated(),
    "scale-free": influence.Iterated(scale_free=True),
    "harmful": influence.GradientSign(side="harmful"),
    "random-sign": influence.RandomSign(),
}
OUTCOMES = ("images", "scores", "confidence", "dissimilarity", "labels_after", "scores_before", "confidence_before")
TENSORS = [*OUTCOMES, "dissimilarity_before", "iteration", "curve", "linf", "success"]


def problem(seed=0, dtype=torch.float64, train=40, test=6):
    """A random network, a head on 40 random images with random labels, and test images that it gets right."""
    with torch.random.fork_rng():
        network = Tiny(seed).eval().requires_grad_(False).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(train + test, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)
    images[-1] = images[-1].round()  # pixels on the border of [0, 1]
    labels = torch.randint(2, (train,), generator=generator)
    labels[:2] = torch.tensor([0, 1])
    features = influence.Features(network, "pool")
    seen = features.extract(images)
    head = influence.fit(seen[:train], labels, l2=0.05)
    explain = influence.Influence(head, seen[:train], labels)
    return features, explain, images[train:], head(seen[train:]).argmax(1)


def attack(name, task, **options):
    return influence.run(ATTACKS[name], *task, **({"eps": 0.05, "steps": 6} | options))


# --- The contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
@settings(deadline=None, max_examples=10)
@given(eps=st.floats(1e-4, 0.5), step_size=st.floats(1e-4, 0.5), seed=st.integers(0, 1000))
def test_whatever_comes_back_keeps_the_contract(name, eps, step_size, seed):
    features, explain, images, labels = task = problem(seed, torch.float32)
    result = attack(name, task, eps=eps, step_size=step_size, seed=seed)

    assert (result.linf <= eps).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert torch.equal(result.linf, (result.images - images).abs().amax(dim=(1, 2, 3)))
    after = features.extract(result.images)
    assert torch.equal(explain.head(after).argmax(1), labels)
    assert torch.equal(result.labels_after, labels)
    torch.testing.assert_close(result.scores, explain(after, labels))
    torch.testing.assert_close(result.scores_before, explain(features.extract(images), labels))
    probability = explain.head(after).softmax(1).gather(1, labels[:, None]).squeeze(1)
    torch.testing.assert_close(result.confidence, probability)
    for i, reason in enumerate(result.reasons):
        assert bool(result.success[i]) == (reason == "") == bool(result.iteration[i] > 0)
        if reason:
            assert torch.equal(result.images[i], images[i])


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_result_other_seed_other_noise(name):
    task = problem()
    first, again, other = (attack(name, task, seed=seed) for seed in (3, 3, 4))
    for field in TENSORS:
        torch.testing.assert_close(getattr(first, field), getattr(again, field), rtol=0, atol=0)
    assert torch.equal(first.images, other.images) == (name != "random-sign")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_batch_equals_its_images_one_by_one(name):
    features, explain, images, labels = task = problem()
    whole = attack(name, task, seed=5)
    for i in range(len(images)):
        single = attack(name, (features, explain, images[i : i + 1], labels[i : i + 1]), seed=5 + i)
        assert single.iteration == whole.iteration[i]
        torch.testing.assert_close(single.images[0], whole.images[i])
        torch.testing.assert_close(single.scores[0], whole.scores[i])


# --- The attack written out ------------------------------------------------------------------------------------------


def helpfulness(explain, features, image, label):
    """The paper's influence without its minus sign, (n,), from the gradients by autograd and the inverse Hessian."""
    head = explain.head
    theta = head.theta.clone().requires_grad_()
    inputs = head.inputs(features(image[None]))
    loss = nn.functional.cross_entropy(inputs @ theta.T @ head.basis.T, label[None])
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    training = (explain.residuals[:, :, None] * explain.inputs[:, None, :]).flatten(1)
    return training @ torch.linalg.inv(explain.hessian.matrix()) @ gradient.flatten()


def test_gradient_sign_is_the_papers_step():
    features, explain, images, labels = task = problem()
    result = attack("gradient-sign", task)
    for i in range(len(images)):
        image = images[i].clone().requires_grad_()
        support = helpfulness(explain, features, image, labels[i])
        top = support.argsort(descending=True)[:3]
        assert influence.most(result.scores_before[i : i + 1], 3)[0].tolist() == top.tolist()
        (gradient,) = torch.autograd.grad(support[top].sum(), image)
        expected = (images[i] - 0.05 * gradient.sign()).clamp(0, 1)
        if result.success[i]:
            torch.testing.assert_close(result.images[i], expected, atol=1e-12, rtol=0)
    assert result.success.sum() >= 3


def test_the_loop_is_projected_ascent_that_keeps_the_best_iterate():
    features, explain, images, labels = task = problem()
    result = attack("iterated", task, steps=8, step_size=0.02)
    image, label = images[0], labels[0]
    top = helpfulness(explain, features, image, label).argsort(descending=True)[:3]
    x, best, kept = image.clone(), -torch.inf, None
    for _ in range(8):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(-helpfulness(explain, features, x, label)[top].sum(), x)
        x = x.detach() + 0.02 * gradient.sign()
        x = torch.minimum(torch.maximum(x, image - 0.05), image + 0.05).clamp(0, 1)
        value = -helpfulness(explain, features, x, label)[top].sum()
        if explain.head(features(x[None])).argmax() == label and value > best:
            best, kept = value, x
    assert result.dissimilarity[0].item() == pytest.approx(best.item())
    torch.testing.assert_close(result.images[0], kept, atol=1e-12, rtol=0)


def test_the_steps_of_one_step_attacks_are_not_the_users():
    assert attack("gradient-sign", problem(), steps=9).settings.steps == 1
    assert attack("random-sign", problem()).settings.step_size == 0.05
    assert attack("iterated", problem()).settings.step_size == 0.05 / 4


def test_random_sign_is_the_baseline_of_the_other_attacks():
    features, explain, images, labels = problem()
    result = attack("random-sign", (features, explain, images, labels), seed=7)
    for i in result.success.nonzero().flatten().tolist():
        expected = (images[i] + 0.05 * attacks.random_signs(images[i], 7 + i)).clamp(0, 1)
        torch.testing.assert_close(result.images[i], expected, atol=1e-12, rtol=0)


def test_each_attack_lowers_the_influence_that_it_attacks():
    task = problem(test=20)
    for name, sign in (("gradient-sign", 1), ("iterated", 1), ("harmful", -1)):
        result = attack(name, task, eps=0.02)
        top = influence.most(result.scores_before, 3, ATTACKS[name].side)
        change = sign * (result.scores - result.scores_before).gather(1, top).sum(1)[result.success]
        assert (change > 0).double().mean() > 0.9
        torch.testing.assert_close(result.dissimilarity, sign * result.scores.gather(1, top).sum(1))


def test_without_the_common_factor_the_attack_does_not_buy_confidence():
    """The paper's D falls when all influences shrink together; the scale-free D does not see that."""
    task = problem(test=20)
    plain, free = (attack(name, task, eps=0.01, steps=10) for name in ("iterated", "scale-free"))
    both = plain.success & free.success
    assert both.sum() >= 12
    assert plain.confidence[both].mean() > free.confidence[both].mean()
    overlap = [influence.top_overlap(r.scores_before, r.scores, 3)[both].mean() for r in (plain, free)]
    assert overlap[1] < overlap[0]


def test_compare_has_one_row_for_each_image():
    task = problem()
    result = attack("gradient-sign", task)
    table = result.compare(n=4)
    assert len(table) == 6
    assert table.label_after.tolist() == table.label.tolist() == task[3].tolist()
    overlap = influence.top_overlap(result.scores_before, result.scores, 4)
    assert table.top_overlap.tolist() == overlap.tolist()
    harmful = attack("harmful", task)
    assert (
        harmful.compare().top_overlap.tolist()
        == influence.top_overlap(harmful.scores_before, harmful.scores, 5, "harmful").tolist()
    )


# --- Images that cannot be attacked, and input that is none ----------------------------------------------------------


def test_an_image_of_another_class_is_reported_and_left_alone():
    features, explain, images, labels = problem()
    wrong = labels.clone()
    wrong[2] = 1 - wrong[2]
    result = attack("iterated", (features, explain, images, wrong))
    assert result.reasons[2] == f"predicted as class {labels[2]}, not {wrong[2]}"
    assert torch.equal(result.images[2], images[2])
    assert result.linf[2] == 0
    assert result.labels_after[2] == labels[2]
    nothing = attack("iterated", (features, explain, images, 1 - labels))
    assert not nothing.success.any()
    assert torch.equal(nothing.scores, nothing.scores_before)


class Same(nn.Module):
    """Features that are the same for every image; with `linked`, in a graph with it."""

    def __init__(self, features, linked):
        super().__init__()
        self.register_buffer("features", features)
        self.linked = linked

    def forward(self, images):
        same = self.features.expand(len(images), -1)
        return same + 0 * images.sum((1, 2, 3))[:, None] if self.linked else same


def test_features_that_sum_to_one_are_no_probabilities():
    class Shares(nn.Module):
        def forward(self, images):
            return images.mean((2, 3)).softmax(1)

    shares, images = Shares().eval(), problem()[2]
    labels = torch.arange(len(images)) % 2
    explain = influence.Influence(influence.fit(shares(images), labels), shares(images), labels)
    right = explain.head(shares(images)).argmax(1)
    assert influence.run(influence.Iterated(), shares, explain, images, right, eps=0.05).success.any()


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("name", ["gradient-sign", "iterated", "scale-free", "harmful"])
def test_an_image_that_was_not_moved_is_no_success(name, linked):
    features, explain, images, _ = problem()
    same = Same(features.extract(images[:1]), linked).eval()
    labels = explain.head(same(images)).argmax(1)
    result = attack(name, (same, explain, images, labels))
    assert set(result.reasons) == {"no iterate moved the explanation"}
    assert not result.success.any()
    assert torch.equal(result.images, images)
    assert (result.iteration == 0).all()
    assert torch.equal(result.scores, result.scores_before)


def test_a_step_that_rounding_swallows_is_no_success():
    features, explain, images, labels = problem(dtype=torch.float32)
    result = attack("iterated", (features, explain, images[:-1].clamp(min=1e-3), labels[:-1]), step_size=1e-12)
    assert not result.success.any()
    assert (result.linf == 0).all()


def test_no_iterate_that_keeps_the_label_is_a_failure():
    """A step so large that the prediction flips on some image."""
    results = [attack("random-sign", problem(seed, test=20), eps=0.5) for seed in range(3)]
    reasons = {reason for result in results for reason in result.reasons}
    assert reasons == {"", "no iterate kept the label"}


def test_an_interrupt_returns_the_best_so_far(monkeypatch):
    task = problem()
    whole, calls, real = attack("iterated", task, steps=3), [], Best.update

    def update(*arguments, **others):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        real(*arguments, **others)

    monkeypatch.setattr(Best, "update", update)
    stopped = attack("iterated", task, steps=100)
    torch.testing.assert_close(stopped.images, whole.images)


class Mixing(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, images):
        seen = self.features(images)
        return seen - seen.mean(0)


FEATURES, EXPLAIN, IMAGES, LABELS = problem(dtype=torch.float32)
BAD = {
    "0..255": ({"images": IMAGES * 255}, "divide by 255"),
    "label 2": ({"labels": LABELS + 2}, "expected classes from 0 to 1"),
    "labels of another integer type": ({"labels": LABELS.int()}, "dtype torch.int32"),
    "labels elsewhere": ({"labels": LABELS.to("meta")}, "on cpu, where the images are, got one on meta"),
    "too few labels": ({"labels": LABELS[:1]}, r"tensor \(6,\), got shape \(1,\)"),
    "eps 0": ({"eps": 0.0}, "eps: expected a number above 0"),
    "eps that rounding swallows": ({"eps": 1e-9}, "images: expected a type that resolves the budget 1e-09, got"),
    "eps in levels": ({"eps": 8}, "eps: expected at most 1"),
    "half a seed": ({"seed": 0.5}, "seed: expected a whole number"),
    "a class": (
        {"attack": influence.GradientSign},
        "attack: .* got the class GradientSign, which is still to be called",
    ),
    "no steps": ({"steps": 0}, "steps: expected a whole number"),
    "step size": ({"step_size": -1.0}, "step_size: expected a number above 0"),
    "top": ({"attack": influence.GradientSign(top=41)}, "n: expected a whole number from 1 to 40, got 41"),
    "no influence": ({"explain": "x"}, r"explain: expected a value such as Influence\(head, features, labels\)"),
    "images of another type": ({"images": IMAGES.double()}, "model: it cannot take images .* of torch.float64 on cpu"),
    "other features": ({"features": nn.Flatten().eval()}, "features: expected 8 columns, as the head was trained on"),
    "features of all images": ({"features": Mixing(FEATURES).eval()}, "it mixes the images"),
    "training mode": ({"features": nn.Sequential(nn.Flatten())}, "training mode"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    change, message = BAD[case]
    options = {
        "attack": influence.Iterated(),
        "features": FEATURES,
        "explain": EXPLAIN,
        "images": IMAGES,
        "labels": LABELS,
        "eps": 0.1,
    } | change
    given = [options.pop(name) for name in ("attack", "features", "explain", "images", "labels")]
    with pytest.raises(ValueError, match=message):
        influence.run(*given, **options)


@pytest.mark.parametrize("options", [{"top": 0}, {"top": 2.5}, {"side": "both"}], ids=str)
def test_an_attack_is_checked_when_it_is_made(options):
    with pytest.raises(ValueError, match="expected"):
        influence.Iterated(**options)

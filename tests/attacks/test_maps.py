"""The attack's contract, on a small network in seconds and on SqueezeNet against the paper's figures."""

import attentive
import captum.attr
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Tiny
from small_attacks import ATTACKS, GRADIENT, attack

from fragile_utils import attacks, data, defences, metrics, saliency
from fragile_utils._base import precision
from fragile_utils.attacks import maps, regions
from fragile_utils.attacks.algorithm import CHECK_EVERY
from fragile_utils.models.surrogate import choose_beta, softplus_surrogate
from fragile_utils.saliency.integrated_gradients import GUIDE_STEPS
from fragile_utils.saliency.propagation import passes

OUTCOMES = ("images", "maps", "confidence", "dissimilarity", "labels_after", "maps_before", "confidence_before")
TENSORS = [*OUTCOMES, "dissimilarity_before", "iteration", "curve", "linf", "success", "surrogate_agrees"]


# --- The contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
@settings(deadline=None, max_examples=15)
@given(eps=st.floats(1e-4, 0.5), step_size=st.floats(1e-4, 0.5), seed=st.integers(0, 1000))
def test_whatever_comes_back_keeps_the_contract(name, eps, step_size, seed):
    tiny = Tiny(seed).eval().requires_grad_(False)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    images[0] = images[0].round()  # pixels on the border of [0, 1]
    labels = data.predict(tiny, images)
    result = attack(name, tiny, images, labels, eps=eps, step_size=step_size, steps=5, seed=seed)

    assert (result.linf <= eps).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert torch.equal(result.linf, (result.images - images).abs().amax(dim=(1, 2, 3)))
    assert torch.equal(data.predict(tiny, result.images), labels)
    assert torch.equal(result.labels_after, labels)
    assert (result.dissimilarity >= result.dissimilarity_before).all()
    torch.testing.assert_close(result.maps, GRADIENT(tiny, result.images, labels))
    torch.testing.assert_close(result.maps_before, GRADIENT(tiny, images, labels))
    for i, reason in enumerate(result.reasons):
        assert bool(result.success[i]) == (reason == "") == bool(result.iteration[i] > 0)
        if reason:
            assert torch.equal(result.images[i], images[i])


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_result_other_seed_other_noise(name, tiny, tiny_batch):
    first, again, other = (attack(name, tiny, *tiny_batch, seed=seed) for seed in (3, 3, 4))
    for field in TENSORS:
        torch.testing.assert_close(getattr(first, field), getattr(again, field), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(first.images, other.images) == (name != "random")


@pytest.mark.parametrize("name", ATTACKS)
def test_without_gradients_around_it_it_finds_the_same(name, tiny, tiny_batch):
    expected = attack(name, tiny, *tiny_batch)
    with torch.no_grad():
        found = attack(name, tiny, *tiny_batch)
        assert not torch.is_grad_enabled()
    assert torch.equal(found.images, expected.images)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_batch_equals_its_images_one_by_one(name, tiny, tiny_batch):
    images, labels = (tensor.double() if tensor.is_floating_point() else tensor for tensor in tiny_batch)
    tiny = tiny.double()
    whole = attack(name, tiny, images, labels, seed=5)
    for i in range(len(images)):
        single = attack(name, tiny, images[i : i + 1], labels[i : i + 1], seed=5 + i)
        assert single.iteration == whole.iteration[i]
        torch.testing.assert_close(single.images[0], whole.images[i])
        torch.testing.assert_close(single.maps[0], whole.maps[i])


def test_the_loop_is_algorithm_1(tiny, tiny_batch):
    """Algorithm 1 written out naively for one image, with autograd and nothing of the package's loop."""
    images, labels = tiny_batch
    tiny, image, label = tiny.double(), images[0].double(), labels[0]
    eps, size, steps, k = 0.05, 0.01, 15, 20
    surrogate = softplus_surrogate(tiny, 8.0)

    def saliency_map(model, x, create_graph=False):
        (gradient,) = torch.autograd.grad(model(x[None])[0, label], x, create_graph=create_graph)
        return gradient.abs().sum(0) / gradient.abs().sum()

    top = saliency_map(tiny, image.clone().requires_grad_()).flatten().argsort(descending=True)[:k]
    x, best, kept = image.clone(), -np.inf, None
    for _ in range(steps):
        x = x.detach().requires_grad_()
        dissimilarity = -saliency_map(surrogate, x, create_graph=True).flatten()[top].sum()
        x = x.detach() + size * torch.autograd.grad(dissimilarity, x)[0].sign()
        x = torch.minimum(torch.maximum(x, image - eps), image + eps).clamp(0, 1).requires_grad_()
        found = -saliency_map(tiny, x).flatten()[top].sum()
        if tiny(x[None]).argmax() == label and found > best:
            best, kept = found, x.detach()

    result = attack("topk", tiny, images.double(), labels)
    assert result.dissimilarity[0].item() == pytest.approx(float(best))
    torch.testing.assert_close(result.images[0], kept, atol=1e-12, rtol=0)


def test_a_linear_model_cannot_be_attacked():
    """Its gradient is the same everywhere: H = 0."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 3)).eval().requires_grad_(False)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = attacks.run(attacks.TopK(5), model, images, data.predict(model, images), GRADIENT, eps=0.1, steps=5)
    assert (
        result.reasons
        == ("no direction: to first order the explanation does not change with the image, as on a linear network",) * 2
    )
    np.testing.assert_allclose(metrics.compare(GRADIENT(model, images, result.labels), result.maps, 5), [[1, 1, 0]] * 2)


# --- Options of the loop ---------------------------------------------------------------------------------------------


def test_several_budgets_are_so_many_runs(tiny, tiny_batch):
    options = {"steps": 5, "step_size": 0.01, "beta": 8.0}
    results = attacks.run_budgets(ATTACKS["topk"], tiny, *tiny_batch, GRADIENT, budgets=[0.02, 0.05], **options)
    single = attacks.run(ATTACKS["topk"], tiny, *tiny_batch, GRADIENT, eps=0.05, **options)
    assert [result.eps for result in results] == [0.02, 0.05]
    assert torch.equal(results[1].images, single.images)
    with pytest.raises(ValueError, match="budgets: expected at least one"):
        attacks.run_budgets(ATTACKS["topk"], tiny, *tiny_batch, GRADIENT, budgets=[])
    with pytest.raises(ValueError, match="budgets: expected a number above 0, got -1"):
        attacks.run_budgets(ATTACKS["topk"], tiny, *tiny_batch, GRADIENT, budgets=[0.1, -1])


def test_a_random_start_is_another_path_that_a_seed_repeats(tiny, tiny_batch):
    first, again, other = (attack("topk", tiny, *tiny_batch, random_start=True, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images, attack("topk", tiny, *tiny_batch).images)
    assert (first.linf <= 0.05).all()


def test_an_image_without_progress_is_done(tiny, tiny_batch):
    """With patience, each image stops on its own, and until then takes the same steps."""
    options = {"steps": 60, "eps": 0.02}
    full = attack("topk", tiny, *tiny_batch, **options)
    short = attack("topk", tiny, *tiny_batch, **options, patience=10)
    lengths = (~short.curve.isnan()).sum(0)
    assert lengths.min() < 60
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(short.curve[:length, i], full.curve[:length, i], rtol=1e-3, atol=1e-4)
        if length < 60:
            assert 10 <= length - short.iteration[i] < 10 + CHECK_EVERY
    with pytest.raises(ValueError, match="patience: expected a whole number"):
        attack("topk", tiny, *tiny_batch, patience=0)


def test_of_every_third_iterate_the_best_is_kept(tiny, tiny_batch):
    options = {"steps": 10, "eps": 0.01, "step_size": 0.002}  # all labels stay
    every, third = (attack("mass-center", tiny, *tiny_batch, **options, measure_every=n) for n in (1, 3))
    measured = torch.tensor([2, 5, 8, 9])  # the last one always
    assert third.curve.isfinite().all(1).nonzero().flatten().tolist() == measured.tolist()
    torch.testing.assert_close(third.curve[measured], every.curve[measured])
    kept = third.success
    assert torch.equal(third.iteration[kept], measured[third.curve[measured].argmax(0)][kept] + 1)
    with pytest.raises(ValueError, match="measure_every: expected a whole number at least 1, got 0"):
        attack("topk", tiny, *tiny_batch, measure_every=0)


@pytest.mark.parametrize(("measure_every", "patience"), [(10, 5), (20, 1), (7, 12)])
def test_patience_looks_at_iterates_that_were_measured(measure_every, patience, tiny, tiny_batch):
    options = {"eps": 0.01, "step_size": 0.002, "steps": 100, "measure_every": measure_every}
    images, labels = (tensor[torch.arange(6) != 1] for tensor in tiny_batch)  # all labels stay
    full = attack("topk", tiny, images, labels, **options)
    assert full.success.all()
    short = attack("topk", tiny, images, labels, **options, patience=patience)
    assert len(short.curve) < 100
    assert short.success.all()
    for i, measured in enumerate(short.curve.isfinite().T):
        places = measured.nonzero().flatten() + 1
        torch.testing.assert_close(short.curve[places - 1, i], full.curve[places - 1, i], rtol=1e-3, atol=1e-4)
        if len(short.curve) not in places:  # it stopped: since the best, so many iterates were of no use
            assert places.max() - short.iteration[i] >= patience


def test_directions_can_come_from_another_method(tiny, tiny_batch):
    """Integrated gradients, guided by few points, or by the plain gradient."""
    method = saliency.IntegratedGradients(30, baseline=0.5)
    options = {"eps": 0.05, "steps": 10, "step_size": 0.01, "beta": 8.0}
    kept = {}
    for guide in (None, method, GRADIENT):
        result = attacks.run(ATTACKS["topk"], tiny, *tiny_batch, method, guide=guide, **options)
        assert result.method == method
        torch.testing.assert_close(result.maps, method(tiny, result.images, result.labels))
        kept[repr(guide)] = result.compare(20).topk_intersection.mean()
    assert method.guide() == saliency.IntegratedGradients(GUIDE_STEPS, 0.5, "gausslegendre")
    assert saliency.IntegratedGradients(5).guide() == saliency.IntegratedGradients(5)
    assert kept["None"] < kept[repr(GRADIENT)] + 0.2
    assert max(kept.values()) < 0.9


@pytest.mark.parametrize("name", [name for name in saliency.METHODS if name != "integrated-gradients"])
@pytest.mark.parametrize("which", ["mass-center", "targeted"])
def test_every_method_can_be_attacked_in_every_way(which, name, tiny, tiny_batch):
    options = {"baseline": 0.5} if name == "deeplift" else {"samples": 3} if name == "smoothgrad" else {}
    layered = torch.nn.Sequential(tiny.first, torch.nn.ReLU(), tiny.second, torch.nn.Flatten(), torch.nn.Linear(392, 5))
    model, images = (layered if name == "grad-cam" else tiny).eval().requires_grad_(False), tiny_batch[0]
    attack = ATTACKS[which]
    if name in attentive.METHODS:
        model, images = attentive.ours().float(), attentive.images(3)[0].float()
        attack = (
            attacks.Targeted(regions.rectangle(32, 32, top=0, left=0, bottom=9, right=9))
            if which == "targeted"
            else attack
        )
    method = saliency.METHODS[name](**options)
    result = attacks.run(
        attack, model, images, data.predict(model, images), method, eps=0.05, steps=8, step_size=0.01, beta=8.0
    )
    assert result.success.any()
    assert (result.dissimilarity >= result.dissimilarity_before).all()


class Soft(Tiny):
    """The tiny network, with softplus written out."""

    def forward(self, images):
        x = F.softplus(self.first(images * 2 - 1), 8.0, threshold=100)
        x = self.pool(F.softplus(self.second(x), 8.0, threshold=100))
        return self.last(x.flatten(1))


@pytest.mark.parametrize("method", [GRADIENT, saliency.DeepLift(0.5)], ids=["gradient", "deeplift"])
def test_a_network_smoothed_by_the_surrogate_can_be_attacked(method, tiny, tiny_batch):
    """A surrogate as the network itself, against the same network written out."""
    images, tiny, soft = tiny_batch[0].double(), tiny.double(), Soft().eval().requires_grad_(False).double()
    labels = data.predict(soft, images)
    options = {"eps": 0.05, "steps": 5, "step_size": 0.01, "seed": 2}
    found = attacks.run(attacks.TopK(20), softplus_surrogate(tiny, 8.0), images, labels, method, **options)
    expected = attacks.run(attacks.TopK(20), soft, images, labels, method, **options, beta=1.0)
    assert found.beta == 8.0
    assert found.surrogate_agrees.all()
    assert found.success.any()
    for field in ("images", "maps_before", "maps", "confidence", "curve"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field))


def test_beta_is_chosen_for_a_model_that_has_none(tiny, tiny_batch):
    images, labels = tiny_batch
    result = attacks.run(ATTACKS["topk"], tiny, images, labels, GRADIENT, eps=0.05, steps=1)
    assert result.beta == choose_beta(tiny, images)
    assert result.surrogate_agrees.double().mean() >= 0.95
    assert torch.equal(result.surrogate_agrees, softplus_surrogate(tiny, result.beta)(images).argmax(1) == labels)
    if result.beta > 1:
        agrees = softplus_surrogate(tiny, result.beta / 2)(images).argmax(1) == labels
        assert agrees.double().mean() < 0.95


def test_a_model_that_no_softplus_resembles_is_refused():
    class Other(torch.nn.Module):
        def forward(self, images):
            zero = torch.relu(images * 0).sum((1, 2, 3))  # is 0, and with softplus above 0
            return torch.stack([zero, torch.full_like(zero, 1e-30)], dim=1)

    with pytest.raises(ValueError, match="with no softplus does the surrogate agree"):
        choose_beta(Other().eval(), torch.rand(2, 3, 8, 8))


# --- Images that cannot be attacked ----------------------------------------------------------------------------------


def test_an_image_that_the_model_gets_wrong_is_reported_and_left_alone(tiny, tiny_batch):
    images, predicted = tiny_batch
    labels = predicted.clone()
    labels[2] = (labels[2] + 1) % 5
    result = attack("topk", tiny, images, labels)
    assert result.reasons[2] == f"predicted as class {predicted[2]}, not {labels[2]}"
    assert not result.success[2]
    assert torch.equal(result.images[2], images[2])
    assert result.labels_after[2] == predicted[2]
    assert result.curve[:, 2].isnan().all()
    others = attack("topk", tiny, images, predicted)
    torch.testing.assert_close(result.images[[0, 1, 3]], others.images[[0, 1, 3]])


OWN = torch.rand(6, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))  # an image for each
PATH = saliency.IntegratedGradients(3, OWN)
NOISY = saliency.SmoothGrad(samples=3, sigma=0.1, shared=False)


class Cubed(defences.Aggregate):
    """A reader's own, which is not what it inherits from."""

    def explain(self, model, images, targets, create_graph=False):
        attributions, logits = super().explain(model, images, targets, create_graph)
        return attributions.pow(3), logits


FOR_EACH = {
    "baselines of a path": PATH,
    "references": saliency.DeepLift(OWN),
    "noise": NOISY,
    "noise around a method with noise of its own": saliency.SmoothGrad(
        saliency.DeepLift(OWN), samples=2, sigma=0.1, shared=False
    ),
    "of the probability": saliency.OfProbability(PATH),
    "guided": saliency.Guided(NOISY, by=PATH),
    "mean of maps": defences.Aggregate((NOISY, PATH)),
    "votes": saliency.SmoothGrad(defences.TopShare(saliency.DeepLift(OWN)), samples=2, sigma=0.1, chunk=1),
    "smoother": defences.SoftplusExplanation(4.0, PATH),
    "Captum's": saliency.Guided(
        saliency.Captum(captum.attr.IntegratedGradients, baselines=saliency.Baseline(OWN), n_steps=3), by=GRADIENT
    ),
    "Captum's, a set for all images": saliency.Guided(
        saliency.Captum(captum.attr.DeepLiftShap, baselines=OWN), by=GRADIENT
    ),
    "a mean of one's own": Cubed((NOISY, PATH)),
    "noise of each image within noise": saliency.SmoothGrad(NOISY, samples=2, sigma=0.1),
}


@pytest.mark.parametrize("name", FOR_EACH)
def test_what_a_method_holds_for_an_image_stays_with_it(name, tiny, tiny_batch):
    """Where some images are wrong, or done early: the truth is the method on the whole batch."""
    tiny, images, method = tiny.double(), tiny_batch[0].double(), FOR_EACH[name]
    labels = tiny(images).argmax(1)
    labels[1] = (labels[1] + 1) % 5
    options = {"eps": 0.02, "steps": 30, "step_size": 0.02, "beta": 8.0, "patience": 3}
    result = attacks.run(attacks.TopK(20), tiny, images, labels, method, **options)
    torch.testing.assert_close(result.maps, method(tiny, result.images, labels), rtol=1e-9, atol=1e-12)
    assert result.reasons[1].startswith("predicted as class")
    assert result.success.sum() >= 3
    assert result.curve[:, torch.arange(6) != 1].isnan().any()  # some were done before others
    nothing = attacks.run(attacks.TopK(20), tiny, images, (tiny(images).argmax(1) + 1) % 5, method, **options)
    assert torch.equal(nothing.images, images)


@pytest.mark.parametrize("random_start", [False, True])
def test_when_every_image_is_wrong_nothing_is_attacked(random_start, tiny, tiny_batch):
    images, predicted = tiny_batch
    result = attack("topk", tiny, images, (predicted + 1) % 5, random_start=random_start)
    assert not result.success.any()
    assert torch.equal(result.images, images)


class Touchy(torch.nn.Module):
    """Predicts class 0 on one grey image; any change of a pixel changes its mind."""

    def forward(self, images):
        change = (images - 0.5).flatten(1)
        return torch.stack([images.pow(3).flatten(1).sum(1), change.abs().sum(1) * 1000], dim=1)


def test_an_image_on_which_no_iterate_keeps_the_label_comes_back_unperturbed():
    images = torch.full((1, 3, 4, 4), 0.5)
    for attempt in (attacks.TopK(2), attacks.RandomSign()):
        result = attacks.run(attempt, Touchy().eval(), images, torch.tensor([0]), GRADIENT, eps=0.1, steps=3)
        assert result.reasons == ("no iterate kept the label",)
        assert torch.equal(result.images, images)
        assert result.labels_after.tolist() == [0]
        assert result.linf == 0


def test_an_image_without_an_explanation_is_reported(tiny, tiny_batch):
    with torch.no_grad():
        tiny.last.weight.zero_()
        tiny.last.bias.copy_(torch.arange(5.0))
    images, _ = tiny_batch
    result = attack("topk", tiny, images, torch.full((6,), 4))
    assert set(result.reasons) == {"its map is zero everywhere"}


class Rooted(torch.nn.Module):
    """The root of mean squares of convolutions: on a black image it is 0, and its derivative 0 / 0."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Linear(8, 4)

    def forward(self, images):
        return self.last(self.first(images).square().mean((2, 3)).sqrt())


@pytest.mark.parametrize("which", [attacks.TopK(20), attacks.MassCenter(), attacks.RandomSign()], ids=str)
def test_an_image_whose_map_is_not_finite_is_reported_and_the_others_are_attacked(which):
    model = Rooted().eval().requires_grad_(False)
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images[1] = 0
    labels, others = data.predict(model, images), torch.tensor([True, False, True])
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).gather(1, labels[:, None]).sum(), x)
    assert torch.equal(gradient.isfinite().flatten(1).all(1), others)
    with pytest.raises(ValueError, match=r"Gradient: expected finite .* for 1 of 3 images, first for images\[1\];"):
        GRADIENT(model, images, labels)

    options = {"eps": 0.05, "steps": 5, "step_size": 0.01, "beta": 8.0}
    result = attacks.run(which, model, images, labels, GRADIENT, **options, seed=3)
    assert result.reasons == ("", "its map is not finite", "")
    assert (result.maps_before[1] == 0).all()
    assert torch.equal(result.images[1], images[1])
    assert result.curve[:, 1].isnan().all()
    noise = attacks.matched_noise(result, model)
    for i in (0, 2):
        alone = attacks.run(which, model, images[i : i + 1], labels[i : i + 1], GRADIENT, **options, seed=3 + i)
        table = result.compare(20)[i : i + 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(table, alone.compare(20), rtol=1e-4)
        noise_alone = attacks.matched_noise(alone, model)
        torch.testing.assert_close(noise.explanation[i], noise_alone.explanation[0], rtol=1e-3, atol=1e-6)


def test_an_interrupt_returns_the_best_so_far(tiny, tiny_batch, monkeypatch):
    calls = []

    def interrupted(problem, x):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return evaluate(problem, x)

    evaluate = attacks.MapProblem.evaluate
    monkeypatch.setattr(attacks.MapProblem, "evaluate", interrupted)
    result = attack("topk", tiny, *tiny_batch)
    assert len(result.curve) == 3
    assert result.success.any()


class Rounded(attacks.TopK):
    """A direction that suffers from TensorFloat-32, as far as a CPU can tell."""

    def direction(self, problem, x):
        signs = super().direction(problem, x)
        return -signs if torch.backends.cudnn.allow_tf32 else signs


def test_tensorfloat_32_is_for_those_who_ask_and_whose_signs_agree(tiny, tiny_batch):
    options = {"eps": 0.05, "steps": 3, "step_size": 0.01, "beta": 8.0}
    plain = attacks.run(Rounded(20), tiny, *tiny_batch, GRADIENT, **options)
    assert torch.equal(plain.images, attack("topk", tiny, *tiny_batch, steps=3).images)  # it was off
    with pytest.raises(ValueError, match="tf32: expected the signs of float32"):
        attacks.run(Rounded(20), tiny, *tiny_batch, GRADIENT, **options, tf32=True)
    attacks.run(attacks.TopK(20), tiny, *tiny_batch, GRADIENT, **options, tf32=True)


@pytest.mark.parametrize("allowed", [True, False])
def test_nothing_global_changes(tiny, tiny_batch, allowed):
    state = torch.random.get_rng_state()
    with precision.float32(allowed):
        attack("random", tiny, *tiny_batch)
        attack("topk", tiny, *tiny_batch)
        with pytest.raises(ValueError, match="tf32"):
            attacks.run(Rounded(20), tiny, *tiny_batch, GRADIENT, eps=0.1, steps=1, tf32=True)
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert (torch.tensor([1e-40]) * 0.5).item() > 0  # denormal numbers are what they were
    assert torch.nn.functional.relu(torch.tensor(-1.0)) == 0


# --- Bad input -------------------------------------------------------------------------------------------------------


IMAGES, LABELS = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
BAD = {
    "NaN image": ({"images": IMAGES * torch.nan}, "not finite"),
    "three dimensions": (
        {"images": IMAGES[0], "labels": LABELS[:1]},
        r"got shape \(3, 16, 16\); add the batch dimension",
    ),
    "0..255": ({"images": IMAGES * 255}, "divide by 255"),
    "bytes": ({"images": (IMAGES * 255).byte()}, "dtype torch.uint8"),
    "grey": ({"images": IMAGES[:, :1]}, r"got shape \(2, 1, 16, 16\)"),
    "no images": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "at least one image"),
    "an array": ({"images": IMAGES.numpy()}, "got ndarray"),
    "label 1000": ({"labels": torch.tensor([0, 1000])}, "expected classes from 0 to 4, got 1000"),
    "negative label": ({"labels": torch.tensor([0, -1])}, "got -1"),
    "too few labels": ({"labels": LABELS[:1]}, r"tensor \(2,\), got shape \(1,\)"),
    "float labels": ({"labels": LABELS.float()}, "dtype torch.float32"),
    "labels of another integer type": ({"labels": LABELS.int()}, r"dtype torch.int32; convert with labels.long\(\)"),
    "labels elsewhere": ({"labels": LABELS.to("meta")}, "on cpu, where the images are, got one on meta"),
    "eps 0": ({"eps": 0.0}, "eps: expected a number above 0, got 0"),
    "eps negative": ({"eps": -1.0}, "eps: expected a number above 0"),
    "eps NaN": ({"eps": float("nan")}, "eps: expected a number above 0"),
    "step size 0": ({"step_size": 0.0}, "step_size: expected a number above 0"),
    "no steps": ({"steps": 0}, "steps: expected a whole number"),
    "half a step": ({"steps": 1.5}, "steps: expected a whole number"),
    "k larger than the image": ({"attack": attacks.TopK(257)}, "k: expected a whole number from 1 to 255, got 257"),
    "beta": ({"beta": -1.0}, "beta: expected a number above 0"),
    "eps in levels": ({"eps": 8}, "eps: expected at most 1, since .*; for 8 levels give 8 / 255"),
    "a random start in words": ({"random_start": "no"}, "random_start: expected true or false, got"),
    "a number for TensorFloat-32": ({"tf32": 0}, "tf32: expected true or false, got 0"),
    "half a seed": ({"seed": 0.5}, "seed: expected a whole number, got 0.5"),
    "a seed without an end": ({"seed": 2**70}, "seed: expected a whole number from -.* to 9223372036854775807, got"),
    "a step without an end": ({"step_size": 10**400}, "step_size: expected a number above 0, got one of more than 30"),
    "steps without an end": ({"steps": 10**400}, "steps: expected a whole number from 1 to .*, got one of more"),
    "a class of attacks": ({"attack": attacks.TopK}, r"attack: expected .* TopK\(k=1000\), got the class TopK, which"),
    "a class of methods": ({"method": saliency.Gradient}, "method: .* got the class Gradient, which is still"),
    "the name of a method": ({"method": "gradient"}, r"method: expected a value such as Gradient\(\), got 'gradient'"),
    "the name of a guide": ({"guide": "gradient"}, "guide: expected a value such as"),
    "NumPy's steps": ({"steps": np.int64(3)}, r"steps: expected a whole number .*; convert with int\(\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case, tiny):
    change, message = BAD[case]
    options = {"attack": attacks.TopK(5), "images": IMAGES, "labels": LABELS, "method": GRADIENT} | change
    with pytest.raises(ValueError, match=message):
        attacks.run(**{"model": tiny, "eps": 0.1, "steps": 1} | options)


def test_training_mode_is_refused(tiny):
    tiny.pool.train()
    with pytest.raises(ValueError, match="training mode in pool"):
        attack("topk", tiny, IMAGES, LABELS)


# --- The paper's figures ---------------------------------------------------------------------------------------------


def means(result, k=1000):
    table = result.compare(k)
    return table[table.success].mean(numeric_only=True)


@pytest.mark.parametrize(("eps", "low", "high"), [(1, 0.40, 0.65), (8, 0.10, 0.30)], ids=["eps 1", "eps 8"])
def test_random_sign_on_squeezenet_is_near_the_paper(eps, low, high, squeezenet, correct):
    result = attacks.run(attacks.RandomSign(), squeezenet, correct.images, correct.labels, GRADIENT, eps=eps / 255)
    assert low <= means(result).topk_intersection <= high


def test_topk_on_squeezenet_in_25_steps_already_empties_the_top_pixels(squeezenet, correct):
    batch = correct[1:5]
    result = attacks.run(attacks.TopK(1000), squeezenet, batch.images, batch.labels, GRADIENT, eps=8 / 255, steps=25)
    assert result.success.sum() >= 3
    assert means(result).topk_intersection <= 0.03
    assert torch.equal(data.predict(squeezenet, result.images), batch.labels)


def test_a_targeted_attack_on_squeezenet_triples_the_mass_in_the_region(squeezenet, correct):
    batch = correct[1:4]
    masks = torch.stack([regions.region_from_slic(image, at=(40, 40), segments=30) for image in batch.images])
    result = attacks.run(
        attacks.Targeted(masks), squeezenet, batch.images, batch.labels, GRADIENT, eps=8 / 255, steps=25
    )
    assert (result.dissimilarity / result.dissimilarity_before).median() >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "steps", "most"), [(1, 60, 0.10), (8, 25, 0.03)], ids=["eps 1", "eps 8"])
def test_topk_on_squeezenet_reaches_the_papers_figure_3(eps, steps, most, squeezenet, correct):
    """In fewer steps than the paper's 300, which the stored results take."""
    assert len(correct) == 12
    options = {"eps": eps / 255, "steps": steps, "measure_every": 2}
    result = attacks.run(attacks.TopK(1000), squeezenet, correct.images, correct.labels, GRADIENT, **options)
    assert (~result.success).sum() <= 2
    assert means(result).topk_intersection <= most
    assert torch.equal(data.predict(squeezenet, result.images), correct.labels)


# --- What nobody here had prepared -----------------------------------------------------------------------------------


def test_a_type_that_cannot_hold_the_budget_is_refused(tiny, tiny_batch):
    images, labels = tiny_batch
    with pytest.raises(ValueError, match=r"images: expected a type that resolves the budget 1e-07, got torch.float32"):
        attacks.run(attacks.TopK(5), tiny, images, labels, GRADIENT, eps=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype, tiny, tiny_batch):
    images, labels = tiny_batch
    message = rf"images: .* of float32 or float64, got dtype {dtype}; convert with images.float\(\)"
    with pytest.raises(ValueError, match=message):
        attacks.run(attacks.TopK(5), tiny.to(dtype), images.to(dtype), labels, GRADIENT, eps=8 / 255)


def test_the_mass_centre_of_a_smooth_network_sets_out_down_and_to_the_right():
    """There the surrogate is the network: the centre is where it was, up to rounding."""
    model = Soft().eval().requires_grad_(False)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    attack, labels = attacks.MassCenter(), data.predict(model, images)
    result = attacks.run(attack, model, images, labels, GRADIENT, eps=0.01, steps=1, step_size=0.01)

    x = images.double().requires_grad_()
    scores = model.double()(x).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(scores, x, create_graph=True)
    (direction,) = torch.autograd.grad(metrics.center_of_mass(saliency.normalize(gradient)).sum(), x)
    moved = (result.images - images).sign()
    inside = (images > 0.02) & (images < 0.98)
    assert (moved == direction.sign())[inside].double().mean() > 0.99


@pytest.fixture
def passes_made(monkeypatch):
    """The walks there and back that were begun, each of which serves a map or a direction."""
    made = []
    begin = passes.Pass.__init__

    def noted(self, model, *arguments, **options):
        made.append(model)
        begin(self, model, *arguments, **options)

    monkeypatch.setattr(passes.Pass, "__init__", noted)
    return made


@pytest.mark.parametrize("measure_every", [1, 3])
@pytest.mark.parametrize("patience", [None, 2])
def test_of_a_smooth_network_map_and_direction_are_computed_at_once(measure_every, patience, passes_made, monkeypatch):
    model, (images, _) = attentive.ours(), attentive.images(3)
    labels = data.predict(model, images)
    options = {"eps": 0.05, "steps": 12, "step_size": 0.02, "measure_every": measure_every, "patience": patience}
    found = attacks.run(attacks.TopK(50), model, images, labels, GRADIENT, **options)
    together = len(passes_made)
    monkeypatch.setattr(maps, "_may_share", lambda *_: False)
    apart = attacks.run(attacks.TopK(50), model, images, labels, GRADIENT, **options)
    assert len(found.curve) == len(apart.curve)
    if patience is None:
        # The originals; each iterate that a direction is taken at, with its map; the map of the last.
        assert together == 1 + 12 + 1
    for field in TENSORS:
        torch.testing.assert_close(getattr(found, field), getattr(apart, field), rtol=1e-9, atol=1e-12, equal_nan=True)
    assert found.success.all()


class SoftIfDifferentiated(saliency.Method):
    """Displays the twenty largest values of the gradient, and lets an attack differentiate all of them."""

    def explain(self, model, images, targets, create_graph=False):
        gradient, logits = GRADIENT.explain(model, images, targets, create_graph)
        if create_graph:
            return gradient, logits
        return gradient * (
            gradient.abs() >= gradient.abs().flatten(1).kthvalue(748).values[:, None, None, None]
        ), logits


class Gated(torch.nn.Module):
    """A network that is smooth on images of which it has been told, and has a ReLU for all others."""

    def __init__(self):
        super().__init__()
        self.body, self.known = Soft(), torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def forward(self, images):
        logits, other = self.body(images), ~torch.isin(images, self.known).flatten(1).all(1, keepdim=True)
        return logits + other * F.relu(images - 0.5).flatten(1)[:, :5] if other.any() else logits


def watched(model):
    model.first.register_forward_hook(lambda *_: None)
    return model


def attack_apart(model, method=GRADIENT, attack=attacks.TopK(50), **options):  # noqa: B008 - a frozen value
    """Attack, and return what came of it and how often a map was shared with a direction."""
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels, shared = data.predict(model, images), []
    with pytest.MonkeyPatch.context() as patch:
        with_graph = maps.MapProblem._with_graph
        patch.setattr(maps.MapProblem, "_with_graph", lambda *given: shared.append(1) or with_graph(*given))
        given = {"eps": 0.05, "steps": 4, "step_size": 0.02} | options
        return attacks.run(attack, model, images, labels, method, **given), len(shared)


def soft():
    return Soft().eval().requires_grad_(False)


APART = {
    "a kink": lambda: {"model": Tiny().eval().requires_grad_(False)},
    "another guide": lambda: {"model": soft(), "method": saliency.IntegratedGradients(8, 0.4), "guide": GRADIENT},
    "another network": lambda: {"model": soft(), "attack": defences.Transfer(attacks.TopK(50), model=soft())},
    "another map when differentiated": lambda: {"model": soft(), "method": SoftIfDifferentiated()},
    "a hook": lambda: {"model": watched(soft())},
}


@pytest.mark.parametrize("name", APART)
def test_a_map_is_no_direction_where_they_are_of_different_things(name):
    given = APART[name]()
    result, shared = attack_apart(**given)
    assert shared == 0
    assert result.success.any()
    maps_again = given.get("method", GRADIENT)(given["model"], result.images, result.labels)
    torch.testing.assert_close(result.maps, maps_again, rtol=1e-4, atol=1e-7)


def test_a_network_that_turns_out_to_have_kinks_is_measured_itself():
    model = Gated().eval().requires_grad_(False)
    result, shared = attack_apart(model)
    assert shared == 4
    assert result.success.any()
    again = GRADIENT(model, result.images, result.labels)
    torch.testing.assert_close(result.maps, again, rtol=1e-4, atol=1e-7)
    by_surrogate = GRADIENT(softplus_surrogate(model, result.settings.beta), result.images, result.labels)
    assert (by_surrogate - again).abs().sum() > 0.01  # of a mass of 1 each


@pytest.mark.parametrize("attack", [attacks.TopK(50), attacks.MassCenter()], ids=str)
def test_rounding_moves_no_map_of_a_linear_network(attack):
    """Where the map is measured by one way of computing and its original by another, it would seem to move."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 14 * 14, 5))
    model = model.eval().requires_grad_(False)
    for apart in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "walks_are_quicker", lambda *_: False)
            patch.setattr(saliency.gradient, "walks_are_quicker", lambda *_: False)
            if apart:
                patch.setattr(maps, "_may_share", lambda *_: False)
            result, _ = attack_apart(model, attack=attack)
        assert not result.success.any()
        assert all("no direction" in reason for reason in result.reasons)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.to_sparse(), "got a sparse_coo tensor"),
        (lambda images: images.to("meta"), "got a meta tensor"),
        (lambda images: images.double(), r"model: it cannot take images \(3, 16, 16\) of torch.float64"),
    ],
    ids=["sparse", "meta", "another type"],
)
def test_images_of_other_kinds_are_refused_in_words(change, message, tiny, tiny_batch):
    with pytest.raises(ValueError, match=message):
        attacks.run(attacks.TopK(5), tiny, change(tiny_batch[0]), tiny_batch[1], GRADIENT, eps=0.1)


def test_images_made_in_inference_mode_are_refused_in_words(tiny, tiny_batch):
    with torch.inference_mode():
        images = tiny_batch[0] * 1
    with pytest.raises(ValueError, match="inference mode, which has no gradient"):
        attacks.run(attacks.TopK(5), tiny, images, tiny_batch[1], GRADIENT, eps=0.1)


def test_an_attack_in_inference_mode_is_refused_and_does_not_seem_to_fail(tiny, tiny_batch):
    with torch.inference_mode(), pytest.raises(ValueError, match=r"images: .* got a call in torch\.inference_mode\(\)"):
        attacks.run(attacks.TopK(5), tiny, *tiny_batch, GRADIENT, eps=0.1)


@pytest.mark.parametrize("budgets", [0.1, "0.1"], ids=["a number", "text"])
def test_budgets_that_are_no_sequence_are_refused(budgets, tiny, tiny_batch):
    with pytest.raises(ValueError, match="budgets: expected a sequence of numbers"):
        attacks.run_budgets(attacks.TopK(5), tiny, *tiny_batch, GRADIENT, budgets=budgets)


@pytest.mark.parametrize("beta", [1e-300, 1e300], ids=str)
def test_a_beta_without_a_meaning_is_refused(beta, tiny, tiny_batch):
    with pytest.raises(ValueError, match="beta: expected from 1e-6 to 1e6"):
        attacks.run(attacks.TopK(5), tiny, *tiny_batch, GRADIENT, eps=0.1, beta=beta)

"""Votes for the most salient pixels, hard and soft, and their mean over noise."""

import pytest
import torch
from references import batch, cifar

from fragile_utils import attacks, defences
from fragile_utils.defences import TopShare, sparsified_smoothgrad
from fragile_utils.saliency import Gradient, IntegratedGradients


def counted(model, images, targets, share, samples, sigma, seed):
    """How many copies of each image vote for each pixel, copy by copy and pixel by pixel."""
    noise = torch.randn(samples, 1, *images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images)
    counts = torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)
    for sample in noise:
        x = (images + sigma * sample).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)
        maps = gradient.abs().sum(1)
        for i, saliency_map in enumerate(maps):
            values = saliency_map.flatten().tolist()
            order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
            for j in order[: round(share * len(order))]:
                counts[i, j // images.shape[3], j % images.shape[3]] += 1
    return counts


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_votes_are_those_that_one_counts_copy_by_copy(chunk):
    model, (images, targets) = cifar(), batch()
    expected = counted(model, images, targets, share=0.1, samples=20, sigma=0.2, seed=4)
    method = sparsified_smoothgrad(share=0.1, samples=20, sigma=0.2, seed=4, chunk=chunk)
    votes = defences.count_votes(method, model, images, targets)
    assert torch.equal(votes.counts, expected)
    shown = expected.double() / expected.sum((1, 2), keepdim=True)
    torch.testing.assert_close(method(model, images, targets), shown)


def test_single_precision_counts_exactly():
    model, (images, targets) = cifar().float(), [t.float() if t.is_floating_point() else t for t in batch()]
    counts = defences.count_votes(sparsified_smoothgrad(share=0.25, samples=301), model, images, targets).counts
    assert (counts.sum((1, 2)) == 301 * 64).all()


def test_the_soft_vote_becomes_the_hard_one():
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hard = TopShare(share=0.2).votes(maps)
    assert (hard.sum((1, 2)) == 13).all()
    distances = [(TopShare(share=0.2, temperature=t).votes(maps) - hard).abs().max() for t in (0.3, 0.01, 1e-6)]
    assert distances[0] > 0.3
    assert distances[2] < 1e-3
    soft = TopShare(share=0.2, temperature=0.3).votes(maps)
    assert ((soft > 0.5) == hard.bool()).all()
    torch.testing.assert_close(TopShare(share=0.2, temperature=0.3).votes(5 * maps), soft)  # has no scale


def test_the_soft_vote_is_the_formula_and_its_gradient_that_of_finite_differences():
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    vote = TopShare(share=0.25, temperature=0.5)
    ordered = maps.flatten(1).sort(descending=True).values
    r = maps / (ordered[:, 3] * ordered[:, 4]).sqrt().view(-1, 1, 1)
    torch.testing.assert_close(vote.votes(maps), r**2 / (1 + r**2))
    assert torch.autograd.gradcheck(vote.votes, maps)
    zero = torch.zeros(1, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(vote.votes(zero).sum(), zero)
    assert torch.isfinite(gradient).all()


def test_a_pixel_that_is_not_salient_gets_no_vote():
    """Fewer pixels than the share are above zero: those, and no others."""
    maps = torch.zeros(3, 4, 4, dtype=torch.float64)
    maps[0, 1, 2], maps[0, 3, 3] = 0.75, 0.25
    maps[1] = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps[1, 0] = 0
    hard, soft = (TopShare(share=0.25, temperature=t).votes(maps) for t in (0.0, 1e-3))
    assert hard[0].nonzero().tolist() == [[1, 2], [3, 3]]
    assert (hard[1].sum(), hard[2].sum()) == (4, 0)
    torch.testing.assert_close(soft, hard)
    mild = TopShare(share=0.25, temperature=0.5).votes(maps)
    assert (mild[maps == 0] == 0).all()
    assert (mild[maps > 0] > 0).all()
    leaf = maps[1:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(TopShare(share=0.25, temperature=0.5).votes(leaf).square().sum(), leaf)
    ordered = maps[1].flatten().sort(descending=True).values

    def by_hand(values):  # the formula, of the pixels above zero, with the threshold as it moves with them
        s = values.flatten().sort(descending=True).values
        r = values[1:] / (s[3] * s[4]).sqrt()
        return (r**2 / (1 + r**2)).square().sum()

    assert ordered[4] > 0
    torch.testing.assert_close(gradient[0], torch.func.grad(by_hand)(maps[1]))


class Dead(torch.nn.Module):
    """The same logits for every image."""

    def forward(self, images):
        return torch.tensor([2.0, 0, 0]) + 0 * images.sum((1, 2, 3))[:, None]


def test_a_network_without_a_gradient_gets_no_votes_and_no_certificate_of_any():
    images, targets = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(2).long()
    votes = defences.count_votes(sparsified_smoothgrad(samples=200), Dead().eval(), images, targets)
    assert not votes.counts.any()
    assert not (defences.certify_pixels(votes) == 1).any()
    assert (defences.certified_overlap(votes, 10, 0.0) == 0).all()


def test_a_hard_vote_has_no_direction_and_its_guide_has():
    model, (images, targets) = cifar(), batch()
    targets = model(images).argmax(1)
    method = sparsified_smoothgrad(share=0.1, samples=8, sigma=0.05)
    options = {"eps": 0.05, "steps": 8, "step_size": 0.01}
    blind = attacks.run(attacks.TopK(20), model, images, targets, method, guide=method, **options)
    assert not blind.success.any()
    assert all("no direction" in reason for reason in blind.reasons)
    seeing = attacks.run(attacks.TopK(20), model, images, targets, method, **options)
    assert seeing.guide == method.guide() != method
    assert seeing.success.all()
    torch.testing.assert_close(seeing.maps, method(model, seeing.images, targets))


def test_the_guide_is_the_soft_vote_on_the_guide_of_what_votes():
    method = sparsified_smoothgrad(IntegratedGradients(50), share=0.1)
    assert method.guide().method == TopShare(IntegratedGradients(50).guide(), 0.1, defences.sparsified.TEMPERATURE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopShare(Gradient), "method: expected a value such as"),
        (lambda: TopShare(share=1.0), "share: expected a number above 0 and below 1"),
        (lambda: TopShare(share=0), "share: expected a number above 0"),
        (lambda: TopShare(temperature=-1), "temperature: expected"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

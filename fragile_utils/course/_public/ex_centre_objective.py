"""Public tests of ex-centre-objective. Written by `make exercises` from book/exercises."""

import torch
from scipy.ndimage import center_of_mass

from fragile_utils.course import finite_differences, same, true


def some_maps(draw, count=3, height=6, width=4):
    maps = torch.rand(count, height, width, generator=draw).double() ** 5
    return maps / maps.sum((1, 2), keepdim=True)


def centres(maps):
    return torch.tensor([center_of_mass(m.numpy()) for m in maps.detach()])


def compare(found, maps, before):
    shift = centres(maps) - centres(before)
    mistakes = {
        "this is the square of the distance": shift.square().sum(1),
        "this is minus the distance; D grows as the centre moves away": -shift.norm(
            dim=1
        ),
        "this is the sum of both coordinates' distances; take the Euclidean one": shift.abs().sum(
            1
        ),
        "one number for each map is wanted; this is their mean": shift.norm(
            dim=1
        ).mean(),
        "one number for each map is wanted; this is their sum": shift.norm(
            dim=1
        ).sum(),
    }
    same(
        found,
        shift.norm(dim=1),
        "the distances of the centres",
        mistakes=mistakes,
    )


def test_the_distance(centre_objective):
    """three pairs of maps, against SciPy"""
    draw = torch.Generator().manual_seed(1)
    maps, before = some_maps(draw), some_maps(draw)
    compare(centre_objective(maps, before), maps, before)


def test_its_slope(centre_objective):
    """its gradient is that of differences"""
    draw = torch.Generator().manual_seed(2)
    maps, before = some_maps(draw, 1), some_maps(draw, 1)
    x = maps.clone().requires_grad_()
    found = centre_objective(x, before)
    true(
        getattr(found, "requires_grad", False),
        "no gradient passes through it: it has to stay a tensor all the way",
    )
    (slope,) = torch.autograd.grad(found.sum(), x)
    expected = finite_differences(
        lambda m: centre_objective(m, before)[0], maps
    )
    same(slope, expected, "the slope of D", within=1e-5)


def test_the_start(centre_objective):
    """where nothing has moved the slope is finite, and not zero"""
    maps = some_maps(torch.Generator().manual_seed(3), 2)
    x = maps.clone().requires_grad_()
    found = centre_objective(x, maps)
    same(
        found,
        torch.zeros(2),
        "the distance of a map from itself",
        within=1e-6,
    )
    (slope,) = torch.autograd.grad(found.sum(), x)
    true(
        slope.isfinite(),
        "at distance zero the slope is not finite: the square root has none there",
    )
    true(
        slope.abs().amax((1, 2)) > 1e-3,
        "at distance zero the slope is zero, so that no attack can begin",
    )

"""Public tests of ex-mass-centre. Written by `make exercises` from book/exercises."""

import torch
from scipy.ndimage import center_of_mass

from fragile_utils.course import finite_differences, same, true


def compare(found, maps):
    expected = torch.tensor(
        [center_of_mass(m.numpy()) for m in maps.detach()]
    )
    _, height, width = maps.shape
    brightest = maps.flatten(1).argmax(1)
    total = maps.sum((1, 2))[:, None]
    mistakes = {
        "row and column are exchanged": expected.flip(1),
        "rows and columns are counted from 0, not from 1": expected + 1,
        "divide by the sum of the map": expected * total,
        "this is the brightest pixel; take the mean place, weighted by the map": torch.stack(
            [brightest // width, brightest % width], 1
        ),
        "this is a share of the height and the width; take pixels": expected
        / torch.tensor([height, width]),
    }
    same(found, expected, "the centres of mass", mistakes=mistakes)


def test_three_maps(mass_centre):
    """three maps, higher than wide, against SciPy"""
    maps = (
        torch.rand(
            3, 7, 4, generator=torch.Generator().manual_seed(8)
        ).double()
        ** 3
    )
    compare(mass_centre(maps), maps)


def test_it_can_be_differentiated(mass_centre):
    """a gradient passes through it"""
    maps = (
        torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(9))
        .double()
        .requires_grad_()
    )
    found = mass_centre(maps)
    true(
        getattr(found, "requires_grad", False),
        "no gradient passes through your centre: it has to stay a tensor, a sum",
    )
    (slope,) = torch.autograd.grad(found[0, 0], maps)
    expected = finite_differences(lambda m: mass_centre(m)[0, 0], maps)
    same(slope, expected, "the derivative of the centre's row", within=1e-5)

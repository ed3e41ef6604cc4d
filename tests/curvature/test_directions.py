"""How score and gradient bend along a direction: against the full matrix and finite differences."""

import pytest
import torch
from bends import BETA, SHAPE, TARGETS, build, directions
from networks import Tiny

from fragile_utils import curvature, saliency
from fragile_utils.models.surrogate import softplus_surrogate

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch.func


def test_curvature_along_eigenvectors_and_others(images, matrices):
    model = build("softplus")
    pairs = curvature.eigenpairs(model, images, TARGETS, k=1, tolerance=1e-9)
    of_first = curvature.along(model, images, TARGETS, 7 * pairs.vectors[:, 0])
    torch.testing.assert_close(of_first.along, pairs.values[:, 0], rtol=1e-6, atol=0)
    torch.testing.assert_close(of_first.turning, pairs.values[:, 0].abs(), rtol=1e-6, atol=0)
    v = directions()
    other, flat = curvature.along(model, images, TARGETS, v), v.flatten(1)
    quotient = torch.einsum("ni,nij,nj->n", flat, matrices, flat) / flat.square().sum(1)
    torch.testing.assert_close(other.along, quotient)
    assert (other.along.abs() <= other.turning).all()
    assert (other.turning < of_first.turning).all()


def test_cosine():
    a = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, 2.0], [6.0, 8.0], [1.0, 1.0]])
    torch.testing.assert_close(curvature.cosine(a, b), torch.tensor([0, 1, torch.nan]), equal_nan=True)
    with pytest.raises(ValueError, match="one shape"):
        curvature.cosine(a, b[:2])


def test_change_is_what_finite_differences_say(images):
    model, v = build("no kinks"), directions()
    eps = [1e-5, 1e-3, 1e-2, 0.1, 1.0]
    found = curvature.change(model, images, TARGETS, v, eps)
    g = [saliency.Gradient().explain(model, images + e * v, TARGETS)[0].flatten(1) for e in (0, *eps)]
    hd = curvature.product(model, images, TARGETS, v).flatten(1)
    for row, e in enumerate(eps):
        moved = g[row + 1] - g[0]
        torch.testing.assert_close(found.real[row], moved.norm(dim=1) / g[0].norm(dim=1))
        torch.testing.assert_close(found.predicted[row], e * hd.norm(dim=1) / g[0].norm(dim=1))
        torch.testing.assert_close(
            found.error[row], (moved - e * hd).norm(dim=1) / moved.norm(dim=1), rtol=1e-4, atol=1e-7
        )
        torch.testing.assert_close(found.cosine[row], curvature.cosine(moved, hd))
    assert found.eps == tuple(eps)


def test_without_kinks_the_error_falls_with_eps_and_at_a_kink_it_does_not(images):
    """Halving a small eps halves the error of a first-order prediction of something smooth."""
    v, eps = directions(), [1e-4, 2e-4]
    smooth = curvature.change(build("no kinks"), images, TARGETS, v, eps)
    torch.testing.assert_close(smooth.error[1] / smooth.error[0], torch.full((3,), 2.0).double(), rtol=0.05, atol=0)
    assert (smooth.error < 0.02).all()
    relu = build("softplus").model
    measured = curvature.change(build("softplus"), images, TARGETS, v, [0.01, 0.02], measured_on=relu)
    assert not torch.isclose(measured.real, smooth.real).any()
    start, moved = (saliency.Gradient().explain(relu, x, TARGETS)[0].flatten(1) for x in (images, images + 0.02 * v))
    torch.testing.assert_close(measured.real[1], (moved - start).norm(dim=1) / start.norm(dim=1))


def test_reach_is_where_the_error_first_passes_the_level():
    error = torch.tensor([[0.1, 0.6, 0.1], [0.2, 0.9, 0.2], [0.8, 0.3, 0.3], [0.4, 0.9, 0.4]])
    change = curvature.Change((0.1, 1.0, 10.0, 100.0), error, error, error, error)
    reach = change.reach()
    torch.testing.assert_close(reach, torch.tensor([10**0.5, torch.nan, torch.nan]), equal_nan=True)
    assert change.reach(0.25)[2] == pytest.approx(10**0.5)


# --- Bad input -------------------------------------------------------------------------------------------------------


IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
V = torch.ones(2, *SHAPE)
T = torch.tensor([0, 1])


BAD = {
    "dtype": (lambda m: curvature.along(m, IMAGES, T, V.double()), "got .* of torch.float64"),
    "NaN": (lambda m: curvature.change(m, IMAGES, T, V * torch.nan, [0.1]), "not finite"),
    "no direction": (lambda m: curvature.along(m, IMAGES, T, 0 * V), "no direction of length zero"),
    "eps falls": (lambda m: curvature.change(m, IMAGES, T, V, [0.2, 0.1]), "eps: expected increasing"),
    "one eps": (lambda m: curvature.change(m, IMAGES, T, V, 0.1), "eps: expected a sequence of numbers, got 0.1"),
    "lists": (lambda m: curvature.cosine([[1.0]], V), "two batches of directions .* got list and "),
    "no eps": (lambda m: curvature.change(m, IMAGES, T, V, []), "eps: expected increasing"),
    "eps 0": (lambda m: curvature.change(m, IMAGES, T, V, [0.0, 0.1]), "eps: expected a number above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(softplus_surrogate(Tiny().eval(), BETA))

"""Softplus and its derivatives, against the closed form and PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from fragile_utils.models.softplus import softplus

BETAS = [0.5, 1.0, 7.0]


def values(dtype, n=400):
    return torch.linspace(-60, 60, n, dtype=dtype)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-7), (torch.float64, 1e-14)], ids=["32", "64"])
def test_softplus_and_its_derivatives_equal_the_closed_form(beta, dtype, tolerance):
    x = values(dtype).requires_grad_()
    y = softplus(x, beta)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    z = x.detach().double() * beta
    expected = (
        torch.logaddexp(z, torch.zeros_like(z)) / beta,
        torch.sigmoid(z),
        beta * torch.sigmoid(z) * torch.sigmoid(-z),
    )
    for got, want in zip((y, first, second), expected, strict=True):
        assert got.dtype == dtype
        assert (got.detach().double() - want).abs().max() <= tolerance * max(1, 60, beta)


@pytest.mark.parametrize("beta", BETAS)
def test_softplus_passes_the_numerical_checks_of_both_derivatives(beta):
    x = torch.linspace(-4, 4, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: softplus(t, beta), x)
    assert torch.autograd.gradgradcheck(lambda t: softplus(t, beta), x)


def test_softplus_has_no_denormal_numbers():
    x = values(torch.float32, 5000).requires_grad_()
    y = softplus(x, 3.0)
    (first,) = torch.autograd.grad(y.sum(), x)
    for tensor in (y.detach(), first):
        assert not ((tensor != 0) & (tensor.abs() < torch.finfo(torch.float32).tiny)).any()
        assert (tensor == 0).any()


def test_a_third_derivative_is_exact_too():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((softplus(x, 2.0) + x**4).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    s = torch.sigmoid(2 * x.detach())
    torch.testing.assert_close(third, 4 * s * (1 - s) * (1 - 2 * s) + 24 * x.detach())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_softplus_works_under_vmap():
    def hessian(f):
        return torch.func.jacrev(torch.func.jacrev(f))

    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = torch.func.vmap(hessian(lambda row: softplus(row, 2.0).square().sum()))(x)
    expected = torch.func.vmap(hessian(lambda row: F.softplus(row, 2.0, threshold=100).square().sum()))(x)
    torch.testing.assert_close(got, expected)

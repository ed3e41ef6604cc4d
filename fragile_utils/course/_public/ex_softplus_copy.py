"""Public tests of ex-softplus-copy. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


class Block(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear = torch.nn.Linear(size, size).double()
        self.bend = torch.nn.ReLU()

    def forward(self, x):
        return x + self.bend(self.linear(x))


def a_network(seed):
    """A ReLU at the first level, and one two levels down."""
    torch.manual_seed(seed)
    inner = torch.nn.Sequential(Block(4), torch.nn.Linear(4, 3).double())
    first = torch.nn.Linear(5, 4).double()
    return torch.nn.Sequential(first, torch.nn.ReLU(), inner)


def written_out(model, x, *bends):
    """What the network computes with `bends` as its two activations."""
    first, _, (block, last) = model
    x = bends[0](first(x))
    return last(x + bends[1](block.linear(x)))


def softplus(beta):
    return lambda z: torch.log1p(torch.exp(beta * z)) / beta


def compare(softplus_copy, model, beta, x):
    found = softplus_copy(model, beta)
    true(found is not None, "got None; is there a return?")
    with torch.no_grad():
        expected = written_out(model, x, softplus(beta), softplus(beta))
        mistakes = {
            "no ReLU is replaced": written_out(
                model, x, torch.relu, torch.relu
            ),
            "only the ReLUs at the first level are replaced; some sit in modules within modules": written_out(
                model, x, softplus(beta), torch.relu
            ),
            "beta is not handed on: this is softplus with beta = 1": written_out(
                model, x, softplus(1), softplus(1)
            ),
        }
        same(
            found(x),
            expected,
            f"the scores of the surrogate with beta = {beta}",
            mistakes=mistakes,
        )


def test_every_relu(softplus_copy):
    """every ReLU becomes a softplus of the right sharpness, and the weights stay"""
    x = torch.randn(
        6, 5, generator=torch.Generator().manual_seed(1)
    ).double()
    for beta in (2, 0.5):
        compare(softplus_copy, a_network(1), beta, x)


def test_the_network_stays(softplus_copy):
    """the network that was given is the same afterwards"""
    model, x = (
        a_network(2),
        torch.randn(
            6, 5, generator=torch.Generator().manual_seed(2)
        ).double(),
    )
    before = model(x)
    copied = softplus_copy(model, 1)
    true(copied is not model, "this is the network itself; work on a copy")
    same(
        model(x),
        before,
        "the scores of the network that was given, afterwards (work on a copy)",
    )
    with torch.no_grad():
        next(copied.parameters()).zero_()
    same(
        model(x),
        before,
        "the network after a change of the copy's weights (copy deeply, they share their weights)",
    )

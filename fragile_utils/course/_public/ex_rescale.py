"""Public tests of ex-rescale. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


def layers(draw, inputs=4, units=5, classes=3):
    made = (
        torch.nn.Linear(inputs, units).double(),
        torch.nn.Linear(units, classes).double(),
    )
    with torch.no_grad():
        for layer in made:
            layer.weight.copy_(
                torch.randn(layer.weight.shape, generator=draw)
            )
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=draw))
    return made


def naive(first, second, x, x0, labels, slope):
    """Unit by unit, with `slope(z, z0)` of each."""
    found = torch.zeros_like(x)
    w, v, b = (
        first.weight.tolist(),
        second.weight.tolist(),
        first.bias.tolist(),
    )
    for n, label in enumerate(labels.tolist()):
        for j, row in enumerate(w):
            z, z0 = (
                b[j]
                + sum(
                    a * c for a, c in zip(row, y[n].tolist(), strict=True)
                )
                for y in (x, x0)
            )
            for i, weight in enumerate(row):
                found[n, i] += v[label][j] * slope(z, z0) * weight
    return found


def secant(z, z0):
    if abs(z - z0) < 1e-12:
        return float(z > 0)
    return (max(z, 0) - max(z0, 0)) / (z - z0)


def compare(found, first, second, x, x0, labels):
    multipliers = naive(first, second, x, x0, labels, secant)

    def mistakes():
        tangent = naive(
            first, second, x, x0, labels, lambda z, z0: float(z > 0)
        )
        ratio = naive(
            first, second, x, x0, labels, lambda z, z0: max(z, 0) / z
        )
        return {
            "this takes the derivative at x, the tangent; take the secant": (
                x - x0
            )
            * tangent,
            "this is max(z, 0) / z; take the differences to the reference above and below": (
                x - x0
            )
            * ratio,
            "these are the multipliers; a contribution is the multiplier times x - x0": multipliers,
            "a contribution is the multiplier times x - x0, not times x": x
            * multipliers,
            "this explains class 0, whatever the label": (x - x0)
            * naive(first, second, x, x0, labels * 0, secant),
        }

    same(
        found,
        (x - x0) * multipliers,
        "the contributions",
        within=1e-9,
        mistakes=mistakes,
    )


def inputs(draw, count=4):
    x, x0 = (
        torch.randn(count, 4, generator=draw).double() for _ in range(2)
    )
    return x, x0, torch.randint(3, (count,), generator=draw)


def test_the_contributions(rescale_rule):
    """four inputs, unit by unit"""
    draw = torch.Generator().manual_seed(1)
    given = *layers(draw), *inputs(draw)
    compare(rescale_rule(*given), *given)


def test_summation_to_delta(rescale_rule):
    """the contributions sum to the difference of the scores"""
    draw = torch.Generator().manual_seed(2)
    first, second = layers(draw)
    x, x0, labels = inputs(draw)
    delta = second(first(x).relu()) - second(first(x0).relu())
    total = rescale_rule(first, second, x, x0, labels).sum(1)
    same(
        total,
        delta.gather(1, labels[:, None])[:, 0],
        "the sums of the contributions",
    )


def test_a_unit_with_the_same_input_twice(rescale_rule):
    """where z = z0 the derivative stands in for 0/0"""
    draw = torch.Generator().manual_seed(3)
    first, second = layers(draw)
    x, x0, labels = inputs(draw)
    with torch.no_grad():
        first.weight[:2] = (
            0  # these two units see no input: one open, one shut
        )
        first.bias[:2] = torch.tensor([1.0, -1.0])
    found = rescale_rule(first, second, x, x0, labels)
    true(
        not found.isnan().any(),
        "NaN: where z = z0 the secant is 0/0; take the derivative there",
    )
    compare(found, first, second, x, x0, labels)

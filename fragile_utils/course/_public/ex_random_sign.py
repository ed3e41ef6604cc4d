"""Public tests of ex-random-sign. Written by `make exercises` from book/exercises."""

import torch

from fragile_utils.course import same, true


def grey(count=2, size=16):
    """Images in the middle of the range, where nothing is clipped."""
    return torch.full((count, 3, size, size), 0.5).double()


def signs(random_sign, seed, eps=0.1):
    return (
        random_sign(grey(), eps, torch.Generator().manual_seed(seed))
        - grey()
    ) / eps


def test_the_size(random_sign):
    """each value moves by exactly eps"""
    found = signs(random_sign, 1)
    true(
        found.shape == grey().shape,
        f"expected images of shape {tuple(grey().shape)}, got {tuple(found.shape)}",
    )
    true(found.abs() < 1 + 1e-5, "some value moves by more than eps")
    true(
        found.abs() > 1 - 1e-5,
        "each value has to move by eps, no more and no less; some move by less",
    )


def test_up_and_down(random_sign):
    """up and down are equally likely, for each value by itself"""
    found = signs(random_sign, 2)
    true(
        0.4 < (found > 0).double().mean() < 0.6,
        "up and down are not equally likely",
    )
    true(
        (found[0] != found[1]).any(),
        "both images get the same signs; draw one for each value",
    )
    true(
        (found[:, 0] != found[:, 1]).any(),
        "the colours of a pixel get the same sign; draw one for each value",
    )
    true(
        (found[0, 0] != found[0, 0, :1]).any(),
        "all rows get the same signs; draw one for each value",
    )


def test_the_range(random_sign):
    """the result is an image: clipped to [0, 1]"""
    black_and_white = torch.tensor([0.0, 1.0]).double().repeat(1, 3, 8, 4)
    found = random_sign(
        black_and_white, 0.25, torch.Generator().manual_seed(3)
    )
    true(
        (found >= 0) & (found <= 1),
        "a value leaves the range of an image: clip to [0, 1]",
    )
    true(
        ((found - black_and_white).abs() < 1e-6).any(),
        "what would leave the range has to stay at its border",
    )


def test_the_generator(random_sign):
    """the same seed gives the same noise, another seed another noise"""
    torch.manual_seed(1)
    first = signs(random_sign, 4)
    torch.manual_seed(2)
    same(
        signs(random_sign, 4),
        first,
        "the noise of the same generator, drawn again (use the generator that is given)",
    )
    true(
        (signs(random_sign, 5) != first).any(),
        "another seed gives the same noise",
    )

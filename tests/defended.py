"""What the tests of certificates share: many images within a ball, attacked and random, and their votes."""

from typing import NamedTuple

import torch
from networks import Tiny
from torch import Tensor

from fragile_utils import attacks, data, defences
from fragile_utils._base.seeds import random_signs

DEFENDED = {"sigma": 0.5, "rho": 0.05, "k": 60, "share": 0.3, "samples": 400}


class Perturbed(NamedTuple):
    votes: defences.Votes
    counts: list[Tensor]  # of each perturbation (N, H, W)
    distances: list[float]


def attacked_and_random(count, rho, images=3):
    """Of each image: a tenth of `count` from attacks, the others random in two ways, all at the edge of the ball."""
    with torch.random.fork_rng():
        network = Tiny().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    x = 0.2 + 0.6 * torch.rand(images, 3, 16, 16, generator=generator)
    labels = data.predict(network, x)
    how = DEFENDED
    method = defences.sparsified_smoothgrad(share=how["share"], samples=how["samples"], sigma=how["sigma"])
    votes = defences.count_votes(method, network, x, labels)
    counts, distances = [], []
    for number in range(count):
        if number % 10 == 0:
            change = attacked(network, x, labels, method, number)
        elif number % 2:
            change = torch.randn(x.shape, generator=generator)
        else:  # a patch
            change = torch.zeros_like(x)
            row, column = torch.randint(0, 12, (2,), generator=generator).tolist()
            change[:, :, row : row + 4, column : column + 4] = random_signs(x[:, :, :4, :4], number)
        change = change * (rho / change.flatten(1).norm(dim=1).clamp(min=1e-12)).view(-1, 1, 1, 1)
        shown = defences.redraw(method, seed=1000 + number)  # another count of the perturbed image's votes
        counts.append(defences.count_votes(shown, network, (x + change).clamp(0, 1), labels).counts)
        distances.append(change.flatten(1).norm(dim=1).max().item())
    return Perturbed(votes, counts, distances)


def attacked(network, x, labels, method, seed):
    """What an attack through the soft vote adds, from a random start."""
    guide = defences.redraw(method.guide(), seed, samples=8)
    attack = [attacks.TopK(DEFENDED["k"]), attacks.MassCenter()][seed // 10 % 2]
    how = {"eps": 0.05, "steps": 4, "step_size": 0.02, "beta": 8.0, "seed": seed, "random_start": True}
    result = attacks.run(attack, network, x, labels, defences.redraw(method, seed, samples=8), guide=guide, **how)
    return result.images - x

"""The four attacks on a small network, with few steps."""

from fragile_utils import attacks, saliency
from fragile_utils.attacks import regions

GRADIENT = saliency.Gradient()
REGION = regions.rectangle(16, 16, top=2, left=8, bottom=8, right=14)
ATTACKS = {
    "topk": attacks.TopK(20),
    "mass-center": attacks.MassCenter(),
    "targeted": attacks.Targeted(REGION),
    "random": attacks.RandomSign(),
}


def attack(name, tiny, images, labels, **options):
    options = {"eps": 0.05, "steps": 15, "step_size": 0.01, "beta": 8.0} | options
    return attacks.run(ATTACKS[name], tiny, images, labels, GRADIENT, **options)

"""Noise of the size of what an attack added: the control beside which a direction has to prove itself."""

import torch
from torch import Tensor, nn

from fragile_utils._base import once, precision
from fragile_utils._base.seeds import for_each, random_signs
from fragile_utils.attacks.base import confidence, finite_maps
from fragile_utils.attacks.objectives import RandomSign
from fragile_utils.attacks.result import MapResult, Outcome, rms
from fragile_utils.models.door import check_network

ROUNDS = 30  # of the search for the amplitude, which what is cut off at black and white makes larger than the size


def matched_noise(result: MapResult, model: nn.Module) -> Outcome:
    """Return the originals with random signs of the same root mean square as what an attack added to each.

    An attack seldom uses up its budget: at the same largest change, random signs have several times its energy. Here
    each image gets the energy of its own attack. An image on which the attack did not succeed stays as it is.

    Parameters
    ----------
    result : MapResult
        Of an attack; its seed draws the signs, image by image, as `RandomSign` does.
    model : Module
        That was attacked.

    Returns
    -------
    Outcome
        Of the noisy images, D as `RandomSign` has it; a map that is not finite is given as zeros. The noise is not
        chosen: it may change a prediction, so compare ``labels`` with those of `result`.

    Raises
    ------
    ValueError
        If the model does not have the confidence on the originals that the attack found.
    """
    originals, labels, method = result.before.images, result.labels, result.method
    check_network(model, originals)
    signs = for_each(random_signs, originals, result.settings.seeds(len(originals)))
    images = of_size(result.rms, signs, originals)
    with once.run(), precision.float32():  # by walks, as the attack measured
        _check_same(model, result)
        attributions, logits = method.explain(model, images, labels)
    (maps, _), noise = finite_maps(attributions), RandomSign()
    dissimilarity = noise.dissimilarity(maps, noise.reference(result.maps_before))
    return Outcome(images, maps, logits.argmax(1), confidence(logits, labels), dissimilarity)


@torch.no_grad()
def _check_same(model: nn.Module, result: MapResult) -> None:
    before = result.before
    if not torch.allclose(confidence(model(before.images), result.labels), before.confidence, rtol=1e-3, atol=1e-4):
        raise ValueError("model: expected the network that was attacked, got one of other confidence on the originals")


def of_size(size: Tensor, signs: Tensor, originals: Tensor) -> Tensor:
    """Return images (N, 3, H, W) in [0, 1] whose distance from `originals` along `signs` is `size` (N,), as an rms."""
    amplitude, images = size, originals
    for _ in range(ROUNDS):
        images = (originals + amplitude.view(-1, 1, 1, 1) * signs).clamp(0, 1)
        reached = rms(images - originals)
        amplitude = amplitude * torch.where(reached > 0, size / reached, 1)
    return images

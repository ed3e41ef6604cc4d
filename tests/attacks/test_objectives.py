"""The dissimilarity functions: each attack does what it says."""

import pytest
import torch
from small_attacks import GRADIENT, REGION, attack

from fragile_utils import attacks, data, metrics
from fragile_utils.models.surrogate import softplus_surrogate


def test_topk_lowers_the_mass_of_the_top_pixels(tiny, tiny_batch):
    result = attack("topk", tiny, *tiny_batch)
    top = metrics.top_mask(result.maps_before, 20)
    before, after = ((m * top).sum(dim=(1, 2)) for m in (result.maps_before, result.maps))
    torch.testing.assert_close(-after, result.dissimilarity)
    assert result.success.any()
    assert (after[result.success] < 0.8 * before[result.success]).all()


@pytest.mark.parametrize("k", [0, -3, 2.5, True], ids=repr)
def test_k_is_checked_when_the_attack_is_made(k):
    with pytest.raises(ValueError, match="k: expected a whole number"):
        attacks.TopK(k)


def test_all_pixels_have_no_top(tiny, tiny_batch):
    """They hold the whole mass of any map."""
    pixels = tiny_batch[0][0, 0].numel()
    with pytest.raises(ValueError, match=f"k: expected a whole number from 1 to {pixels - 1}, got {pixels}"):
        attacks.run(attacks.TopK(pixels), tiny, *tiny_batch, GRADIENT, eps=8 / 255, steps=2)


def test_random_sign_moves_every_value_by_eps_with_even_odds(tiny, tiny_batch):
    images = tiny_batch[0].repeat(4, 1, 1, 1)
    images = images * 0.9 + 0.05  # so that no pixel is cut off at 0 or 1
    result = attack("random", tiny, images, data.predict(tiny, images), eps=8 / 255)
    change = (result.images - images)[result.success]
    assert len(change) > 12
    torch.testing.assert_close(change.abs(), torch.full_like(change, 8 / 255), atol=1e-6, rtol=0)
    assert (change > 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert result.settings.steps == 1


# --- Mass centre and target ------------------------------------------------------------------------------------------


def test_mass_center_moves_the_centre_by_what_it_says(tiny, tiny_batch):
    result = attack("mass-center", tiny, *tiny_batch)
    shift = metrics.center_shift(result.maps_before, result.maps)
    torch.testing.assert_close(shift, result.dissimilarity)
    noise = attack("random", tiny, *tiny_batch)
    assert shift.mean() > 2 * metrics.center_shift(noise.maps_before, noise.maps).mean()


def test_a_distance_of_zero_has_a_direction(tiny, tiny_batch):
    """On a smooth network the first map is the reference itself; the attack must not stand still there."""
    smooth = softplus_surrogate(tiny, 8.0)
    maps = GRADIENT(smooth, *tiny_batch).requires_grad_()
    distance = attacks.MassCenter().dissimilarity(maps, metrics.center_of_mass(maps.detach()))
    assert torch.equal(distance, torch.zeros(6))
    assert (torch.autograd.grad(distance.sum(), maps)[0].flatten(1).abs().amax(1) > 0).all()


def test_a_targeted_attack_gathers_mass_in_the_region(tiny, tiny_batch):
    result = attack("targeted", tiny, *tiny_batch)
    before, after = (m[:, REGION].sum(1) for m in (result.maps_before, result.maps))
    torch.testing.assert_close(result.dissimilarity_before, before)
    torch.testing.assert_close(result.dissimilarity, after)
    assert (after[result.success] > 1.3 * before[result.success]).all()
    assert result.success.sum() >= 5


def test_each_image_can_have_a_region_of_its_own(tiny, tiny_batch):
    images, labels = tiny_batch
    masks = torch.stack([REGION.roll(i, dims=0) for i in range(6)])
    options = {"eps": 0.05, "steps": 5, "step_size": 0.01, "beta": 8.0}
    both = attacks.run(attacks.Targeted(masks), tiny, images, labels, GRADIENT, **options)
    third = attacks.run(attacks.Targeted(masks[2]), tiny, images, labels, GRADIENT, **options)
    torch.testing.assert_close(both.dissimilarity[2], third.dissimilarity[2])
    assert attacks.Targeted(masks) == attacks.Targeted(masks.clone()) != attacks.Targeted(REGION)
    assert repr(attacks.Targeted(REGION)) == "Targeted(region of 36 pixels)"


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (torch.ones(16, 16), "dtype torch.float32"),
        (torch.zeros(16, 16, dtype=torch.bool), "at least one pixel"),
        (torch.ones(16, dtype=torch.bool), r"got \(16,\)"),
        ([[True]], "got list"),
    ],
)
def test_bad_regions_are_refused(region, message):
    with pytest.raises(ValueError, match=message):
        attacks.Targeted(region)


def test_a_region_of_another_size_is_refused(tiny, tiny_batch):
    with pytest.raises(ValueError, match=r"region: expected a mask for maps of shape \(6, 16, 16\), got \(8, 8\)"):
        attacks.run(attacks.Targeted(torch.ones(8, 8, dtype=torch.bool)), tiny, *tiny_batch, GRADIENT, eps=0.1, steps=1)

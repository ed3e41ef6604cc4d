"""The judge: held-out noise, and how sure the mean over it is."""

import pytest
import torch

from fragile_utils import defences, metrics
from fragile_utils.defences import held_out, judge
from fragile_utils.saliency import Gradient, SmoothGrad

SHOWN = SmoothGrad(samples=3, sigma=0.2)


@pytest.fixture
def pair(tiny, tiny_batch):
    images, labels = tiny_batch
    changed = (images + 0.03 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    return tiny, images, changed, labels


def test_means_and_errors_are_those_over_the_draws(pair):
    model, before, after, labels = pair
    got = judge(SHOWN, model, before, after, labels, 20, draws=5, seed=2)
    tables = [metrics.compare(m(model, before, labels), m(model, after, labels), 20) for m in held_out(SHOWN, 5, 2)]
    for name in metrics.MEASURES:
        values = torch.tensor([table[name].tolist() for table in tables], dtype=torch.float64)
        assert got[name].tolist() == pytest.approx(values.mean(0).tolist())
        assert got[f"{name}_error"].tolist() == pytest.approx((values.std(0) / 5**0.5).tolist())
    assert (got.topk_intersection_error > 0).any()


def test_the_error_is_that_which_the_mean_has(pair):
    """Over many judges with other noise, the mean scatters as each of them says."""
    tables = [judge(SHOWN, *pair, 20, draws=4, seed=seed) for seed in range(40)]
    means = torch.tensor([table.rank_correlation.tolist() for table in tables])
    said = torch.tensor([table.rank_correlation_error.tolist() for table in tables]).square().mean().sqrt()
    assert means.std(0).square().mean().sqrt() == pytest.approx(said.item(), rel=0.2)


def test_noise_of_its_own_tells_an_image_from_itself(pair):
    model, before, _, labels = pair
    same = judge(SHOWN, model, before, before, labels, 20)
    assert (same.topk_intersection == 1).all()
    apart = judge(SHOWN, model, before, before, labels, 20, common=False)
    assert apart.topk_intersection.mean() < 0.95


def test_a_map_without_noise_has_no_error(pair):
    got = judge(Gradient(), *pair, 20)
    assert (got.filter(like="_error") == 0).all(axis=None)
    expected = metrics.compare(*(Gradient()(pair[0], x, pair[3]) for x in pair[1:3]), 20)
    assert (got[list(metrics.MEASURES)].to_numpy() == expected.to_numpy()).all()


def test_a_known_seed_is_judged_as_it_is_displayed(pair):
    got = judge(SHOWN, *pair, 20, displayed=[SHOWN])
    expected = metrics.compare(*(SHOWN(pair[0], x, pair[3]) for x in pair[1:3]), 20)
    assert (got[list(metrics.MEASURES)].to_numpy() == expected.to_numpy()).all()
    assert (got.filter(like="_error") == 0).all(axis=None)
    assert judge(SHOWN, *pair, 20, draws=1).topk_intersection_error.isna().all()


def test_no_noise_of_the_judge_is_that_of_a_small_seed():
    """The CPU's generator looks at 32 bits of its seed alone: 2 ** 32 is 0 again."""
    shown = [method.seed for seed in range(3) for method in held_out(SHOWN, 4, seed)]
    assert len({*shown}) == 12
    first = {torch.randn(1, generator=torch.Generator().manual_seed(seed)).item() for seed in range(1000)}
    assert not first & {torch.randn(1, generator=torch.Generator().manual_seed(seed)).item() for seed in shown}


def test_bad_arguments_are_refused(pair):
    model, before, after, labels = pair
    with pytest.raises(ValueError, match="expected two batches of one shape"):
        judge(SHOWN, model, before, after[:2], labels, 20)
    with pytest.raises(ValueError, match="draws: expected a whole number"):
        judge(SHOWN, model, before, after, labels, 20, draws=0)
    with pytest.raises(ValueError, match="displayed: expected at least one method"):
        judge(SHOWN, model, before, after, labels, 20, displayed=[])
    assert defences.held_out(Gradient(), 3) == [Gradient()]

"""The measures against SciPy and against naive versions, one image and one pixel at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, stats

from fragile_utils import metrics

# Few distinct values, so that ties are common; a first pixel of its own keeps the map from being constant.
values = st.integers(0, 6).map(float)
shapes = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7))


@st.composite
def two_batches(draw):
    shape = draw(shapes)
    a, b = (draw(arrays(np.float64, shape, elements=values)) for _ in range(2))
    a[:, 0, 0], b[:, -1, -1] = 7.0, 7.0
    return torch.from_numpy(a), torch.from_numpy(b)


@settings(deadline=None, max_examples=60)
@given(two_batches())
def test_rank_correlation_is_spearmans(batches):
    a, b = batches
    expected = [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(metrics.rank_correlation(a, b), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(two_batches())
def test_mass_center_is_scipys(batches):
    for maps in batches:
        expected = [ndimage.center_of_mass(m) for m in maps.numpy()]
        np.testing.assert_allclose(metrics.mass_center(maps), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(two_batches())
def test_center_shift_is_the_distance_of_the_centres(batches):
    a, b = batches
    expected = [
        np.hypot(*np.subtract(ndimage.center_of_mass(x), ndimage.center_of_mass(y)))
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(metrics.center_shift(a, b), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(shapes, st.data())
def test_topk_intersection_is_that_of_the_sets(shape, choose):
    n, height, width = shape
    rng = np.random.default_rng(choose.draw(st.integers(0, 2**32 - 1)))
    a, b = (rng.permuted(np.tile(np.arange(1.0, height * width + 1), (n, 1)), axis=1) for _ in range(2))  # no ties
    k = choose.draw(st.integers(1, height * width))
    expected = [len(set(np.argsort(-x)[:k]) & set(np.argsort(-y)[:k])) / k for x, y in zip(a, b, strict=True)]
    got = metrics.topk_intersection(*(torch.from_numpy(m).view(shape) for m in (a, b)), k)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(two_batches(), st.floats(0.01, 100))
def test_measures_do_not_depend_on_the_scale(batches, scale):
    a, b = batches
    for measure in (metrics.rank_correlation, metrics.center_shift, lambda x, y: metrics.topk_intersection(x, y, 3)):
        torch.testing.assert_close(measure(a, scale * b), measure(a, b))


def test_of_a_map_with_itself():
    maps = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    table = metrics.compare(maps, maps, k=10)
    assert list(table) == ["topk_intersection", "rank_correlation", "center_shift"]
    np.testing.assert_allclose(table, [[1, 1, 0]] * 3, atol=1e-6)


def test_the_centre_is_not_rounded():
    maps = torch.zeros(1, 5, 5)
    maps[0, 0, 0], maps[0, 0, 1] = 1, 3
    assert metrics.mass_center(maps).tolist() == [[0, 0.75]]


def test_float32_is_exact_enough_at_the_size_of_imagenet():
    a, b = torch.rand(2, 1, 227, 227, generator=torch.Generator().manual_seed(0))
    b = 0.7 * a + 0.3 * b
    expected = stats.spearmanr(a.numpy().ravel(), b.numpy().ravel()).statistic
    assert metrics.rank_correlation(a, b).item() == pytest.approx(expected, abs=1e-6)


def test_maps_may_be_views():
    many = torch.rand(8, 4, 5, generator=torch.Generator().manual_seed(0))
    one = many[:1].expand(4, -1, -1)
    expected = metrics.rank_correlation(one.contiguous(), many[::2].contiguous())
    torch.testing.assert_close(metrics.rank_correlation(one, many[::2]), expected)


def test_a_constant_map_has_no_ranks():
    assert metrics.rank_correlation(torch.ones(1, 3, 3), torch.rand(1, 3, 3)).isnan().all()


GOOD = torch.rand(2, 4, 4)
BAD = {
    "k larger than the map": (lambda: metrics.topk_intersection(GOOD, GOOD, 17), "from 1 to 16, got 17"),
    "k of 0": (lambda: metrics.topk_intersection(GOOD, GOOD, 0), "from 1 to 16, got 0"),
    "k not whole": (lambda: metrics.topk_intersection(GOOD, GOOD, 2.5), "whole number"),
    "shapes differ": (lambda: metrics.center_shift(GOOD, GOOD[:1]), "of one shape"),
    "NaN": (lambda: metrics.rank_correlation(GOOD, GOOD * torch.nan), "after: .*not finite"),
    "negative": (lambda: metrics.mass_center(-GOOD), "non-negative"),
    "an image": (lambda: metrics.mass_center(torch.rand(1, 3, 4, 4)), r"\(N, H, W\), got shape \(1, 3, 4, 4\)"),
    "integers": (lambda: metrics.mass_center(torch.ones(1, 4, 4, dtype=torch.long)), "dtype torch.int64"),
    "not a tensor": (lambda: metrics.mass_center(np.ones((1, 4, 4))), "got ndarray"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_message(case):
    action, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        action()


@pytest.mark.parametrize(
    ("height", "width", "k"),
    [(227, 227, 1000), (100, 100, 1000), (99, 101, 100), (32, 32, 100), (28, 28, 100), (10, 10, 25), (8, 8, 16)],
)
def test_how_many_pixels_count_depends_on_the_size(height, width, k):
    assert metrics.default_k(height, width) == k


def test_by_default_some_pixels_count_and_others_do_not():
    assert all(0 < metrics.default_k(1, pixels) <= pixels / 2 for pixels in range(2, 20_000))


def test_a_table_has_each_measure_under_its_name():
    before, after = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row = metrics.compare(before, after, k=7).iloc[0]
    old, new = before[0].numpy(), after[0].numpy()
    common = {*old.ravel().argsort()[-7:]} & {*new.ravel().argsort()[-7:]}
    assert row.topk_intersection == pytest.approx(len(common) / 7)
    assert row.rank_correlation == pytest.approx(stats.spearmanr(old.ravel(), new.ravel()).statistic)
    moved = np.subtract(ndimage.center_of_mass(old), ndimage.center_of_mass(new))
    assert row.center_shift == pytest.approx(np.hypot(*moved))


HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALVES)
def test_more_pixels_than_half_precision_can_count_are_counted(dtype):
    maps = torch.rand(1, 300, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    for share in (
        metrics.topk_intersection(maps, maps, 70_000),
        metrics.local_topk_intersection(maps, maps, 70_000, 0),
    ):
        assert (share.dtype, share.item()) == (dtype, 1)


@pytest.mark.parametrize("dtype", HALVES)
def test_centres_of_maps_of_half_precision_are_scipys(dtype):
    spot, even = torch.zeros(2, 1, 600, 600)
    spot[0, 599, 597], even[:] = 1, 1
    some = torch.rand(1, 600, 600, generator=torch.Generator().manual_seed(0)).square()
    maps = torch.cat([spot, even, some]).to(dtype)
    expected = [ndimage.center_of_mass(m) for m in maps.double().numpy()]
    np.testing.assert_allclose(metrics.mass_center(maps), expected, rtol=1e-5)
    shift = metrics.center_shift(maps[:1], maps[1:2]).item()
    assert shift == pytest.approx(np.hypot(*np.subtract(*expected[:2])), rel=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_measures_of_maps_of_half_precision_are_those_of_the_same_numbers_in_float32(dtype):
    maps = torch.randint(0, 200, (2, 3, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    whole, halved = (metrics.compare(*pair, k=10) for pair in (maps, maps.to(dtype)))
    np.testing.assert_allclose(halved, whole, rtol=4e-3)


# --- Locality --------------------------------------------------------------------------------------------------------


def naive_local_intersection(a, b, k, radius):
    """Pixel by pixel: the share of the top pixels that the other map has near, the smaller of both ways."""
    tops = [{(p // a.shape[1], p % a.shape[1]) for p in np.argsort(-m.ravel())[:k]} for m in (a, b)]

    def share(these, those):
        near = [any(abs(i - u) <= radius and abs(j - v) <= radius for u, v in those) for i, j in these]
        return sum(near) / k

    return min(share(*tops), share(*reversed(tops)))


def permuted(shape, seed):
    """Two batches of maps without ties."""
    rng = np.random.default_rng(seed)
    n, height, width = shape
    return (rng.permuted(np.tile(np.arange(1.0, height * width + 1), (n, 1)), axis=1).reshape(shape) for _ in range(2))


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(0, 8), st.integers(0, 2**32 - 1), st.data())
def test_local_intersection_is_the_naive_one_symmetric_and_monotone(shape, radius, seed, choose):
    a, b = permuted(shape, seed)
    k = choose.draw(st.integers(1, shape[1] * shape[2]))
    expected = [naive_local_intersection(x, y, k, radius) for x, y in zip(a, b, strict=True)]
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    got = metrics.local_topk_intersection(a, b, k, radius)
    np.testing.assert_allclose(got, expected)
    assert torch.equal(got, metrics.local_topk_intersection(b, a, k, radius))
    assert (got <= metrics.local_topk_intersection(a, b, k, radius + 1)).all()
    assert torch.equal(metrics.local_topk_intersection(a, b, k, 0), metrics.topk_intersection(a, b, k))


def test_a_map_that_moves_is_found_within_the_radius_and_not_beyond():
    """In the middle of the image, so that nothing leaves it."""
    before = torch.zeros(1, 20, 20)
    before[0, 8:11, 8:11] = torch.rand(3, 3) + 1
    after = before.roll((2, -1), (1, 2))
    assert metrics.topk_intersection(before, after, 9) < 0.5
    assert metrics.local_topk_intersection(before, after, 9, 1) < 1
    assert metrics.local_topk_intersection(before, after, 9, 2) == 1
    assert metrics.local_topk_intersection(before, before.roll(7, 2), 9, 3) == 0


def test_scattered_pixels_do_not_find_a_compact_map():
    compact, scattered = torch.zeros(2, 1, 12, 12)
    compact[0, :3, :3] = 1
    scattered[0, 1::4, 1::4] = 1
    assert metrics.local_topk_intersection(compact, scattered, 9, 1) == pytest.approx(1 / 9)


@pytest.mark.parametrize("radius", [-1, 1.0, True, "1", None])
def test_a_radius_that_is_no_whole_number_is_refused(radius):
    with pytest.raises(ValueError, match="radius: expected a whole number"):
        metrics.local_topk_intersection(torch.ones(1, 3, 3), torch.ones(1, 3, 3), 2, radius)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_local_intersection_keeps_the_dtype_and_takes_any_radius(dtype):
    a, b = torch.rand(2, 2, 5, 9).to(dtype)
    got = metrics.local_topk_intersection(a, b, 4, 10**6)
    assert got.dtype == dtype
    assert torch.equal(got, torch.ones(2, dtype=dtype))

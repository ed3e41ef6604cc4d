"""Regions of an image."""

import pytest
import torch

from fragile_utils.attacks import regions


def test_a_rectangle_is_where_it_is_said_to_be():
    mask = regions.rectangle(5, 6, top=1, left=2, bottom=3, right=6)
    assert mask.nonzero().tolist() == [[i, j] for i in (1, 2) for j in (2, 3, 4, 5)]


@pytest.mark.parametrize("edges", [(1, 2, 1, 3), (0, 0, 6, 3), (-1, 0, 2, 2), (0, 4, 2, 3)])
def test_an_empty_rectangle_or_one_outside_is_refused(edges):
    top, left, bottom, right = edges
    with pytest.raises(ValueError, match="expected 0 <= first < second <= 5"):
        regions.rectangle(5, 5, top=top, left=left, bottom=bottom, right=right)


@pytest.fixture
def halves():
    """An image whose left half is red and whose right half is blue."""
    image = torch.zeros(3, 32, 32)
    image[0, :, :16] = 1
    image[2, :, 16:] = 1
    return image


def test_superpixels_cover_the_image_and_follow_its_edges(halves):
    found = regions.superpixels(halves, segments=8)
    assert found.shape == (32, 32)
    assert found.unique().tolist() == list(range(int(found.max()) + 1))
    assert not set(found[:, :16].unique().tolist()) & set(found[:, 16:].unique().tolist())


def test_the_region_is_the_superpixel_at_a_pixel(halves):
    mask = regions.region_from_slic(halves, at=(3, 20), segments=8)
    assert mask.dtype == torch.bool
    assert mask[3, 20]
    assert not mask[:, :16].any()
    assert torch.equal(mask, regions.superpixels(halves, segments=8) == regions.superpixels(halves, segments=8)[3, 20])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: regions.superpixels(image[None]), r"image: expected a tensor \(3, H, W\), got \(1, 3, 32, 32\)"),
        (lambda image: regions.superpixels(image * 255), "divide by 255"),
        (lambda image: regions.superpixels(image, segments=0), "segments: expected a whole number"),
        (lambda image: regions.superpixels(image, compactness=0), "compactness: expected a number above 0"),
        (lambda image: regions.region_from_slic(image, at=(3, 32)), "at: expected a pixel"),
    ],
)
def test_bad_input_is_refused(call, message, halves):
    with pytest.raises(ValueError, match=message):
        call(halves)


# --- As one writes them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "places"), [("1, 2,3,4", (1, 2, 3, 4)), ("slic:5,6", (5, 6)), ("-1,0,2,2", (-1, 0, 2, 2))]
)
def test_a_region_is_read_as_it_is_written(text, places):
    assert regions.parse(text) == places
    assert regions.is_region(places)


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2,3", "slic:1,2,3,4", "slic:", "1,2,3,x", "1,2,3,4,5", "1.5,2,3,4", "9" * 5000]
)
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ValueError, match=r"^got '"):
        regions.parse(text)


@pytest.mark.parametrize("places", [None, "1,2,3,4", (1, 2, 3), (1, 2, 3, True), (1.0, 2.0), (), ((1, 2), (3, 4))])
def test_a_region_is_two_numbers_or_four(places, halves):
    assert not regions.is_region(places)
    with pytest.raises(ValueError, match="region: expected four numbers, or two"):
        regions.masks(places, halves[None])


def test_masks_are_those_of_rectangles_and_superpixels(halves):
    images = torch.stack([halves, halves.flip(2)])
    assert torch.equal(regions.masks((1, 2, 3, 4), images), regions.rectangle(32, 32, top=1, left=2, bottom=3, right=4))
    expected = torch.stack([regions.region_from_slic(image, (3, 20)) for image in images])
    assert torch.equal(regions.masks((3, 20), images), expected)


@pytest.mark.parametrize("edges", [{"top": "a"}, {"top": 1.5}, {"right": None}, {"left": True}], ids=str)
def test_edges_that_are_no_whole_numbers_are_refused(edges):
    with pytest.raises(ValueError, match="expected 0 <= first < second <= 8"):
        regions.rectangle(8, 8, **{"top": 0, "left": 0, "bottom": 4, "right": 4} | edges)


@pytest.mark.parametrize("at", [(1.5, 2.5), (1,), "12", None], ids=str)
def test_a_place_that_is_no_pixel_is_refused(at):
    with pytest.raises(ValueError, match="at: expected a pixel of an image"):
        regions.region_from_slic(torch.rand(3, 16, 16), at, segments=4)

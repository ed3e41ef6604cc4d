"""The plan of an audit: what applies, how long it will take, and what cannot be planned."""

import dataclasses

import pytest
import sweeps
from audits import code, small

from fragile_utils.experiments import audit


def test_the_plan_says_what_applies_and_how_long_it_takes():
    plan = audit.plan(small(methods=["gradient", {"name": "grad-cam", "layer": "none"}], images=100, k=None), code())
    assert [str(method) for method in plan.audit.methods] == ["gradient"]
    assert (plan.audit.images, plan.audit.k, plan.read) == (40, 64, 40)
    assert "none" in plan.refused["grad-cam"]
    assert plan.seconds["gradient"] > 0
    for words in ("40 images of sweeps:many_images", "gradient: about", "grad-cam does not apply", "expected time"):
        assert words in plan.describe()


def test_code_is_called_only_where_it_is_allowed():
    with pytest.raises(ValueError, match="sweeps:network is code of your own"):
        audit.plan(small())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 1, 0], r"got 2\.png with the pixels of 0\.png; leave"),
        ([0] * 4, r"got 1\.png with the pixels of 0\.png, and 2 more copies; leave"),
    ],
)
def test_copies_of_an_image_are_not_other_images(monkeypatch, rows, said):
    batch = sweeps.many_images(None, "crop", None)
    names = tuple(f"{place}.png" for place in range(len(rows)))
    copies = dataclasses.replace(batch[rows], names=names)
    monkeypatch.setattr(sweeps, "many_images", lambda **_: copies)
    with pytest.raises(ValueError, match=f"data: expected images that differ, {said}"):
        audit.plan(small(images=4), code(), "cpu")
    assert audit.plan(small(images=1), code(), "cpu").audit.images == 1


@pytest.mark.parametrize("k", [256, 1000])
def test_all_pixels_are_not_the_most_salient(k):
    with pytest.raises(ValueError, match=f"k: expected at most 255, less than the pixels of an image, got {k}"):
        audit.plan(small(k=k), code(), "cpu")

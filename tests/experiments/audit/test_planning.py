"""The plan of an audit: what applies, how long it will take, and what cannot be planned."""

import pytest
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


@pytest.mark.parametrize("k", [256, 1000])
def test_all_pixels_are_not_the_most_salient(k):
    with pytest.raises(ValueError, match=f"k: expected at most 255, less than the pixels of an image, got {k}"):
        audit.plan(small(k=k), code(), "cpu")

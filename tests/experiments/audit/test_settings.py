"""The settings of an audit: what is refused, and what a smaller one says that it leaves out."""

import pytest
from audits import small

from fragile_utils.experiments import audit


def test_what_a_whole_audit_does_besides_is_said(summary):
    assert audit.Audit(model="squeezenet", data="imagenet-samples").left_out({}) == []
    said = audit.quick("squeezenet", "imagenet-samples").left_out({"deeplift(baseline=0)": "the reason"})
    assert said[0] == "Not audited: input-x-gradient, integrated-gradients, deep-taylor, smoothgrad."
    assert "at most 6 of 2, in place of 100 of 0.5" in said[1]
    assert said[2] == "Images: 8, in place of 16; intervals from so few tend to be too narrow."
    assert small(images=1).left_out({})[-1] == "Images: 1, in place of 16; a single image has no interval."
    assert small().left_out({})[1] == "Budgets: 1, 2, 8, in place of 0.5, 1, 2, 4, 8."
    assert len(said) == 3
    assert summary["left_out"] == small(methods=["gradient", "grad-cam", "integrated-gradients"]).left_out({})


BAD = {
    "an unknown method": ({"methods": ["tea-leaves"]}, "methods: expected one of gradient"),
    "no method": ({"methods": []}, "methods: expected a list with at least one entry"),
    "no images": ({"images": 0}, "images: expected a whole number from 1 to "),
    "a budget of 300": ({"budgets": [300]}, "budgets: expected at most 255 levels"),
    "a network": ({"model": "net.onnx"}, "ONNX holds no network"),
    "no pixel": ({"k": 0}, "k: expected a whole number at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_audit_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        small(**changes)

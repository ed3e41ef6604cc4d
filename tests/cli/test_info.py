"""`fragile info`."""

import json

import torch


def test_info_says_what_is_there(fragile):
    status, out, _ = fragile("info", "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["torch"] == torch.__version__.split("+")[0]
    assert facts["imagenet-samples"] == "20 images"
    assert "cores" in facts["busy"]
    assert facts["FRAGILE_DATA"].startswith("missing")
    assert fragile("info")[1].count("\n") == len(facts)

"""The parts of a sweep, by name and with options."""

import pytest
import sweeps

from fragile_utils.experiments.choice import Choice


def test_a_single_part_needs_no_list():
    one = sweeps.small(methods="gradient", attacks={"name": "topk", "k": 3}, budgets=8)
    assert one == sweeps.small(methods=["gradient"], attacks=[{"name": "topk", "k": 3}], budgets=[8.0])
    assert one == sweeps.small(methods=[Choice("gradient")], attacks=[Choice("topk", (("k", 3),))], budgets=(8.0,))


BAD = {
    "an unknown network": ({"models": "squeezenest"}, "models: expected one of squeezenet, .*got 'squeezenest'"),
    "an unknown method": ({"methods": "tea-leaves"}, "methods: expected one of gradient"),
    "an unknown attack": ({"attacks": "poke"}, "attacks: expected one of topk"),
    "an unknown option": (
        {"methods": {"name": "gradient", "steps": 3}},
        "methods: gradient: unknown option 'steps'; it has no options",
    ),
    "a wrong option": ({"methods": {"name": "integrated-gradients", "steps": 0}}, "steps: expected a whole number"),
    "an attack for a method": ({"methods": "fragile_utils.attacks:TopK"}, "expected .* to be a saliency method"),
    "a method for an attack": ({"attacks": "fragile_utils.saliency:Gradient"}, "to be an attack, got Gradient"),
    "no such function": ({"methods": "fragile_utils.attacks:Top"}, "cannot find 'fragile_utils.attacks:Top'"),
    "no such module": ({"methods": "no_such_module:Top"}, "cannot find .*No module named"),
    "not a function": ({"methods": "fragile_utils.attacks:LEVEL"}, "to be a function, got float"),
    "a nameless method": ({"methods": {"steps": 3}}, "methods: expected a name, or"),
    "no methods": ({"methods": []}, "methods: expected a list with at least one entry"),
    "a number for a network": ({"models": 3}, "models: expected names, got 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_sweep_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        sweeps.small(**changes)

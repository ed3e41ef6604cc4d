"""The parts of a sweep, by name and with options."""

import pytest
import sweeps

from fragile_utils import saliency
from fragile_utils.experiments.choice import Choice
from fragile_utils.experiments.sweep import METHODS


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
    "an option of another type": (
        {"methods": {"name": "grad-cam", "layer": 3}},
        "methods: grad-cam: layer: expected text or null, got 3",
    ),
    "half a step": (
        {"methods": {"name": "integrated-gradients", "steps": 1.5}},
        "methods: integrated-gradients: steps: expected a whole number, got 1.5",
    ),
    "a method for a baseline": (
        {"methods": {"name": "deeplift", "baseline": {"name": "gradient"}}},
        "methods: deeplift: baseline: expected a Baseline or text or a number or a Tensor, got 'gradient'",
    ),
    "a wrong option of a method within one": (
        {"methods": {"name": "smoothgrad", "method": {"name": "gradient", "steps": 1}}},
        "methods: gradient: unknown option 'steps'",
    ),
    "an option beside code": (
        {"methods": {"name": "smoothgrad", "method": {"name": "my:method"}, "sigmas": 1}},
        "methods: smoothgrad: unknown option 'sigmas'",
    ),
    "methods within each other": (
        {"methods": {"name": "smoothgrad", "method": {"name": "a", "b": [[[[[[1]]]]]]}}},
        "methods: smoothgrad: method: a: b: expected options nested at most 5 deep",
    ),
    "options without an end": (
        {"methods": {"name": "deeplift", "baseline": [0] * 1001}},
        "methods: deeplift: baseline: expected at most 1,000 entries, got 1,001",
    ),
    "unknown options without an end": (
        {"methods": {"name": "gradient"} | {f"x{i}": i for i in range(1000)}},
        "methods: gradient: unknown option 'x0', 'x1', 'x2', ...; it has no options$",
    ),
    "too many options": (
        {"methods": {"name": "gradient"} | {f"x{i}": i for i in range(1001)}},
        "methods: gradient: expected at most 1,000 options, got 1,001$",
    ),
    "a long name of an option": (
        {"methods": {"name": "gradient", "x" * 201: 1}},
        "methods: gradient: expected at most 200 characters, got 201$",
    ),
    "a long name": ({"methods": "x" * 201}, "methods: expected at most 200 characters, got 201"),
    "a number that is none": (
        {"methods": {"name": "smoothgrad", "sigma": float("nan")}},
        "methods: smoothgrad: sigma: expected a finite number, got nan",
    ),
    "a nameless method": ({"methods": {"steps": 3}}, "methods: expected a name, or"),
    "no methods": ({"methods": []}, "methods: expected a list with at least one entry"),
    "a number for a network": ({"models": 3}, "models: expected a name, or"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_sweep_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        sweeps.small(**changes)


BAD_WHEN_IT_RUNS = {
    "an attack for a method": ({"methods": "fragile_utils.attacks:TopK"}, "expected .* to be a saliency method"),
    "a method for an attack": ({"attacks": "fragile_utils.saliency:Gradient"}, "to be an attack, got Gradient"),
    "no such function": (
        {"methods": "fragile_utils.attacks:Top"},
        "methods: cannot find fragile_utils.attacks:Top; in",
    ),
    "not a function": ({"methods": "fragile_utils.attacks:LEVEL"}, "to be a function, got float"),
    "no network": ({"models": "fragile_utils.attacks:TopK"}, "models: expected .* to return a torch.nn.Module"),
}


@pytest.mark.parametrize("case", BAD_WHEN_IT_RUNS)
def test_a_function_that_is_not_what_it_should_be_is_refused_when_the_sweep_runs(case, tmp_path):
    changes, message = BAD_WHEN_IT_RUNS[case]
    with pytest.raises(ValueError, match=message):
        sweeps.run(sweeps.small(**changes), tmp_path)


def test_a_module_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="cannot find a file of the module no_such_module, for no_such_module:Top"):
        sweeps.run(sweeps.small(methods="no_such_module:Top"), tmp_path)
    assert list(tmp_path.iterdir()) == []


PARSED = {
    "gradient": "gradient",
    "integrated-gradients:steps=50,baseline=mean": {"name": "integrated-gradients", "steps": 50, "baseline": "mean"},
    "smoothgrad:samples=5,sigma=0.1": {"name": "smoothgrad", "samples": 5, "sigma": 0.1},
    "targeted:region=[1, 2,3,4]": {"name": "targeted", "region": [1, 2, 3, 4]},
    "smoothgrad:method=(integrated-gradients:steps=3,baseline=0.5),samples=2": {
        "name": "smoothgrad",
        "method": {"name": "integrated-gradients", "steps": 3, "baseline": 0.5},
        "samples": 2,
    },
    "mine.py:method:deep=true,layer=null": {"name": "mine.py:method", "deep": True, "layer": None},
    "package.module:method": "package.module:method",
    "ig": "integrated-gradients",
    "ig:steps=50,baseline=blur": {"name": "integrated-gradients", "steps": 50, "baseline": "blur"},
    "smoothgrad:method=(ig:steps=3)": {"name": "smoothgrad", "method": {"name": "integrated-gradients", "steps": 3}},
    "mass-centre": "mass-center",
    "a:x=-3,y=1e-3,z=.5": {"name": "a", "x": -3, "y": 1e-3, "z": 0.5},
}


@pytest.mark.parametrize("text", PARSED)
def test_the_text_of_a_command_line_is_a_choice_as_in_a_configuration(text):
    assert Choice.parse(text, "method") == Choice.of(PARSED[text], "method")


@pytest.mark.parametrize("text", ["a:b=" + "(a:b=" * 9 + "1" + ")" * 9, "a:b=" + "[" * 9 + "]" * 9])
def test_options_nested_too_deep_are_refused(text):
    with pytest.raises(ValueError, match=r"method: .*expected options nested at most 5 deep"):
        Choice.parse(text, "method")


def test_a_method_may_be_guided_by_another():
    score, few = ({"name": "integrated-gradients", "steps": steps} for steps in (20, 5))
    misled = Choice.of({"name": "guided", "method": score, "by": {"name": "of-probability", "method": few}}, "methods")
    by = saliency.OfProbability(saliency.IntegratedGradients(5))
    assert misled.build(METHODS, "methods") == saliency.Guided(saliency.IntegratedGradients(20), by)

"""The graph under construction: nothing twice, nothing lost, and the traps of onnxruntime."""

import numpy as np
import onnx
import pytest
import torch
from exported import run

from fragile_utils.laboratory.graph import Graph, Spec, Value
from fragile_utils.laboratory.operators import OPERATORS
from fragile_utils.laboratory.trace import traced
from fragile_utils.laboratory.translate import translated

X = Value("x", (4,), torch.float32)


def model(function, x):
    return translated(*traced(lambda x: (function(x),), (x,), OPERATORS), (x,), ["x"], ["y"], "test")


def ran(function, x):
    return run(model(function, x), ["x"], (x,))[0]


def test_what_is_computed_twice_is_one_node():
    graph = Graph()
    first, second = (graph.add("Mul", X, graph.constant(2.0, torch.float32)) for _ in range(2))
    assert first == second
    assert graph.add("Mul", X, X) != first
    assert graph.add("Softmax", X, axis=0) != graph.add("Softmax", X, axis=-1)


def test_what_nobody_reads_is_left_out():
    graph = Graph()
    graph.add("Exp", X)
    graph.constant(5.0, torch.float32)
    y = Value(graph.add("Add", X, graph.constant(1.0, torch.float32)), (4,), torch.float32)
    made = graph.model("test", [X], [("y", y)])
    assert [node.op_type for node in made.graph.node] == ["Add", "Identity"]
    assert len(made.graph.initializer) == 1


def test_a_wrong_graph_is_found():
    graph = Graph()
    y = Value(graph.add("Relux", X), (4,), torch.float32)
    with pytest.raises(onnx.checker.ValidationError, match="Relux"):
        graph.model("test", [X], [("y", y)])


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        (np.arange(2000) / 8, np.float16),
        (np.arange(2000) / 3, np.float32),  # would be rounded
        (np.arange(2000) * 100, np.float32),  # would be infinite
        (np.arange(1000) / 8, np.float32),  # too few to matter
    ],
)
def test_half_precision_is_used_only_where_nothing_is_lost(numbers, kept):
    constant = torch.tensor(numbers, dtype=torch.float32)
    x = torch.rand(len(numbers))
    made = model(lambda x: x + constant, x)
    (stored,) = (onnx.numpy_helper.to_array(c) for c in made.graph.initializer)
    assert stored.dtype == kept
    assert torch.equal(run(made, ["x"], (x,))[0], x + constant)


def test_a_large_constant_of_one_number_takes_no_room():
    made = model(lambda x: x + torch.full((100, 100), 3.0), torch.rand(100, 100))
    assert len(made.SerializeToString()) < 1000


def test_a_large_constant_that_follows_from_weights_is_computed():
    weight = torch.rand(50, 50)
    made = model(lambda x: x + weight.clamp(min=0.5) + weight.clamp(max=0.5), torch.rand(50, 50))
    assert [c.dims for c in made.graph.initializer if len(c.dims) == 2] == [[50, 50]]


def test_filled_has_its_shape():
    graph = Graph()
    y = Value(graph.filled(2.5, Spec((2, 3), torch.float32)), (2, 3), torch.float32)
    assert torch.equal(run(graph.model("test", [X], [("y", y)]), ["x"], (torch.rand(4),))[0], torch.full((2, 3), 2.5))


# --- What onnxruntime does otherwise ---------------------------------------------------------------------------------


def test_the_logarithm_of_a_sigmoid_is_finite_where_softplus_ends():
    x = torch.linspace(-20, 20, 400)
    found = ran(lambda x: torch.sigmoid(x).log(), x)
    torch.testing.assert_close(found, x.double().sigmoid().log().float(), rtol=1e-6, atol=1e-6)


def test_softplus_and_its_slope_are_exact_in_the_tail():
    from fragile_utils.models.softplus import softplus_and_slope

    x = torch.cat([torch.linspace(-30, 10, 300), torch.tensor([-20.0, -19.999, 0.0])])
    for i, atol in enumerate((4e-6, 1e-12)):  # x - log(s) rounds; the slope s does not
        expected = softplus_and_slope(x, 1.0)[i]
        torch.testing.assert_close(ran(lambda x, i=i: softplus_and_slope(x, 1.0)[i], x), expected, rtol=1e-5, atol=atol)


def test_what_keeps_a_denominator_from_zero_is_kept():
    found = ran(lambda x: x / (x.abs() + 1e-9), torch.tensor([0.0, 1e-9, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("function", [torch.log1p, torch.expm1])
def test_small_numbers_keep_their_digits(function):
    x = torch.cat([10.0 ** torch.linspace(-30, 1, 200), -(10.0 ** torch.linspace(-30, -0.1, 200))])
    torch.testing.assert_close(ran(function, x), function(x.double()).float(), rtol=1e-6, atol=0)

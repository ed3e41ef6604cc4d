"""Tracing: what works in place is out of place, and no constant is changed on the way."""

import torch
from torch import nn

from fragile_utils.laboratory.operators import OPERATORS
from fragile_utils.laboratory.trace import traced

aten = torch.ops.aten


def targets(graph):
    return [node.target for node in graph.nodes if node.op == "call_function"]


def test_what_works_in_place_on_constants_is_out_of_place_as_well():
    weight = torch.tensor([1.0, 2.0, 3.0])

    def function(x):
        doubled = weight * 2  # depends on no argument
        kept = doubled + 1
        doubled.mul_(10)
        return (x * doubled + kept,)

    x = torch.ones(3)
    graph, constants = traced(function, (x,), OPERATORS)
    assert not [target for target in targets(graph) if target._schema.is_mutable]
    (found,) = torch.fx.Interpreter(torch.fx.GraphModule({}, graph)).run(x, *constants)
    assert torch.equal(found, torch.tensor([23.0, 45.0, 67.0]))
    assert torch.equal(weight, torch.tensor([1.0, 2.0, 3.0]))


def test_changes_of_slices_leave_no_copy_of_the_whole():
    def function(x):
        whole = x * 1
        first, second = whole[:2], whole[2:]
        first.mul_(2)
        second.mul_(3)
        return (torch.cat([second, first]),)

    graph, _ = traced(function, (torch.arange(4.0),), OPERATORS)
    assert aten.slice_scatter.default not in targets(graph)
    (found,) = torch.fx.Interpreter(torch.fx.GraphModule({}, graph)).run(torch.arange(4.0))
    assert found.tolist() == [6, 9, 0, 2]


def test_a_slice_across_a_change_reads_both():
    def function(x):
        whole = x * 1
        whole[1:3].mul_(10)
        return whole[2:], whole[:1], whole[::2]

    graph, _ = traced(function, (torch.arange(4.0),), OPERATORS)
    found = torch.fx.Interpreter(torch.fx.GraphModule({}, graph)).run(torch.arange(4.0))
    assert [x.tolist() for x in found] == [[20, 3], [0], [0, 20]]


def test_whatever_has_an_operator_is_kept_whole_and_the_rest_is_taken_apart():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU()).eval().requires_grad_(False)
    graph, constants = traced(lambda x: (network(x),), (torch.rand(1, 3, 8, 8),), OPERATORS)
    assert set(targets(graph)) <= {*OPERATORS, aten.full.default, aten.scalar_tensor.default}
    assert aten.convolution.default in targets(graph)
    assert len(constants) == 4

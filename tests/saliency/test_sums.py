"""Many points in little memory."""

import functools
from dataclasses import replace

import pytest
import torch
from references import batch, cifar, gradient_of

from fragile_utils._base import memory
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import IntegratedGradients, SmoothGrad, _sums


@pytest.mark.parametrize("make", [IntegratedGradients, SmoothGrad], ids=["integrated-gradients", "smoothgrad"])
def test_no_more_images_at_a_time_than_asked_for(make):
    model, (images, targets) = softplus_surrogate(cifar()), batch(3)
    model.requires_grad_(True)  # by autograd, which calls the model each time
    sizes = []
    handle = model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    results = []
    for chunk in (1, 2, 4, 7, 100):
        method = make(**{"steps" if make is IntegratedGradients else "samples": 9}, chunk=chunk)
        explain = functools.partial(method.explain, model, targets=targets, create_graph=True)
        sizes.clear()
        results.append(gradient_of(lambda x, explain=explain: explain(images=x)[0], images))
        assert max(sizes) <= chunk
    handle.remove()
    for result in results[:-1]:
        torch.testing.assert_close(result, results[-1], rtol=1e-9, atol=1e-12)


def test_the_graph_of_many_points_is_not_kept():
    model, (images, targets) = softplus_surrogate(cifar()), batch(2)
    model.requires_grad_(True)  # by autograd, whose graph can be counted
    kept = {}
    for chunk in (2, 40):
        method = IntegratedGradients(steps=20, chunk=chunk)
        attributions, _ = method.explain(model, images.clone().requires_grad_(), targets, create_graph=True)
        kept[chunk] = len(_reachable(attributions.grad_fn))
    assert kept[2] < 10 < kept[40]


@pytest.mark.parametrize(("held", "once"), [(0, 0), (3, 2), (4, 4), (100, 9 + 3)])
@pytest.mark.parametrize("make", [IntegratedGradients, SmoothGrad], ids=["integrated-gradients", "smoothgrad"])
def test_graphs_that_fit_are_kept_and_the_others_computed_again(make, held, once, monkeypatch):
    monkeypatch.setattr(memory, "images_at_once", lambda *_: 2)
    monkeypatch.setattr(memory, "images_held", lambda *_: held)
    model, (images, targets) = softplus_surrogate(cifar()), batch(3)
    model.requires_grad_(True)  # by autograd, which calls the model each time
    method = make(**{"steps" if make is IntegratedGradients else "samples": 3})
    x = images.clone().requires_grad_()
    sizes = []
    with model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0]))):
        attributions, logits = method.explain(model, x, targets, create_graph=True)
        of = attributions.square().sum() + logits.sum()
        (first,) = torch.autograd.grad(of, x, retain_graph=True)
    assert sum(sizes) == 2 * (9 + 3) - once  # nine points, and the logits of three images
    (again,) = torch.autograd.grad(of, x)  # nothing is kept for that
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    whole = replace(method, chunk=100).explain(model, x, targets, create_graph=True)
    (expected,) = torch.autograd.grad(whole[0].square().sum() + whole[1].sum(), x)
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)


def _reachable(node):
    seen, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return seen


def test_blocks_cover_each_pair_of_image_and_point_once():
    for rows, points, at_once in [(1, 100, 8), (3, 5, 7), (10, 4, 3), (8, 1, 8), (2, 3, 100)]:
        count = torch.zeros(rows, points, dtype=torch.long)
        for row, point in _sums.blocks(rows, points, at_once):
            count[row, point] += 1
            assert count[row, point].numel() <= at_once
        assert (count == 1).all()

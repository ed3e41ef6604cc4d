"""The two ways to solve with the Hessian, exact and by conjugate gradients."""

import numpy as np
import pytest
import torch
from classified import examples, flat, trained
from scipy.sparse import linalg as sparse

from fragile_utils import influence
from fragile_utils.influence import head, solvers


@pytest.mark.parametrize("classes", [2, 4])
def test_conjugate_gradients_equal_exact(classes):
    head, features, labels, test = trained(classes)
    exact, iterative = (
        influence.Influence(head, features, labels, solver)(*test)
        for solver in (influence.Exact(damping=0.01), influence.ConjugateGradients(damping=0.01))
    )
    torch.testing.assert_close(iterative, exact, rtol=1e-7, atol=1e-9)


def test_conjugate_gradients_equal_scipys():
    head, features, labels, test = trained()
    explain = influence.Influence(head, features, labels, influence.ConjugateGradients())
    sides = flat(head.gradients(*test)).view(-1, *head.theta.shape)
    ours = explain.divide(sides).flatten(1).numpy()
    for side, found in zip(sides.flatten(1).numpy(), ours, strict=True):
        solution, failed = sparse.cg(explain.hessian.matrix().numpy(), side, rtol=1e-12)
        assert not failed
        np.testing.assert_allclose(found, solution, atol=1e-8)


def test_a_right_hand_side_of_zero_gives_zero():
    head, features, labels, _ = trained()
    divide = influence.Influence(head, features, labels, influence.ConjugateGradients()).divide
    sides = torch.zeros(2, *head.theta.shape, dtype=torch.float64)
    sides[1, 0, 0] = 1
    assert (divide(sides)[0] == 0).all()
    assert torch.isfinite(divide(sides)).all()


def test_conjugate_gradients_that_do_not_converge_say_so():
    head, features, labels, test = trained()
    explain = influence.Influence(head, features, labels, influence.ConjugateGradients(steps=2))
    with pytest.raises(ValueError, match="did not converge in 2 steps"):
        explain(*test)


def dependent(l2):
    """Two equal columns: directions in which the loss is flat."""
    features, labels = examples(n=300, width=3)
    features = torch.cat([features, features[:, :1]], 1)
    return influence.Head(features.mean(0), features.std(0), torch.zeros(2, 5).double(), l2), features, labels


@pytest.mark.parametrize("case", ["equal columns", "more features than examples"])
def test_a_singular_hessian_is_refused_and_damping_cures_it(case):
    head, features, labels = dependent(l2=0.0)
    if case == "more features than examples":
        features, labels = examples(n=30, width=40)
        head = influence.Head(features.mean(0), features.std(0), torch.zeros(2, 41).double(), 0.0)
    with pytest.raises(ValueError, match=r"singular.*damping > 0"):
        influence.Influence(head, features, labels)
    inputs, probabilities = head.inputs(features), head(features).softmax(1)
    damped = solvers.TrainingHessian(inputs, probabilities, head.basis, 1e-3)
    sides = torch.ones(2, *head.theta.shape, dtype=torch.float64)
    torch.testing.assert_close(damped.product(influence.Exact().solver(damped)(sides)), sides)


def test_a_tolerance_at_which_zero_is_a_solution_is_refused():
    for tolerance in (1.0, 10.0):
        with pytest.raises(ValueError, match=f"tolerance: expected a number above 0 and below 1, got {tolerance}"):
            influence.ConjugateGradients(tolerance=tolerance)


def test_too_large_a_hessian_is_refused_before_it_is_written_down():
    hessian = solvers.TrainingHessian(torch.ones(2, 30_001), torch.ones(2, 2) / 2, head._sum_to_zero(2, None), 0.1)
    with pytest.raises(ValueError, match=r"30,001 parameters takes 7 GB: use ConjugateGradients\(\)"):
        influence.Exact().solver(hessian)


@pytest.mark.parametrize("damping", [-1.0, float("nan"), True])
def test_damping_is_checked_when_the_solver_is_made(damping):
    for solver in (influence.Exact, influence.ConjugateGradients):
        with pytest.raises(ValueError, match="damping: expected a number, 0 or above"):
            solver(damping=damping)

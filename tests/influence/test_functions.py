"""Influence against its definition and retraining."""

import warnings

import numpy as np
import pytest
import torch
from classified import L2, examples, flat, trained
from scipy import stats
from torch import nn

from fragile_utils import influence

# --- The Hessian -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_hessian_is_that_of_the_training_objective(classes):
    head, features, labels, _ = trained(classes)
    inputs = head.inputs(features)

    def objective(theta):
        losses = nn.functional.cross_entropy(inputs @ theta.T @ head.basis.T, labels)
        return losses + L2 / 2 * theta.square().sum()

    expected = torch.autograd.functional.hessian(objective, head.theta)
    hessian = influence.Influence(head, features, labels).hessian
    torch.testing.assert_close(hessian.matrix(), expected.reshape(hessian.size, hessian.size))
    vectors = torch.randn(7, *head.theta.shape, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(hessian.product(vectors).flatten(1), vectors.flatten(1) @ hessian.matrix())


def test_l2_is_part_of_the_hessian_and_damping_comes_on_top():
    head, features, labels, test = trained()
    more = influence.Influence(head, features, labels).hessian.matrix()
    more += 0.1 * torch.eye(len(more)).double()
    expected = -flat(head.gradients(*test)) @ torch.linalg.solve(more, flat(head.gradients(features, labels)).T)
    torch.testing.assert_close(
        influence.Influence(head, features, labels, influence.Exact(damping=0.1))(*test), expected
    )


# --- The sign and the definition -------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_influence_is_minus_gradient_times_inverse_hessian_times_gradient(classes):
    head, features, labels, test = trained(classes)
    explain = influence.Influence(head, features, labels)
    inverse = np.linalg.inv(explain.hessian.matrix().numpy())
    expected = -flat(head.gradients(*test)).numpy() @ inverse @ flat(head.gradients(features, labels)).numpy().T
    np.testing.assert_allclose(explain(*test).numpy(), expected, atol=1e-10)


def test_influence_is_the_rate_at_which_the_test_loss_grows_with_the_weight():
    head, features, labels, test = trained()
    scores = influence.Influence(head, features, labels)(*test)
    for i in (0, 33, 79):
        losses = []
        for change in (1e-4, -1e-4):
            weights = torch.ones(80)
            weights[i] += 80 * change  # the objective is (1 / n) sum_j w_j L_j, upweighting adds epsilon L_i to it
            losses.append(head.refit(features, labels, weights).loss(*test))
        torch.testing.assert_close((losses[0] - losses[1]) / 2e-4, scores[:, i], rtol=1e-3, atol=1e-3)


def test_an_example_is_helpful_to_itself():
    head, features, labels, _ = trained()
    own = influence.Influence(head, features, labels)(features, labels).diagonal()
    assert (own < 0).all()


def test_influence_predicts_leave_one_out_retraining():
    head, features, labels, test = trained(2)
    scores = influence.Influence(head, features, labels)(*test)
    before = head.loss(*test)
    changes = []
    for i in range(30):
        weights = torch.ones(80)
        weights[i] = 0
        changes.append(head.refit(features, labels, weights).loss(*test) - before)
    predicted = -scores[:, :30] / 80
    for t in range(len(before)):
        actual = torch.stack(changes)[:, t]
        assert np.corrcoef(actual, predicted[t])[0, 1] > 0.95
    assert (torch.stack(changes).T / predicted).median().item() == pytest.approx(1, abs=0.15)  # the scale and the sign


def test_a_duplicate_has_the_same_influence_and_shares_it():
    features, labels = examples(n=80)
    twice, twice_labels = torch.cat([features, features[:1]]), torch.cat([labels, labels[:1]])
    test = examples(n=6, seed=9)
    scores = influence.Influence(influence.fit(twice, twice_labels), twice, twice_labels)(*test)
    torch.testing.assert_close(scores[:, 0], scores[:, 80])
    order = influence.most(scores, 81)
    assert all(abs(row.index(80) - row.index(0)) == 1 for row in order.tolist())  # neighbours in every ranking


def test_nan_features_are_refused():
    head, features, labels, (test, test_labels) = trained()
    test = test.clone()
    test[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        influence.Influence(head, features, labels)(test, test_labels)


def test_labels_out_of_range_are_refused():
    head, features, labels, _ = trained(2)
    with pytest.raises(ValueError, match="expected classes from 0 to 1, got 2"):
        influence.Influence(head, features, labels + 1)


@pytest.mark.parametrize("change", ["weights", "examples", "labels", "l2", "untrained"])
def test_a_head_that_was_not_trained_on_the_examples_is_refused(change):
    """Influences are derivatives at the optimum: elsewhere they predict nothing."""
    head, features, labels, _ = trained()
    given = features, labels
    if change == "weights":
        head = head.refit(features, labels, torch.rand(80, generator=torch.Generator().manual_seed(0)))
    elif change == "examples":
        given = features[:60], labels[:60]
    elif change == "labels":
        given = features, labels.roll(1)
    else:
        theta, l2 = (head.theta, 10 * head.l2) if change == "l2" else (0 * head.theta, head.l2)
        head = influence.Head(head.mean, head.scale, theta, l2)
    for solver in (influence.Exact(0.1), influence.ConjugateGradients(0.1)):
        with pytest.raises(ValueError, match="head: expected one trained on these examples, each with the weight 1"):
            influence.Influence(head, *given, solver)


@pytest.mark.parametrize("l2", [1e300, 1e6, 1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("separable", [False, True])
def test_every_head_that_is_fitted_is_taken(l2, separable):
    for classes, seed in ((2, 0), (4, 1)):
        features, labels = examples(n=50, classes=classes, seed=seed)
        if separable:
            features = torch.cat([features, nn.functional.one_hot(labels).double()], 1)
        for given in (features, features.float(), 1e-6 * features + 1):
            head = influence.fit(given, labels, l2=l2)
            influence.Influence(head, given, labels, influence.Exact(damping=0.1))
            influence.Influence(head.refit(given, labels.flip(0)), given, labels.flip(0), influence.Exact(damping=0.1))


def test_features_computed_again_with_other_rounding_are_those_that_a_head_was_trained_on():
    head, features, labels, test = trained()
    again = influence.Influence(head, features.float(), labels)(*test)
    torch.testing.assert_close(again, influence.Influence(head, features, labels)(*test), rtol=1e-3, atol=1e-4)


def test_a_solver_that_is_none_is_refused():
    head, features, labels, _ = trained()
    for solver in (influence.Exact, "exact"):
        with pytest.raises(ValueError, match=r"solver: expected a value such as Exact\(\), got"):
            influence.Influence(head, features, labels, solver)
    with pytest.raises(ValueError, match="head: expected a value such as fit"):
        influence.Influence("head", features, labels)


@pytest.mark.parametrize(
    "chosen", [torch.tensor([[80]]), torch.tensor([[-1, 0]]), torch.tensor([0]), torch.zeros(1, 1), [[0]]], ids=str
)
def test_a_pull_of_no_examples_is_refused(chosen):
    head, features, labels, _ = trained()
    with pytest.raises(ValueError, match=r"chosen: expected indices \(T, m\) of training examples, from 0 to 79"):
        influence.Influence(head, features, labels).pull(chosen)


# --- The pull on a test image ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_free", [False, True])
def test_total_is_the_sum_of_the_chosen_influences(scale_free):
    head, features, labels, test = trained()
    explain = influence.Influence(head, features, labels)
    scores = explain(*test)
    chosen = influence.most(scores, 3)
    expected = scores.gather(1, chosen).sum(1)
    if scale_free:
        expected = expected / (head(test[0]).softmax(1) - nn.functional.one_hot(test[1])).norm(dim=1)
    torch.testing.assert_close(explain.total(*test, explain.pull(chosen), scale_free), expected)


@pytest.mark.parametrize("scale_free", [False, True])
def test_the_gradient_with_respect_to_the_image_is_exact(scale_free, tiny, tiny_batch):
    tiny, images = tiny.double(), tiny_batch[0].double()
    features = influence.Features(tiny, "pool")
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    head = influence.fit(features.extract(images), labels)
    explain = influence.Influence(head, features.extract(images), labels)
    pull = explain.pull(influence.most(explain(features.extract(images), labels), 3))

    def total(x):
        return explain.total(features(x), labels[:2], pull[:2], scale_free)

    assert torch.autograd.gradcheck(total, (images[:2].requires_grad_(),), fast_mode=True)


# --- Rankings --------------------------------------------------------------------------------------------------------


SCORES = torch.tensor([[0.5, -3.0, 2.0, -1.0, 0.0, 2.0]])


def test_most_puts_the_largest_influence_on_its_side_first():
    assert influence.most(SCORES, 3).tolist() == [[1, 3, 4]]
    assert influence.most(SCORES, 3, "harmful").tolist() == [[2, 5, 0]]


def test_rank_correlation_is_scipys_with_ties():
    generator = torch.Generator().manual_seed(0)
    before, after = torch.randint(-5, 5, (2, 6, 50), generator=generator).double()
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(before, after, strict=True)]
    np.testing.assert_allclose(influence.rank_correlation(before, after), expected)


def test_top_overlap_is_the_share_of_a_set():
    generator = torch.Generator().manual_seed(1)
    before, after = torch.randn(2, 6, 30, generator=generator)
    expected = [
        len({*a.argsort()[:5].tolist()} & {*b.argsort()[:5].tolist()}) / 5 for a, b in zip(before, after, strict=True)
    ]
    np.testing.assert_allclose(influence.top_overlap(before, after, 5), expected)
    assert influence.top_overlap(SCORES, -SCORES, 4).item() == 0.5


def test_one_influence_that_is_constant_ranks_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert influence.rank_correlation(torch.zeros(1, 4), torch.arange(4.0)[None]).isnan().all()


BAD = {
    "NaN": (lambda: influence.most(torch.full((1, 3), torch.nan), 1), "not finite"),
    "one row": (lambda: influence.most(torch.zeros(3), 1), r"expected finite influences \(T, N\), got \(3,\)"),
    "too many": (lambda: influence.most(SCORES, 7), "n: expected a whole number from 1 to 6, got 7"),
    "side": (lambda: influence.most(SCORES, 1, "top"), "side: expected 'helpful' or 'harmful', got 'top'"),
    "shapes": (lambda: influence.rank_correlation(SCORES, SCORES[:, 1:]), r"one shape, got \(1, 6\) and \(1, 5\)"),
    "list": (lambda: influence.top_overlap([[1.0]], SCORES, 1), "scores: expected finite influences .* got list"),
    "array": (lambda: influence.rank_correlation(SCORES.numpy(), SCORES), "before: .* got ndarray"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rankings_are_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()

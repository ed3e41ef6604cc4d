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
    without = influence.Head(head.mean, head.scale, head.theta, 0.0)
    torch.testing.assert_close(
        influence.Influence(without, features, labels, influence.Exact(damping=L2 + 0.1))(*test),
        influence.Influence(head, features, labels, influence.Exact(damping=0.1))(*test),
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
    "array": (lambda: influence.rank_correlation(SCORES.numpy(), SCORES), "before: .* got ndarray"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rankings_are_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()

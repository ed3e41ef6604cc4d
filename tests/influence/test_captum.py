"""The same by Captum."""

import numpy as np
import pytest
import torch
from classified import trained

from fragile_utils import influence
from fragile_utils.influence import captum


@pytest.mark.parametrize("classes", [2, 3])
def test_influence_equals_captums(classes):
    """Captum's NaiveInfluenceFunction, rescaled by n and the sign: its Hessian is that of the summed loss."""
    head, features, labels, test = trained(classes)
    captums = captum.naive_influence(head, features, labels, *test)
    torch.testing.assert_close(influence.Influence(head, features, labels)(*test), captums, rtol=1e-6, atol=1e-8)


def test_captums_tracin_is_the_product_of_the_gradients():
    head, features, labels, test = trained()
    (residuals, inputs), (others, other_inputs) = head.gradients(features, labels), head.gradients(*test)
    expected = -(others @ residuals.T) * (other_inputs[:, :-1] @ inputs[:, :-1].T)
    torch.testing.assert_close(captum.tracin(head, features, labels, *test), expected)


def test_captums_similarity_is_the_cosine_of_the_features():
    head, features, labels, test = trained()
    a, b = (head.inputs(x)[:, :-1].numpy() for x in (test[0], features))
    expected = -(a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(captum.similarity(head, features, labels, *test).numpy(), expected)


def test_captum_is_given_checked_examples():
    head, features, labels, (test, test_labels) = trained()
    for method in (captum.naive_influence, captum.tracin, captum.similarity):
        with pytest.raises(ValueError, match="expected 5 columns"):
            method(head, features, labels, test[:, 1:], test_labels)

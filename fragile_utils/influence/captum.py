"""Captum's explanations by example on a trained head: influence functions, TracIn, and similarity.

Each takes the head, the training examples (n, D) and (n,), and test examples (T, D) and (T,), and returns one number
for each pair, (T, n), with the sign of `influence.Influence`: negative where an example helps. Computed on the CPU.
Captum is imported when it is used.
"""

import tempfile

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fragile_utils.influence.head import Head, check_examples


def naive_influence(head: Head, features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    """Return the influence from the Hessian's eigenvectors, all of them.

    Captum adds up the training losses where the definition takes their mean, and leaves the minus sign out; both are
    put back here. It takes the head as K weight vectors, and l2 as `hessian_reg`.
    """
    from captum.influence import NaiveInfluenceFunction

    network, train, tests = _prepare(head, features, labels, test, test_labels)
    captums = NaiveInfluenceFunction(
        network,
        train,
        checkpoint="",
        checkpoints_load_func=_nothing_to_load,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=len(train),
        projection_dim=None,
        hessian_reg=head.l2 * len(train),
        hessian_inverse_tol=1e-12,
    )
    return -len(train) * captums.influence(tests)


def tracin(head: Head, features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    """Return TracIn at one checkpoint, the trained head, with learning rate 1: minus the product of two gradients.

    This is the influence with the identity in place of the Hessian. The bias is left out, as in Captum.

    References
    ----------
    Pruthi et al., *Estimating Training Data Influence by Tracing Gradient Descent*, NeurIPS 2020, arXiv:2002.08484.
    """
    from captum.influence import TracInCPFast

    network, train, tests = _prepare(head, features, labels, test, test_labels)
    captums = TracInCPFast(
        network,
        network[0],
        train,
        checkpoints=[""],
        checkpoints_load_func=_nothing_to_load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(train),
    )
    return -captums.influence(tests)


def similarity(head: Head, features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    """Return minus the cosine of the standardised features. It knows neither labels nor loss."""
    from captum.influence import SimilarityInfluence

    _, train, (tests, _) = _prepare(head, features, labels, test, test_labels)
    inputs = train.tensors[0]
    with tempfile.TemporaryDirectory() as folder:
        captums = SimilarityInfluence(
            nn.Sequential(nn.Identity()), "0", inputs, folder, similarity_metric=_cosine, batch_size=len(inputs)
        )
        order, values = captums.influence(tests, top_k=len(inputs))["0"]
    return -torch.zeros_like(values).scatter_(1, order, values)


def _prepare(
    head: Head, features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor
) -> tuple[nn.Sequential, TensorDataset, tuple[Tensor, Tensor]]:
    check_examples(features, labels, head)
    check_examples(test, test_labels, head)
    standard, standard_test = (head.inputs(f)[:, :-1].cpu() for f in (features, test))
    network = nn.Sequential(head.linear()).cpu().eval()
    return network, TensorDataset(standard, labels.cpu()), (standard_test, test_labels.cpu())


def _nothing_to_load(network: nn.Module, checkpoint: str) -> float:
    return 1.0  # the learning rate


def _cosine(test: Tensor | list[Tensor], train: Tensor) -> Tensor:
    test = test[0] if isinstance(test, list) else test  # Captum 0.9 hands over a list of one
    return nn.functional.normalize(test) @ nn.functional.normalize(train).T

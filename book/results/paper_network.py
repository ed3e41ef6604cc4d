"""The paper's own network for CIFAR-10, for `cifar10_paper.json`, which calls it as ``.../paper_network.py:network``.

Its weights are too large for the package: they are those that ``fragile train cifar10 --preset paper --out
FRAGILE_DATA/cifar10_paper`` writes.
"""

from fragile_utils import data, models


def network() -> models.Classifier:
    """Return the network, in evaluation mode."""
    return models.cifar10_net(data.data_root() / "cifar10_paper" / "weights.safetensors")

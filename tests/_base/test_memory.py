"""How many images fit into the free memory."""

import pytest
import torch
from references import batch, cifar

from fragile_utils._base import memory


def test_the_number_at_once_follows_the_free_memory(monkeypatch):
    model, (images, _) = cifar(), batch()
    one = memory.saved_bytes(model, images[:1])
    assert memory.saved_bytes(model, images) == pytest.approx(2 * one, rel=0.01)
    assert one > images[0].nbytes
    most = memory.BLOCK_ON_CPU // one
    for free, plain, graph in [(10**12, most // 2, most // 4), (4 * 12 * one, 6, 3), (0, 1, 1)]:
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.images_at_once(model, images, create_graph=False) == plain
        assert memory.images_at_once(model, images, create_graph=True) == graph
    monkeypatch.undo()
    assert 10**7 < memory.free_bytes(torch.device("cpu")) < 10**14

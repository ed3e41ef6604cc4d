"""How many images fit into the free memory."""

import pytest
import torch
from references import batch, cifar
from torch import nn

from fragile_utils._base import memory


def test_the_number_at_once_follows_the_free_memory(monkeypatch):
    model, (images, _) = cifar(), batch()
    one = memory.saved_bytes(model, images[:1])
    assert memory.saved_bytes(model, images) == pytest.approx(2 * one, rel=0.01)
    assert one > images[0].nbytes
    most = memory.BLOCK_ON_CPU // one
    held = memory.HELD_ON_CPU // one // 2
    for free, plain, graph, kept in [(10**12, most // 2, most // 4, held), (4 * 12 * one, 6, 3, 6), (0, 1, 1, 0)]:
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.images_at_once(model, images, create_graph=False) == plain
        assert memory.images_at_once(model, images, create_graph=True) == graph
        assert memory.images_held(model, images) == kept
    monkeypatch.undo()
    assert 10**7 < memory.free_bytes(torch.device("cpu")) < 10**14


def test_a_network_in_which_nothing_can_be_counted_goes_one_image_at_a_time():
    def slope(images):
        return torch.func.grad(lambda x: x.pow(3).sum())(images).flatten(1)

    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    model.register_forward_hook(lambda module, given, got: got + slope(given[0])[:, :4])
    assert memory.images_at_once(model, torch.rand(5, 3, 2, 2), create_graph=True) == 1
    assert memory.images_held(model, torch.rand(5, 3, 2, 2)) == 0


def test_memory_that_is_short_while_it_is_counted_is_no_reason_to_go_on():
    class Large(nn.Module):
        def forward(self, images):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate"):
        memory.images_at_once(Large(), torch.rand(5, 3, 2, 2), create_graph=True)


def test_parts_that_do_not_fit_are_halved_from_then_on():
    def compute(rows):
        if rows.stop - rows.start > 3:
            raise MemoryError
        return range(rows.start, rows.stop)

    results, halved = memory.in_parts(compute, 2, 17, 9)
    assert [i for part in results for i in part] == list(range(2, 17))
    assert halved == [4, 2]
    assert memory.in_parts(compute, 0, 5, 3) == ([range(3), range(3, 5)], [])


def test_an_image_that_does_not_fit_alone_is_an_error_also_where_nothing_is_said():
    def compute(rows):
        raise MemoryError

    with pytest.raises(ValueError, match=r"^out of memory with one image at a time: MemoryError$"):
        memory.in_parts(compute, 0, 4, 4)

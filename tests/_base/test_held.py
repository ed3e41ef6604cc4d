"""The parts of a value that hold something for each image."""

from functools import cached_property

import torch

from fragile_utils._base.held import PerImage, changed, everything


class Each(PerImage):
    """Something for each image."""

    def __init__(self, values):
        self.values = values

    def of(self, rows):
        return Each(self.values[rows])


class Private(PerImage):
    __slots__ = ("__inner",)

    def __init__(self, inner):
        self.__inner = inner

    def inner(self):
        return self.__inner


class Holder(PerImage):
    def __init__(self, part):
        self.part, self.me = part, self

    @cached_property
    def first(self):
        return self.part.values[0]


class Delegating(PerImage):
    def __init__(self, part):
        self.part = part

    def __getattr__(self, name):
        return getattr(self.part, name)


ROWS = torch.tensor([False, True, True])


def test_private_slots_are_cut():
    assert Private(Each(torch.arange(3))).of(ROWS).inner().values.tolist() == [1, 2]


def test_what_was_computed_from_all_images_is_computed_again():
    whole = Holder(Each(torch.arange(3)))
    assert whole.first == 0
    some = whole.of(ROWS)
    assert some.first == 1
    assert whole.first == 0


def test_a_value_may_hold_itself_and_delegate():
    whole = Holder(Delegating(Each(torch.arange(3))))
    assert len([*everything(whole)]) == 3
    assert whole.of(ROWS).part.values.tolist() == [1, 2]


def test_where_nothing_changes_it_is_the_same_value():
    whole = Holder(Each(torch.arange(3)))
    assert changed(whole, lambda part: part) is whole

"""What is computed once in a run, and each time outside of one."""

from fragile_utils._base.once import in_a_run, once, run


def test_outside_a_run_everything_is_computed_anew():
    made = []
    for _ in range(2):
        once("name", (made,), lambda: made.append(1))
    assert len(made) == 2
    assert not in_a_run()


def test_in_a_run_once_for_each_name_and_object():
    made, other = [], []
    with run():
        assert in_a_run()
        for of in (made, made, other):
            once("name", (of,), lambda: made.append(1))
        once("another", (made,), lambda: made.append(1))
    assert len(made) == 3
    with run():
        once("name", (made,), lambda: made.append(1))
    assert len(made) == 4


def test_a_run_within_a_run_begins_anew_and_leaves_the_outer_one_as_it_was():
    of = object()
    with run():
        assert once("name", (of,), lambda: 1) == 1
        with run():
            assert once("name", (of,), lambda: 2) == 2
        assert once("name", (of,), lambda: 3) == 1

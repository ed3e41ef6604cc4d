"""What a student reads: of a right answer, of a wrong one, of an error in it, and of none."""

import pytest
import torch

from fragile_utils.course import Outcome, Report, execution, judge, true


def test_first(double):
    """twice three"""
    true(double(3) == 6, "double(3) is not 6")


def test_second(double, generator):
    """twice a number that is drawn"""
    number = torch.randint(100, (), generator=generator).item()
    true(double(number) == 2 * number, f"double({number}) is not {2 * number}")


TESTS = [test_first, test_second]
for test in TESTS:
    test.__test__ = False  # for pytest they are data


def answer(code):
    return execution.run_code(code, "the answer")


def of(code, seed=0):
    return judge("ex-double", TESTS, answer(code), seed)


def test_a_right_answer():
    report = of("def double(x):\n    return 2 * x")
    assert report.passed
    assert report.score == 1
    lines = ["✓ ex-double: 2 of 2 tests passed", "  ✓ twice three", "  ✓ twice a number that is drawn"]
    assert repr(report).splitlines() == lines


def test_a_wrong_answer_hears_of_its_first_problem():
    report = of("def double(x):\n    return 6 if x == 3 else x")
    assert not report.passed
    assert report.score == 0.5
    assert repr(report).splitlines() == [
        "✗ ex-double: 1 of 2 tests passed",
        "  ✓ twice three",
        "  ✗ twice a number that is drawn",
        "    → double(44) is not 88",
    ]


def test_the_seed_decides_what_is_drawn():
    problems = {of("def double(x):\n    return 6", seed).outcomes[1].problem for seed in range(5)}
    assert len(problems) > 1
    assert of("def double(x):\n    return 6", 3) == of("def double(x):\n    return 6", 3)


def test_an_error_names_the_students_own_line():
    report = of("def double(x):\n    y = x / 0\n    return y")
    assert (
        report.outcomes[0].problem == "your code stopped with ZeroDivisionError: division by zero (line 2: `y = x / 0`)"
    )
    assert "Traceback" not in repr(report)
    assert __file__ not in repr(report)


def test_an_error_below_names_the_line_that_led_there():
    report = of("import torch\n\n\ndef double(x):\n    return torch.ones(2) @ torch.ones(3)")
    assert "line 5: `return torch.ones(2) @ torch.ones(3)`" in report.outcomes[0].problem


def test_errors_of_pytorch_are_explained():
    code = "import torch\n\n\ndef double(x):\n    return torch.autograd.grad(torch.ones(()), torch.ones(1))"
    assert "was create_graph=True forgotten?" in of(code).outcomes[0].problem


def test_a_result_that_cannot_be_used_is_not_called_an_error_of_the_answer():
    def test(double):
        """its length"""
        len(double(3))

    problem = judge("ex-double", [test], answer("def double(x):\n    return 6")).outcomes[0].problem
    assert problem == "what your code returned could not be used: TypeError: object of type 'int' has no len()"


def test_a_stub_is_not_written_yet():
    report = of("def double(x):\n    raise NotImplementedError")
    assert (report.passed, report.note, report.score) == (False, "not written yet", 0)
    said = of("def double(x):\n    raise NotImplementedError('for odd numbers')").outcomes[0].problem
    assert said.startswith("your code stopped with NotImplementedError: for odd numbers")


def test_an_answer_that_is_missing_is_named():
    assert "there is no `double` yet" in judge("ex-double", TESTS, {}).note


def test_a_function_of_other_arguments_is_told_so():
    problem = of("def double():\n    return 2").outcomes[0].problem
    assert problem == "it does not take what the stub takes: double() takes 0 positional arguments but 1 was given"


def test_a_class_is_an_answer_too():
    def test(Doubler):
        """a class"""
        assert Doubler().of(1) == 2

    code = "class Doubler:\n    def of(self, x):\n        return [][x]"
    problem = judge("ex-class", [test], answer(code)).outcomes[0].problem
    assert problem.endswith("IndexError: list index out of range (line 3: `return [][x]`)")


def test_grading_leaves_the_random_state_and_gradients_alone():
    state = torch.get_rng_state()
    with torch.no_grad():
        of("import torch\n\n\ndef double(x):\n    assert torch.is_grad_enabled()\n    return 2 * x + 0 * torch.rand(1)")
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_report_as_a_notebook_shows_it():
    report = Report("ex-x", (Outcome("a < b", ""), Outcome("c", "<script>")))
    assert report._repr_html_() == (
        '<div class="fragile-grade"><p>✗ ex-x: 1 of 2 tests passed</p>'
        "<ul><li>✓ a &lt; b</li><li>✗ c<p>→ &lt;script&gt;</p></li></ul></div>"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_student_can_stop_it(error):
    def stop(x):
        raise error

    with pytest.raises(error):
        judge("ex-double", TESTS, {"double": stop})

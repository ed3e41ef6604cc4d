"""Every exercise of the book: its reference passes, its stub does not, and each wrong answer is told what is wrong."""

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from answered import computed, investigated, judged

from fragile_utils import claims
from fragile_utils.course import asking, execution, load, parse

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = load(ROOT / "book" / "exercises")
WRITE, PREDICT, EXPLAIN, INVESTIGATE = (
    [exercise for exercise in EXERCISES.values() if exercise.kind == kind]
    for kind in ("write", "predict", "explain", "investigate")
)
PAIRS = [(exercise, wrong) for exercise in WRITE for wrong in exercise.wrong]
SEEDS = (0, 20_261)  # a teacher's seed may be any
each = pytest.mark.parametrize("exercise", WRITE, ids=lambda exercise: exercise.label)


def example():
    """The source that the page on writing exercises shows."""
    page = (ROOT / "book" / "writing_exercises.md").read_text(encoding="utf-8")
    return parse(re.search(r"^````markdown\n(.*?)^````$", page, flags=re.MULTILINE | re.DOTALL)[1])


@each
def test_the_reference_passes(exercise):
    for seed in SEEDS:
        report = judged(exercise, exercise.answer, seed=seed)
        assert report.passed, report


@each
def test_the_stub_is_told_that_nothing_is_written(exercise):
    report = judged(exercise, exercise.stub)
    assert not report.passed
    assert report.note == "not written yet"


@pytest.mark.parametrize(("exercise", "wrong"), PAIRS, ids=[f"{e.label}: {w.name}" for e, w in PAIRS])
def test_a_wrong_answer_is_told_what_is_wrong(exercise, wrong):
    for seed in SEEDS:
        report = judged(exercise, exercise.answer, wrong.code, seed=seed)
        problems = [outcome.problem for outcome in report.outcomes if outcome.problem]
        assert problems, "no test finds fault with it"
        assert wrong.says in problems[0], problems


@each
def test_most_wrong_answers_are_caught_by_the_public_tests(exercise):
    """A student without the hidden tests is not misled: at most one wrong answer in three passes what she can run."""
    passed = [
        wrong.name for wrong in exercise.wrong if judged(exercise, exercise.answer, wrong.code, hidden=False).passed
    ]
    assert len(passed) <= len(exercise.wrong) / 3, passed


@each
def test_the_public_tests_of_the_package_are_those_of_the_source(exercise):
    answers = execution.run_code(exercise.answer, "answer")
    report = asking.grade(exercise.label, **{name: answers[name] for name in exercise.names})
    assert report.passed, report
    tests = execution.collect_tests(exercise, hidden=False)
    assert [outcome.tests for outcome in report.outcomes] == [test.__doc__.strip() for test in tests]


@pytest.mark.parametrize("exercise", PREDICT, ids=lambda exercise: exercise.label)
def test_what_a_prediction_calls_right_is_what_is_computed(exercise):
    answer = computed(exercise)
    if exercise.estimate is not None:
        apart = abs(float(answer) - exercise.estimate.value)
        assert apart <= exercise.estimate.within / 4, f"computed {float(answer)}"
    else:
        assert [bool(truth) for truth in answer] == [choice.right for choice in exercise.choices]


@pytest.mark.parametrize("exercise", INVESTIGATE, ids=lambda exercise: exercise.label)
def test_an_investigation_finds_what_it_says(exercise):
    before = len(claims.made)
    investigated(exercise)
    assert len(claims.made) > before


def test_there_are_exercises_of_each_kind_and_predictions_in_each_chapter():
    assert min(map(len, (WRITE, PREDICT, EXPLAIN, INVESTIGATE))) >= 4
    assert len(EXERCISES) >= 60
    assert len(EXERCISES) - len(PREDICT) >= 25
    counts = Counter(exercise.chapter for exercise in PREDICT)
    assert {chapter for chapter in range(1, 24) if counts[chapter] < 2} == set()


def test_an_exercise_is_graded_if_and_only_if_it_is_to_be_written():
    assert sorted(asking.labels()) == sorted(exercise.label for exercise in WRITE)


def test_the_code_of_exercises_is_clean(tmp_path):
    """`ruff format` looks at fences of Markdown by itself, `ruff check` does not."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for exercise in EXERCISES.values():
        tests = f"{exercise.public}\n\n\n{exercise.hidden}"
        found = f"from fragile_utils.claims import check\n{exercise.given}\n{exercise.answer}\n{exercise.checks}"
        codes = {"stub": exercise.stub, "tests": tests, "solution": found, "computed": exercise.computed}
        for name, code in codes.items():
            if code.strip():
                (tmp_path / f"{exercise.label}-{name}.py").write_text(f"{code}\n")
    (tmp_path / "ruff.toml").write_text(
        f'extend = "{ROOT / "chapters" / "ruff.toml"}"\n'
        '[lint.per-file-ignores]\n"*" = ["E402", "F401", "F811", "I001"]  # pieces of code that follow each other\n'
    )
    run = subprocess.run([ruff, "check", "--no-cache", tmp_path], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_the_example_of_the_page_on_writing_exercises_is_one():
    exercise = example()
    test_the_reference_passes(exercise)
    test_the_stub_is_told_that_nothing_is_written(exercise)
    for wrong in exercise.wrong:
        test_a_wrong_answer_is_told_what_is_wrong(exercise, wrong)


@pytest.mark.slow
def test_all_tests_of_all_references_take_less_than_three_minutes():
    """Hidden ones included, as an instructor runs them; in time of one processor, whatever else it does."""
    start = time.process_time()
    assert all(judged(exercise, exercise.answer).passed for exercise in WRITE)
    assert time.process_time() - start < 180

"""The bank of examination questions: whole, drawn from a seed, and each number computed a second way."""

import importlib
import itertools
import math
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate, interpolate, optimize, special, stats

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(int(path.name[:2]) for path in (ROOT / "chapters").glob("*.ipynb"))

sys.path.insert(0, str(ROOT / "course"))
try:
    bank = importlib.import_module("bank")
    QUESTIONS = bank.load()
finally:
    sys.path.pop(0)

SEEDS = range(25)
each_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)


def test_there_are_enough_questions_from_every_chapter():
    assert len(QUESTIONS) >= 40
    assert {question.chapter for question in QUESTIONS} >= {*CHAPTERS}


@each_question
def test_a_question_has_an_answer_with_points(question):
    for seed in SEEDS:
        asked = question.draw(seed)
        assert asked.text.rstrip().endswith(("?", "."))
        assert 2 <= len(asked.steps) <= 4
        assert 3 <= asked.points <= 5
        assert all(1 <= points <= 2 and len(step) > 5 for points, step in asked.steps)


@each_question
def test_the_same_seed_draws_the_same_numbers(question):
    assert question.draw(3) == question.draw(3)


NUMERIC = [question for question in QUESTIONS if question.draw(0).value is not None]
each_number = pytest.mark.parametrize("question", NUMERIC, ids=lambda question: question.name)


@each_number
def test_another_seed_draws_other_numbers_which_the_text_says(question):
    drawn = [question.draw(seed) for seed in SEEDS]
    assert len({asked.text for asked in drawn}) >= 5
    assert len({round(asked.value, 9) for asked in drawn}) >= 3
    assert len({asked.points for asked in drawn}) == 1


@each_number
def test_the_answer_states_the_value(question):
    """As it is computed, so that no number of an answer was typed."""
    for seed in SEEDS:
        asked = question.draw(seed)
        numbers = {float(text) for text in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?", " ".join(steps_of(asked)))}
        assert any(math.isclose(number, asked.value, rel_tol=6e-3, abs_tol=1e-9) for number in numbers), asked


def steps_of(asked):
    return [step for _, step in asked.steps]


# --- The second way --------------------------------------------------------------------------------------------------


def brute_force_turn(a, b, c):
    hessian = np.array([[2 * a, b], [b, 2 * c]])
    angles = np.linspace(0, np.pi, 200_001)
    return np.linalg.norm(hessian @ [np.cos(angles), np.sin(angles)], axis=0).max()


def half_width(beta):
    def bend(z):
        return beta * special.expit(beta * z) * special.expit(-beta * z)

    return 2 * optimize.brentq(lambda z: bend(z) - bend(0) / 2, 0, 100 / beta)


def mean_slope(x, sigma):
    return integrate.quad(lambda z: stats.norm.pdf(z, x, sigma), 0, 10)[0]


def crossing(before, after, low):
    kept = interpolate.interp1d([low, 2 * low], [before, after])
    return optimize.brentq(lambda budget: kept(budget) - 0.5, low, 2 * low)


def correlation_of_residuals(ab, ac, bc):
    """Regress both on the control; data with exactly these correlations come from a Cholesky factor."""
    wanted = np.array([[1, ab, ac], [ab, 1, bc], [ac, bc, 1]])
    free = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)) * [0, 1, 1, 1] + [1, 0, 0, 0])[0][:, 1:]
    a, b, c = np.linalg.cholesky(wanted) @ free.T
    return np.corrcoef(a - (a @ c) * c, b - (b @ c) * c)[0, 1]


def first_share_of_path(a, b, p):
    return integrate.quad(lambda t: a * (t * b) ** p, 0, 1)[0]


def fewest_steps(permille):
    def error(steps):
        return abs(sum(2 * k / steps for k in range(1, steps + 1)) / steps - 1)

    return next(steps for steps in itertools.count(1) if error(steps) <= permille / 1000 + 1e-12)


def rescaled(w, b, x):
    z = [np.dot(w, x) + b, b]
    y = [max(value, 0) for value in z]
    return w[0] * x[0] * (y[0] - y[1]) / (z[0] - z[1])


def lrp_epsilon(x, w, relevance, epsilon):
    z = np.array(x) * w
    return (z / (z.sum() + epsilon * (1 if z.sum() >= 0 else -1)) * relevance)[0]


def lrp_zplus(x, w, relevance):
    z = np.array(x) * np.clip(w, 0, None)
    return (z / z.sum() * relevance)[0]


def grad_cam(features, gradients):
    return float(np.clip(np.mean(gradients, axis=1) @ np.array(features), 0, None)[0])


def intersection(before, after, k):
    return len({*np.argsort(before)[-k:]} & {*np.argsort(after)[-k:]}) / k


def centre_shift(m, first, second):
    grid = np.zeros((40, 40))
    grid[first] += m
    grid[second] += 1 - m
    centre = [(np.indices(grid.shape)[axis] * grid).sum() for axis in (0, 1)]
    return math.dist(centre, first)


def drawn_intersection(side, k):
    return stats.hypergeom(side * side, k, k).mean()


def spread_of_cosine(side):
    """From the variance of a sum of independent signs times the entries of a unit vector, here an uneven one."""
    direction = np.linspace(-1, 2, 3 * side * side)
    direction /= np.linalg.norm(direction)
    return math.sqrt((direction**2).sum()) / math.sqrt(direction.size)


def projected(original, current, budget, size, sign):
    allowed = [v for v in range(256) if abs(v - original) <= budget]
    return min(allowed, key=lambda v: abs(v - (current + size * sign)))


def spots(before, after, first, second):
    first, second = np.array(first), np.array(second)
    centres = [m * first + (1 - m) * second for m in (before, after)]
    return np.linalg.norm(centres[1] - centres[0])


def fewest_images(s, wanted):
    return next(n for n in itertools.count(1) if s / math.sqrt(n) <= wanted * (1 + 1e-9))


def influence_by_weights(data, test, i):
    """The derivative of the test loss when an example is counted more, by finite differences."""

    def loss(weight):
        weights = np.full(5, 1 / 5)
        weights[i] += weight
        fitted = np.average(data, weights=weights)
        return (test - fitted) ** 2 / 2

    return (loss(1e-6) - loss(-1e-6)) / 2e-6


def logistic_residuals(before, after):
    return (special.expit(special.logit(after)) - 1) / (special.expit(special.logit(before)) - 1)


def length(side, levels):
    return np.linalg.norm(np.full((3, side, side), levels / 255))


def rolled_out(share, layers):
    layer = (np.array([[1 - share, share], [0, 1]]) + np.eye(2)) / 2
    return np.linalg.matrix_power(layer, layers)[0, 1]


def gain(eigenvalues, d):
    """The largest change over all steps of a length, against the root mean square over random signs."""
    hessian = np.diag(eigenvalues).astype(float)
    signs = np.array(list(itertools.product([-1, 1], repeat=4)))
    chance = np.sqrt((np.linalg.norm(signs @ hessian, axis=1) ** 2).mean())
    return np.linalg.norm(hessian, 2) * math.sqrt(d) / chance


def relative_change(beta, z, step):
    """The first-order change of g', from finite differences of g', over g'."""
    slope = special.expit
    bend = (slope(beta * (z + 1e-6)) - slope(beta * (z - 1e-6))) / 2e-6
    return bend * step / slope(beta * z)


def rayleigh(a, b, c):
    hessian = np.array([[a, b], [b, c]])
    v = hessian @ [1, 0]
    return v @ hessian @ v / (v @ v)


def norm_by_all_signs(a, b, c):
    hessian = np.array([[a, b], [b, c]])
    return math.sqrt(np.mean([np.sum((hessian @ s) ** 2) for s in itertools.product([-1, 1], repeat=2)]))


SECOND_WAY = {
    "two_pixels": lambda first, second: np.abs(first).sum() / np.abs([first, second]).sum(),
    "steepest_turn": brute_force_turn,
    "width_of_a_bend": half_width,
    "smoothgrad_of_a_kink": mean_slope,
    "path_of_a_product": first_share_of_path,
    "enough_steps": fewest_steps,
    "rescale_rule": rescaled,
    "epsilon_rule": lrp_epsilon,
    "zplus_rule": lrp_zplus,
    "grad_cam_by_hand": grad_cam,
    "intersection_by_hand": intersection,
    "spearman_with_a_tie": lambda before, after: stats.spearmanr(before, after).statistic,
    "centre_by_hand": centre_shift,
    "chance_of_an_intersection": drawn_intersection,
    "energy_of_noise": lambda budget, rms: np.mean(np.full(9, float(budget)) ** 2) / rms**2,
    "right_angles": spread_of_cosine,
    "one_step": projected,
    "two_spots": spots,
    "share_in_a_region": lambda side, a, b, after: after / (np.ones((a, b)).sum() / np.ones((side, side)).sum()),
    "how_many_images": fewest_images,
    "where_half_is_lost": crossing,
    "without_the_control": correlation_of_residuals,
    "paired_differences": lambda first, second: stats.sem(np.array(second) - first),
    "influence_on_a_mean": influence_by_weights,
    "confidence_alone": logistic_residuals,
    "length_of_a_step": length,
    "gain_of_the_best": gain,
    "one_soft_neuron": relative_change,
    "one_power_step": rayleigh,
    "size_from_signs": norm_by_all_signs,
    "survives_the_file": lambda size: next(n for n in itertools.count(1) if round(n * size) == 1),
    "rollout_of_two_tokens": rolled_out,
    "length_of_a_budget": lambda side, levels: np.linalg.norm(np.full((3, side, side), levels / 255)),
    "a_failed_attack": lambda images, failed: np.mean([1] * failed + [0] * (images - failed)),
}


def test_every_number_is_computed_a_second_way():
    assert {question.name for question in NUMERIC} == {*SECOND_WAY}


@each_number
def test_a_number_comes_out_the_second_way(question):
    for seed in SEEDS:
        asked = question.draw(seed)
        again = SECOND_WAY[question.name](**asked.given)
        assert asked.value == pytest.approx(again, rel=1e-6, abs=1e-6), asked


# --- On paper --------------------------------------------------------------------------------------------------------


def test_what_students_are_given_has_no_answer_in_it():
    given, graded = (bank.as_markdown(5, answers=answers) for answers in (False, True))
    for question in QUESTIONS:
        asked = question.draw(5)
        assert asked.text in given
        assert asked.text in graded
        assert all(step in graded and step not in given for step in steps_of(asked))


def test_a_name_stands_in_the_bank_once():
    with pytest.raises(ValueError, match="a name of its own, got 'two_pixels' twice"):
        bank.question(chapter=1)(SimpleNamespace(__name__="two_pixels", __module__="part_1"))


def test_numbers_of_one_question_do_not_depend_on_others():
    first = next(question for question in QUESTIONS if question.name == "two_pixels")
    random.seed(1)
    assert first.draw(9).given == first.make(random.Random("9 two_pixels")).given


# --- Projects --------------------------------------------------------------------------------------------------------

PROJECTS = sorted((ROOT / "course" / "projects").glob("*.md"))


def test_there_are_six_projects():
    assert len(PROJECTS) == 6


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_a_project_has_a_rubric_of_sixteen_points(path):
    statement, rubric = path.read_text(encoding="utf-8").split("\n## Rubric\n")
    assert statement.startswith("# Project ")
    assert "Hand in" in statement
    points = [int(row) for row in re.findall(r"^\| (\d+) \| \S", rubric, flags=re.MULTILINE)]
    assert sum(points) == 16

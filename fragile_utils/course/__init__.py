"""Exercises that test themselves: ``grade`` answers at once, and each exercise has one source.

`grade` and what it returns are for students; `same`, `true` and `finite_differences` for those who write tests. The
sources are read by `source`, what each kind of exercise has to have is in `kinds`, and the tests that everybody may
see are a part of the package.
"""

from fragile_utils.course.asking import grade
from fragile_utils.course.comparing import finite_differences, same, true
from fragile_utils.course.exercise import Exercise
from fragile_utils.course.grading import Outcome, Report, judge
from fragile_utils.course.source import load, parse

__all__ = ["Exercise", "Outcome", "Report", "finite_differences", "grade", "judge", "load", "parse", "same", "true"]

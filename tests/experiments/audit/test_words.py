"""The words of an audit follow its numbers."""

import copy

import pytest
from audits import changed

from fragile_utils.experiments.audit.words import paragraph


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [(0.1, "not steady: whoever knows"), (0.5, "partly steady"), (0.71, "steady, on these images, against")],
)
def test_words_follow_the_numbers(summary, kept, verdict):
    said = paragraph("gradient", changed(summary, kept))
    assert said.startswith(f"gradient: {verdict}")
    assert f"left {100 * kept:.0f} % (95 % interval from" in said
    assert "points at pixels that matter" in said


def test_an_attack_that_does_less_than_noise_is_no_evidence(summary):
    weak = changed(summary, 0.99)
    for cell in weak["methods"]["gradient"]["cells"]:
        if cell["attack"] == "random-sign":
            cell["topk_intersection"] |= {"mean": 0.9}
    assert paragraph("gradient", weak).startswith("gradient: not known: random noise moved it further")


def test_images_on_which_an_attack_did_not_succeed_are_counted_in_words(summary):
    some = changed(summary, 0.5)
    for cell in some["methods"]["gradient"]["cells"]:
        cell["unchanged"] = 2
    said = paragraph("gradient", some)
    assert "On 2 of 3 it found no way that kept the answer; there 100 % is counted." in said


def test_how_few_images_are_left_is_said_by_those_that_count(summary):
    report = changed(summary, 0.5)
    method = report["methods"]["gradient"]
    for counted, empty, few in ((3, 0, False), (3, 13, True), (1, 15, False), (16, 4, False)):
        method["empty"] = empty
        for cell in method["cells"]:
            cell["images"] = counted
        said = paragraph("gradient", report)
        assert (f"There are {counted} left: intervals from so few tend to be too narrow." in said) == few
        assert ("they are left out." in said) == (empty > 0)


def test_steady_is_called_only_what_is_steady_to_the_end_of_its_interval(summary):
    unsure = changed(summary, 0.75)
    for cell in unsure["methods"]["gradient"]["cells"]:
        cell["topk_intersection"] |= {"low": 0.65}
    assert paragraph("gradient", unsure).startswith("gradient: partly steady: ")


def test_a_name_does_not_command_the_terminal_or_turn_the_words_around(summary):
    hostile = changed(summary, 0.5)
    for cell in hostile["methods"]["gradient"]["cells"]:
        cell["topk_intersection"]["worst_image"] = "a\u202e\n\x1b[2J.png"
    assert r"on the worst image (a\u202e\n\x1b[2J.png) 50 %." in paragraph("gradient", hostile)


def test_a_change_that_can_be_seen_is_not_called_hard_to_see(summary):
    assert "more than 2 of 255 levels, which is hard to see, and" in paragraph("gradient", summary)
    large = copy.deepcopy(summary)
    large["settings"]["budgets"] = [8]
    assert "more than 8 of 255 levels, and the network" in paragraph("gradient", large)


def test_an_everyday_change_that_changes_the_answer_is_counted_in_words(summary):
    report = copy.deepcopy(summary)
    natural = report["methods"]["gradient"]["natural"]
    for change, left in (("jpeg", 0.2), ("shift", 0.1), ("brightness", 0.9), ("resize", 0.8)):
        natural[change]["topk_intersection"]["mean"] = left
        natural[change]["answer_changed"] = 1 if change in ("jpeg", "resize") else 0
    said = paragraph("gradient", report)
    assert "compression with JPEG at quality 90 moved it most, and left 20 %; a shift by one pixel" in said
    assert (
        "left 10 % where they were. The answer itself was changed by compression with JPEG at quality 90 on 1 of 3, by "
        "making it smaller and large again on 1 of 3; these are left out here." in said
    )


def test_a_budget_below_the_smallest_is_not_told_as_if_it_had_been_tried(summary):
    report = copy.deepcopy(summary)
    failure = report["methods"]["gradient"]["failure"]["topk"]
    for median, words in (
        (0.7, "on most it took less than 1 level, the smallest change that was tried."),
        (1.5, "in the median it took 1.5 levels (95 % interval from 0.7 levels to more than 8 levels)."),
        (None, "on most it took more than 8 levels."),
    ):
        failure |= {"lost": 2, "images": 3, "median": median, "low": 0.7, "high": None}
        said = paragraph("gradient", report)
        lost = "With at most 8 levels, the top-k attack displaced half of these pixels on 2 of 3 images"
        assert f"{lost}; {words}" in said
    failure |= {"lost": 0, "median": None, "low": None, "high": None}
    assert "On no image did the top-k attack displace half of these pixels, even with 8 levels." in (
        paragraph("gradient", report)
    )


def test_what_is_no_more_than_maps_of_other_images_share_is_not_called_steady(summary):
    same = changed(summary, 0.8)
    same["methods"]["gradient"]["chance"]["other"]["topk_intersection"]["mean"] = 0.85
    said = paragraph("gradient", same)
    assert said.startswith("gradient: not known: what is left cannot be told from what the explanations of two")


SHOWN = {
    "both": ((-0.2, -0.1), (0.1, 0.2), "confidence, and putting them into an empty image raises it, more than pixels"),
    "one": ((-0.2, -0.1), (-0.1, 0.2), "drawn at random; putting them into an empty image did not show it."),
    "the other": ((-0.2, 0.1), (0.1, 0.2), "drawn at random; taking them away did not show it."),
}


@pytest.mark.parametrize("case", SHOWN)
def test_which_of_the_two_ways_has_shown_it_is_said(summary, case):
    down, up, words = SHOWN[case]
    assert words in paragraph("gradient", changed(summary, 0.5, down, up))


def test_a_steady_map_that_says_nothing_is_called_so(summary):
    said = paragraph("gradient", changed(summary, 0.9, (-0.1, 0.1), (-0.1, 0.1)))
    assert "even if it is steady, it may say little" in said

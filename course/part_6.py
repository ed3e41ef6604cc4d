"""Examination questions on part VI, how far it reaches: chapter 20."""

from bank import Asked, question, say


@question(chapter=20)
def survives_the_file(draw):
    steps = draw.choice([3, 4, 5, 6, 7])
    size = draw.choice([0.04, 0.06, 0.07])
    reached = steps * size
    needed = -(-50 // round(size * 100))
    return Asked(
        f"An attack moves a pixel by {size} levels in each step, always in the same direction, and {steps} times. "
        "The image is then saved with whole levels. What is left of the change? How many steps would leave one "
        "level?",
        f"1: The change is {say(reached)} levels, which is rounded to 0: nothing is left.",
        f"2: Half a level at least, which takes {needed} steps.",
        "1: So an attack below half a level breaks the map of the image in memory only.",
        value=needed,
        size=size,
    )


@question(chapter=20)
def jpeg_as_a_repair(draw):
    return Asked(
        "Somebody proposes to save each photograph as JPEG before it is explained, because the maps of attacked "
        "images then resemble the original's more. Which two comparisons are needed before this may be called a "
        "defence?",
        "1: JPEG of the untouched photograph, beside its own map: it damages that as well.",
        "1: The map after JPEG, of attacked and of untouched images, beside each other, and beside noise of that size.",
        "1: An attack that knows of it: one that is computed through JPEG, or robust to it.",
    )


@question(chapter=20)
def two_machines(draw):
    return Asked(
        "The same attack on the same photograph gives the same first step on two machines, and after twenty steps "
        "other pixels. Both measure nearly the same intersection. Is one of them wrong? What may be compared between "
        "machines?",
        "2: No. A step takes signs: a difference of rounding near zero flips some, and the next steps multiply it.",
        "1: Single steps from the same image, and means over images; never the pixels at the end of a run.",
    )

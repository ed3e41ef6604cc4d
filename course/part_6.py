"""Examination questions on part VI, how far it reaches: chapters 20 to 23."""

from bank import Asked, question, say


@question(chapter=20)
def rollout_of_two_tokens(draw):
    share = draw.choice([0.2, 0.3, 0.4, 0.5, 0.6])
    layers = draw.choice([2, 3, 4, 5])
    reached = 1 - (1 - share / 2) ** layers
    return Asked(
        f"A transformer has a class token and one token for the image. In each of {layers} layers the class token "
        f"gives the weight {share} to the image and the rest to itself; the image attends to itself alone. "
        "What is the entry of the image in attention rollout? Which class does it explain?",
        f"1: With the shortcut a layer leaves 1 - {share}/2 of the class token with itself.",
        f"2: After {layers} layers the rest has come from the image: {say(reached)}.",
        "1: None: the attention is the same whichever class is asked about.",
        value=reached,
        share=share,
        layers=layers,
    )


@question(chapter=20)
def steady_and_coarse(draw):
    return Asked(
        "Under the same attack an explanation by attention keeps more of its top pixels than the gradient of the same "
        "network. Its map consists of 8 x 8 patches, enlarged. Which comparison is missing, and which question would "
        "a map that is the same for every image pass as well?",
        "2: The gradient at the same resolution, attacked as it is displayed, and both under noise.",
        "1: Steadiness alone: a constant map is perfectly steady.",
        "1: So ask whether the map depends on the class, the image and the network.",
    )


@question(chapter=20)
def whose_fault_is_it(draw):
    return Asked(
        "Images attacked on one network are shown to another, whose maps then keep 0.55 of their top. The author "
        "concludes that attacks transfer. What has to stand beside this number, and which images may count?",
        "1: What random signs of the same budget leave of the second network's maps.",
        "1: The difference from it, image by image, with an interval.",
        "1: Only images that both networks get right, and whose label the second keeps under attack and noise.",
    )


@question(chapter=21)
def no_direction(draw):
    return Asked(
        "A paper puts a code of bits before a network. The attack along the derivative of this code moves no map at "
        "all, on any image, at any budget. The authors conclude that explanations are robust. What should they have "
        "looked at first, and which two attacks should they have run?",
        "1: Why the attack failed: it had no direction, since the derivative of the code is zero.",
        "1: An attack through a derivative that is nearly right, such as that of a ramp in place of the steps.",
        "1: The attack that is made on the network without the code, and carried over.",
    )


@question(chapter=21)
def length_of_a_budget(draw):
    side = draw.choice([28, 32, 64, 96, 128])
    levels = draw.choice([1, 2, 4])
    length = levels / 255 * (3 * side * side) ** 0.5
    return Asked(
        f"A certificate holds within a radius in L2. How long, in L2, is a change of every value of a colour image of "
        f"{side} x {side} pixels by {levels} of 255 levels? Does a certificate of radius 0.1 cover it?",
        f"2: The root of the number of values, 3 x {side} x {side}, times {levels}/255: {say(length)}.",
        f"1: {'Yes' if length <= 0.1 else 'No'}: the change is {'no longer' if length <= 0.1 else 'longer'} than 0.1.",
        value=length,
        side=side,
        levels=levels,
    )


@question(chapter=21)
def random_to_begin_with(draw):
    return Asked(
        "After an attack a SmoothGrad map of eight copies shares more of its top with the original map than two "
        "SmoothGrad maps of the same untouched image share with each other. How can that be, and what does it say "
        "about the defence?",
        "2: The first comparison uses the same noise twice, the second does not: most of the map is its own noise.",
        "1: A map that differs from itself is worth little, however it fares under attack; more copies should make it "
        "steadier, and cost more. That they are also easier to attack, has to be measured (chapter 21).",
    )


@question(chapter=23)
def who_gains(draw):
    return Asked(
        "A claimant sends a photograph of a damaged car as a PNG file, and a map says why the network believes the "
        "claim. An audit has attacks at a half, 1, 2, 4 and 8 levels, JPEG, and noise. Which rows are about this "
        "claimant, which are not, and why?",
        "1: The attacks from one level on: a file holds whole levels, and the claimant gains by a map that pleases.",
        "1: Not the half level, which the file rounds away.",
        "1: Noise and everyday changes are controls: they say what happens when nobody wants anything.",
    )


@question(chapter=23)
def a_failed_attack(draw):
    images = draw.choice([6, 8, 10, 12, 16, 20])
    failed = draw.choice([1, 2, 3])
    mean = failed / images
    return Asked(
        f"An audit of {images} images reports a mean share of top pixels left. On {images - failed} of them the attack "
        f"left nothing. On {failed} it found no image that keeps the answer, which counts as unchanged. What is the "
        "mean? Which other number describes the method better, and what has to be tried on the rest?",
        f"2: {failed} of {images} count as 1, the others as 0: {say(mean)}.",
        "1: The median, or the smallest budget at which half is lost, taking the worst of all smaller budgets.",
        "1: Smaller steps or smaller budgets: the attack was too clumsy, which is no property of the map.",
        value=mean,
        images=images,
        failed=failed,
    )


@question(chapter=22)
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


@question(chapter=22)
def jpeg_as_a_repair(draw):
    return Asked(
        "Somebody proposes to save each photograph as JPEG before it is explained, because the maps of attacked "
        "images then resemble the original's more. Which two comparisons are needed before this may be called a "
        "defence?",
        "1: JPEG of the untouched photograph, beside its own map: it damages that as well.",
        "1: The map after JPEG, of attacked and of untouched images, beside each other, and beside noise of that size.",
        "1: An attack that knows of it: one that is computed through JPEG, or robust to it.",
    )


@question(chapter=22)
def two_machines(draw):
    return Asked(
        "The same attack on the same photograph gives the same first step on two machines, and after twenty steps "
        "other pixels. Both measure nearly the same intersection. Is one of them wrong? What may be compared between "
        "machines?",
        "2: No. A step takes signs: a difference of rounding near zero flips some, and the next steps multiply it.",
        "1: Single steps from the same image, and means over images; never the pixels at the end of a run.",
    )

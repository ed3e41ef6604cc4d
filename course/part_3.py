"""Examination questions on part III, attacks: chapters 9 to 14."""

import math
from statistics import mean, stdev

from bank import Asked, question, say, vector


@question(chapter=9)
def energy_of_noise(draw):
    budget, rms = draw.choice([4, 6, 8, 12]), draw.choice([1.5, 2, 2.5, 3])
    value = (budget / rms) ** 2
    return Asked(
        f"An attack with a budget of {budget} levels ends with a root mean square of {rms} levels. How many times "
        "its energy has random-sign noise of the same budget? Which noise would you put beside the attack, and why?",
        f"2: Random signs use the budget everywhere, so that their root mean square is {budget}: {say(value)} times.",
        f"1: Both: one of the same largest change, as in the paper, and one of {rms} levels, which has as much to "
        "spend.",
        value=value,
        budget=budget,
        rms=rms,
    )


@question(chapter=9)
def right_angles(draw):
    side = draw.choice([32, 64, 100, 128, 224])
    d = 3 * side * side
    return Asked(
        f"Random signs are drawn for an image of {side} by {side} pixels in three colours. What are mean and "
        "standard deviation of the cosine between them and a direction that was fixed beforehand?",
        f"1: The image has {d} values. By symmetry the mean is 0.",
        "2: With a unit vector $u$ and signs $s$, $u^\\top s$ has the variance $\\sum u_i^2 = 1$ and $s$ the length "
        f"$\\sqrt d$: the standard deviation is $1/\\sqrt{{d}} = {say(d**-0.5)}$.",
        value=d**-0.5,
        side=side,
    )


@question(chapter=9)
def stable_not_robust(draw):
    return Asked(
        "Method A keeps 80 % of its top pixels under random noise, method B 50 %. Under attack, which is more "
        "robust? Explain what noise measures and what an attack measures, in terms of directions.",
        "1: One cannot say.",
        "2: Noise tries an average direction out of very many; an attack seeks the worst one.",
        "1: A map can be steady in nearly all directions and fall in a few. That is what concentrated curvature means.",
    )


@question(chapter=10)
def one_step(draw):
    budget, size = draw.choice([4, 6, 8]), draw.choice([1, 2, 3])
    original, sign = draw.choice([1, 2, 3, 252, 253, 254]), draw.choice([-1, 1])
    moved = draw.randint(-budget, budget)
    current = min(255, max(0, original + moved))
    within = min(original + budget, max(original - budget, current + sign * size))
    value = min(255, max(0, within))
    return Asked(
        f"A pixel was {original} and is now {current}, in levels. The budget is {budget} levels, the step {size}, "
        f"and the direction of ascent is {'up' if sign > 0 else 'down'} there. Where does Algorithm 1 put the pixel?",
        f"1: The step leads to {current + sign * size}.",
        f"1: Within the budget around the original, not around the current value: {within}.",
        f"1: Within the range of a pixel: {value}.",
        value=value,
        original=original,
        current=current,
        budget=budget,
        size=size,
        sign=sign,
    )


@question(chapter=10)
def why_not_the_count(draw):
    return Asked(
        "The attack is judged by the top-k intersection. Why does it not climb the intersection itself? What does it "
        "climb, and why is that allowed?",
        "1: The intersection is a count, constant but for jumps: its gradient is zero or does not exist.",
        "1: It climbs the mass outside the original's top pixels, which has a slope.",
        "1: The two go together, and what counts in the end is measured by the intersection itself.",
    )


@question(chapter=10)
def what_the_surrogate_is_for(draw):
    return Asked(
        "Why does the attack on the gradient of a ReLU network need a second network? Name what is computed on it "
        "and what on the network itself, and say what goes wrong if its sharpness is chosen too large or too small.",
        "1: A step needs the derivative of a gradient, and that of a ReLU network is zero where it exists.",
        "1: The surrogate gives directions only. Label, map and all measures are those of the network.",
        "1: Too large: bends so narrow that the direction is zero or random at most places.",
        "1: Too small: another function, whose directions do not lead the network anywhere.",
    )


@question(chapter=10)
def an_attack_fails(draw):
    method = draw.choice(["integrated gradients", "DeepLIFT", "SmoothGrad"])
    return Asked(
        f"Your attack on {method} leaves 70 % of the top pixels, the same attack on gradients 10 %. Give three "
        "reasons for this that have nothing to do with robustness, and an experiment for each.",
        "2: The guide: directions of another function mislead. Compare the direction with the true slope, or use a "
        "guide that knows the method.",
        "1: The optimiser: too few steps, a step too large, an unlucky start. More steps, restarts.",
        "1: The measure: the map may have been moved where the intersection does not look, or be smoother by itself. "
        "Other measures, and noise as a control.",
    )


@question(chapter=11)
def two_spots(draw):
    before, after = draw.choice([0.7, 0.8, 0.9]), draw.choice([0.2, 0.3, 0.4])
    first, second = (draw.randint(10, 90), draw.randint(10, 90)), (draw.randint(120, 220), draw.randint(120, 220))
    value = (before - after) * math.dist(first, second)
    return Asked(
        f"A map consists of two spots, at {first} and {second}. The first holds {say(before)} of the mass. An attack "
        f"lowers that to {say(after)} and moves no spot. What is the centre shift? What is the largest that such an "
        "attack can get?",
        f"2: The centre moves along the line between the spots, by {say(before - after)} of their distance: "
        f"{say(value)}.",
        f"1: All mass in the second spot: {say(before * math.dist(first, second))}.",
        value=value,
        before=before,
        after=after,
        first=first,
        second=second,
    )


@question(chapter=11)
def first_step(draw):
    return Asked(
        "The mass-centre attack climbs the distance of the centre from where it was. Why is its first step an "
        "accident, and what are its consequences? How can an attacker avoid it?",
        "1: At the start the distance is zero, its smallest value: it has no gradient there.",
        "1: Rounding or a random start decides, and on some pictures the direction of the whole journey.",
        "1: By choosing a direction: climb the coordinate along it for a step, or restart several times and keep the "
        "best.",
    )


@question(chapter=12)
def share_in_a_region(draw):
    side, a, b = draw.choice([112, 128, 224]), draw.choice([28, 32, 40]), draw.choice([28, 36, 56])
    after = draw.choice([0.2, 0.3, 0.4])
    even = a * b / side**2
    return Asked(
        f"A targeted attack brings {say(after)} of the explanation's mass into a rectangle of {a} by {b} pixels, in "
        f"an image of {side} by {side}. How many times as much is that as an even map would have there? Is the "
        "forgery convincing?",
        f"1: An even map has {say(even)} there.",
        f"1: The attack reached {say(after / even)} times as much.",
        f"1: A factor is no forgery: {say(1 - after)} of the mass is elsewhere, and one has to look where.",
        value=after / even,
        side=side,
        a=a,
        b=b,
        after=after,
    )


@question(chapter=12)
def scrambled_or_forged(draw):
    return Asked(
        "Why is a targeted attack to be feared more than one that scrambles the map? Describe a situation in which "
        "it does harm, and a check that might reveal it.",
        "1: A scrambled map shows that something is wrong; a forged one tells a story.",
        "1: For instance: the reason given for a refusal is moved from a protected attribute to a harmless one.",
        "1: Another method, small known changes of the image, or the score when the region is covered. None is "
        "certain: each can be attacked in turn.",
    )


@question(chapter=13)
def how_many_images(draw):
    s, wanted = draw.choice([0.12, 0.18, 0.21, 0.25]), draw.choice([0.01, 0.02, 0.03])
    value = math.ceil(round((s / wanted) ** 2, 9))
    return Asked(
        f"On a dozen images an intersection has the standard deviation {s}. How many images give its mean a standard "
        f"error of at most {wanted}? What does half that error cost?",
        f"2: $N \\ge ({s} / {wanted})^2$: {value} images.",
        "1: Four times as many. The deviation itself is only an estimate from a dozen, so plan for more.",
        value=value,
        s=s,
        wanted=wanted,
    )


@question(chapter=13)
def paired_differences(draw):
    first = [draw.randint(10, 90) for _ in range(6)]
    gaps = [draw.randint(0, 9) - 2 for _ in range(6)]
    second = [a + gap for a, gap in zip(first, gaps, strict=True)]
    value = stdev(gaps) / math.sqrt(6)
    return Asked(
        f"Two methods were attacked on the same six images. In percent, {vector(first)} and {vector(second)} of the "
        "top pixels survived. Give the mean difference with its standard error. Why not that of two separate "
        "samples?",
        f"1: The differences are {vector(gaps)}, their mean {say(mean(gaps))}.",
        f"2: Their standard deviation is {say(stdev(gaps))}, and the standard error {say(value)}.",
        "1: Images differ far more than methods; what an image does to both methods cancels in the difference.",
        value=value,
        first=first,
        second=second,
    )


@question(chapter=14)
def overlapping_bars(draw):
    return Asked(
        "A figure shows the means of two methods with error bars that overlap. The caption says: no difference. Is "
        "that right? And if the bars were far apart, would the more stable method be the better explanation?",
        "2: Not shown: on the same images, what counts is the interval of the differences, which may be much narrower.",
        "1: Bars that far apart are a difference of stability only.",
        "1: A constant map is perfectly stable: ask whether the map depends on class, network and image.",
    )


@question(chapter=14)
def where_half_is_lost(draw):
    before, after = draw.choice([1, 0.9, 0.8, 0.75]), draw.choice([0.4, 0.35, 0.3, 0.2])
    low = draw.choice([0.25, 0.5, 1, 2])
    value = low + low * (before - 0.5) / (before - after)
    return Asked(
        f"A top-k attack leaves {before} of the top pixels of an image at {low} levels and {after} at {2 * low}. At "
        "which budget is half of them lost, if one interpolates? A second method keeps the same half up to twice this "
        "budget, but its attack takes directions from another map. What follows about the two methods?",
        f"2: Between the two: {low} + {low} times ({before} - 0.5) / ({before} - {after}) = {say(value)} levels.",
        "1: Nothing yet: an attack with a poor guide fails on a fragile method as well.",
        "1: Attack it by its own map, or by several, and take the worst of them.",
        value=value,
        before=before,
        after=after,
        low=low,
    )

"""Examination questions on part II, explanations: chapters 3 to 8."""

import math
from statistics import NormalDist, correlation

from bank import Asked, question, say, vector


@question(chapter=3)
def smoothgrad_of_a_kink(draw):
    x, sigma = draw.choice([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3]), draw.choice([0.1, 0.15, 0.2, 0.25, 0.4])
    value = NormalDist().cdf(x / sigma)
    return Asked(
        f"The score is $\\max(0, x)$ of a single pixel at $x = {x}$. What is its gradient, and what is SmoothGrad "
        f"with normal noise of standard deviation {sigma}, in the limit of many samples?",
        f"1: The gradient is {int(x > 0)}.",
        "2: SmoothGrad is the mean of the gradient: the probability that the noisy pixel is positive.",
        f"1: That is $\\Phi({say(x / sigma)}) = {say(value)}$.",
        value=value,
        x=x,
        sigma=sigma,
    )


@question(chapter=3)
def four_demands(draw):
    return Asked(
        "Name four demands that one may make on an attribution, in a sentence each. Which of them does the gradient "
        "meet, and which does it fail? Give an example of one that it fails.",
        "2: Linearity, implementation invariance, sensitivity (credit where a change changes the score), completeness.",
        "1: It meets the first two: it is linear in the score and depends on the function alone.",
        "1: It fails the last two: on the plateau of $1 - \\max(0, 1 - x)$ it is 0, although $x$ has changed the "
        "score.",
    )


@question(chapter=3)
def known_samples(draw):
    return Asked(
        "Somebody attacks SmoothGrad with the very noise samples that the map is then computed with, and empties the "
        "map. What does that show, and what would you do before you say that SmoothGrad can be attacked?",
        "2: That this average of few samples can be moved; much of the map is the samples'.",
        "1: Measure the map with other samples, which the attack has not seen.",
        "1: An attack on SmoothGrad itself climbs an average over new samples at each step.",
    )


@question(chapter=4)
def path_of_a_product(draw):
    a, b, p = draw.randint(1, 5), draw.randint(1, 5), draw.choice([2, 3, 4])
    score = a * b**p
    return Asked(
        f"The score is $S(x) = x_1 x_2^{p}$. Compute the integrated gradients at $({a}, {b})$ from the baseline 0, "
        "and check completeness. Give the attribution of the first pixel.",
        f"1: On the path, $\\partial S / \\partial x_1 = (a x_2)^{p}$, with $a$ from 0 to 1.",
        f"2: Its integral is $x_2^{p} / {p + 1}$, so that the first pixel gets {say(score / (p + 1))}.",
        f"1: The second gets {p} times as much; together {score}, the difference of the scores.",
        value=score / (p + 1),
        a=a,
        b=b,
        p=p,
    )


@question(chapter=4)
def enough_steps(draw):
    permille = draw.choice([3, 4, 6, 7, 9, 12, 15, 30])
    steps = math.ceil(1000 / permille)
    return Asked(
        "The score is $x^2$ of one pixel, the baseline 0, and the integral is replaced by a sum over $M$ equal "
        "steps, each with the gradient at its end. How many steps are needed for an error of at most "
        f"{permille / 10} % of the score? What else, in practice, tells you that the steps suffice?",
        "2: The sum is $x \\cdot \\frac{1}{M} \\sum_k 2 x k / M = x^2 (M + 1) / M$: its error is $1/M$ of the score.",
        f"1: So $M \\ge 1000 / {permille}$, which is {steps}.",
        "1: The sum of the attributions, beside the difference of the scores: completeness, which is known.",
        value=steps,
        permille=permille,
    )


@question(chapter=4)
def black_shoe(draw):
    return Asked(
        "Integrated gradients with a black baseline explain the photograph of a black shoe. The shoe itself gets "
        "hardly any attribution. Why? Is that a mistake of the method? Name another baseline, and what it would "
        "change.",
        "2: A pixel's share has the factor $x_i - x^0_i$, which is zero where the image is as the baseline.",
        "1: No mistake: the question was what makes the difference to black. Another question needs another baseline.",
        "1: The mean colour, a blurred image or several photographs; each has pixels of its own that get nothing.",
    )


@question(chapter=5)
def rescale_rule(draw):
    w1, w2, b = draw.randint(5, 8), draw.randint(-3, -1), draw.randint(-3, -1)
    x1, x2 = draw.randint(2, 4), draw.randint(0, 2)
    z = w1 * x1 + w2 * x2 + b
    output = max(0, z)
    multiplier = output / (z - b)
    value = multiplier * w1 * x1
    return Asked(
        f"A unit computes $y = \\max(0, {w1} x_1 {w2:+d} x_2 {b:+d})$. Explain its value at $({x1}, {x2})$ by "
        "DeepLIFT's rescale rule with the reference 0: what does the first input contribute?",
        f"1: At the input the sum is {z}, at the reference {b}; the outputs are {output} and 0.",
        f"1: The multiplier of the activation is $({output} - 0) / ({z} - ({b})) = {say(multiplier)}$.",
        f"1: The first input contributes {say(multiplier)} times {w1} times {x1}, which is {say(value)}.",
        f"1: Check: the contributions sum to the difference of the outputs, {output}.",
        value=value,
        w=(w1, w2),
        b=b,
        x=(x1, x2),
    )


@question(chapter=5)
def test_of_a_library(draw):
    return Asked(
        "You are given a library's DeepLIFT and a network with max pools. Without a second implementation at hand, "
        "how do you find out whether it is right on this network? What may be the matter if your test fails?",
        "2: Sum the contributions of an image, and compare with the difference of the scores of image and reference.",
        "1: The equality is exact: an error that is not one of rounding is a defect, on this network.",
        "1: A layer without a rule is passed like a gradient; a module that is used twice keeps the last of its "
        "inputs.",
    )


@question(chapter=5)
def two_wirings(draw):
    return Asked(
        "Two networks compute the same function of their inputs, and DeepLIFT attributes it differently. Explain "
        "how, and which demand is violated. Does integrated gradients have the same problem?",
        "2: Multipliers are chained unit by unit; secants do not obey the chain rule, so that the wiring matters.",
        "1: Implementation invariance: an attribution should depend on the function alone, not on how it is wired.",
        "1: No: integrated gradients are made of derivatives of the function, which do not depend on the wiring.",
    )


@question(chapter=6)
def epsilon_rule(draw):
    x = [draw.randint(1, 4) for _ in range(3)]
    w = [draw.randint(2, 5), draw.randint(-2, -1), draw.randint(1, 4)]
    relevance, epsilon = draw.randint(2, 9), draw.choice([0.5, 1, 2])
    total = sum(a * b for a, b in zip(x, w, strict=True))
    value = x[0] * w[0] / (total + math.copysign(epsilon, total)) * relevance
    return Asked(
        f"A unit without bias has the inputs {vector(x)}, the weights {vector(w)} and the relevance {relevance}. "
        f"What does its first input receive by LRP with $\\epsilon = {epsilon}$? How much relevance is lost in the "
        "step?",
        f"1: The sum of the unit is {total}; the first input has put {x[0] * w[0]} into it.",
        f"1: Its share is {x[0] * w[0]} / {say(total + math.copysign(epsilon, total))}: it receives {say(value)}.",
        f"1: All inputs together receive {say(total / (total + math.copysign(epsilon, total)) * relevance)} of "
        f"{relevance}; the rest is what epsilon keeps.",
        value=value,
        x=x,
        w=w,
        relevance=relevance,
        epsilon=epsilon,
    )


@question(chapter=6)
def zplus_rule(draw):
    x = [draw.randint(1, 5) for _ in range(3)]
    w = [draw.randint(1, 4), -draw.randint(1, 4), draw.randint(1, 4)]
    relevance = draw.randint(2, 9)
    positive = x[0] * w[0] + x[2] * w[2]
    return Asked(
        f"A unit has the inputs {vector(x)}, the weights {vector(w)} and the relevance {relevance}. What does its "
        "first input receive by the z-plus rule, and what does the second?",
        "1: Only what raises the sum counts; the second input receives nothing.",
        f"2: The first receives {x[0] * w[0]} / {positive} of {relevance}: {say(x[0] * w[0] / positive * relevance)}.",
        value=x[0] * w[0] / positive * relevance,
        x=x,
        w=w,
        relevance=relevance,
    )


@question(chapter=6)
def relevance_is_gradient(draw):
    return Asked(
        "Show that on a network of linear layers without biases and ReLUs, LRP with $\\epsilon \\to 0$ is gradient "
        "times input. Where does the argument break for z-plus?",
        "2: Write $R_j = x_j c_j$ in each layer. The rule $R_j = \\sum_k x_j w_{jk} R_k / z_k$ gives $c_j = \\sum_k "
        "w_{jk} R_k / z_k$.",
        "2: At a ReLU that is open, $R_k / z_k = c_k$; at a closed one $R_k = 0$. So $c$ is passed on like a "
        "gradient, by induction from the score.",
        "1: With z-plus the denominator is the positive part of the sum, and no longer the unit's own value.",
    )


@question(chapter=7)
def yardstick(draw):
    shown, chance = draw.choice([0.32, 0.35, 0.38, 0.41]), draw.choice([0.27, 0.29, 0.3])
    return Asked(
        f"The maps of two methods on the same photograph have a rank correlation of {shown}. The same methods on two "
        f"*different* photographs have {chance}. What may be said about their agreement? Why is the second number "
        "not 0?",
        "2: They agree hardly more than they do on anything: the yardstick is the second number, not 0.",
        "1: Photographs have their subject in the middle, and the network's grid is in each map.",
        "1: With how many photographs, and with which interval, has to be said before the difference is believed.",
    )


@question(chapter=7)
def grad_cam_by_hand(draw):
    features = [[draw.randint(0, 5) for _ in range(4)] for _ in range(2)]
    gradients = [[draw.randint(-3, 3) for _ in range(4)] for _ in range(2)]
    weights = [sum(row) / 4 for row in gradients]
    place = max(0.0, sum(w * row[0] for w, row in zip(weights, features, strict=True)))
    return Asked(
        f"A late layer has two channels of four places, with the features {vector(features[0])} and "
        f"{vector(features[1])}. The gradients of the score there are {vector(gradients[0])} and "
        f"{vector(gradients[1])}. What is Grad-CAM at the first place?",
        f"2: The weights are the means of the gradients: {say(weights[0])} and {say(weights[1])}.",
        f"1: The weighted sum of the features, if positive, else 0: {say(place)}.",
        value=place,
        features=features,
        gradients=gradients,
    )


@question(chapter=8)
def intersection_by_hand(draw):
    before, after = (draw.sample(range(1, 30), 8) for _ in range(2))
    k = draw.choice([3, 4])
    top = [set(sorted(range(8), key=lambda i: -row[i])[:k]) for row in (before, after)]
    both = sorted(i + 1 for i in top[0] & top[1])
    return Asked(
        f"The values of eight pixels are {vector(before)} before an attack and {vector(after)} after it. What is the "
        f"top-k intersection for $k = {k}$, and what would it be on average by chance?",
        f"2: The brightest pixels of both maps are the {', '.join(map(str, both)) or 'none'}: {len(both)} / {k} = "
        f"{say(len(both) / k)}.",
        f"1: By chance {k} / 8 = {say(k / 8)}: far more than with 1,000 of 51,529 pixels.",
        value=len(both) / k,
        before=before,
        after=after,
        k=k,
    )


@question(chapter=8)
def spearman_with_a_tie(draw):
    a, b, c = draw.sample(range(2, 9), 3)
    before, after = [a, b, b, c, 1], draw.sample(range(1, 10), 5)
    ranks = [midranks(before), midranks(after)]
    value = correlation(*ranks)
    return Asked(
        f"Compute Spearman's rank correlation of {vector(before)} and {vector(after)}. Mind the tie.",
        f"2: The ranks are {vector(ranks[0])} and {vector(ranks[1])}; tied values share the mean of their ranks.",
        f"2: The correlation of the ranks is {say(value)}. The formula with squared differences of ranks is exact "
        "only without ties.",
        value=value,
        before=before,
        after=after,
    )


def midranks(values):
    """Ranks from 1; tied values share the mean of theirs."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


@question(chapter=8)
def centre_by_hand(draw):
    m = draw.choice([0.2, 0.25, 0.4, 0.5, 0.6])
    first, second = (draw.randint(0, 9), draw.randint(0, 9)), (draw.randint(10, 30), draw.randint(10, 30))
    value = (1 - m) * math.dist(first, second)
    return Asked(
        f"A map has all its mass at row and column {first}. After an attack a share of {say(m)} is still there, and "
        f"the rest at {second}. By how many pixels has the centre moved?",
        "1: The centre is the mean position, weighted by the mass.",
        f"2: It has moved {say(1 - m)} of the way between the two: {say(value)} pixels.",
        value=value,
        m=m,
        first=first,
        second=second,
    )


@question(chapter=8)
def chance_of_an_intersection(draw):
    side, k = draw.choice([32, 64, 96, 128]), draw.choice([50, 100, 200, 400])
    return Asked(
        f"Two maps of {side} by {side} pixels have nothing to do with each other. How many of the {k} brightest "
        "pixels do they share on average? Which share is that? Why do maps of two unrelated photographs share more?",
        f"2: Each of the {k} is among those of the other map with probability {k} / {side**2}: "
        f"{say(k * k / side**2)} pixels, a share of {say(k / side**2)}.",
        "1: Real maps are no random subsets: they share the network's grid, and the middle of the picture.",
        value=k * k / side**2,
        side=side,
        k=k,
    )


@question(chapter=8)
def one_pixel_aside(draw):
    return Asked(
        "A photograph is moved by one pixel, and three quarters of the intersection of its gradient maps are gone. "
        "Has the explanation been destroyed? Design a measurement that decides it, with its control.",
        "1: Not necessarily: a gradient map is rough, and the same spots a pixel aside count as different pixels.",
        "2: Blur both maps, or allow for a move by some pixels, and measure again.",
        "1: Control: the same for maps of unrelated photographs, since blurring raises their intersection as well.",
    )

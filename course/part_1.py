"""Examination questions on part I, intuition: chapters 1 and 2."""

import math

from bank import Asked, matrix, question, say, vector


@question(chapter=1)
def two_pixels(draw):
    first, second = ([draw.choice([-1, 1]) * draw.randint(1, 9) for _ in range(3)] for _ in range(2))
    a, b = (sum(map(abs, colours)) for colours in (first, second))
    return Asked(
        f"An image has two pixels of three colours. The gradient of the score is {vector(first)} at the first pixel "
        f"and {vector(second)} at the second. What is the saliency of the first pixel?",
        f"2: The absolute values are summed over the colours: {a} and {b}. Signs that cancel are a mistake.",
        f"1: They are divided by their total: {a} / {a + b} = {say(a / (a + b))}.",
        value=a / (a + b),
        first=first,
        second=second,
    )


@question(chapter=1)
def attack_problem(draw):
    return Asked(
        "State the problem that an attack on an explanation solves: what is sought, what is made large, and under "
        "which three conditions. Which of the conditions distinguishes it from an adversarial example in the usual "
        "sense?",
        "1: Sought is a perturbation of the image that makes the dissimilarity of the two explanations large.",
        "2: Conditions: no value changes by more than the budget; pixels stay in their range; the label stays.",
        "1: The label. An adversarial example changes it; here it must not change.",
    )


@question(chapter=1)
def changed_so_wrong(draw):
    return Asked(
        "After an attack that is hard to see, the map of a photograph is another one. A colleague concludes that the "
        "map of the original photograph was wrong. Is that so? Name what you would have to measure to support your "
        "answer.",
        "2: It does not follow. A gradient may describe the network truly at both images; it is the network that "
        "turns.",
        "1: To call a map wrong one needs a truth to compare it with, such as what the score does when pixels change.",
        "1: What has been shown is that the explanation is not stable, beside noise of the same size as a control.",
    )


@question(chapter=2)
def steepest_turn(draw):
    a, b, c = draw.randint(2, 4), draw.choice([-3, -2, 2, 3]), draw.choice([-4, -3, -2])
    middle, radius = a + c, math.hypot(a - c, b)
    largest = max(abs(middle + radius), abs(middle - radius))
    hessian = [[2 * a, b], [b, 2 * c]]
    return Asked(
        f"A score of two pixels is $S(x) = {a} x_1^2 {b:+d} x_1 x_2 {c:+d} x_2^2$. By how much can its gradient "
        "change, in Euclidean length, with a step of length 1? In which direction does the step go?",
        f"1: The Hessian is {matrix(hessian)}, everywhere; a step changes the gradient by its product with the step.",
        "1: The change is largest along the eigenvector whose eigenvalue is largest in absolute value.",
        f"2: The eigenvalues are {say(middle + radius)} and {say(middle - radius)}, so the change is {say(largest)}.",
        value=largest,
        a=a,
        b=b,
        c=c,
    )


@question(chapter=2)
def width_of_a_bend(draw):
    beta = draw.choice([2, 5, 8, 10, 20, 25, 40, 50])
    width = 2 * math.log(3 + 2 * math.sqrt(2)) / beta
    return Asked(
        f"Softplus of sharpness $\\beta = {beta}$ is $g(z) = \\ln(1 + e^{{\\beta z}}) / \\beta$. How large is its "
        "second derivative at 0, and over which width of $z$ is it at least half as large?",
        "1: $g' = \\sigma(\\beta z)$ and $g'' = \\beta \\sigma (1 - \\sigma)$.",
        f"1: At 0, $\\sigma = 1/2$ and $g'' = \\beta / 4 = {say(beta / 4)}$.",
        f"2: $\\sigma(1 - \\sigma) = 1/8$ at $z = \\pm \\ln(3 + 2\\sqrt 2) / \\beta$: the width is {say(width)}.",
        value=width,
        beta=beta,
    )


@question(chapter=2)
def flat_and_fragile(draw):
    return Asked(
        "The Hessian of a ReLU network is zero wherever it is defined. How can its explanation change all the same, "
        "and what does a smooth copy of the network show that the network itself does not?",
        "2: The gradient is constant within a piece and jumps at the border of two pieces, where there is no Hessian.",
        "1: The copy turns each jump into a bend of a certain width, so that its Hessian says where jumps are near.",
        "1: It can therefore be climbed: a direction of ascent exists before the border is reached.",
    )

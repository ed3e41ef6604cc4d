"""Examination questions on part V, why: chapters 17 to 19."""

import math

from bank import Asked, matrix, question, say, vector


@question(chapter=17)
def length_of_a_step(draw):
    side, levels = draw.choice([32, 64, 128, 224, 256]), draw.choice([1, 2, 4, 8])
    value = levels / 255 * math.sqrt(3 * side * side)
    return Asked(
        f"Each value of an image of {side} by {side} pixels in three colours changes by {levels} of 255 levels. What "
        "is the Euclidean length of the change, if pixels lie in [0, 1]? Along random signs, does the gradient of a "
        "network with weights of the usual size change more, the larger the image is?",
        f"2: $\\epsilon \\sqrt d$ with $d = {3 * side * side}$: {say(value)}.",
        "1: No: along random signs the change does not depend on $d$. Length alone does nothing.",
        value=value,
        side=side,
        levels=levels,
    )


@question(chapter=17)
def gain_of_the_best(draw):
    eigenvalues = [draw.randint(5, 9), -draw.randint(2, 5), draw.randint(1, 3), draw.randint(1, 2)]
    d = draw.choice([100, 400, 900, 3072])
    r = sum(v * v for v in eigenvalues) / max(v * v for v in eigenvalues)
    value = math.sqrt(d / r)
    return Asked(
        f"In {d} dimensions a Hessian has the eigenvalues {vector(eigenvalues)}; all others are zero. What is its "
        "stable rank, and how many times as much as random signs can the best step of the same budget change the "
        "gradient?",
        f"2: Squares over the largest square: {say(r)}.",
        f"2: At most $\\sqrt{{d / r}}$, which is {say(value)}.",
        value=value,
        eigenvalues=eigenvalues,
        d=d,
    )


@question(chapter=17)
def one_soft_neuron(draw):
    beta, z, step = draw.choice([1, 2, 5, 10]), draw.choice([-0.2, -0.1, 0, 0.1, 0.2]), draw.choice([0.01, 0.02, 0.05])
    value = beta * step / (1 + math.exp(beta * z))
    return Asked(
        f"The score is softplus of $w^\\top x$, with $\\beta = {beta}$, and $w^\\top x = {z}$. A step has $w^\\top "
        f"\\delta = {step}$. By which share of its length does the gradient change, to first order? And the saliency "
        "map?",
        "1: The change relative to the length is $|g''/g'| \\, |w^\\top \\delta|$, with $g''/g' = \\beta (1 - "
        "\\sigma)$.",
        f"1: That is {say(value)}.",
        "1: Not at all: the gradient stays a multiple of $w$, and a map is normalised.",
        value=value,
        beta=beta,
        z=z,
        step=step,
    )


@question(chapter=17)
def dimension_is_not_enough(draw):
    return Asked(
        "'Images have many dimensions, therefore their explanations are fragile.' What has to be added to make this "
        "true? Give a network of many inputs for which it is false.",
        "2: The curvature has to be concentrated in few directions: a stable rank far below the dimension.",
        "1: Width that grows with the dimension spreads it: the best step then gains next to nothing.",
        "1: Or: one neuron, or any linear score, whose map never changes.",
    )


@question(chapter=18)
def one_power_step(draw):
    a, b, c = draw.randint(2, 6), draw.randint(1, 3), draw.randint(-4, 1)
    x, y = a * a + b * b, b * (a + c)  # H H e1, with H e1 = (a, b)
    value = (a * x + b * y) / (a * a + b * b)
    return Asked(
        f"The Hessian is {matrix([[a, b], [b, c]])}. Take a step of power iteration from $(1, 0)$, and estimate the "
        "leading eigenvalue by the Rayleigh quotient of what you get. What does power iteration need of the "
        "Hessian, and what does it find if the largest eigenvalue in absolute value is negative?",
        f"1: The step leads to {vector((a, b))}, up to its length.",
        f"2: $v^\\top H v / v^\\top v = {say(value)}$.",
        "1: Products with vectors alone. It finds that one: the largest in absolute value, whatever its sign.",
        value=value,
        a=a,
        b=b,
        c=c,
    )


@question(chapter=18)
def size_from_signs(draw):
    a, b, c = (draw.choice([-1, 1]) * draw.randint(1, 5) for _ in range(3))
    value = math.sqrt(a * a + 2 * b * b + c * c)
    return Asked(
        f"The Hessian is {matrix([[a, b], [b, c]])}. Over random signs $s$, what is the mean of $\\lVert H s "
        "\\rVert^2$? What is it the square of, and why is that useful for a Hessian that nobody can write down?",
        "1: $(H s)_1^2 + (H s)_2^2$, in which products of two different signs average out: "
        f"{a * a + 2 * b * b + c * c}.",
        f"1: Of the Frobenius norm, {say(value)}.",
        "1: A few products with random signs estimate it, and the relative change along random steps with it.",
        value=value,
        a=a,
        b=b,
        c=c,
    )


@question(chapter=18)
def product_without_matrix(draw):
    return Asked(
        "How is the product of a Hessian with a vector computed without the Hessian, and what does it cost? An image "
        "has 154,587 values: compare with writing the matrix down.",
        "2: Differentiate the product of the gradient with the vector, which is held fixed: two backward passes.",
        "1: The matrix has 154,587 squared entries, about 24 thousand million: 96 gigabytes in single precision.",
        "1: And it would take as many products as it has columns to fill it.",
    )


@question(chapter=18)
def square_root_law(draw):
    return Asked(
        "The change of a ReLU network's own gradient grows like the square root of a random step, where a smooth "
        "function's grows like the step. Explain the exponent. What follows for predictions by a Hessian?",
        "2: The step crosses kinks, in number proportional to its length; each turns the gradient by a jump.",
        "1: Jumps that are unrelated add up like a random walk: like the root of their number.",
        "1: For small steps the root is above any line: the first order underestimates the change of the network "
        "itself.",
    )


@question(chapter=19)
def without_the_control(draw):
    ab, ac, bc = draw.choice([0.5, 0.6, 0.7]), draw.choice([0.4, 0.5, 0.6, 0.7]), draw.choice([0.3, 0.4, 0.5])
    value = (ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2))
    return Asked(
        f"Over many images, curvature and damage have the rank correlation {ab}, curvature and the control {ac}, and "
        f"damage and the control {bc}. What is the partial correlation of curvature and damage? Why is one over "
        "the length of the gradient the control to take?",
        f"1: ({ab} - {ac} times {bc}) over the root of (1 - {ac} squared) (1 - {bc} squared).",
        f"1: That is {say(value)}.",
        "2: Curvature relative to the gradient has that length in its denominator, and a short gradient is easily "
        "turned whatever the curvature: the control shows what the denominator alone predicts.",
        value=value,
        ab=ab,
        ac=ac,
        bc=bc,
    )


@question(chapter=19)
def whose_fragility(draw):
    return Asked(
        "Over 32 photographs, what an attack of a quarter of a level takes from the gradient's maps and what it takes "
        "from those of DeepLIFT have the rank correlation 0.87. To what does fragility belong here, to the image or to "
        "the method? Name a comparison that could give another answer.",
        "2: To the image, for these two methods: what falls early by one falls early by the other.",
        "1: Another network, another method such as deep Taylor, or another budget.",
        "1: With its interval, since 32 photographs are few, and on common images.",
    )

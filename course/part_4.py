"""Examination questions on part IV, examples as explanations: chapters 15 and 16."""

from statistics import mean

from bank import Asked, question, say, vector


@question(chapter=15)
def influence_on_a_mean(draw):
    data = draw.sample(range(0, 20), 5)
    test, i = draw.randint(-5, 25), draw.randrange(5)
    centre = mean(data)
    value = (centre - test) * (data[i] - centre)
    return Asked(
        f"A model with one parameter is fitted to {vector(data)} with the loss $(z - \\theta)^2 / 2$. What is the "
        f"influence of the example {data[i]} on the loss at {test}? Is the example helpful or harmful?",
        f"1: $\\hat\\theta = {say(centre)}$ and the Hessian is 1.",
        "2: $-\\nabla L(z_t) \\, H^{-1} \\, \\nabla L(z_i)$ with $\\nabla L(z) = \\hat\\theta - z$: "
        f"$-({say(centre)} - ({test})) \\cdot ({say(centre)} - {data[i]}) = {say(value)}$.",
        "1: Negative is helpful: more weight lowers the loss. Positive is harmful, and zero is neither.",
        value=value,
        data=data,
        test=test,
        i=i,
    )


@question(chapter=15)
def why_convex(draw):
    return Asked(
        "The influence functions of the book are those of the last layer, with a penalty on its weights. Why is that "
        "a good choice for checking them, and what becomes less certain for a whole network?",
        "2: The problem is strictly convex: one solution, which depends on the examples only, and an invertible "
        "Hessian.",
        "1: For a network, retraining ends elsewhere by chance, and the Hessian need not be positive definite.",
        "1: The prediction and what it is compared with then both have an error of their own.",
    )


@question(chapter=15)
def damping(draw):
    return Asked(
        "A Hessian of the parameters is singular. What do conjugate gradients do then, what does damping change, and "
        "why has the damping to be reported?",
        "1: They solve only where there is a solution, and grow without limit along directions that the data do not "
        "see.",
        "1: Adding a multiple of the identity makes it invertible; those directions are weighted by its inverse.",
        "1: The influences depend on it: it is as if another penalty had been trained with.",
    )


@question(chapter=16)
def confidence_alone(draw):
    before, after = draw.choice([0.6, 0.7, 0.75, 0.8]), draw.choice([0.9, 0.95, 0.97])
    value = (1 - after) / (1 - before)
    return Asked(
        f"A step makes logistic regression more confident: the probability of the label rises from {before} to "
        f"{after}. Suppose that the direction of the features stays as it was. By which factor do the influences of "
        "all examples on this prediction change, and what becomes of their order?",
        f"2: The gradient of the test loss has the residual $1 - p$ as a factor: {say(value)} times, all of them.",
        "1: Their order stays. So this part of an attack's effect is confidence, and no other explanation.",
        value=value,
        before=before,
        after=after,
    )


@question(chapter=16)
def no_surrogate(draw):
    return Asked(
        "The attack on a gradient map needs a softplus surrogate. The attack on influence does not. Why? Which "
        "vector is computed once, and what does each step then cost?",
        "1: A map is a gradient, so that its slope is a second derivative; influence contains features, "
        "undifferentiated.",
        "1: The inverse Hessian times the gradients of the chosen training examples; it does not depend on the image.",
        "1: One pass forward and one back.",
    )


@question(chapter=16)
def true_and_fragile(draw):
    return Asked(
        "Influences were checked against training again and found true, before an attack and after it, as far as this "
        "was tried. The examples "
        "that are named are others. Is either list wrong? What may be promised to a user?",
        "2: Neither: each is true of its own image. Being faithful and being robust are two things.",
        "1: That these examples matter for this very image, and nothing for one that looks the same.",
    )

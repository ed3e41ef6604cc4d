"""Laboratories for tests: folders as `fragile_utils.laboratory` writes them, with few methods and photographs."""

from fragile_utils import data, laboratory, models, saliency

METHODS = {"gradient": saliency.Gradient(), "deeplift": saliency.DeepLift()}
OTHERS = {"deep-taylor": saliency.DeepTaylor(), "integrated-gradients": saliency.IntegratedGradients(5)}
SMALLER = {("squeezenet", "integrated-gradients"): 128}  # pixels, as in the book's laboratory


def small(*methods: str, examples: int = 4) -> laboratory.Network:
    """The CIFAR-10 network, whose steps take milliseconds."""
    batch = data.cifar10_samples()
    return _network("cifar10", "small network (CIFAR-10)", models.cifar10_net(), batch, methods, examples)


def large(*methods: str, examples: int = 3) -> laboratory.Network:
    """SqueezeNet, with the folding chairs first."""
    batch = data.imagenet_samples()[1:]
    return _network("squeezenet", "SqueezeNet 1.1 (ImageNet)", models.squeezenet(), batch, methods, examples)


def _network(name, title, model, batch, methods, examples):
    made = METHODS | OTHERS
    explanations = [laboratory.Explanation(one, one, made[one], SMALLER.get((name, one))) for one in methods]
    return laboratory.Network(name, title, model, explanations, batch.correct(model)[:examples])

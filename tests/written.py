"""Laboratories for tests: folders as `fragile_utils.laboratory` writes them, with few methods and photographs."""

from fragile_utils import data, laboratory, models, saliency

METHODS = {"gradient": saliency.Gradient(), "deeplift": saliency.DeepLift()}


def small(*methods: str, examples: int = 4) -> laboratory.Network:
    """The CIFAR-10 network, whose steps take milliseconds."""
    batch = data.cifar10_samples()
    return _network("cifar10", "small network (CIFAR-10)", models.cifar10_net(), batch, methods, examples)


def large(*methods: str, examples: int = 3) -> laboratory.Network:
    """SqueezeNet, with the folding chairs first."""
    batch = data.imagenet_samples()[1:]
    return _network("squeezenet", "SqueezeNet 1.1 (ImageNet)", models.squeezenet(), batch, methods, examples)


def _network(name, title, model, batch, methods, examples):
    explanations = [laboratory.Explanation(method, method, METHODS[method]) for method in methods]
    return laboratory.Network(name, title, model, explanations, batch.correct(model)[:examples])

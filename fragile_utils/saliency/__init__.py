"""Saliency maps (feature-importance maps): how much each pixel matters to the score of a class.

Each method is a value with its parameters, called as ``method(model, images, targets)``. All are differentiable with
respect to the image (``create_graph=True``), which is what an attack on an explanation climbs. The exception is
`Captum`, which wraps any method of that library, for comparison.
"""

from collections.abc import Callable

from fragile_utils.saliency.attention_gradient import AttentionGradient
from fragile_utils.saliency.attention_lrp import AttnLRP
from fragile_utils.saliency.attention_relevance import AttentionRelevance
from fragile_utils.saliency.baseline import Baseline
from fragile_utils.saliency.captum import Captum
from fragile_utils.saliency.deeplift import DeepLift
from fragile_utils.saliency.grad_cam import GradCAM
from fragile_utils.saliency.gradient import Gradient, InputXGradient
from fragile_utils.saliency.guided import Guided, OfProbability, guided_by_probability
from fragile_utils.saliency.integrated_gradients import IntegratedGradients
from fragile_utils.saliency.lrp import LRP, DeepTaylor
from fragile_utils.saliency.method import Method, class_scores, normalize
from fragile_utils.saliency.rollout import Rollout
from fragile_utils.saliency.smoothgrad import SmoothGrad
from fragile_utils.saliency.token_grad_cam import TokenGradCAM

__all__ = [
    "LRP",
    "METHODS",
    "AttentionGradient",
    "AttentionRelevance",
    "AttnLRP",
    "Baseline",
    "Captum",
    "DeepLift",
    "DeepTaylor",
    "GradCAM",
    "Gradient",
    "Guided",
    "InputXGradient",
    "IntegratedGradients",
    "Method",
    "OfProbability",
    "Rollout",
    "SmoothGrad",
    "TokenGradCAM",
    "class_scores",
    "guided_by_probability",
    "normalize",
]

METHODS: dict[str, Callable[..., Method]] = {
    "gradient": Gradient,
    "input-x-gradient": InputXGradient,
    "integrated-gradients": IntegratedGradients,
    "deeplift": DeepLift,
    "lrp": LRP,
    "lrp-zplus": lambda **options: LRP(rule="zplus", **options),
    "lrp-alphabeta": lambda **options: LRP(rule="alphabeta", **options),
    "deep-taylor": DeepTaylor,
    "smoothgrad": SmoothGrad,
    "grad-cam": GradCAM,
    "rollout": Rollout,
    "attention-relevance": AttentionRelevance,
    "attention-gradient": AttentionGradient,
    "grad-cam-tokens": TokenGradCAM,
    "guided-by-probability": guided_by_probability,
}

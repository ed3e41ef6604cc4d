"""Which operation each step has, where what it hands down is its derivative."""

from fragile_utils.saliency.propagation.elementwise import (
    Clipped,
    ClosedForm,
    ElementwiseByAutograd,
    has_closed_form,
    is_smooth_clip,
    relu,
)
from fragile_utils.saliency.propagation.general import Detached, General
from fragile_utils.saliency.propagation.kinds import RELU, Kind
from fragile_utils.saliency.propagation.linear import linear
from fragile_utils.saliency.propagation.normalising import LayerNorm, Softmax, is_layer_norm, is_softmax
from fragile_utils.saliency.propagation.operation import Operation, Setting
from fragile_utils.saliency.propagation.pooling import MaxPool
from fragile_utils.saliency.propagation.products import Product, is_product
from fragile_utils.saliency.propagation.steps import Step
from fragile_utils.saliency.propagation.weighted import Weighted


def derivative(step: Step, setting: Setting) -> Operation:
    """Return the operation of a step that hands down by its derivative."""
    if step.kind in (Kind.REARRANGE, Kind.CONSTANT, Kind.COMBINE):
        return linear(step, setting)
    if step.kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION):
        return _activation(step, setting)
    if step.kind is Kind.GENERAL:
        return _general(step, setting)
    others = {Kind.WEIGHTED: Weighted, Kind.MAX_POOL: MaxPool, Kind.DETACHED: Detached}
    return others[step.kind](step, setting)


def _activation(step: Step, setting: Setting) -> Operation:
    if step.function in RELU:
        return relu(step, setting)
    if is_smooth_clip(step, setting.beta):
        return Clipped(step, setting)
    return (ClosedForm if has_closed_form(step) else ElementwiseByAutograd)(step, setting)


def _general(step: Step, setting: Setting) -> Operation:
    forms = ((is_product, Product), (is_softmax, Softmax), (is_layer_norm, LayerNorm))
    return next((form for fits, form in forms if fits(step)), General)(step, setting)

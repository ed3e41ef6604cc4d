"""Which operation each step has, where what it hands down is its derivative."""

from fragile_utils.saliency.propagation.elementwise import ElementwiseByAutograd, relu
from fragile_utils.saliency.propagation.general import Detached, General
from fragile_utils.saliency.propagation.kinds import RELU, Kind
from fragile_utils.saliency.propagation.linear import linear
from fragile_utils.saliency.propagation.operation import Operation, Setting
from fragile_utils.saliency.propagation.pooling import MaxPool
from fragile_utils.saliency.propagation.steps import Step
from fragile_utils.saliency.propagation.weighted import Weighted


def derivative(step: Step, setting: Setting) -> Operation:
    """Return the operation of a step that hands down by its derivative."""
    if step.kind in (Kind.REARRANGE, Kind.CONSTANT, Kind.COMBINE):
        return linear(step, setting)
    if step.kind in (Kind.HOMOGENEOUS, Kind.ACTIVATION):
        return relu(step, setting) if step.function in RELU else ElementwiseByAutograd(step, setting)
    others = {Kind.WEIGHTED: Weighted, Kind.MAX_POOL: MaxPool, Kind.GENERAL: General, Kind.DETACHED: Detached}
    return others[step.kind](step, setting)

"""What a rule of propagation is: what each step of a network does to the multipliers that pass through it.

The gradient of a score is a product of local derivatives, one for each function that the network computes. DeepLIFT
takes output differences over input differences instead; layer-wise relevance propagation takes ratios of relevances.
So all of them are one walk with different rules:

====================  ===================================================  =================================
`Rule`                the derivatives as they are                          the gradient
`deeplift.Rescale`    output difference over input difference              DeepLIFT
`lrp.EpsilonRule`     share of each input in the sum                       LRP-epsilon
`lrp.AlphaBetaRule`   shares of the positive and the negative inputs       LRP-alpha-beta; z-plus for beta = 0
`lrp.DeepTaylorRule`  z-plus; z-box in the layer that sees the pixels      deep Taylor decomposition
====================  ===================================================  =================================
"""

from dataclasses import dataclass

from fragile_utils.saliency.propagation.operation import Operation, Setting
from fragile_utils.saliency.propagation.operations import derivative
from fragile_utils.saliency.propagation.steps import Step


@dataclass(frozen=True)
class Rule:
    """The derivatives as they are: what arrives at the image is the gradient of the score.

    A rule of another kind says which steps do not hand down by their derivative (`is_derivative`), and what they do
    instead (`operation`).
    """

    compares = False  # whether it needs a reference image

    def is_derivative(self, step: Step) -> bool:
        """Return whether the rule of a step is its derivative."""
        return True

    def operation(self, step: Step, setting: Setting) -> Operation:
        """Return the operation of a step.

        Raises
        ------
        ValueError
            `steps.Untraceable`, if the rule has nothing to say of such a step; its layer is named.
        """
        return derivative(step, setting)

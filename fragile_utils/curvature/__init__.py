"""Curvature in input space: why explanations are fragile.

To first order, a perturbation d changes the gradient of a class score by H d, where H is the Hessian of the score with
respect to the image (Ghorbani, Abid, Zou, *Interpretation of Neural Networks is Fragile*, AAAI 2019). H has 154,587
rows for an image of 227 x 227 pixels. It is never formed: a product H v costs about as much as two gradients, and all
that is asked of H here is made of products.

The score has to be smooth. A network of ReLUs is piecewise linear: its Hessian is zero wherever it exists, although its
gradient jumps from piece to piece. Such a network is refused; take its `models.softplus_surrogate`, whose beta says
over which width a jump is smeared. That keeps max pools, whose gradient jumps too; `models.smooth_surrogate` leaves no
jump.
"""

from fragile_utils.curvature.directions import Change, Curvature, along, change, cosine
from fragile_utils.curvature.eigenvalues import Eigenpairs, Moments, Spectrum, eigenpairs, moments, spectrum
from fragile_utils.curvature.hessian import Hessian, linear_operator, product

__all__ = [
    "Change",
    "Curvature",
    "Eigenpairs",
    "Hessian",
    "Moments",
    "Spectrum",
    "along",
    "change",
    "cosine",
    "eigenpairs",
    "linear_operator",
    "moments",
    "product",
    "spectrum",
]

"""Explanations of neural networks, how to attack them, and how to measure what the attack did.

The package behind the book *Interpretation of Neural Networks is Fragile, hands-on*. Each room is one part of the
story: ``data``, ``metrics``, ``models``, ``saliency``, ``attacks``, ``curvature``, ``influence``, ``defences``,
``experiments``, ``laboratory`` and ``plots``; ``claims`` and ``course`` are for the book, and ``cli`` is the command
``fragile``. Import the ones you need: ``from fragile_utils import attacks, data, metrics, models, saliency``.
"""

__version__ = "0.1.0"

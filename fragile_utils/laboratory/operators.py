"""The table of all operators: which functions of PyTorch can be written in ONNX."""

from fragile_utils.laboratory.arrangement import ARRANGEMENT
from fragile_utils.laboratory.elementwise import ELEMENTWISE
from fragile_utils.laboratory.layers import LAYERS
from fragile_utils.laboratory.sums import SUMS
from fragile_utils.laboratory.table import Table

OPERATORS = Table(ELEMENTWISE | SUMS | ARRANGEMENT | LAYERS)

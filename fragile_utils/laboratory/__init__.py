"""The laboratory: a page on which a reader attacks explanations in her own browser, and what is exported for it.

`export` traces an explanation, or a step of an attack on it, from the package's own functions, and writes it as an
ONNX graph. The graphs are written here, operator by operator, and not by ``torch.onnx``: a step of an attack
differentiates an explanation, which is itself a derivative, and the functions of PyTorch that go backwards are not
among those which ``torch.onnx`` translates; nor does it keep to operators that have a kernel for WebGPU.

`write` puts such graphs, their weights, photographs and the page into a folder that any web server serves.
"""

from fragile_utils.laboratory.contents import explanation, network, of_the_book
from fragile_utils.laboratory.export import export
from fragile_utils.laboratory.folder import Explanation, Network, write

__all__ = ["Explanation", "Network", "explanation", "export", "network", "of_the_book", "write"]

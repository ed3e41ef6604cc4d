"""Any PyTorch classifier as a `Classifier`: what it takes and returns is found out, adapted exactly, and said.

A network is shown a few images, and what it answers decides: a dict, a tuple or an object with ``.logits``; one score
or several; logits, or a softmax at the end. What cannot be told apart is refused, with the argument that says it.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fragile_utils._base import checks, precision, schema
from fragile_utils.models import programs
from fragile_utils.models.adapter import LUMA, Adapter, Ending, Endings, as_columns, chosen
from fragile_utils.models.classifier import Classifier
from fragile_utils.models.compiled import uncompiled
from fragile_utils.models.surrogate import own_beta

SIZES = (  # pixels, which are tried in this order where no size is given
    *(224, 32, 28, 64, 96, 128, 227, 299, 384, 256, 160, 192, 240, 260, 300, 320, 336, 448, 512),
    *(16, 8, 20, 24, 40, 48, 50, 56, 80, 84, 100, 112, 150, 180, 200),
)
FAR = 100.0  # by what images are multiplied to see whether an answer leaves [0, 1]


class Wrapped(Classifier):
    """A `Classifier` made by `wrap`.

    Attributes
    ----------
    adapted : tuple of str
        What was found and done, a sentence each.
    outputs : int
        How many classes it has.
    shape : tuple of 2 ints
        Height and width of its images in pixels; ``size`` is None unless they are the same.
    """

    def __init__(
        self,
        adapter: Adapter,
        mean: Any,
        std: Any,
        adapted: Sequence[str],
        outputs: int,
        shape: tuple[int, int],
        **options: Any,
    ) -> None:
        super().__init__(adapter, mean, std, size=shape[0] if shape[0] == shape[1] else None, **options)
        self.adapted, self.outputs, self.shape = tuple(adapted), outputs, shape
        self.training = adapter.training
        self.normalize.training = adapter.training

    def __repr__(self) -> str:
        network = type(self.network.network).__name__
        lines = [f"Wrapped({network}, {self.outputs} classes, images of {_pixels(self.shape)})"]
        return "\n  - ".join([*lines, *self.adapted])


def wrap(
    module: nn.Module | torch.export.ExportedProgram,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    bgr: bool = False,
    beta: float | None = None,
    output: str | int | None = None,
    probabilities: bool | None = None,
) -> Wrapped:
    """Return a network of any make as a `Classifier`; ``adapted`` and its repr say what was done.

    Adapted are: outputs in a dict, a tuple or an object with ``.logits``; one score z of two classes (the logits are
    -z/2 and z/2, which have the probabilities of its sigmoid); images in grey (the luma of the image is shown); a
    softmax or sigmoid at the end (what it was given is taken). All of it exactly: second derivatives too.

    Parameters
    ----------
    module : Module or ExportedProgram
        In evaluation mode. It is left as it is, and its parameters are shared. A program of torch.export, or its
        module, is called by the functions that its operators stand for.
    mean, std : sequence of 3 floats, or of 1 for a network that takes grey, optional
        As for `Classifier`. By default the network gets images in [0, 1].
    size : int or (int, int), optional
        The side of its images in pixels, or their height and width. By default the first of `SIZES` that it accepts.
    classes, bgr : optional
        As for `Classifier`.
    beta : float, optional
        Sharpness of the surrogate. By default that of the module, or as for `Classifier`; without `std` there is none,
        and `choose_beta` finds one on the images.
    output : str or int, optional
        Which part of the answer holds the scores, where several could: a key, an attribute or a place.
    probabilities : bool, optional
        Whether it returns probabilities, where that cannot be seen.

    Raises
    ------
    ValueError
        If it cannot be attacked exactly (TorchScript), cannot take images, or it is unclear what it returns.
    """
    module = module.module() if isinstance(module, torch.export.ExportedProgram) else module
    checks.instance(module, nn.Module, "model", "a torch.nn.Module")
    if isinstance(module, Classifier):
        raise ValueError("model: expected a plain module, got a Classifier, which has its normalisation inside")
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ValueError(f"model: {NO_TORCHSCRIPT}")
    adapted = []
    if hasattr(module, "_orig_mod"):
        module = module._orig_mod
        adapted.append("torch.compile is left out: the network inside is used")
    if checks.is_program(module):
        size = programs.size_of(module) if size is None else size
        module = programs.as_called(module)
    checks.evaluation_mode(module)
    for name, value in (("mean", mean), ("std", std)):
        if value is not None and (not hasattr(value, "__len__") or len(value) not in (1, 3)):
            raise ValueError(f"{name}: expected 3 numbers, or 1 for a network that takes grey, got {value!r}")
    if mean is None:
        shown = "it gets images in [0, 1] as they are" if std is None else "nothing is subtracted from its images"
        adapted.append(f"no mean was given: {shown}, and the baseline 'mean' of its explanations is black")
    beta = own_beta(module) if beta is None else beta
    scaled = std is not None
    ones = [1 for value in (mean, std) if value is not None and len(value) == 1]
    grey = True if ones else None
    mean, std = (list(value) * (3 // len(value)) for value in (mean or [0.0], std or [1.0]))

    with precision.float32():
        grey, shape, answers = _shown(module, Classifier(nn.Identity(), mean, std, bgr=bgr).normalize, grey, size)
    if grey:
        adapted.append("it takes images in grey: it is shown 0.299 red + 0.587 green + 0.114 blue")
    if size is None:
        adapted.append(f"images of {_pixels(shape)}: the first size that it accepts; give the size if it has one")
    part = _part(answers, output)
    if part is not None:
        adapted.append(f"of its answer, a {type(answers.plain).__name__}, the part {part!r} is taken")
    scores = as_columns(chosen(answers.plain, part))
    binary = scores.shape[1] == 1
    ending, said = _ending(answers, part, binary, probabilities)
    adapted += said
    if binary:
        adapted.append("it returns one score z of the second of two classes: the logits are -z/2 and z/2")
    outputs = 2 if binary else scores.shape[1]
    if classes and len(classes) != outputs:
        raise ValueError(f"classes: expected {outputs} names, got {len(classes)}")
    adapter = Adapter(module, grey=grey, part=part, ending=ending, binary=binary)
    adapter.luma = adapter.luma.to(_like(module))  # of the adapter alone: the network is left as it is
    made = Wrapped(adapter, mean, std, adapted, outputs, shape, bgr=bgr, classes=classes, beta=beta)
    made.normalize.to(adapter.luma)
    if beta is None and not scaled:  # nothing is known of the scale of its input
        del made.beta
    return made


NO_TORCHSCRIPT = (
    "TorchScript cannot be attacked exactly, since its ReLUs cannot be replaced; give the function that makes the "
    "network, FUNCTION@WEIGHTS, or save it with torch.export as .pt2"
)


SAY_WHICH = "say which: models.wrap(network, {}), in a function of yours that returns this"  # on a command line, too

# --- What a network answers ------------------------------------------------------------------------------------------


class _Answers:
    """What a network answers to a few images, and to the same far out of range; and what its last function was."""

    def __init__(self, module: nn.Module, shown: Tensor) -> None:
        with torch.no_grad(), uncompiled(), Endings() as self.endings:
            self.plain = module(shown)
        self.count = len(shown)
        with torch.no_grad():
            self.far = module(shown * FAR)


def _shown(
    module: nn.Module, normalize: nn.Module, grey: bool | None, size: int | tuple[int, int] | None
) -> tuple[bool, tuple[int, int], _Answers]:
    """Return whether the network takes grey, height and width of its images, and its answers to some."""
    shapes = [(side, side) for side in SIZES] if size is None else [_height_and_width(size)]
    floating = _like(module)
    normalize = normalize.to(floating)
    luma = torch.tensor(LUMA).view(1, 3, 1, 1).to(floating)
    first: Exception | None = None
    for channels in (3, 1) if grey is None else (1,) if grey else (3,):
        for shape in shapes:
            images = normalize(_images(*shape).to(floating))
            images = F.conv2d(images, luma) if channels == 1 else images
            try:
                answers = _Answers(module, images)
            except (RuntimeError, TypeError, IndexError, AttributeError, ValueError, AssertionError) as error:
                first = first or error
                continue
            if any(_are_scores(value, len(images)) for value in _parts(answers.plain).values()):
                return channels == 1, shape, answers
            first = first or ValueError(f"it returns {_in_words(answers.plain)}")
    half = {p.dtype for p in module.parameters() if p.is_floating_point()} - {torch.float32, torch.float64}
    if half:
        raise ValueError(
            f"model: it has weights of {', '.join(sorted(map(str, half)))} and cannot take images of {floating.dtype}; "
            "convert with model.float()"
        ) from first
    tried = f"of {_pixels(shapes[0])}" if size is not None else f"of {len(SIZES)} common sizes (give the size)"
    expected = f"expected scores (N, classes) for images {tried}, in colour or grey"
    raise ValueError(f"model: {expected}; the first attempt: {schema.reason(first)}") from first


def _like(module: nn.Module) -> Tensor:
    """Return what has the device of its images, and their type: that of the weights, and no less than float32."""
    floating = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    return floating if floating.dtype == torch.float64 else floating.float()


def _height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)):
        return (checks.count(size, "size"),) * 2
    if len(size) != 2:
        raise ValueError(f"size: expected a number of pixels, or height and width, got {size!r}")
    return checks.count(size[0], "size"), checks.count(size[1], "size")


def _pixels(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]} pixels"


def _images(height: int, width: int) -> Tensor:
    """Return four images: noise, noise with little contrast, a ramp to the right, and one to the top."""
    noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    right = torch.linspace(0, 1, width).expand(3, height, width)
    up = 1 - torch.linspace(0, 1, height)[:, None].expand(3, height, width)
    return torch.stack([noise[0], 0.4 + 0.2 * noise[1], right, up])


def _parts(answer: Any) -> dict[str | int | None, Any]:
    """Return the parts of an answer by key, place or attribute; a tensor is the part None."""
    if isinstance(answer, Tensor):
        return {None: answer}
    if hasattr(answer, "logits"):
        return {"logits": answer.logits}
    if isinstance(answer, dict):
        return {"logits": answer["logits"]} if "logits" in answer else dict(answer)
    if isinstance(answer, (tuple, list)):
        return dict(enumerate(answer))
    return {}


def _are_scores(value: Any, count: int) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim or len(value) != count:
        return False
    return value.shape[2:].numel() == 1


def _part(answers: _Answers, output: str | int | None) -> str | int | None:
    """Return which part of the answer holds the scores."""
    if output is not None:
        try:
            found = chosen(answers.plain, output)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise ValueError(f"output: {output!r} is no part of {_in_words(answers.plain)}") from error
        if not _are_scores(found, answers.count):
            raise ValueError(f"output: expected scores (N, classes), got {checks.described(found)}")
        return output
    fits = [name for name, value in _parts(answers.plain).items() if _are_scores(value, answers.count)]
    if len(fits) > 1:
        names = ", ".join(map(repr, fits))
        way = SAY_WHICH.format(f"output={fits[0]!r}")
        raise ValueError(f"model: expected one part of its answer to be scores (N, classes), got {names}; {way}")
    return fits[0]


def _ending(
    answers: _Answers, part: str | int | None, binary: bool, probabilities: bool | None
) -> tuple[Ending, list[str]]:
    """Return how the network ends, and what is to be said of it."""
    scores = chosen(answers.plain, part)
    name = None if probabilities is False else answers.endings.name(scores)
    if name is not None:
        before, after = answers.endings.before(scores), scores
        if not torch.allclose(_apply(name, before), after, rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"model: its {name} at the end is changed in place afterwards; leave it out of the network"
            )
        said = f"the {name} at the end is left out: what it was given are the logits"
        if "sigmoid" in name and not binary:
            said += "; its classes do not exclude each other, and are compared by these"
        return "call", [said]
    columns, far = as_columns(scores), as_columns(chosen(answers.far, part))
    bounded = all(bool(((values >= 0) & (values <= 1)).all()) for values in (columns, far))
    sums = bounded and not binary and torch.allclose(columns.sum(1), torch.ones_like(columns[:, 0]), atol=1e-3)
    if probabilities is None and binary and bounded:
        raise ValueError(
            "model: it returns one number between 0 and 1, a probability or a logit; leave the sigmoid out of the "
            f"network, or {SAY_WHICH.format('probabilities=True')} (or False)"
        )
    if probabilities or (probabilities is None and sums):
        if not bounded or not (binary or sums):
            raise ValueError("probabilities: expected numbers from 0 to 1 that sum to 1, got others")
        if (columns <= 0).any() or (binary and (columns >= 1).any()):
            raise ValueError("model: some of its probabilities are rounded to 0 or 1; leave the softmax out of it")
        which = "their logits" if binary else "the logits whose mean is 0"
        return "probabilities", [f"it returns probabilities: {which} are taken, by the logarithm"]
    return "logits", []


def _apply(name: str, scores: Tensor) -> Tensor:
    made = scores.sigmoid() if "sigmoid" in name else scores.softmax(1 if scores.ndim > 1 else 0)
    return made.log() if name.startswith("log") else made


def _in_words(answer: Any) -> str:
    if isinstance(answer, dict):
        return f"a dict of {', '.join(map(str, answer))}"
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {len(answer)}"
    return checks.described(answer)

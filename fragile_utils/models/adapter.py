"""A network of any make as one that takes images in colour and returns logits, exactly.

Nothing is approximated. A softmax or a sigmoid at the end is left out by taking what it was given; where there is only
its result, the logits are recovered from the probabilities, which fix them up to what is the same for all classes.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fragile_utils._base import checks
from fragile_utils.models.compiled import uncompiled

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow and OpenCV turn a picture grey
Ending = Literal["logits", "call", "probabilities"]

_T, _aten = Tensor, torch.ops.aten
SOFTMAX = {F.softmax, torch.softmax, _T.softmax, _aten.softmax.int}
LOG_SOFTMAX = {F.log_softmax, torch.log_softmax, _T.log_softmax, _aten.log_softmax.int}
SIGMOID = {F.sigmoid, torch.sigmoid, _T.sigmoid, _aten.sigmoid.default}
LOG_SIGMOID = {F.logsigmoid, _aten.log_sigmoid.default}
NAMES = {
    **dict.fromkeys(SOFTMAX, "softmax"),
    **dict.fromkeys(LOG_SOFTMAX, "log-softmax"),
    **dict.fromkeys(SIGMOID, "sigmoid"),
    **dict.fromkeys(LOG_SIGMOID, "log-sigmoid"),
}


_REARRANGED = {torch.squeeze, _T.squeeze, torch.flatten, _T.flatten, _T.view, torch.reshape, _T.reshape}


class Adapter(nn.Module):
    """What a network needs around it to take images (N, 3, H, W) and return logits (N, classes).

    Parameters
    ----------
    network : Module
    grey : bool
        Whether it takes images (N, 1, H, W).
    part : str, int or None
        Which part of its answer holds the scores: the key of a dict, the attribute of an object, the place in a tuple;
        None where the answer is a tensor.
    ending : {"logits", "call", "probabilities"}
        "call": its last function is a softmax or a sigmoid, whose input is taken. "probabilities": it returns
        probabilities that come from elsewhere.
    binary : bool
        Whether it returns one score z, that of the second of two classes. The logits are then -z/2 and z/2, which have
        the probabilities of the sigmoid; 0 and z would have them too, but leave nothing of the first class to explain.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        grey: bool = False,
        part: str | int | None = None,
        ending: Ending = "logits",
        binary: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.grey, self.part, self.ending, self.binary = grey, part, ending, binary
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        if self.grey:
            images = F.conv2d(images, self.luma)
        if self.ending == "call":
            with uncompiled(), Endings() as endings:
                answer = self.network(images)
            scores = as_columns(endings.before(chosen(answer, self.part)))
        else:
            scores = as_columns(chosen(self.network(images), self.part))
        if self.ending == "probabilities":
            scores = (_logit_of_one if self.binary else centred_logits)(scores)
        if self.binary:
            half = scores / 2
            scores = torch.cat([-half, half], dim=1)
        return scores


def chosen(answer: Any, part: str | int | None) -> Any:
    """Return a part of what a network answers."""
    if part is None:
        return answer
    if isinstance(part, int) or isinstance(answer, dict):
        return answer[part]
    return getattr(answer, part)


def as_columns(scores: Tensor) -> Tensor:
    """Return scores (N,), (N, C) or (N, C, 1, 1) as (N, C)."""
    if scores.ndim == 1:
        return scores.unsqueeze(1)
    return scores.flatten(1) if scores.ndim > 2 else scores


def centred_logits(probabilities: Tensor) -> Tensor:
    """Return the logits (N, C) of probabilities (N, C): of all that have them, those with the mean 0."""
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return logarithms - logarithms.mean(1, keepdim=True)


def _logit_of_one(probabilities: Tensor) -> Tensor:
    tiny = torch.finfo(probabilities.dtype).tiny
    return probabilities.clamp(min=tiny).log() - (1 - probabilities).clamp(min=tiny).log()


class Endings(TorchFunctionMode):
    """While it is active, softmax and sigmoid over classes are noted, with what they were given.

    A result is known by its identity: what is computed from it is another tensor, unless it has only another shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Any, Tensor, str]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in NAMES:
            given = args[0] if args else kwargs["input"]
            if given.shape[2:].numel() == 1 and _over_classes(func, args, kwargs):
                self.noted.append((result, given, NAMES[func]))
        elif func in _REARRANGED and args and (name := self.name(args[0])) is not None:
            self.noted.append((result, func(self.before(args[0]), *args[1:], **kwargs), name))
        return result

    def name(self, scores: Any) -> str | None:
        """Return the name of the function that `scores` are the result of, if it was noted."""
        return next((name for result, _, name in self.noted if result is scores), None)

    def before(self, scores: Any) -> Tensor:
        """Return what that function was given.

        Raises
        ------
        ValueError
            If the scores are not its result.
        """
        for result, given, _ in self.noted:
            if result is scores:
                return given
        raise ValueError(f"model: expected a softmax or a sigmoid at the end, got {checks.described(scores)} otherwise")


def _over_classes(function: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    if function in SIGMOID | LOG_SIGMOID:
        return True
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return dim in (None, 1, -1)

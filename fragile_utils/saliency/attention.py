"""The attention of a network, whatever it is made of: its matrices softmax(Q K^T), and the tokens that they mix.

While `attend` runs a network, attention is computed as it is written, softmax(Q K^T) V, also where a module or a fused
function would do it in one piece: these can be differentiated only once, and show no matrix. A matrix is what a network
multiplies values with after a softmax over the last axis. No name of a layer matters.
"""

import itertools
import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fragile_utils._base import checks
from fragile_utils._base.once import once
from fragile_utils.models.adapter import SOFTMAX
from fragile_utils.saliency.method import answer, class_scores

_aten = torch.ops.aten
PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, _aten.matmul.default}
PRODUCTS |= {_aten.bmm.default}
FUSED = {F.scaled_dot_product_attention, _aten.scaled_dot_product_attention.default}
NORMS = {F.layer_norm, torch.layer_norm, _aten.layer_norm.default, F.rms_norm, torch.rms_norm}


@dataclass(frozen=True)
class Attended:
    """What a forward pass shows of the attention of a network, all of it part of one graph.

    Attributes
    ----------
    images : Tensor (N, 3, H, W)
    logits : Tensor (N, classes)
    matrices : sequence of Tensor
        One for each layer, in the order of the network, as the network has it: (N, heads, T, T), (N, T, T) or
        (N heads, T, T); rows sum to 1. `by_head` brings it to the first of these.
    values : Tensor
        What the last of them is multiplied with.
    normalised : sequence of Tensor
        The outputs (N, T, C) of normalisations before it, in the order of the network.
    grid : tuple of 2 ints
        Rows and columns of the tokens that stand for patches of the image: the last of the T tokens, row by row.
        `read` refuses what speaks against their being the last.
    passed_over : sequence of tuples of ints
        Shapes (..., T, T) of what looks like a matrix of a layer, and is not among them: see `WrittenOut`.
    """

    images: Tensor
    logits: Tensor
    matrices: Sequence[Tensor]
    values: Tensor
    normalised: Sequence[Tensor]
    grid: tuple[int, int]
    passed_over: Sequence[tuple[int, ...]] = ()

    @property
    def tokens(self) -> int:
        """T, the number of tokens."""
        return self.matrices[0].shape[-1]

    @property
    def entering(self) -> Tensor | None:
        """The normalised tokens (N, T, C) that enter the last attention, if the network normalises any.

        Both its matrix and its values are computed from them: not so from queries or keys that are normalised alone.
        """
        made = (self.matrices[-1], self.values)
        return next((x for x in reversed(self.normalised) if all(_comes_from(made_of, x) for made_of in made)), None)

    def by_head(self, values: Tensor) -> Tensor:
        """Return a matrix of the network, or a gradient of one, as (N, heads, T, T)."""
        return values.reshape(len(self.images), -1, *values.shape[-2:])

    def gradients(self, targets: Tensor, create_graph: bool) -> list[Tensor]:
        """Return the gradients (N, heads, T, T) of the scores of `targets` (N,) with respect to each matrix."""
        scores = class_scores(self.logits, targets).sum()
        found = torch.autograd.grad(
            scores, self.matrices, create_graph=create_graph, retain_graph=True, materialize_grads=True
        )
        return [self.by_head(gradient) for gradient in found]

    def read(self, model: nn.Module, targets: Tensor) -> Tensor:
        """Return the share (T,) that each token has in what the score is computed from, after the last attention.

        A class token has all of it; where the tokens of the image are averaged, each has the same. It is found from the
        rows of the last matrix that the score depends on, once for a network in a run.

        Raises
        ------
        ValueError
            If the scores do not depend on the last attention, if a layer was passed over, or if what is read shows that
            the patches are not the last of the tokens.
        """

        def found() -> Tensor:
            if self.passed_over:
                expected = "every softmax over tokens multiplied with values as it is, and before the next"
                raise ValueError(f"model: expected {expected}, got one of shape {self.passed_over[0]} that is not")
            scores = class_scores(self.logits, targets).sum()
            (gradient,) = torch.autograd.grad(scores, self.matrices[-1], retain_graph=True, materialize_grads=True)
            rows = (self.by_head(gradient) != 0).flatten(0, 1).any(dim=0).any(dim=1)
            if not rows.any():
                raise ValueError("model: expected scores that depend on its last attention, got others")
            self._expect_patches_last(rows)
            return rows.to(self.logits.dtype) / rows.sum()

        return once("tokens read", (model,), found)

    def row(self, model: nn.Module, targets: Tensor) -> Tensor:
        """Return what `read` does as rows (N, 1, T), to be multiplied with the matrix of each layer, from the last.

        Raises
        ------
        ValueError
            If `read` does, if the first axis of a matrix is not that of the images, or if a matrix does not depend on
            the one before it, so that they are not of layers in turn: found out once for a network in a run.
        """

        def check() -> None:
            self._expect_images_first(class_scores(self.logits, targets)[0])
            self._expect_layers_in_turn()

        row = self.read(model, targets).expand(len(self.images), 1, -1)
        once("layers in turn", (model,), check)
        return row

    def _expect_images_first(self, score: Tensor) -> None:
        """Refuse a matrix of which the score () of the first image depends on more than the first of N parts."""
        found = torch.autograd.grad(score, self.matrices, retain_graph=True, materialize_grads=True)
        for matrix, gradient in zip(self.matrices, found, strict=True):
            if (self.by_head(gradient)[1:].abs() > 0).any():
                expected = "matrices of attention (N, heads, T, T), the axis of the images before that of the heads"
                raise ValueError(f"model: expected {expected}, got another order of {tuple(matrix.shape)}")

    def _expect_layers_in_turn(self) -> None:
        """Refuse two matrices of which the second was not computed from what the first was multiplied with."""
        for i, (first, second) in enumerate(itertools.pairwise(self.matrices), 1):
            if not _comes_from(second, first):
                expected = "layers of attention one after the other"
                raise ValueError(f"model: expected {expected}, got number {i + 1} beside number {i}, independent of it")

    def _expect_patches_last(self, rows: Tensor) -> None:
        """Refuse tokens of which those that are read, True in `rows` (T,), show that patches do not come last.

        That is so where they are as few as stand for no patch, and one has a place among the patches; and where they
        are as many as there are patches, the first of all tokens.
        """
        patches = self.grid[0] * self.grid[1]
        others, count = len(rows) - patches, int(rows.sum())
        few = count <= others and bool(rows[others:].any())
        first = others > 0 and count == patches and bool(rows[:patches].all())
        if few or first:
            raise ValueError(
                f"model: expected the tokens of the {patches} patches after all others, got scores that read {count} "
                f"of the {len(rows)} tokens, the last of them at {int(rows.nonzero().max())}"
            )

    def as_attributions(self, weights: Tensor) -> Tensor:
        """Return weights (N, T) of the tokens as attributions (N, 3, H, W): enlarged bilinearly, a third a channel.

        Tokens that stand for no patch, such as the class token, are left out.
        """
        rows, columns = self.grid
        maps = weights[:, -rows * columns :].reshape(-1, 1, rows, columns)
        maps = F.interpolate(maps, self.images.shape[-2:], mode="bilinear", align_corners=False)
        return maps.expand_as(self.images) / 3

    def answer(self, weights: Tensor, create_graph: bool) -> tuple[Tensor, Tensor]:
        """Return what `Method.explain` does, of weights (N, T) of the tokens."""
        return answer(self.as_attributions(weights), self.logits, create_graph)


def attend(model: nn.Module, images: Tensor, create_graph: bool, mode: "WrittenOut | None" = None) -> Attended:
    """Run a network on `images` (N, 3, H, W), and return its attention.

    With `create_graph`, all of it can be differentiated with respect to the images; else only with respect to the
    matrices and the tokens. It is to be called, and used, where gradients are enabled. A `mode` of the caller's own
    sees what the network calls.

    Raises
    ------
    ValueError
        If the network has no attention, or attention of another kind: within windows, from a pooled set of tokens, of
        tokens that are no grid of patches.
    """
    images = images if create_graph and images.requires_grad else images.detach()
    with mode or WrittenOut() as mode:
        logits = checks.logits_shape(model(images), len(images))
    if not mode.matrices:
        raise ValueError(f"model: expected a network with attention, softmax(Q K^T) V, got {_kind(model)} without it")
    sizes = {tuple(matrix.shape[-2:]) for matrix in mode.matrices}
    tokens = mode.matrices[0].shape[-1]
    if sizes != {(tokens, tokens)} or set(mode.counts) != {len(images)}:
        got = ", ".join(dict.fromkeys(str(tuple(matrix.shape)) for matrix in mode.matrices))
        expected = f"attention of all tokens of an image on each other, (N, heads, T, T) with N = {len(images)}"
        raise ValueError(f"model: expected {expected}, got matrices of shape {got}")
    passed_over = [shape for shape in mode.passed_over if shape[-2:] == (tokens, tokens)]
    grid = grid_of(tokens, *images.shape[-2:])
    return Attended(images, logits, mode.matrices, mode.values, mode.normalised, grid, passed_over)


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the patches that T tokens of an image stand for: the largest grid of its shape.

    The tokens that are over, such as a class token, are to be fewer than the grid has rows, and columns.

    Raises
    ------
    ValueError
        If there is no such grid.
    """
    common = math.gcd(height, width)
    times = math.isqrt(tokens // ((height // common) * (width // common)))
    rows, columns = times * height // common, times * width // common
    if not times or tokens - rows * columns >= min(rows, columns):
        raise ValueError(
            f"model: expected tokens on a grid of the shape of the images, {height} x {width}, and a few others, got "
            f"{tokens} tokens"
        )
    return rows, columns


class WrittenOut(TorchFunctionMode):
    """While it is active, attention is computed as softmax(Q K^T) V, and its matrices are kept.

    Attributes
    ----------
    matrices : list of Tensor
        Each softmax over the last axis that was multiplied with something.
    counts : list of int
        Of how many images each is.
    values : Tensor or None
        What the last matrix is multiplied with.
    normalised : list of Tensor
        The outputs (N, T, C) of normalisations before the last matrix.
    passed_over : list of tuples of ints
        The shape of every other softmax over the last axis: what it was multiplied with was another object, made of it,
        or came after another product of this kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[Tensor] = []
        self.counts: list[int] = []
        self.values: Tensor | None = None
        self.normalised: list[Tensor] = []
        self._noted: list[Tensor] = []  # of softmax, in case it turns out to be one of these
        self._passed_over: list[tuple[int, ...]] = []
        self._since: list[Tensor] = []  # the same after it
        self._heads = 1  # that share the first axis with the images, as in torch.nn.MultiheadAttention

    @property
    def passed_over(self) -> list[tuple[int, ...]]:
        return self._passed_over + [tuple(noted.shape) for noted in self._noted]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._from_inside(*args, **kwargs)
        if func in FUSED:
            with self:
                return attention(*args, **kwargs)
        if func in PRODUCTS or func is torch.einsum:
            self._keep(func, args)
        result = func(*args, **kwargs)
        self.called(func, args, kwargs, result)
        return result

    def called(self, func: Callable, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        """See a function that the network called, and what it returned."""
        if func in SOFTMAX and result.ndim > 2 and _axis(args, kwargs) in (-1, result.ndim - 1):
            self._noted.append(_in_graph(result))
        elif func in NORMS and result.ndim == 3:
            self._since.append(_in_graph(result))

    def _from_inside(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Return what PyTorch's function of several heads does, and see all that it calls."""
        self._heads = args[4]
        try:
            with self:
                return _SEEN_FROM_INSIDE(*args, **kwargs)
        finally:
            self._heads = 1

    def _keep(self, func: Callable, args: tuple) -> None:
        """Keep the first factor of a product, if it is the result of a softmax, and what is summed over its columns."""
        factors = args
        if func is torch.einsum:
            factors = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
        matrix = factors[0]
        if not any(matrix is noted for noted in self._noted):
            return
        if func is torch.einsum and not _weighs(args[0]):
            raise ValueError(f"model: expected attention as an einsum '...ij,...jd->...id' of two, got {args[0]!r}")
        self._passed_over += [tuple(noted.shape) for noted in self._noted if noted is not matrix]
        self._noted.clear()
        self.matrices.append(matrix)
        self.counts.append(len(matrix) // self._heads if matrix.ndim == 3 else len(matrix))
        self.values = factors[1]
        self.normalised += self._since
        self._since.clear()


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(Q K^T) V, arguments as for `torch.nn.functional.scaled_dot_product_attention`."""
    if dropout_p:
        raise ValueError(f"model: expected attention without dropout in evaluation mode, got dropout {dropout_p:g}")
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return torch.softmax(scores, dim=-1) @ value


# PyTorch's function, which would ask the active mode to take it over whenever it is called, without that question.
_whole = F.multi_head_attention_forward
_SEEN_FROM_INSIDE = types.FunctionType(
    _whole.__code__, _whole.__globals__ | {"has_torch_function": lambda _: False}, _whole.__name__, _whole.__defaults__
)


def _in_graph(value: Tensor) -> Tensor:
    """Return a tensor with respect to which can be differentiated what follows from it."""
    return value if value.requires_grad else value.requires_grad_()


def _comes_from(result: Tensor, start: Tensor) -> bool:
    """Return whether there is a way from one tensor to another in the graph."""
    if not result.requires_grad:
        return False
    return torch.autograd.grad(result.sum(), start, retain_graph=True, allow_unused=True)[0] is not None


def _axis(args: tuple, kwargs: dict[str, Any]) -> int | None:
    return args[1] if len(args) > 1 else kwargs.get("dim")


def _weighs(equation: Any) -> bool:
    """Return whether an equation of einsum sums over the last axis of its first factor, and keeps that before it."""
    if not isinstance(equation, str) or equation.count(",") != 1 or "->" not in equation:
        return False
    factors, result = equation.replace(" ", "").split("->")
    first, _ = factors.split(",")
    return len(first) > 2 and first[-1] not in result and all(letter in result for letter in first[:-1])


def _kind(model: nn.Module) -> str:
    inside = getattr(model, "model", model)
    return type(getattr(inside, "network", inside)).__name__

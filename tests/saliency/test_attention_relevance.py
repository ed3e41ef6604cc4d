"""Relevance at attention against the paper's equations, written out for one image, layer by layer."""

import attentive
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attentive import MAKES
from torch import nn

from fragile_utils.models import Classifier
from fragile_utils.saliency import AttentionRelevance


def shared_among_inputs(x, layer, relevance):
    """Equations 5 and 6: x (T, in), relevance (T, out)."""
    z = (x[:, None, :] * layer.weight).clamp(min=0)
    return torch.einsum("toi,to->ti", z / z.sum(2, keepdim=True), relevance)


def shared_between_terms(a, b, relevance):
    """Equations 8 to 11."""
    parts = [term / (a + b) * relevance for term in (a, b)]
    magnitude = parts[0].sum().abs() + parts[1].sum().abs()
    return [part * (part.sum().abs() / magnitude * relevance.sum() / part.sum()) for part in parts]


def pieces(block):
    """The layers of a block of any make: norms, projection to queries, keys and values, output, wider, narrower."""
    if hasattr(block, "self_attention"):
        inside, outside = block.self_attention, block.self_attention.out_proj
        project = lambda x: F.linear(x, inside.in_proj_weight, inside.in_proj_bias)  # noqa: E731
        return block.ln_1, project, inside.num_heads, outside, block.ln_2, block.mlp[0], block.mlp[3]
    if hasattr(block, "layers"):
        inside, (wide, _, narrow) = block.attention, block.layers
        return block.norm1, inside.queries_keys_values, 2, inside.last, block.norm2, wide, narrow
    inside = block.attn
    return block.norm1, inside.qkv, inside.num_heads, inside.proj, block.norm2, block.mlp.fc1, block.mlp.fc2


def naive(name, model, image, target):
    blocks, network, kept = attentive.layers(model), model.network, []
    last = (
        network.heads.head if hasattr(network, "heads") else network.head if hasattr(network, "head") else network.last
    )
    hooks = [
        blocks[0].register_forward_pre_hook(lambda _, args: kept.append(args[0])),
        last.register_forward_pre_hook(lambda _, args: kept.append(args[0])),
    ]
    logits = model(image[None])
    for hook in hooks:
        hook.remove()
    x, matrices, values = kept[0][0].clone().requires_grad_(), [], []
    for block in blocks:
        norm1, project, heads, outside, norm2, wide, narrow = pieces(block)
        q, k, v = project(norm1(x)).unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3).unbind(0)  # (heads, T, c)
        matrix = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        mixed = (matrix @ v).transpose(0, 1).flatten(1)
        attended, before = outside(mixed), x
        y = before + attended
        between = wide(norm2(y))
        fed = narrow(F.gelu(between))
        x = y + fed
        matrices.append(matrix)
        values.append((before, v, mixed, attended, y, between, fed))
    final = network.encoder.ln if hasattr(network, "encoder") else network.norm
    averaged = name == "timm, averaged"
    read = network.fc_norm(x.mean(0)) if averaged else final(x)[0]
    torch.testing.assert_close(last(read), logits[0])
    gradients = torch.autograd.grad(last(read)[target], matrices)

    one = F.one_hot(target, len(logits[0])).double()
    at_read = shared_among_inputs(read[None], last, one[None])[0]
    relevance = torch.zeros_like(x)
    if averaged:
        relevance = x / x.sum(0) * at_read
    else:
        relevance[0] = at_read
    arrived = []
    for block, matrix, parts in reversed(list(zip(blocks, matrices, values, strict=True))):
        before, v, mixed, attended, y, between, fed = parts
        _, project, heads, outside, norm2, wide, narrow = pieces(block)
        past, through = shared_between_terms(y, fed, relevance)
        through = shared_among_inputs(F.gelu(between), narrow, through)
        relevance = past + shared_among_inputs(norm2(y), wide, through)
        past, through = shared_between_terms(before, attended, relevance)
        through = shared_among_inputs(mixed, outside, through).unflatten(1, (heads, -1)).transpose(0, 1)
        share = through / (matrix @ v)
        arrived.append(torch.einsum("hij,hjc,hic->hij", matrix, v, share) / 2)
        of_values = torch.einsum("hij,hjc,hic->hjc", matrix, v, share) / 2
        relevance = past + below_attention(block, parts, matrix, arrived[-1], of_values)
    product = torch.eye(len(x), dtype=torch.float64)
    for gradient, share in zip(gradients, reversed(arrived), strict=True):
        product = (torch.eye(len(x), dtype=torch.float64) + (gradient * share).clamp(min=0).mean(0)) @ product
    return attentive.enlarged(attentive.row_read(name, product).detach())


def below_attention(block, parts, matrix, of_matrix, of_values):
    """What queries, keys and values hand to the tokens: equations 5, 6, 8 and 12."""
    norm1, project, heads, *_ = pieces(block)
    normalised = norm1(parts[0])
    q, k, _ = project(normalised).unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3).unbind(0)
    share = of_matrix / (q @ k.mT)
    of_queries = torch.einsum("hic,hjc,hij->hic", q, k, share) / 2
    of_keys = torch.einsum("hic,hjc,hij->hjc", q, k, share) / 2
    together = torch.stack([of_queries, of_keys, of_values]).permute(2, 0, 1, 3).flatten(1)
    layer = nn.Linear(1, 1)
    layer.weight = nn.Parameter(
        project(torch.eye(normalised.shape[1], dtype=torch.float64)).mT - _bias(project, normalised)
    )
    return shared_among_inputs(normalised, layer, together)


def _bias(project, like):
    return project(torch.zeros(1, like.shape[1], dtype=torch.float64)).mT


@pytest.mark.parametrize("name", [name for name in MAKES if name != "ours"])
def test_relevance_is_that_of_the_paper(name):
    model, (x, targets) = MAKES[name](), attentive.images(2)
    got = AttentionRelevance()(model, x, targets)
    for i in range(2):
        torch.testing.assert_close(got[i], naive(name, model, x[i], targets[i]), rtol=1e-6, atol=1e-10)


def test_relevance_is_that_of_the_paper_on_the_package_s_own():
    model, (x, targets) = attentive.ours(), attentive.images(1)
    got = AttentionRelevance()(model, x, targets)[0]
    torch.testing.assert_close(got, naive("ours", model, x[0], targets[0]), rtol=1e-6, atol=1e-10)


class Odd(nn.Module):
    """A transformer of one layer with something at its end, after the attention."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.module = nn.Conv2d(3, 6, 8, 8), nn.MultiheadAttention(6, 2, batch_first=True)
        self.last, self.end = nn.Linear(6, attentive.CLASSES), end

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        return self.last(self.end(self.module(tokens, tokens, tokens)[0]).mean(1))


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda x: x.square(), "expected functions that it has a rule for, got torch.Tensor.square"),
        (lambda x: x.clone().mul_(2), "expected functions that it has a rule for, got torch.Tensor.mul_"),
        (lambda x: x * x.tanh(), "expected torch.Tensor.mul of one value that depends on the image, got values"),
        (lambda x: x + x[:, :1], r"expected torch.Tensor.add of two values of the same shape, got values"),
        (Own.apply, "expected functions of PyTorch before torch.Tensor.mean, got others"),
    ],
)
def test_functions_without_a_rule_are_refused_by_name(end, message):
    model = Classifier(Odd(end), attentive.MEAN, attentive.STD).double().eval().requires_grad_(False)
    x, targets = attentive.images(2)
    with pytest.raises(ValueError, match=f"model: .*{message}"):
        AttentionRelevance()(model, x, targets)

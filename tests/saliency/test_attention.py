"""Attention of networks of several makes: which matrices are found, which tokens are read, and what is refused."""

import contextlib

import attentive
import pytest
import torch
import torch.nn.functional as F
from attentive import MAKES
from references import cifar
from torch import nn

from fragile_utils import saliency
from fragile_utils._base import once
from fragile_utils.models import Classifier, softplus_surrogate
from fragile_utils.saliency.attention import attend, attention, grid_of

over_makes = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def seen(model, x, create_graph=False):
    with torch.enable_grad():
        return attend(model, x, create_graph)


@over_makes
def test_the_matrices_are_those_that_the_library_shows(make):
    model, (x, _) = make(), attentive.images(3)
    found = seen(model, x)
    expected = attentive.matrices(model, x)
    assert len(found.matrices) == len(expected) == 2
    for got, want in zip(found.matrices, expected, strict=True):
        torch.testing.assert_close(found.by_head(got), want)
        assert want.std(dim=-1).mean() > 0.3 / want.shape[-1]  # no mean over all tokens
    torch.testing.assert_close(found.logits, model(x))


@over_makes
def test_the_tokens_that_enter_the_last_attention(make):
    model, (x, _) = make(), attentive.images(2)
    kept = []
    hook = attentive.first_norm(attentive.layers(model)[-1]).register_forward_hook(lambda *args: kept.append(args[2]))
    model(x)
    hook.remove()
    torch.testing.assert_close(seen(model, x).entering, kept[0])


def test_what_is_read_is_the_class_token_or_all_patches_alike():
    x, targets = attentive.images(2)
    for name, make in MAKES.items():
        model = make()
        found = seen(model, x)
        shares = found.read(model, targets)
        expected = torch.zeros_like(shares)
        if name == "timm, averaged":
            expected += 1 / 16
        else:
            expected[0] = 1
        torch.testing.assert_close(shares, expected)
        assert found.grid == ((8, 8) if name == "ours" else (4, 4))
        assert found.tokens == len(expected) == {"ours": 65, "timm, registers": 19, "timm, averaged": 16}.get(name, 17)


def test_tokens_past_which_the_class_token_goes_are_left_out():
    """A network with a class token that averages the patches all the same."""
    model, (x, targets) = attentive.timms(global_pool="avg"), attentive.images(2)
    shares = seen(model, x).read(model, targets)
    torch.testing.assert_close(shares, torch.tensor([0.0] + [1 / 16] * 16, dtype=torch.float64))


def test_a_surrogate_shows_the_attention_of_its_network():
    model, (x, _) = attentive.ours(), attentive.images(2)
    for a, b in zip(seen(model, x).matrices, seen(softplus_surrogate(model), x).matrices, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"is_causal": True}, {"enable_gqa": True}], ids=str)
def test_attention_written_out_equals_pytorchs(options):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 6, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    k, v = (k[:, :2], v[:, :2]) if options.get("enable_gqa") else (k, v)
    torch.testing.assert_close(attention(q, k, v, **options), F.scaled_dot_product_attention(q, k, v, **options))
    if options:
        return
    for mask in (torch.randn(6, 6, generator=generator, dtype=torch.float64), torch.eye(6, dtype=torch.bool)):
        torch.testing.assert_close(attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask))
    with pytest.raises(ValueError, match=r"expected attention without dropout in evaluation mode, got dropout 0.1"):
        attention(q, k, v, dropout_p=0.1)


class Attending(nn.Module):
    """Attention in one layer on tokens of 8 x 8 pixels, as `attend(tokens)` does it."""

    def __init__(self, attend, tokens=None):
        super().__init__()
        torch.manual_seed(0)
        self.attend, self.tokens = attend, tokens
        self.module = nn.MultiheadAttention(6, 2, batch_first=True)
        self.embed, self.last = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, attentive.CLASSES)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)[:, : self.tokens]
        return self.last((tokens + self.attend(self, tokens)).mean(1))


def built(attend, tokens=None):
    return Attending(attend, tokens).double().eval().requires_grad_(False)


def einsum(_, tokens):
    weights = torch.einsum("nic,njc->nij", tokens, tokens.sin()).softmax(-1)
    return torch.einsum("nij,njc->nic", weights, tokens.cos())


SPELLINGS = {
    "einsum": einsum,
    "operators": lambda _, tokens: (tokens @ tokens.sin().mT).softmax(dim=2) @ tokens.cos(),
    "batched": lambda _, tokens: torch.bmm(F.softmax(torch.bmm(tokens, tokens.sin().mT), -1), tokens.cos()),
    "fused": lambda _, tokens: F.scaled_dot_product_attention(tokens, tokens.sin(), tokens.cos(), scale=1.0),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_single_head_in_any_spelling(spelling):
    x, _ = attentive.images(2)
    got, want = (seen(built(way), x) for way in (spelling, einsum))
    assert len(got.matrices) == 1
    torch.testing.assert_close(got.by_head(got.matrices[0]), want.by_head(want.matrices[0]))
    torch.testing.assert_close(got.logits, want.logits)


@pytest.mark.parametrize("need_weights", [True, False])
def test_heads_of_pytorchs_module_are_told_from_images(need_weights):
    model = built(lambda self, tokens: self.module(tokens, tokens, tokens, need_weights=need_weights)[0])
    x, _ = attentive.images(3)
    tokens = model.embed(x).flatten(2).transpose(1, 2)
    _, expected = model.module(tokens, tokens, tokens, average_attn_weights=False)
    found = seen(model, x)
    torch.testing.assert_close(found.by_head(found.matrices[0]), expected)
    torch.testing.assert_close(found.logits, model(x))


def windows(_, tokens):
    halves = tokens.unflatten(1, (2, -1)).flatten(0, 1)
    return F.scaled_dot_product_attention(halves, halves, halves).unflatten(0, (-1, 2)).flatten(1, 2)


def pooled(_, tokens):
    return F.scaled_dot_product_attention(tokens.mean(1, keepdim=True), tokens, tokens)


def transposed(_, tokens):
    return torch.einsum("nij,nic->njc", torch.softmax(tokens @ tokens.mT, -1), tokens)


REFUSED = {
    "no attention": (lambda _, tokens: tokens.tanh(), r"a network with attention, .* got Attending without it"),
    "windows": (windows, r"all tokens of an image on each other, \(N, heads, T, T\) with N = 2, got .*\(4, 8, 8\)"),
    "pooled": (pooled, r"all tokens of an image on each other.*got matrices of shape \(2, 1, 16\)"),
    "einsum": (transposed, r"expected attention as an einsum .* got 'nij,nic->njc'"),
    "softmax of no attention": (lambda _, tokens: tokens.softmax(-1), "expected a network with attention"),
}


@pytest.mark.parametrize(("way", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("name", attentive.METHODS)
def test_other_networks_are_refused_by_name(name, way, message):
    x, targets = attentive.images(2)
    with pytest.raises(ValueError, match=f"model: .*{message}"):
        saliency.METHODS[name]()(built(way), x, targets)


def test_networks_of_convolutions_and_tokens_off_the_grid_are_refused():
    x, targets = attentive.images(2)
    with pytest.raises(ValueError, match=r"expected a network with attention, softmax\(Q K\^T\) V, got Sequential"):
        saliency.Rollout()(cifar(), x[..., :16, :16], targets)
    with pytest.raises(
        ValueError, match=r"expected tokens on a grid of the shape of the images, 32 x 32, .* 14 tokens"
    ):
        saliency.Rollout()(built(einsum, tokens=14), x, targets)
    with pytest.raises(ValueError, match=r"expected normalised tokens \(2, 16, channels\) .* got none"):
        saliency.TokenGradCAM()(built(einsum), x, targets)
    model = attentive.torchvisions()
    model.network.heads.head.weight.zero_()
    with pytest.raises(ValueError, match="expected scores that depend on its last attention"):
        saliency.Rollout()(model, x, targets)


class LaidOut(nn.Module):
    """Two layers on 16 patches and other tokens, in any order: what is computed does not depend on it.

    `read` makes one token of the parts by name; `weigh` gets the matrices of the first layer after their softmax.
    """

    def __init__(self, order, read, weigh=lambda weights: weights):
        super().__init__()
        self.order, self.read, self.weigh = order.split(), read, weigh
        self.embed, self.last = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, attentive.CLASSES)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.projections = nn.ModuleList(nn.Linear(6, 18) for _ in range(2))
        self.places = nn.Parameter(torch.empty(1, 16, 6))
        self.others = nn.ParameterDict({name: nn.Parameter(torch.empty(1, 1, 6)) for name in ("cls", "dist", "reg")})
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        parts = {name: token.expand(len(x), -1, -1) for name, token in self.others.items()}
        parts["patches"] = self.embed(x).flatten(2).transpose(1, 2) + self.places
        tokens = torch.cat([parts[name] for name in self.order], 1)
        for i, (norm, projection) in enumerate(zip(self.norms, self.projections, strict=True)):
            queries, keys, values = projection(norm(tokens)).chunk(3, -1)
            weights = torch.softmax(queries @ keys.transpose(1, 2) / 6**0.5, -1)
            tokens = tokens + (weights if i else self.weigh(weights)) @ values
        sizes = [parts[name].shape[1] for name in self.order]
        return self.last(self.read(dict(zip(self.order, tokens.split(sizes, 1), strict=True))))


def laid_out(order, read, **options):
    network = LaidOut(order, read, **options)
    return Classifier(network, attentive.MEAN, attentive.STD).double().eval().requires_grad_(False)


def class_token(parts):
    return parts["cls"][:, 0]


def both_tokens(parts):
    return (parts["cls"][:, 0] + parts["dist"][:, 0]) / 2


def patches_alike(parts):
    return parts["patches"].mean(1)


def all_alike(parts):
    return torch.cat(list(parts.values()), 1).mean(1)


LAYOUTS = {  # first one that is understood, then others of the same function
    "a class token": (class_token, "cls patches", ("patches cls",), "read 1 of the 17 tokens, the last of them at 16"),
    "with distillation": (
        both_tokens,
        "cls dist patches",
        ("patches cls dist", "cls patches dist"),
        "read 2 of the 18 tokens",
    ),
    "with a register": (
        class_token,
        "cls reg patches",
        ("patches cls reg", "reg patches cls"),
        "read 1 of the 18 tokens",
    ),
    "averaged patches": (
        patches_alike,
        "cls patches",
        ("patches cls",),
        "read 16 of the 17 tokens, the last of them at 15",
    ),
}


@pytest.mark.parametrize(("read", "first", "others", "message"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", attentive.METHODS)
def test_patches_before_other_tokens_are_refused_by_name(name, read, first, others, message):
    (x, targets), method = attentive.images(2), saliency.METHODS[name]()
    known = laid_out(first, read)
    expected = f"model: expected the tokens of the 16 patches after all others, got scores that {message}"
    assert method(known, x, targets).shape == (2, 32, 32)
    for order in others:
        model = laid_out(order, read)
        torch.testing.assert_close(model(x), known(x))
        with pytest.raises(ValueError, match=expected):
            method(model, x, targets)
        with once.run(), pytest.raises(ValueError, match=expected):
            method(model, x, targets)
        relevance = (saliency.AttnLRP()(network, x, targets) for network in (model, known))
        torch.testing.assert_close(*relevance)  # it goes down to the pixels, and asks for no place


@pytest.mark.parametrize("name", attentive.METHODS)
def test_tokens_that_stand_for_no_patch_come_in_any_order_before_them(name):
    (x, targets), method = attentive.images(2), saliency.METHODS[name]()
    for read in (class_token, both_tokens, patches_alike, all_alike):
        maps = [method(laid_out(order, read), x, targets) for order in ("cls dist patches", "dist cls patches")]
        torch.testing.assert_close(*maps)
        assert maps[0].sum() > 0


CHANGED = {
    "scaled": lambda weights: weights * 1.0,
    "in another shape": lambda weights: weights[:, None].squeeze(1),
}


@pytest.mark.parametrize("weigh", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("name", attentive.METHODS)
def test_a_layer_whose_matrix_is_changed_before_the_product_is_refused_by_name(name, weigh):
    (x, targets), method = attentive.images(2), saliency.METHODS[name]()
    plain, model = laid_out("cls patches", class_token), laid_out("cls patches", class_token, weigh=weigh)
    torch.testing.assert_close(model(x), plain(x))
    expected = r"expected every softmax over tokens multiplied .* as it is.*, got one of shape \(2, 17, 17\)"
    with pytest.raises(ValueError, match=f"model: {expected}"):
        method(model, x, targets)
    dropout = laid_out("cls patches", class_token, weigh=nn.Dropout(0.1))  # changes nothing in evaluation mode
    torch.testing.assert_close(method(dropout, x, targets), method(plain, x, targets))
    torch.testing.assert_close(saliency.AttnLRP()(model, x, targets), saliency.AttnLRP()(plain, x, targets))


def test_a_layer_of_two_matrices_side_by_side_is_refused_by_name():
    def beside(_, tokens):
        one, other = (torch.softmax(s * tokens @ tokens.mT, -1) for s in (1, 2))
        return one @ tokens + other @ tokens

    x, targets = attentive.images(2)
    with pytest.raises(ValueError, match=r"expected every softmax .* before the next, got one of shape \(2, 16, 16\)"):
        saliency.Rollout()(built(beside), x, targets)


class Split(nn.Module):
    """Two layers of attention of two heads, (N, heads, T, T) or with the first two axes exchanged, and a class token.

    The second layer follows the first, or stands beside it; queries and keys may be normalised before heads are split.
    """

    def __init__(self, heads_first=False, beside=False, normalised=False):
        super().__init__()
        self.heads_first, self.beside, self.normalised = heads_first, beside, normalised
        self.embed, self.last = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, attentive.CLASSES)
        self.token = nn.Parameter(torch.empty(1, 1, 8))
        self.projections = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.key_norm, self.query_norm = nn.LayerNorm(8), nn.LayerNorm(8)
        self.seen = []
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def attention(self, i, z):
        queries, keys, values = self.projections[i](z).chunk(3, -1)
        if self.normalised:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        queries, keys, values = (x.unflatten(2, (2, 4)).transpose(1, 2) for x in (queries, keys, values))
        if self.heads_first:
            queries, keys, values = (x.transpose(0, 1) for x in (queries, keys, values))
        weights = (queries @ keys.mT / 2).softmax(-1)
        self.seen.append(weights.detach())
        mixed = weights @ values
        return (mixed.transpose(0, 1) if self.heads_first else mixed).transpose(1, 2).flatten(2)

    def forward(self, x):
        self.seen.clear()
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x).flatten(2).transpose(1, 2)], 1)
        if self.beside:
            z = self.norms[0](tokens)
            return self.last((tokens + self.attention(0, z) + self.attention(1, z))[:, 0])
        for i, norm in enumerate(self.norms):
            tokens = tokens + self.attention(i, norm(tokens))
        return self.last(tokens[:, 0])


def split(**options):
    return Classifier(Split(**options), attentive.MEAN, attentive.STD).double().eval().requires_grad_(False)


MULTIPLYING = [name for name in attentive.METHODS if name != "grad-cam-tokens"]  # matrices of layers


@pytest.mark.parametrize("name", MULTIPLYING)
def test_heads_before_images_are_refused_by_name(name):
    """Also where there are as many images as heads, and the shape does not tell."""
    (x, targets), method = attentive.images(2), saliency.METHODS[name]()
    torch.testing.assert_close(split(heads_first=True)(x), split()(x))
    alone = [method(split(), x[i : i + 1], targets[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(method(split(), x, targets), torch.cat(alone))
    for runs in (contextlib.nullcontext(), once.run()):
        with runs, pytest.raises(ValueError, match=r"images before that of the heads, got another .* \(2, 2, 17, 17\)"):
            method(split(heads_first=True), x, targets)
    torch.testing.assert_close(
        saliency.TokenGradCAM()(split(heads_first=True), x, targets), saliency.TokenGradCAM()(split(), x, targets)
    )


@pytest.mark.parametrize("name", MULTIPLYING)
def test_layers_beside_each_other_are_refused_by_name(name):
    (x, targets), method, model = attentive.images(3), saliency.METHODS[name](), split(beside=True)
    model(x)
    for got, want in zip(seen(model, x).matrices, list(model.network.seen), strict=True):
        torch.testing.assert_close(got, want)
    for given in (x, x.clone().requires_grad_()):
        with (
            once.run(),
            pytest.raises(ValueError, match="one after the other, got number 2 beside number 1, independent"),
        ):
            method(model, given, targets, given.requires_grad)


def test_normalised_queries_and_keys_are_not_the_tokens_that_enter():
    (x, targets), model = attentive.images(3), split(normalised=True)
    kept = []
    hook = model.network.norms[1].register_forward_hook(lambda *args: kept.append(args[2]))
    scores = model(x.clone().requires_grad_()).gather(1, targets[:, None]).sum()
    hook.remove()
    torch.testing.assert_close(seen(model, x).entering, kept[0].detach())
    (slopes,) = torch.autograd.grad(scores, kept)
    expected = (slopes[:, 1:].mean(1, keepdim=True) * kept[0]).sum(2).relu()[:, 1:].detach().unflatten(1, (4, 4))
    expected = F.interpolate(expected[:, None], x.shape[2:], mode="bilinear").squeeze(1)
    assert expected.amax((1, 2)).max() > 0
    torch.testing.assert_close(saliency.TokenGradCAM().attribute(model, x, targets).sum(1), expected)


def test_the_grid_has_the_shape_of_the_images():
    assert grid_of(197, 224, 224) == (14, 14)
    assert grid_of(201, 224, 224) == (14, 14)
    assert grid_of(14 * 20 + 1, 224, 320) == (14, 20)
    for tokens, height, width in ((19, 60, 100), (196, 224, 225), (225 - 1, 224, 224)):
        with pytest.raises(ValueError, match=f"got {tokens} tokens"):
            grid_of(tokens, height, width)

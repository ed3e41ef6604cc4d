"""AttnLRP against its rules written with constants in place of what is not differentiated, and by hand on one layer."""

import attentive
import pytest
import torch
import torch.nn.functional as F
from attentive import MAKES
from torch import nn
from torch.overrides import TorchFunctionMode

from fragile_utils import models
from fragile_utils.saliency import METHODS, AttnLRP
from fragile_utils.saliency.attention import FUSED, PRODUCTS, attention


class Constants(TorchFunctionMode):
    """The authors' way: each function is replaced by one whose derivative is the rule, with detached multipliers.

    The first derivative is that of AttnLRP. The second is not, since the multipliers are constants.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.gelu:
            z = args[0]
            return z * torch.where(z == 0, 0.5, F.gelu(z) / z).detach()
        if func is F.layer_norm:
            x = args[0]
            deviation = (x.var(-1, unbiased=False, keepdim=True) + kwargs["eps"]).sqrt().detach()
            return (x - x.mean(-1, keepdim=True)) / deviation * kwargs["weight"] + kwargs["bias"]
        if func in FUSED:
            with self:
                return attention(*args, **kwargs)
        if func in PRODUCTS:
            with torch._C.DisableTorchFunction():
                half = func(*args) / 2
            return half + half.detach()
        return func(*args, **kwargs)


def by_constants(model, x, targets):
    mean = torch.tensor(attentive.MEAN, dtype=x.dtype)[:, None, None]
    x = x.clone().requires_grad_()
    with Constants():
        scores = model(x).gather(1, targets[:, None]).sum()
    (multipliers,) = torch.autograd.grad(scores, x)
    return ((x - mean) * multipliers).detach()


@pytest.mark.parametrize("make", [make for name, make in MAKES.items() if name != "torchvision"])
def test_attributions_are_those_of_constant_multipliers(make):
    model, (x, targets) = make(), attentive.images(2)
    torch.testing.assert_close(AttnLRP().attribute(model, x, targets), by_constants(model, x, targets))


def test_torchvisions_attention_is_timms_with_the_same_weights():
    """PyTorch's attention of several heads is called as one function, which the reference above cannot look into."""
    theirs = attentive.torchvisions()
    network, other = theirs.network, attentive.timms(mlp_ratio=2)
    state = {}
    for ours, path in (("cls_token", "class_token"), ("pos_embed", "encoder.pos_embedding")):
        state[ours] = network.get_parameter(path)
    for kind in ("weight", "bias"):
        pairs = [("patch_embed.proj", "conv_proj"), ("norm", "encoder.ln"), ("head", "heads.head")]
        for i in range(2):
            block, layer = f"blocks.{i}", f"encoder.layers.encoder_layer_{i}"
            pairs += [(f"{block}.norm1", f"{layer}.ln_1"), (f"{block}.norm2", f"{layer}.ln_2")]
            pairs += [(f"{block}.mlp.fc1", f"{layer}.mlp.0"), (f"{block}.mlp.fc2", f"{layer}.mlp.3")]
            pairs += [(f"{block}.attn.proj", f"{layer}.self_attention.out_proj")]
            state[f"{block}.attn.qkv.{kind}"] = network.get_parameter(f"{layer}.self_attention.in_proj_{kind}")
        for ours, path in pairs:
            state[f"{ours}.{kind}"] = network.get_parameter(f"{path}.{kind}")
    other.network.load_state_dict(state)
    x, targets = attentive.images(2)
    torch.testing.assert_close(other(x), theirs(x))
    torch.testing.assert_close(AttnLRP().attribute(theirs, x, targets), AttnLRP().attribute(other, x, targets))


def test_one_softmax_and_one_product_by_hand():
    """A layer of attention alone: the relevance of each token by propositions 3.1 and 3.3."""
    model = Bare().double().eval().requires_grad_(False)
    x, _ = attentive.images(1)
    got = AttnLRP().attribute(models.Classifier(model, (0.0,) * 3, (1.0,) * 3).double().eval(), x, torch.tensor([1]))
    tokens = model.tokens(x)[0]
    z = tokens @ tokens.T
    s = z.softmax(-1)
    o = s @ tokens
    r = model.head.weight[1] * o / len(o)  # of the output: its share of the score
    of_s = torch.einsum("ij,jc,ic->ij", s, tokens, r / o) / 2
    of_values = torch.einsum("ij,jc,ic->jc", s, tokens, r / o) / 2
    of_z = z * (of_s - s * of_s.sum(-1, keepdim=True))
    of_queries = torch.einsum("ic,jc,ij->ic", tokens, tokens, of_z / z) / 2
    of_keys = torch.einsum("ic,jc,ij->jc", tokens, tokens, of_z / z) / 2
    expected = of_values + of_queries + of_keys
    patches = got[0].reshape(3, 2, 16, 2, 16).sum((2, 4))  # (3, 2, 2): a token has a channel for each colour
    torch.testing.assert_close(patches.flatten(1).T, expected)


class Bare(nn.Module):
    """Four tokens, each the mean colour of a quarter of the image; attention without weights; a mean; a layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, attentive.CLASSES, bias=False)

    def tokens(self, x):
        return F.avg_pool2d(x, 16).flatten(2).transpose(1, 2)

    def forward(self, x):
        tokens = self.tokens(x)
        return self.head((torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens).mean(1))


def test_a_function_without_a_rule_is_refused_by_name():
    network = attentive.timms().network
    network.blocks[0].mlp.act = nn.Sigmoid()
    model = models.Classifier(network, attentive.MEAN, attentive.STD).double().eval().requires_grad_(False)
    with pytest.raises(ValueError, match=r"model: AttnLRP: expected functions that it has a rule for, got .*sigmoid"):
        AttnLRP().attribute(model, *attentive.images(1))


def test_a_network_without_attention_is_refused():
    with pytest.raises(ValueError, match="expected a network with attention"):
        AttnLRP().attribute(models.cifar10_net(), torch.rand(1, 3, 32, 32), torch.tensor([0]))


def test_it_is_not_among_the_methods_to_choose_from():
    """Its authors claim a patent; who wants it asks for it by its class."""
    assert not any("attn" in name for name in METHODS)

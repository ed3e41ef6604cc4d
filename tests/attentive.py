"""Small transformers of several makes, with sharp attention, and their matrices as each library itself shows them."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from fragile_utils.models import Classifier
from fragile_utils.models.vit import HEAD, ViT

MEAN, STD, SIZE, CLASSES = (0.48, 0.45, 0.41), (0.25, 0.24, 0.26), 32, 5
METHODS = (
    "rollout",
    "attention-relevance",
    "attention-gradient",
    "grad-cam-tokens",
)  # by name, those that explain by attention


def _sharp(network: nn.Module, seed: int) -> Classifier:
    """Draw all parameters anew, so that no layer is near the identity, no attention near the mean."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        fans = parameter[0].numel() if parameter.ndim > 1 else 4
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.5 / fans**0.5)
    return Classifier(network, MEAN, STD, beta=5.0).double().eval().requires_grad_(False)


def ours(seed: int = 0) -> Classifier:
    """Return the package's own transformer, with two layers of two heads and a class token."""
    with torch.random.fork_rng():
        return _sharp(ViT(64, 2).build(), seed)


def torchvisions(seed: int = 0) -> Classifier:
    """Return one of torchvision: `torch.nn.MultiheadAttention`, which has a fast path, inside."""
    with torch.random.fork_rng():
        return _sharp(VisionTransformer(SIZE, 8, 2, 2, 16, 32, num_classes=CLASSES), seed)


def timms(seed: int = 0, **options) -> Classifier:
    """Return one of timm, whose attention is fused; `options` are timm's."""
    sizes = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}
    with torch.random.fork_rng():
        return _sharp(timm.models.VisionTransformer(**sizes | options), seed)


MAKES: dict[str, Callable[..., Classifier]] = {
    "ours": ours,
    "torchvision": torchvisions,
    "timm": timms,
    "timm, registers": lambda seed=0: timms(seed, reg_tokens=2),
    "timm, averaged": lambda seed=0: timms(seed, class_token=False, global_pool="avg"),
}


def images(count: int = 2, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return random float64 images and targets."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return drawn, torch.randint(CLASSES, (count,), generator=generator)


def layers(model: Classifier) -> list[nn.Module]:
    """Return the blocks of any of these networks, in their order."""
    network = model.network
    return list(network.encoder.layers if isinstance(network, VisionTransformer) else network.blocks)


def first_norm(block: nn.Module) -> nn.Module:
    """Return what normalises the tokens before a block's attention."""
    return block.ln_1 if hasattr(block, "ln_1") else block.norm1


def matrices(model: Classifier, x: Tensor) -> list[Tensor]:
    """Return the attention matrices (N, heads, T, T), from each block's tokens, as its library has them."""
    blocks, entering = layers(model), []
    hooks = [first_norm(block).register_forward_hook(lambda _, __, output: entering.append(output)) for block in blocks]
    with torch.no_grad():
        model(x)
        for hook in hooks:
            hook.remove()
        return [_matrix(block, tokens) for block, tokens in zip(blocks, entering, strict=True)]


def _matrix(block: nn.Module, tokens: Tensor) -> Tensor:
    if hasattr(block, "self_attention"):  # torchvision's
        return block.self_attention(tokens, tokens, tokens, average_attn_weights=False)[1]
    if hasattr(block, "attention"):  # our own
        projected, heads, scale = block.attention.queries_keys_values(tokens), tokens.shape[-1] // HEAD, HEAD**-0.5
    else:
        projected, heads, scale = block.attn.qkv(tokens), block.attn.num_heads, block.attn.scale
    queries, keys, _ = projected.unflatten(-1, (3, heads, -1)).unbind(2)  # (N, T, heads, channels) each
    return torch.einsum("nihc,njhc->nhij", queries, keys).mul(scale).softmax(-1)


def gradients(model: Classifier, image: Tensor, target: Tensor) -> list[Tensor]:
    """Return the gradients (heads, T, T) of the score of an image (3, H, W), by central differences of each entry.

    The attention of one layer at a time is replaced by given matrices, where its library computes them.
    """
    found = []
    for block, matrix in zip(layers(model), matrices(model, image[None]), strict=True):
        changed = matrix[0].expand(2 * matrix.numel(), *matrix.shape[1:]).clone()
        steps = 1e-6 * torch.eye(matrix.numel(), dtype=matrix.dtype).unflatten(1, matrix.shape[1:])
        changed += torch.cat([steps, -steps])
        scores = with_matrices(model, block, image, changed)[:, target]
        ahead, behind = scores.chunk(2)
        found.append(((ahead - behind) / 2e-6).view(matrix.shape[1:]))
    return found


def with_matrices(model: Classifier, block: nn.Module, image: Tensor, changed: Tensor) -> Tensor:
    """Return the logits (M, classes) of an image where a block's attention has M matrices (M, heads, T, T) instead."""

    def values_of(projected: Tensor, heads: int) -> Tensor:
        return projected.unflatten(-1, (3, heads, -1)).unbind(2)[2].transpose(1, 2)

    def replaced(module: nn.Module, args: tuple, output: Tensor) -> Tensor | tuple:
        heads, tokens = changed.shape[1], args[0]
        if hasattr(block, "self_attention"):
            module, (projected, last) = block.self_attention, (None, block.self_attention.out_proj)
            projected = nn.functional.linear(tokens, module.in_proj_weight, module.in_proj_bias)
        elif hasattr(block, "attention"):
            projected, last = module.queries_keys_values(tokens), module.last
        else:
            projected, last = module.qkv(tokens), module.proj
        mixed = last((changed @ values_of(projected, heads)).transpose(1, 2).flatten(2))
        return (mixed, None) if hasattr(block, "self_attention") else mixed

    attends = next(getattr(block, name) for name in ("self_attention", "attention", "attn") if hasattr(block, name))
    hook = attends.register_forward_hook(replaced)
    try:
        with torch.no_grad():
            return model(image.expand(len(changed), -1, -1, -1))
    finally:
        hook.remove()


def row_read(name: str, product: Tensor) -> Tensor:
    """Return what is read of a product of matrices (T, T): the row of the class token, or the mean of all rows."""
    return product.mean(0) if name == "timm, averaged" else product[0]


def enlarged(weights: Tensor) -> Tensor:
    """Return weights (T,) of tokens, of which the last stand for patches, as a map (32, 32) of sum 1."""
    side = int(len(weights) ** 0.5)
    patches = weights[-side * side :].view(1, 1, side, side)
    maps = nn.functional.interpolate(patches, (SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0]
    return maps / maps.sum()

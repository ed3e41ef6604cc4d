"""Transfer: images attacked on one network and method, and what is left of the explanation of another.

An attacker who does not know which network explains, or by which method, attacks one that she has. Each cell of the
table is a pair: the source, on which images are attacked, and the target, whose maps are measured. On the diagonal
source and target are the same. Beside each cell stand random signs, of the same budget and of the same root mean
square: maps that noise moves as far say nothing about transfer. An attack seldom spends its whole budget on every
pixel, so noise of the same budget is the stronger one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor, nn

from fragile_utils import attacks, metrics, saliency
from fragile_utils._base import checks, once, precision
from fragile_utils._base.seeds import for_each, random_signs
from fragile_utils.attacks import LEVEL, Attack, Settings
from fragile_utils.attacks.noise import of_size
from fragile_utils.data.batch import UNKNOWN, Batch
from fragile_utils.experiments.bootstrap import mean_interval
from fragile_utils.metrics import MEASURES
from fragile_utils.models.surrogate import beta_of

PAIR = ["source", "source_method", "target", "target_method"]
NOISES = ("noise", "rms_noise")


def transfer(
    networks: Mapping[str, nn.Module],
    methods: Mapping[str, saliency.Method],
    batch: Batch,
    *,
    attack: Attack,
    eps: float,
    k: int,
    explains: Mapping[str, Sequence[str]] | None = None,
    steps: int = 100,
    step_size: float = 0.5 * LEVEL,
    seed: int = 0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Attack images on each network and method, and measure the maps of each.

    A pair of networks is compared on the images that both get right, and the class that is explained is the label. The
    budget is spent on the source alone: the target may predict another class on the perturbed image.

    Parameters
    ----------
    networks : mapping from name to Module
        In evaluation mode, on the device of the images, which all of them take as they are: of the same classes.
    methods : mapping from name to Method
    batch : Batch
        With labels.
    attack : Attack
    eps, steps, step_size, seed
        See `attacks.Settings`. Noise and attack of image i draw from ``seed + i``.
    k : int
        Of the top-k intersection.
    explains : mapping from name of a network to names of methods, optional
        Where not all methods can explain all networks. By default all do.
    batch_size : int
        How many images are attacked at a time.

    Returns
    -------
    DataFrame
        One row for each pair and image. Columns: ``source``, ``source_method``, ``target``, ``target_method``, ``eps``
        (levels of 255), ``index`` (in `batch`), ``label``, ``success`` (the attack succeeded on the source; else the
        image is the original), ``kept`` (the target predicts the label on the perturbed image), and those of
        `metrics.compare` for the maps of the target. ``kept`` and the measures again with the prefix ``noise_``, for
        random signs of size `eps`, and with ``rms_noise_``, for random signs of the root mean square of what the attack
        on the source added.

    Raises
    ------
    ValueError
        If an argument is not as described, networks have other classes, or a method cannot explain a network.
    """
    explainers = _explainers(networks, methods, explains)
    checks.instance(attack, Attack, "attack", "TopK(k=1000)")
    checks.instance(batch, Batch, "batch", "data.imagenet_samples()")
    if unknown := int((batch.labels == UNKNOWN).sum()):
        raise ValueError(f"batch: expected images with labels, got {unknown} without")
    checks.count(k, "k", at_most=batch.images[0, 0].numel() - 1)
    checks.count(batch_size, "batch_size")
    settings = Settings(eps=eps, steps=steps, step_size=step_size, seed=seed)
    betas = {name: beta_of(model, batch.images[:256]) for name, model in networks.items()}
    tables = [
        table
        for first in range(0, len(batch), batch_size)
        for table in _compared(
            [explainer.among(slice(first, first + batch_size), len(batch)) for explainer in explainers],
            attack,
            settings,
            betas,
            _Part(batch.images[first : first + batch_size], batch.labels[first : first + batch_size], first),
            k,
        )
    ]
    order = {pair: i for i, pair in enumerate((*s.names, *t.names) for s in explainers for t in explainers)}
    whole = pd.concat(tables, ignore_index=True)
    places = whole[PAIR].apply(tuple, axis=1).map(order)
    return whole.assign(place=places).sort_values(["place", "index"], ignore_index=True).drop(columns="place")


def transfer_summary(table: pd.DataFrame, measure: str = "topk_intersection", noise: str = "noise") -> pd.DataFrame:
    """Return the means of a measure in each cell of `transfer`, and how far they are from those of noise.

    Only images count on which the attack succeeded and the target keeps its label, under attack and noise alike.

    Parameters
    ----------
    table : DataFrame
    measure : str
        One of `metrics.MEASURES`.
    noise : {"noise", "rms_noise"}
        Of the same maximum as the attack, or of the same root mean square.

    Returns
    -------
    DataFrame
        One row for each pair and budget. Columns: those of the pair, ``eps``, ``images`` (how many count), ``mean``,
        ``low``, ``high`` (95 % bootstrap interval), ``noise``, its mean, and ``gap``, ``gap_low``, ``gap_high``, the
        mean of the differences from noise, image by image, and its interval.

    Raises
    ------
    ValueError
        If there is no such measure or noise.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    if noise not in NOISES:
        raise ValueError(f"noise: expected one of {', '.join(NOISES)}, got {noise!r}")
    counted = table["success"] & table["kept"] & table[f"{noise}_kept"]
    rows = []
    for pair, group in table.assign(counted=counted).groupby([*PAIR, "eps"], sort=False):
        group = group[group["counted"]]
        values, beside = group[measure].to_numpy(), group[f"{noise}_{measure}"].to_numpy()
        gap = mean_interval(values - beside)
        row = dict(zip([*PAIR, "eps"], pair, strict=True)) | {"images": len(group)} | mean_interval(values)._asdict()
        row |= {"noise": mean_interval(beside).mean, "gap": gap.mean, "gap_low": gap.low, "gap_high": gap.high}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Explainer:
    """A method on a network, and the names of both."""

    names: tuple[str, str]
    model: nn.Module
    method: saliency.Method

    def explain(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps (N, H, W) of the labels and the predictions (N,)."""
        attributions, logits = self.method.explain(self.model, images, labels)
        return saliency.normalize(attributions), logits.argmax(1)

    def among(self, rows: slice, images: int) -> "_Explainer":
        """Return the same for some of the images."""
        return replace(self, method=self.method.among(rows, images))


@dataclass(frozen=True)
class _Part:
    """Some images of a batch, their labels, and the place of the first."""

    images: Tensor
    labels: Tensor
    first: int


def _compared(
    explainers: Sequence[_Explainer],
    attack: Attack,
    settings: Settings,
    betas: Mapping[str, float],
    part: _Part,
    k: int,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of each pair, of some images."""
    images, labels, seed = part.images, part.labels, settings.seed + part.first
    signs = for_each(random_signs, images, tuple(range(seed, seed + len(images))))
    noisy = attacks.project(images + settings.eps * signs, images, settings.eps)
    with once.run(), precision.float32():
        before = [explainer.explain(images, labels) for explainer in explainers]
        noise = [explainer.explain(noisy, labels) for explainer in explainers]
    of_noise = [metrics.compare(a, b, k) for (a, _), (b, _) in zip(before, noise, strict=True)]
    for source, (_, seen) in zip(explainers, before, strict=True):
        result = attacks.run(
            attack,
            source.model,
            images,
            labels,
            source.method,
            eps=settings.eps,
            steps=settings.steps,
            step_size=settings.step_size,
            seed=seed,
            beta=betas[source.names[0]],
        )
        matched = of_size(result.rms, signs, images)
        with once.run(), precision.float32():
            after = [explainer.explain(result.images, labels) for explainer in explainers]
            of_rms = [explainer.explain(matched, labels) for explainer in explainers]
        for i, target in enumerate(explainers):
            (maps, predicted), (new_maps, new_predicted) = before[i], after[i]
            rows = pd.DataFrame(
                {
                    **dict(zip(PAIR, (*source.names, *target.names), strict=True)),
                    "eps": settings.eps / LEVEL,
                    "index": range(part.first, part.first + len(images)),
                    "label": labels.tolist(),
                    "success": result.success.tolist(),
                    "kept": (new_predicted == labels).tolist(),
                    "noise_kept": (noise[i][1] == labels).tolist(),
                    "rms_noise_kept": (of_rms[i][1] == labels).tolist(),
                }
            )
            measured = metrics.compare(maps, new_maps, k).join(of_noise[i].add_prefix("noise_"))
            measured = measured.join(metrics.compare(maps, of_rms[i][0], k).add_prefix("rms_noise_"))
            both = ((seen == labels) & (predicted == labels)).cpu().numpy()
            yield rows.join(measured)[both]


def _explainers(
    networks: Mapping[str, nn.Module],
    methods: Mapping[str, saliency.Method],
    explains: Mapping[str, Sequence[str]] | None,
) -> list[_Explainer]:
    for name, method in methods.items():
        checks.instance(method, saliency.Method, f"methods: {name}", "Gradient()")
    explains = dict.fromkeys(networks, tuple(methods)) if explains is None else explains
    if set(explains) != set(networks):
        raise ValueError(f"explains: expected methods for {', '.join(networks)}, got them for {', '.join(explains)}")
    found = []
    known: dict[tuple[str, ...], str] = {}
    for name, model in networks.items():
        checks.evaluation_mode(model)
        if classes := tuple(getattr(model, "classes", ())):
            known.setdefault(classes, name)
        if isinstance(explains[name], str):
            raise ValueError(f"explains: expected several methods for {name}, got {explains[name]!r}")
        for method in explains[name]:
            if (name, method) in [explainer.names for explainer in found]:
                raise ValueError(f"explains: expected each method once, got {method!r} twice for {name}")
            if method not in methods:
                raise ValueError(f"explains: expected some of {', '.join(methods)}, got {method!r} for {name}")
            found.append(_Explainer((name, method), model, methods[method]))
    if not found:
        raise ValueError("networks, methods: expected at least one of each, got none")
    if len(known) > 1:
        raise ValueError(f"networks: expected the same classes, got others for {' and '.join(known.values())}")
    return found

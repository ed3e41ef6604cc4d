"""Attacks that know the defence: each takes the objective of another attack, and another way to its direction.

They are values like the other attacks, and run in the same Algorithm 1, by `attacks.run`.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fragile_utils._base import checks
from fragile_utils._base.held import PerImage
from fragile_utils.attacks import Attack, MapProblem
from fragile_utils.attacks.base import ascent
from fragile_utils.defences.aggregate import Aggregate
from fragile_utils.defences.randomness import is_random, redraw
from fragile_utils.models.surrogate import softplus_surrogate
from fragile_utils.saliency import Gradient, Method


@dataclass(frozen=True)
class Adaptive(Attack):
    """An attack with the objective of another one. A subclass says in `direction` how it climbs it.

    Parameters
    ----------
    attack : Attack
        Whose dissimilarity is climbed.
    """

    attack: Attack

    def __post_init__(self) -> None:
        checks.instance(self.attack, Attack, "attack", "TopK(k=100)")

    def reference(self, before: Tensor) -> Any:
        return self.attack.reference(before)

    def dissimilarity(self, maps: Tensor, reference: Any) -> Tensor:
        return self.attack.dissimilarity(maps, reference)

    def schedule(self, eps: float, steps: int, step_size: float) -> tuple[int, float]:
        return self.attack.schedule(eps, steps, step_size)


@dataclass(frozen=True, eq=False)
class Remembered:
    """What the attack whose objective is climbed remembers of the original maps, and what the run has of its own."""

    of_attack: Any
    own: Any

    def __getitem__(self, rows: Tensor) -> "Remembered":
        own = self.own.of(rows) if isinstance(self.own, PerImage) else self.own
        return Remembered(self.of_attack[rows], own)


class Keeping(Adaptive):
    """An adaptive attack of which each run has something of its own, beside what the other attack remembers."""

    def own(self) -> Any:
        """Return what a run has of its own."""
        raise NotImplementedError

    def reference(self, before: Tensor) -> Remembered:
        return Remembered(self.attack.reference(before), self.own())

    def dissimilarity(self, maps: Tensor, reference: Remembered) -> Tensor:
        return self.attack.dissimilarity(maps, reference.of_attack)


@dataclass(frozen=True)
class ExpectationOverTransformation(Keeping):
    """Climb the dissimilarity of the mean map over noise that is drawn anew at each step.

    For an explanation that averages over noise (`saliency.SmoothGrad`, or what holds one), of which the attacker knows
    everything but the seed. Each step differentiates D of the mean over `samples` copies: the loss of the mean, not the
    mean of losses. The iterates are measured by the method that `attacks.run` is given; an attacker who does not know
    the seed gives one with a seed of her own (`redraw`), and what she found is judged with held-out noise (`judge`).
    Who knows the seed needs no expectation: the attack itself differentiates what is displayed.

    Parameters
    ----------
    attack : Attack
    samples : int, optional
        m; by default as many as the method takes.
    seed : int
        Of the noise, the same for each image. Two runs with the same seed draw the same.

    Raises
    ------
    ValueError
        If a parameter is not as described; when it runs, if nothing in the method is random.

    References
    ----------
    Athalye et al., *Synthesizing Robust Adversarial Examples*, ICML 2018, arXiv:1707.07397; on explanations, Levine,
    Singla, Feizi, 2019, arXiv:1905.12105.
    """

    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.attack, Transfer):
            raise ValueError(f"attack: expected one that takes its directions from the method, got {self.attack}")
        if self.samples is not None:
            checks.count(self.samples, "samples")
        checks.seed(self.seed)

    def own(self) -> torch.Generator:
        """Return the noise of a run, of which every step takes its own."""
        return torch.Generator().manual_seed(self.seed)

    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        if not is_random(problem.guide):
            raise ValueError(f"method: expected one that averages over noise, got {problem.guide}")
        guide = redraw(problem.guide, problem.reference.own, self.samples)
        return self.attack.direction(replace(problem, guide=guide, reference=problem.reference.of_attack), x)


@dataclass(frozen=True)
class ThroughMembers(Adaptive):
    """Climb the dissimilarities of the members of an `Aggregate`, in place of that of their mean.

    Each member's map is compared with what the attack remembers of the aggregate's.

    Parameters
    ----------
    attack : Attack
    over : {"mean", "maximum"}
        The mean of the members' dissimilarities, or at each step that of the member that is moved most, image by image.

    Raises
    ------
    ValueError
        If a parameter is not as described; when it runs, if the method is no aggregate.
    """

    over: Literal["mean", "maximum"] = "maximum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.attack).direction is not Attack.direction:
            raise ValueError(f"attack: expected one that climbs by its own slope, as TopK(k=100), got {self.attack}")
        if self.over not in ("mean", "maximum"):
            raise ValueError(f"over: expected 'mean' or 'maximum', got {self.over!r}")

    @torch.enable_grad()
    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        if not isinstance(problem.guide, Aggregate):
            raise ValueError(f"method: expected an Aggregate, got {problem.guide}")
        x = x.detach().requires_grad_()
        maps, _ = problem.guide.maps(problem.surrogate, x, problem.labels, create_graph=True)
        each = torch.stack([self.dissimilarity(of_member, problem.reference) for of_member in maps])
        return ascent(each.mean(dim=0) if self.over == "mean" else each.max(dim=0).values, x)


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Keeping):
    """Take the directions from an undefended network, or an undefended method, and measure on the defended one.

    It finds what a defence hides from its own gradient. The map of the undefended is compared with what the attack
    remembers of the displayed one.

    Parameters
    ----------
    attack : Attack
    model : Module, optional
        In evaluation mode; its softplus surrogate gives the directions. By default the network that is attacked.
    method : Method
        Whose map is moved there.

    Raises
    ------
    ValueError
        If a parameter is not as described.

    References
    ----------
    Carlini et al., *On Evaluating Adversarial Robustness*, 2019, arXiv:1902.06705, section 5.
    """

    model: nn.Module | None = None
    method: Method = Gradient()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.instance(self.method, Method, "method", "Gradient()")
        if self.model is not None:
            object.__setattr__(self, "model", softplus_surrogate(checks.evaluation_mode(self.model), constant=True))

    def own(self) -> Method:
        """Return the method whose map is moved there."""
        return self.method.guide()

    def direction(self, problem: MapProblem, x: Tensor) -> Tensor:
        surrogate, known = problem.surrogate if self.model is None else self.model, problem.reference
        there = replace(problem, surrogate=surrogate, guide=known.own, reference=known.of_attack)
        return self.attack.direction(there, x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transfer) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        network = None if self.model is None else (self.model.model, self.model.beta)
        return self.attack, network, self.method

    def __repr__(self) -> str:
        network = "" if self.model is None else f", from another {type(self.model.model).__name__}"
        return f"Transfer({self.attack}{network}, by {self.method})"

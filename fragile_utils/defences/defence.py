"""A defence to be evaluated: what is displayed, on which network, what there was before, and who attacks it."""

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from fragile_utils import attacks
from fragile_utils._base import checks
from fragile_utils.attacks import Attack, MapResult
from fragile_utils.defences.adaptive import ExpectationOverTransformation, ThroughMembers, Transfer
from fragile_utils.defences.aggregate import Aggregate
from fragile_utils.defences.randomness import is_new_each_time, is_random, redraw
from fragile_utils.defences.restarts import run_restarts
from fragile_utils.defences.sparsified import TopShare
from fragile_utils.saliency import Gradient, Method, SmoothGrad

ATTACKER = 2**30  # where the seeds of an attacker who does not know the displayed one begin


@dataclass(frozen=True)
class Defence:
    """A defended explanation, on a network that may be defended too.

    Parameters
    ----------
    name : str
        What tables call it.
    model : Module
        In evaluation mode, with frozen parameters: the network that predicts, and that is explained.
    method : Method
        What is displayed.
    undefended_method : Method
        What would be displayed without the defence.
    undefended_model : Module, optional
        The network without the defence; by default `model`, where the explanation alone is defended.
    knows_seed : bool
        Whether the attacker knows the seed of the noise in `method`. Then it is always the displayed noise that is
        attacked, and judged; if not, she climbs the expectation over noise, and is judged with noise held out.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    name: str
    model: nn.Module = field(repr=False)
    method: Method
    undefended_method: Method = Gradient()  # noqa: RUF009 - a frozen value
    undefended_model: nn.Module | None = field(default=None, repr=False)
    knows_seed: bool = False

    def __post_init__(self) -> None:
        checks.evaluation_mode(self.model)
        checks.instance(self.method, Method, "method", "Gradient()")
        checks.instance(self.undefended_method, Method, "undefended_method", "Gradient()")
        if self.undefended_model is not None:
            checks.evaluation_mode(self.undefended_model)
        if self.knows_seed and is_new_each_time(self.method):
            raise ValueError("knows_seed: expected a method with a seed, got one whose noise is new on each call")

    @property
    def hides_its_noise(self) -> bool:
        """Whether the explanation rests on noise that the attacker does not know."""
        return is_random(self.method) and not self.knows_seed

    def attackers(self, objective: Attack, *, samples: int | None = None, seed: int = 0) -> "dict[str, Attacker]":
        """Return who attacks it, by name.

        "non-adaptive" attacks the undefended explanation of the undefended network. "transfer" takes her directions
        there, and keeps of all iterates the one that moves the displayed explanation most. "adaptive" differentiates
        what is displayed: its guide, and its expectation over noise where the seed is not known. "members" climbs, on
        an aggregate, the member that moves most. "unvoted" climbs, on a map of votes, the mean of the maps that vote:
        its slope does not die where a vote is certain.

        Parameters
        ----------
        objective : Attack
            What they climb.
        samples : int, optional
            Of the expectation over noise; by default as many as the method takes.
        seed : int
            Of the noise of those who do not know the displayed one.
        """
        before = self.model if self.undefended_model is None else self.undefended_model
        method, climbed = self.method, objective
        if self.hides_its_noise:
            method = redraw(self.method, ATTACKER + seed)
            climbed = ExpectationOverTransformation(objective, samples, seed)
        found = {
            "non-adaptive": Attacker(objective, before, self.undefended_method),
            "transfer": Attacker(
                Transfer(objective, self.undefended_model, self.undefended_method), self.model, method
            ),
            "adaptive": Attacker(climbed, self.model, method),
        }
        if isinstance(self.method, Aggregate):
            through = ThroughMembers(objective, "maximum")
            through = replace(climbed, attack=through) if self.hides_its_noise else through
            found["members"] = Attacker(through, self.model, method)
        if isinstance(self.method, SmoothGrad) and isinstance(self.method.method, TopShare):
            unvoted = replace(self.method, method=self.method.method.method)
            found["unvoted"] = Attacker(Transfer(climbed, None, unvoted), self.model, method)
        return found


@dataclass(frozen=True)
class Attacker:
    """An attack, the network that it is measured on while it runs, and the explanation that it then looks at.

    Parameters
    ----------
    attack : Attack
    model : Module
    method : Method
    """

    attack: Attack
    model: nn.Module = field(repr=False)
    method: Method

    def run(self, images: Tensor, labels: Tensor, restarts: int = 1, **options) -> MapResult:
        """Return what it finds; arguments as for `run_restarts`."""
        given = (self.attack, self.model, images, labels, self.method)
        return attacks.run(*given, **options) if restarts == 1 else run_restarts(*given, restarts=restarts, **options)

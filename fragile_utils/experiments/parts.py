"""What the names of a sweep stand for: its networks, images, methods and attacks. They are made when it runs."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fragile_utils import attacks, data, defences, models, saliency
from fragile_utils._base.code import Code, is_function
from fragile_utils.attacks import regions
from fragile_utils.experiments.choice import Choice, call, named
from fragile_utils.experiments.sweep import ATTACKS, METHODS, Sweep, target

# From a name to a reader with the arguments of `data.load`.
DATA: dict[str, Callable[..., data.Batch]] = {
    "imagenet": lambda *, size, fit, limit: data.imagenet_folder(size=size or data.IMAGENET_SIZE, fit=fit, limit=limit),
    "cifar10-train": lambda *, size, fit, limit: data.cifar10("train", limit=limit),
    "cifar10-test": lambda *, size, fit, limit: data.cifar10("test", limit=limit),
}


@dataclass(frozen=True)
class Parts:
    """A sweep that runs: it makes what its names stand for.

    Parameters
    ----------
    sweep : Sweep
    code : Code
        The functions of the reader's own that may be imported and called; by default none.
    """

    sweep: Sweep
    code: Code = Code()  # noqa: RUF009 - a frozen value

    def method(self, choice: Choice) -> saliency.Method:
        """Return the method that a choice describes."""
        return make_method(choice, self.code)

    def attack(self, choice: Choice, images: Tensor) -> attacks.Attack:
        """Return the attack that a choice describes, on these images (N, 3, H, W)."""
        return make_attack(choice, images, self.code, **self.sweep.defaults(choice))

    def read(self, source: str, size: int | None) -> data.Batch:
        """Return the images of a data set of the sweep, brought to `size` unless the sweep has its own."""
        wanted = self.sweep
        how = {"size": size if wanted.size is None else wanted.size, "fit": wanted.fit, "limit": wanted.candidates}
        if source not in DATA and not is_function(source):
            return data.load(source, **how)
        batch = call(named(source, DATA, "data", self.code), f"data: {source}", **how)
        if not isinstance(batch, data.Batch):
            raise ValueError(f"data: expected {source} to return a data.Batch, got {type(batch).__name__}")
        return batch

    def network(self, name: str) -> nn.Module:
        """Return a network of the sweep, as its `labels` name it, its parameters frozen."""
        choice = self.sweep.labels("models")[name]
        try:
            return models.load(choice.name, allow_code=self.code, **dict(choice.options))
        except (TypeError, ValueError) as error:
            said = str(error).removeprefix("model: ")
            raise ValueError(f"models: {said}" if choice.name in said else f"models: {name}: {said}") from error

    def files(self, name: str) -> str | None:
        """Return the SHA-256 of the files that say what a network is, besides its parameters; None without such files.

        A pickle of a whole network, or the settings beside the weights in the folder of ``hf:FOLDER``. Of code the
        files are those of `Code`, and weights alone are parameters.
        """
        named = self.sweep.labels("models")[name].name
        maker = named.rpartition("@")[0] if models.loading.has_weights(named) else named
        prefix, _, folder = maker.partition(":")
        if prefix == "hf":
            paths = sorted(Path(folder).expanduser().glob("*.json"))
        elif prefix not in models.loading.PREFIXES and Path(maker).suffix.lower() in models.files.WEIGHTS:
            paths = [Path(maker).expanduser()]
        else:
            return None
        found = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
        return hashlib.sha256(repr(found).encode()).hexdigest()


def make_method(choice: Choice, code: Code, field: str = "methods") -> saliency.Method:
    """Return the method that a choice describes; `field` is what an error calls it."""
    return _method(choice.build(METHODS, field, code), choice, field)


def make_defence(choice: Choice, method: saliency.Method, code: Code, field: str = "defence") -> saliency.Method:
    """Return a method defended as a choice of `defences.DEFENCES` says."""
    return _method(choice.build(defences.DEFENCES, field, code, method=method), choice, field)


def _method(made: object, choice: Choice, field: str) -> saliency.Method:
    if not isinstance(made, saliency.Method):
        raise ValueError(f"{field}: expected {choice} to be a saliency method, got {type(made).__name__}")
    return made


def make_attack(
    choice: Choice, images: Tensor, code: Code, field: str = "attacks", **defaults: object
) -> attacks.Attack:
    """Return the attack that a choice describes, on these images (N, 3, H, W); `defaults` are options it may have."""
    if choice.name == "targeted":
        return attacks.Targeted(regions.masks(target(choice), images))
    attack = choice.build(ATTACKS, field, code, **defaults)
    if not isinstance(attack, attacks.Attack):
        raise ValueError(f"{field}: expected {choice} to be an attack, got {type(attack).__name__}")
    return attack

"""What an audit will do, and how long it will take: found by a try with one image."""

import dataclasses
import hashlib
import time
from dataclasses import dataclass

from torch import Tensor, nn

from fragile_utils import attacks, data, metrics, saliency
from fragile_utils._base import schema
from fragile_utils._base.code import Code
from fragile_utils._base.devices import pick_device
from fragile_utils._base.pixels import in_bytes
from fragile_utils.experiments.audit.settings import ATTACKS, SEARCHES, Audit
from fragile_utils.experiments.folder import duration
from fragile_utils.experiments.parts import Parts

MAPS_OF_CONTROLS = 4  # of an image: its own, that of the next, that of shuffled weights, and passes of its pixels


@dataclass(frozen=True)
class Plan:
    """What an audit will do, found by a try with one image.

    Attributes
    ----------
    audit : Audit
        With the number of images that there are, the methods that apply, and k.
    refused : dict
        From each method that does not apply to the reason.
    seconds : dict
        From each method to the time that it will take, on this machine.
    network : str
        What the network is, in words.
    read, labelled : int
        How many images were read, and of how many the class is known. Of the others the network's answer is taken.
    """

    audit: Audit
    refused: dict[str, str]
    seconds: dict[str, float]
    network: str
    read: int
    labelled: int

    def known(self) -> str:
        """Return how many images were read, and what is known of their classes."""
        if self.labelled == self.read:
            return f"{self.read} read"
        if not self.labelled:
            return f"{self.read} read, none with a class: what the network answers counts as right"
        return f"{self.read} read, {self.labelled} with a class; of the others what the network answers counts as right"

    def describe(self) -> str:
        """Return it as a few lines."""
        audit = self.audit
        budgets = ", ".join(f"{eps:g}" for eps in audit.budgets)
        lines = [
            self.network,
            f"{audit.images} image{'s' * (audit.images > 1)} of {audit.data} ({self.known()}), k = {audit.k} pixels",
            f"budgets {budgets} of 255 levels; {audit.steps} step{'s' * (audit.steps > 1)} of {audit.step_size:g}; "
            f"{', '.join(ATTACKS)}; {', '.join(attacks.CHANGES)}",
        ]
        lines += [f"  {name}: about {duration(seconds)}" for name, seconds in self.seconds.items()]
        lines += [f"  {name} does not apply: {reason}" for name, reason in self.refused.items()]
        lines += audit.left_out(self.refused)
        return "\n".join([*lines, f"expected time: {duration(sum(self.seconds.values()))}"])


def plan(audit: Audit, code: Code = Code(), device: str = "auto") -> Plan:  # noqa: B008 - a frozen value
    """Try each method with one image, and return what the audit will do.

    Raises
    ------
    ValueError
        If the network or the images cannot be used, an image is there twice, or no method applies.
    """
    parts, where = Parts(audit.sweep("attacks", k=1), code), pick_device(device)
    (name,) = parts.sweep.labels("models")
    network = parts.network(name).to(where)
    batch = parts.read(audit.data, getattr(network, "size", None)).to(where)
    right = batch.right_for(network, name, audit.data)
    one = right[:1]
    height, width = one.images.shape[2:]
    k = metrics.default_k(height, width) if audit.k is None else audit.k
    if k >= height * width:  # all pixels are the same pixels, whatever the map
        raise ValueError(f"k: expected at most {height * width - 1}, less than the pixels of an image, got {k}")
    images = min(audit.images, len(right))
    _check_differ(right[data.spread(list(range(len(right))), images)])
    methods, refused, seconds = [], {}, {}
    for label, choice in parts.sweep.labels("methods").items():
        try:
            method = parts.method(choice)
            of_map, of_step = _times(method, network, one, k, audit.budgets[0])
        except ValueError as error:
            refused[label] = str(error)
            continue
        methods.append(choice)
        changes = len(ATTACKS) * len(audit.budgets) + len(attacks.CHANGES)
        maps = 2 * changes + MAPS_OF_CONTROLS  # before and after each change
        steps = len(SEARCHES) * len(audit.budgets) * audit.steps
        seconds[label] = images * (maps * of_map + steps * of_step)
    if not methods:
        raise ValueError(f"methods: none applies to {name}: " + "; ".join(f"{m}: {why}" for m, why in refused.items()))
    resolved = dataclasses.replace(audit, methods=tuple(methods), images=images, k=k)
    words = repr(network) if hasattr(network, "adapted") else name
    return Plan(resolved, refused, seconds, words, len(batch), int((batch.labels != data.UNKNOWN).sum()))


def _check_differ(batch: data.Batch) -> None:
    """Refuse an image with the pixels of an earlier one: it would count twice, and be chance for itself."""
    first: dict[str, int] = {}
    places = [first.setdefault(digest_of(image), place) for place, image in enumerate(batch.images)]
    copies = [(place, earlier) for place, earlier in enumerate(places) if earlier != place]
    if copies:
        name, earlier = (schema.printable(batch.names[place]) for place in copies[0])
        more = len(copies) - 1
        others = f", and {more} more cop{'ies' if more > 1 else 'y'}" * (more > 0)
        raise ValueError(
            f"data: expected images that differ, got {name} with the pixels of {earlier}{others}; leave copies out"
        )


def digest_of(image: Tensor) -> str:
    """Return the SHA-256 of an image's pixels in 8 bits."""
    return hashlib.sha256(in_bytes(image).cpu().numpy().tobytes()).hexdigest()


def _times(
    method: saliency.Method, network: nn.Module, one: data.Batch, k: int, smallest: float
) -> tuple[float, float]:
    """Return the seconds of a map, and of a step of an attack, with one image; also tried is the smallest budget."""
    began = time.perf_counter()
    maps = method(network, one.images, one.labels)
    of_map = time.perf_counter() - began
    if not maps.sum() > 0:
        raise ValueError("its map of the first image is zero everywhere")
    ends = [time.perf_counter()]
    for eps, steps in ((smallest, 1), (1, 1), (1, 4)):  # the first also prepares what later ones find ready
        attacks.run(attacks.TopK(k), network, one.images, one.labels, method, eps=eps * attacks.LEVEL, steps=steps)
        ends.append(time.perf_counter())
    short, long = ends[2] - ends[1], ends[3] - ends[2]
    return min(of_map, short), max((long - short) / 3, 0.0)

"""What a sweep is computed on: a network and the images it gets right, the same in every process and at any time."""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fragile_utils import data
from fragile_utils._base import schema
from fragile_utils._base.contents import digest
from fragile_utils._base.devices import pick_device
from fragile_utils._base.pixels import in_bytes
from fragile_utils.experiments.parts import Parts
from fragile_utils.experiments.sweep import LONGEST_NAME
from fragile_utils.models.surrogate import beta_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A network, and the images that it gets right: chosen once, and the same for every process that works on them.

    Attributes
    ----------
    model, data : str
        As the sweep names them.
    beta : float
        Sharpness of the network's surrogate (`attacks.run`).
    read, right : int
        How many images were read, and how many of them the network gets right.
    rows, labels, names : tuple
        Of the images that are attacked: their places among those read, their classes and names.
    pixels, parameters : str
        SHA-256 of these images and of the network's parameters and buffers.
    files : str, optional
        SHA-256 of the files that say what the network is besides these (`Parts.files`). None where there are no such
        files, and in folders that were begun before they were recorded.
    """

    model: str
    data: str
    beta: float
    read: int
    right: int
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    pixels: str
    parameters: str
    files: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, given: Any, name: str) -> "Subject":
        """Return the subject that a JSON object describes, every field checked; `name` is what an error calls it."""
        needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
        fields = schema.fields(given, name, needed)
        texts = {
            field: schema.label(fields[field], f"{name}: {field}", LONGEST_NAME)
            for field in ("model", "data", "pixels", "parameters", "files")
            if field in fields
        }
        read = schema.whole(fields["read"], f"{name}: read")
        rows = schema.entries(fields["rows"], f"{name}: rows")
        return cls(
            **texts,
            beta=schema.number(fields["beta"], f"{name}: beta"),
            read=read,
            right=schema.whole(fields["right"], f"{name}: right", high=read),
            rows=tuple(schema.whole(row, f"{name}: rows", 0, read - 1) for row in rows),
            labels=tuple(
                schema.whole(label, f"{name}: labels", 0)
                for label in schema.entries(fields["labels"], f"{name}: labels", len(rows))
            ),
            names=tuple(
                schema.label(image, f"{name}: names", LONGEST_NAME)
                for image in schema.entries(fields["names"], f"{name}: names", len(rows))
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `of` makes the same subject from; without files, what it was before these were recorded."""
        fields = dataclasses.asdict(self)
        return fields if self.files is not None else {name: fields[name] for name in fields if name != "files"}

    @classmethod
    def choose(cls, parts: Parts, model: str, source: str, device: str = "auto") -> "Subject":
        """Read the data, and take those images of the sweep that the network gets right, evenly spread."""
        sweep, network = parts.sweep, parts.network(model).to(pick_device(device))
        batch = parts.read(source, getattr(network, "size", None))
        pixels = batch.images[0, 0].numel()
        if sweep.k >= pixels:  # all pixels are the same pixels, whatever the map
            raise ValueError(f"k: expected at most {pixels - 1}, less than the pixels of an image, got {sweep.k}")
        moved = batch.to(pick_device(device)).for_network(network, model, source)
        right = (data.predict(network, moved.images) == moved.labels).nonzero().flatten().tolist()
        if len(right) < (sweep.images or 1):
            raise ValueError(
                f"images: expected {sweep.images or 'some'} that {model} gets right, "
                f"got {len(right)} of the {len(batch)} read from {source}"
            )
        rows = data.spread(right, sweep.images)
        chosen = batch[rows]
        return cls(
            model,
            source,
            beta=beta_of(network, moved.images[rows[:256]]),
            read=len(batch),
            right=len(right),
            rows=tuple(rows),
            labels=tuple(moved.labels[rows].tolist()),
            names=chosen.names,
            pixels=digest([in_bytes(chosen.images)]),
            parameters=digest([*network.parameters(), *network.buffers()]),
            files=parts.files(model),
        )

    def load(self, parts: Parts, device: str) -> tuple[nn.Module, data.Batch]:
        """Return the network and the images, on the device.

        A network of whose files the folder knows nothing is warned of through ``logging``, where it has any: it has the
        same parameters, and may compute something else with them.

        Raises
        ------
        ValueError
            If they are not those that were chosen.
        """
        network = parts.network(self.model)
        if digest([*network.parameters(), *network.buffers()]) != self.parameters:
            raise ValueError(f"models: {self.model} has other parameters than when the sweep began")
        files = parts.files(self.model)
        if self.files is None and files is not None:
            log.warning("%s: it is not known whether its files are those with which the sweep began", self.model)
        elif files != self.files:
            raise ValueError(f"models: {self.model} has other files than when the sweep began")
        batch = parts.read(self.data, getattr(network, "size", None))
        same = len(batch) == self.read
        chosen = batch[list(self.rows)] if same else batch
        if not same or chosen.names != self.names or digest([in_bytes(chosen.images)]) != self.pixels:
            raise ValueError(f"data: {self.data} has other images than when the sweep began")
        chosen = dataclasses.replace(chosen, labels=torch.tensor(self.labels))
        return network.to(device), chosen.to(device)

"""`LiveAttack`: choose an image, a method, an attack and a budget, and watch. Needs a running kernel."""

import io
import threading
from collections.abc import Mapping

import ipywidgets as ipw
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from fragile_utils import attacks, data, metrics, models, saliency
from fragile_utils._base import checks, schema
from fragile_utils._base.devices import pick_device
from fragile_utils._base.pixels import encoded, in_bytes
from fragile_utils.attacks import regions
from fragile_utils.plots.attack import before_after
from fragile_utils.plots.escaping import escaped

SHOWN = 2  # how many times its size the picture of the target is shown
ORANGE = (230, 159, 0)


class LiveAttack(ipw.VBox):
    """An attack on one image, live: controls, progress with a stop button, and the figure before and after.

    Runs on a GPU where there is one. Shown as the last value of a cell of a running notebook.

    Parameters
    ----------
    batch : Batch, optional
        Images to choose from; by default the embedded ImageNet samples that the first model gets right. More can be
        uploaded. Those without a label are explained as the network predicts.
    networks : mapping of str to Module, optional
        Networks to choose from, in evaluation mode; by default those of `models.MODELS`, loaded when they are chosen.
    k : int, optional
        How many pixels count as most salient; by default 1,000, or 100 on images below 100 x 100.
    device : str, optional
        By default a GPU where there is one.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(
        self,
        batch: data.Batch | None = None,
        networks: Mapping[str, nn.Module] | None = None,
        *,
        k: int | None = None,
        device: str | None = None,
    ) -> None:
        self.device = pick_device(device or "auto")
        if networks is not None and not networks:
            raise ValueError("networks: expected at least one, got none")
        for network in (networks or {}).values():
            checks.evaluation_mode(network)
        self._loaded: dict[str, nn.Module] = {name: net.to(self.device) for name, net in (networks or {}).items()}
        self._names = list(networks or models.MODELS)
        if batch is None:
            batch = data.imagenet_samples().to(self.device).correct(self.network(self._names[0]))
        if not len(batch):
            raise ValueError("batch: expected at least one image, got none")
        self.k = None if k is None else checks.count(k, "k")
        self._images: dict[str, tuple[Tensor, int | None]] = {
            f"{name} ({label})": (image.cpu(), None if index == data.UNKNOWN else int(index))
            for name, label, image, index in zip(
                batch.names, batch.label_names, batch.images, batch.labels, strict=True
            )
        }
        self.result: attacks.MapResult | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._make_controls()
        super().__init__([self.controls, self.target, self.buttons, self.status, self.picture])
        self._show_target()

    # --- Controls ----------------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide = {"style": {"description_width": "7rem"}, "layout": ipw.Layout(width="24rem")}
        self.image = ipw.Dropdown(options=list(self._images), description="image", **wide)
        self.upload = ipw.FileUpload(accept="image/*", multiple=False, description="upload an image")
        self.model = ipw.Dropdown(options=self._names, description="model", **wide)
        self.method = ipw.Dropdown(options=list(saliency.METHODS), description="method", **wide)
        self.attack = ipw.Dropdown(options=list(attacks.ATTACKS), description="attack", **wide)
        self.eps = ipw.FloatSlider(8, min=0.5, max=16, step=0.5, description="budget (of 255)", **wide)
        self.steps = ipw.IntSlider(40, min=1, max=300, description="steps", **wide)
        self.shape = ipw.ToggleButtons(options=["superpixel", "rectangle"], description="region")
        self.rows = ipw.IntRangeSlider(value=(0, 60), min=0, max=227, description="rows", **wide)
        self.columns = ipw.IntRangeSlider(value=(0, 60), min=0, max=227, description="columns", **wide)
        self.superpixel = ipw.IntSlider(0, min=0, max=1, description="superpixel", **wide)
        self.place = ipw.Image(format="png")
        self.start = ipw.Button(description="Attack", button_style="primary", icon="play")
        self.stop = ipw.Button(description="Stop", icon="stop", disabled=True)
        self.progress = ipw.IntProgress(0, min=0, max=1, layout=ipw.Layout(width="16rem"))
        self.status = ipw.HTML("Ready.")
        self.picture = ipw.Image(format="png", layout=ipw.Layout(display="none", max_width="100%"))

        left = ipw.VBox([self.image, self.upload, self.model, self.method])
        self.controls = ipw.HBox([left, ipw.VBox([self.attack, self.eps, self.steps])])
        self.controls.layout.flex_flow = "row wrap"
        self.target = ipw.VBox([self.shape, self.superpixel, self.rows, self.columns, self.place])
        self.buttons = ipw.HBox([self.start, self.stop, self.progress])
        self.start.on_click(lambda _: self.run())
        self.stop.on_click(lambda _: self._stopped.set())
        self.upload.observe(lambda change: self._uploaded(), names="value")
        for control in (self.image, self.attack, self.shape, self.rows, self.columns, self.superpixel):
            control.observe(lambda change: self._show_target(), names="value")

    def network(self, name: str) -> nn.Module:
        """Return the network of that name, loaded once."""
        if name not in self._loaded:
            self._loaded[name] = models.MODELS[name]().to(self.device)
        return self._loaded[name]

    def say(self, text: str, wrong: bool = False) -> None:
        """Show a line of text; what is wrong is announced as an alert."""
        role, color = ("alert", "color:#b00020") if wrong else ("status", "")
        self.status.value = f'<p role="{role}" style="{color}">{escaped(text)}</p>'

    def _uploaded(self) -> None:
        if not self.upload.value:
            return
        (file,) = self.upload.value if isinstance(self.upload.value, tuple) else self.upload.value.values()
        name = file.get("name") or file["metadata"]["name"]
        try:
            image = data.read_image(io.BytesIO(bytes(file["content"])), size=self._size())
        except ValueError:
            self.say(f"{name} cannot be read as an image: expected a JPEG, PNG or similar file.", wrong=True)
            return
        self._images[name] = (image, None)
        self.image.options = list(self._images)
        self.image.value = name
        self.say(f"{name}: its class is not known, so it is explained as the network predicts.")

    def _size(self) -> int:
        return next(iter(self._images.values()))[0].shape[-1]

    # --- The region of a targeted attack -----------------------------------------------------------------------------

    def _show_target(self) -> None:
        """Show the region on the picture, and only the controls that matter."""
        targeted = self.attack.value == "targeted"
        self.target.layout.display = None if targeted else "none"
        if not targeted:
            return
        image, _ = self._images[self.image.value]
        by_rectangle = self.shape.value == "rectangle"
        for control in (self.rows, self.columns):
            control.layout.display = None if by_rectangle else "none"
            control.max = image.shape[1] if control is self.rows else image.shape[2]
        self.superpixel.layout.display = "none" if by_rectangle else None
        found = regions.superpixels(image)
        self.superpixel.max = int(found.max())
        try:
            self.place.value = _with_outlines(image, None if by_rectangle else found, self.region())
        except ValueError as error:  # an empty rectangle
            self.say(f"The rectangle has no rows or no columns: {error}", wrong=True)

    def region(self) -> Tensor:
        """Return the mask (H, W) that is chosen."""
        image, _ = self._images[self.image.value]
        if self.shape.value == "superpixel":
            return regions.superpixels(image) == self.superpixel.value
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        height, width = image.shape[1:]
        return regions.rectangle(height, width, top=top, left=left, bottom=bottom, right=right)

    # --- Running -----------------------------------------------------------------------------------------------------

    def run(self, wait: bool = False) -> None:
        """Start the attack that is chosen, beside the kernel's main thread; `wait` for its end."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopped.clear()
        self.start.disabled, self.stop.disabled = True, False
        self.progress.value, self.progress.max = 0, self.steps.value
        self.say(f"Running on {self.device} ...")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if wait:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._attack()
        except ValueError as error:  # what was chosen does not go together
            self.say(str(error), wrong=True)
        except (RuntimeError, MemoryError) as error:
            self.say(f"The attack stopped: {schema.reason(error)}", wrong=True)
        finally:
            self.start.disabled, self.stop.disabled = False, True

    def _attack(self) -> None:
        image, label = self._images[self.image.value]
        images = image[None].to(self.device)
        model = self.network(self.model.value)
        labels = data.predict(model, images) if label is None else torch.tensor([label], device=self.device)
        k = self.k or metrics.default_k(*image.shape[-2:])
        make = attacks.ATTACKS[self.attack.value]
        attack = make(k) if make is attacks.TopK else make(self.region()) if make is attacks.Targeted else make()
        method = saliency.METHODS[self.method.value]()
        result = attacks.run(
            attack,
            model,
            images,
            labels,
            method,
            eps=self.eps.value * attacks.LEVEL,
            steps=self.steps.value,
            progress=self._step_done,
        )
        self.result = result
        figure = before_after(images.cpu(), result, k=k, classes=getattr(model, "classes", ()))
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=100)
        self.picture.value, self.picture.layout.display = content.getvalue(), None
        row = result.compare(k).iloc[0]
        ended = "Stopped: the best so far. " if self._stopped.is_set() else ""
        if not result.success[0]:
            self.say(f"{ended}The attack failed: {result.reasons[0]}.", wrong=True)
            return
        self.say(
            f"{ended}The label is kept ({float(result.confidence[0]):.0%}). Top-{k:,} intersection "
            f"{row.topk_intersection:.3f}, rank correlation {row.rank_correlation:.2f}, centre shift "
            f"{row.center_shift:.1f} pixels, from step {int(result.iteration[0])}."
        )

    def _step_done(self, step: int) -> None:
        self.progress.value = step
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _with_outlines(image: Tensor, superpixels: Tensor | None, region: Tensor) -> bytes:
    """Return a PNG of the image with the outlines of superpixels in white and that of the region in orange."""
    values = in_bytes(image).permute(1, 2, 0).numpy()
    values = values.repeat(SHOWN, axis=0).repeat(SHOWN, axis=1)
    if superpixels is not None:
        values[_edges(superpixels)] = 255
    outline = _edges(region)
    values[outline] = ORANGE
    picture = Image.fromarray(values)
    row, column = (SHOWN * region.nonzero().double().mean(0)).round().int().tolist()
    ImageDraw.Draw(picture).text((column, row), "target", fill=ORANGE, anchor="mm", stroke_width=2, stroke_fill="black")
    return encoded(picture, "png")


def _edges(labels: Tensor) -> np.ndarray:
    """Return where, on the enlarged picture, a pixel's label differs from that of the next one."""
    large = labels.int().numpy().repeat(SHOWN, axis=0).repeat(SHOWN, axis=1)
    edges = np.zeros(large.shape, dtype=bool)
    edges[1:] |= large[1:] != large[:-1]
    edges[:, 1:] |= large[:, 1:] != large[:, :-1]
    return edges

"""Widgets: sliders that need no kernel, for the published pages, JupyterLab and Colab; and `LiveAttack`, which does.

`FrameSlider` moves through any frames. `EpsilonSlider` moves through the budgets of an attack. Both are one piece of
HTML that contains all its pictures: a native range input, for mouse, touch, keyboard and screen reader, and one line of
script in its `oninput`. Nothing is fetched, and without scripts all frames are shown.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fragile_utils import attacks, data
from fragile_utils._base import checks
from fragile_utils._base.pixels import data_url, encoded, picture
from fragile_utils.plots.escaping import escaped
from fragile_utils.plots.live import LiveAttack
from fragile_utils.plots.maps import ceiling, change_pixels, map_pixels

__all__ = ["EpsilonSlider", "Frame", "FrameSlider", "LiveAttack"]

QUALITIES = (80, 60, 45, 30)  # of WebP: the first with which a picture is small enough, or the last
SMALL_ENOUGH = 20_000  # bytes: noise does not compress, and takes the last
LARGEST_SIDE = 320  # pixels of an image, of which three stand side by side: a page of larger ones is too large to send
FIGURE_DPI = 150


@dataclass(frozen=True)
class Frame:
    """What a slider shows at one of its positions.

    Parameters
    ----------
    label : str
        The position in words, for example "4 levels".
    pictures : mapping of str to Tensor (3, H, W) or Figure
        Pictures with their titles: an image in [0, 1], or a figure of matplotlib.
    text : str
        What there is to see, in a sentence. It is also what a screen reader reads.
    facts : mapping of str to str
        Numbers with their names, shown as a table.
    """

    label: str
    pictures: Mapping[str, Tensor | Figure]
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class FrameSlider:
    """Frames, one at a time, under a slider. Displayed as the last value of a cell; `html` is the page's source.

    Parameters
    ----------
    frames : sequence of Frame
        At least two, each with pictures of the same titles.
    label : str
        What the slider changes, with its unit: "budget, in levels of 255".
    start : int
        The frame that is shown first.
    caption : str
        Shown below, as that of a figure.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(self, frames: Sequence[Frame], label: str, *, start: int = 0, caption: str = "") -> None:
        frames = list(frames)
        if len(frames) < 2:
            raise ValueError(f"frames: expected at least two, got {len(frames)}")
        if any(list(frame.pictures) != list(frames[0].pictures) for frame in frames):
            raise ValueError("frames: expected pictures with the same titles in each, got others")
        if not -len(frames) <= start < len(frames):
            raise ValueError(f"start: expected one of {len(frames)} frames, got {start}")
        self.label = label
        self.labels = [frame.label for frame in frames]
        self.html = _page(frames, label, range(len(frames))[start], caption)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label}: {', '.join(self.labels)})"

    def _repr_html_(self) -> str:
        return self.html


class EpsilonSlider(FrameSlider):
    """An attack at growing budgets: the image, the amplified change, the map, the prediction and the three measures.

    Parameters
    ----------
    images : Tensor (N, 3, H, W)
        The originals that were given to `attacks.run`.
    results : sequence of Result
        One for each budget, from `attacks.run_budgets`; shown in the order of their budgets, after the original.
    index : int
        Which image of the batch.
    k : int
        How many pixels count as most salient.
    classes : sequence of str
        Class names.
    caption : str
        Shown below, as that of a figure.

    Raises
    ------
    ValueError
        If the results are not of these images, or not of one method.
    """

    def __init__(
        self,
        images: Tensor,
        results: Sequence[attacks.MapResult],
        index: int = 0,
        *,
        k: int,
        classes: Sequence[str] = (),
        caption: str = "",
    ) -> None:
        checks.images(images)
        results = sorted(results, key=lambda result: result.eps)
        if not results:
            raise ValueError("results: expected at least one, got none")
        for result in results:
            if result.images.shape != images.shape or result.method != results[0].method:
                raise ValueError("results: expected those of one method on these images, got others")
        if not -len(images) <= index < len(images):
            raise ValueError(f"index: expected one of {len(images)} images, got {index}")
        before = results[0].maps_before[index]
        top = max(ceiling(m) for m in (before, *(result.maps[index] for result in results)))
        frames = [_frame(images[index], before, None, index, k, classes, top)]
        frames += [_frame(images[index], before, result, index, k, classes, top) for result in results]
        frames[0].facts.update(_facts(results[0], index, k, classes, original=True))
        super().__init__(frames, "budget, in levels of 255", start=-1, caption=caption)


def _frame(
    image: Tensor,
    before: Tensor,
    result: attacks.MapResult | None,
    index: int,
    k: int,
    classes: Sequence[str],
    top: float,
) -> Frame:
    """Return the frame of one budget; without a result, that of the original."""
    changed, after = (image, before) if result is None else (result.images[index], result.maps[index])
    levels = 0.0 if result is None else result.eps / attacks.LEVEL
    pictures = {
        "image": changed,
        "change, amplified": change_pixels(image, changed),
        "saliency map": map_pixels(after, top),
    }
    if result is None:
        return Frame("0 (original)", pictures, "The original image and its explanation.", {})
    facts = _facts(result, index, k, classes)
    if not result.success[index]:
        text = f"At {levels:g} levels the attack failed: {result.reasons[index]}. The original is shown."
    else:
        text = (
            f"No pixel is changed by more than {levels:g} of 255 levels. The network still says {facts['prediction']}; "
            f"{float(facts['top-k intersection']):.0%} of the top pixels are where they were."
        )
    return Frame(f"{levels:g}", pictures, text, facts)


def _facts(
    result: attacks.MapResult, index: int, k: int, classes: Sequence[str], original: bool = False
) -> dict[str, str]:
    """Return the table of one frame."""
    label = int(result.labels[index] if original else result.labels_after[index])
    confidence = result.confidence_before[index] if original else result.confidence[index]
    row = result.compare(k).iloc[index]
    values = (1.0, 1.0, 0.0) if original else (row.topk_intersection, row.rank_correlation, row.center_shift)
    return {
        "prediction": f"{data.class_name(classes, label)} ({float(confidence):.0%})",
        "top-k intersection": f"{values[0]:.3f}",
        "rank correlation": f"{values[1]:.2f}",
        "centre shift": f"{values[2]:.1f} pixels",
    }


# --- The page --------------------------------------------------------------------------------------------------------

_MOVE = (
    "const box=this.closest('.fragile-slider');const now=box.querySelectorAll('[data-frame]');"
    "now.forEach((frame,i)=>{frame.hidden=i!=this.value});"
    "const label=now[this.value].dataset.frame;this.setAttribute('aria-valuetext',label);"
    "box.querySelector('.now').textContent=label;"
    "box.querySelector('output').textContent=now[this.value].dataset.text"
)
_STYLE = """\
.fragile-slider{margin:1rem 0;max-width:62rem;color:inherit;font-size:.95rem}
.fragile-slider [hidden]{display:none}
.fragile-slider .control{display:flex;flex-wrap:wrap;gap:.25rem .75rem;align-items:center}
.fragile-slider input[type=range]{flex:1 1 12rem;min-width:0;height:2.75rem;accent-color:#0072b2;cursor:pointer}
.fragile-slider .now{min-width:6.5rem;font-weight:600}
.fragile-slider .pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(10rem,45%),1fr));gap:.75rem}
.fragile-slider .picture{margin:0;min-width:0}
.fragile-slider .picture span{display:block;font-size:.85rem;line-height:1.3}
.fragile-slider img{display:block;width:100%;height:auto;margin:0;background:#fff}
@media (max-width:36rem){.fragile-slider .picture:nth-child(2):nth-last-child(2){order:1}}
.fragile-slider .facts{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:.6rem 0 0;padding:0}
.fragile-slider .facts div{display:flex;gap:.4rem}
.fragile-slider dt{font-weight:400;margin:0}
.fragile-slider dd{font-weight:600;margin:0;font-variant-numeric:tabular-nums}
.fragile-slider p{margin:.4rem 0}
.fragile-slider .caption{font-size:.9rem}
@media print{.fragile-slider .control,.fragile-slider output{display:none}}"""
_ALL = (  # with nobody to move it, all frames are shown, each under its position and its text
    ".fragile-slider [data-frame][hidden]{display:block !important}.fragile-slider [data-frame]{break-inside:avoid}"
    ".fragile-slider [data-frame]::before{content:attr(data-frame)'. ' attr(data-text);display:block;margin-top:.8rem}"
)
_STYLE += f"\n@media print{{{_ALL}}}"
_NO_SCRIPT = f"<noscript><style>{_ALL}</style></noscript>"


def _page(frames: list[Frame], label: str, start: int, caption: str) -> str:
    """Return the HTML of a slider. What depends on the position is in the frames; one handler shows the right one."""
    rows = "".join(_row(frame, label, visible=i == start) for i, frame in enumerate(frames))
    name, value = escaped(label), escaped(frames[start].label)
    control = (
        f'<label class="control"><span>{name}</span>'
        f'<input type="range" min="0" max="{len(frames) - 1}" step="1" value="{start}" autocomplete="off"'
        f' aria-valuetext="{value}" data-lm-suppress-shortcuts="true" oninput="{escaped(_MOVE)}">'
        f'<span class="now" aria-hidden="true">{value}</span></label>'
    )
    status = f"<p><output>{escaped(frames[start].text)}</output></p>"
    below = f'<p class="caption">{escaped(caption)}</p>' if caption else ""
    return f'<div class="fragile-slider"><style>{_STYLE}</style>{_NO_SCRIPT}\n{control}\n{status}\n{rows}{below}</div>'


def _row(frame: Frame, label: str, visible: bool) -> str:
    pictures = "".join(
        f'<div class="picture"><span>{escaped(title)}</span>'
        f'<img src="{_webp_url(shown)}" alt="{escaped(f"{title}; {label}: {frame.label}")}"></div>'
        for title, shown in frame.pictures.items()
    )
    facts = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in frame.facts.items()
    )
    table = f'<dl class="facts">{facts}</dl>' if facts else ""
    attributes = f'data-frame="{escaped(frame.label)}" data-text="{escaped(frame.text)}"'
    hidden = "" if visible else " hidden"
    return f'<div {attributes}{hidden}><div class="pictures">{pictures}</div>{table}</div>\n'


def _webp_url(shown: Tensor | Figure) -> str:
    """Return a picture as a WebP data URL. Fine for the eye; what is measured is measured on the tensors."""
    if isinstance(shown, Figure):
        content = io.BytesIO()
        with matplotlib.rc_context({"savefig.facecolor": "white"}):
            shown.savefig(content, format="png", dpi=FIGURE_DPI)
        image = Image.open(content).convert("RGB")
    else:
        if not isinstance(shown, Tensor) or shown.ndim != 3 or shown.shape[0] != 3:
            raise ValueError(f"picture: expected a tensor (3, H, W) or a figure, got {checks.described(shown)}")
        image = picture(shown)
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    for quality in QUALITIES:
        contents = encoded(image, "webp", quality=quality, method=6)
        if len(contents) <= SMALL_ENOUGH:
            break
    return data_url(contents, "webp")

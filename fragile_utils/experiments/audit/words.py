"""The numbers of an audit in words, for readers who sign and do not compute."""

from collections.abc import Sequence
from typing import Any

from fragile_utils._base import schema

STEADY, LOST = 0.7, 0.3  # of the most salient pixels that are left
FEW = 16  # images
UNSEEN = 4  # levels: on smooth parts of an image, larger changes of all pixels can be seen
IN_PLACE = ("jpeg", "brightness", "resize")  # everyday changes after which a map ought to be where it was
NOT_SAID = (
    "It does not say whether the network is right, or fit for its purpose: only how its explanations behave on these "
    "images. They are images that it gets right, where their class is known: how it explains its mistakes is not "
    "covered.",
    "An explanation that stayed steady here may fall to another, stronger attack, or on other images: a search that "
    "finds nothing proves nothing.",
    "A fragile explanation need not be wrong, and a steady one need not be true: steadiness is necessary, not "
    "sufficient. Deletion and insertion say a little more, on average, and with their own weaknesses.",
    "The attacks know the network and all its weights. Whoever has less has a harder task; how much harder was not "
    "measured.",
    "Budgets are about changes of single pixel values. Other changes, of the scene, the camera or the patient, are not "
    "covered.",
)


def paragraph(name: str, summary: dict[str, Any]) -> str:
    """Return what an audit found about a method, in words."""
    method, settings = summary["methods"][name], summary["settings"]
    eps = budget_of_words(settings["budgets"])
    cells = {cell["attack"]: cell for cell in method["cells"] if cell["eps"] == eps}
    attack = min(("topk", "mass-center"), key=lambda a: _or(cells[a]["topk_intersection"]["mean"], 1))
    kept, noise = (cells[a]["topk_intersection"] for a in (attack, "random-sign"))
    weak = _or(noise["mean"], 1) < _or(kept["mean"], 1)  # chance did more: nothing is known from such an attack
    images = cells[attack]["images"]
    verdict = TOO_WEAK if weak else _verdict(kept, method["chance"]["other"]["topk_intersection"])
    said = [
        f"{name}: {verdict} On {images} image{'s' * (images > 1)}, no value of a pixel "
        f"was changed by more than {eps:g} of 255 levels{', which is hard to see' * (eps <= UNSEEN)}, and the network "
        f"still named the same class. Of the {settings['k']:,} pixels that the explanation had marked as most "
        f"important, an attack left {_share(kept)} on average; on the worst image "
        f"({schema.printable(kept.get('worst_image', 'none'))}) {_percent(kept.get('worst'))}.",
        *_untouched(cells[attack]),
        *_empty(method.get("empty", 0), images),
        f"Random noise of the same largest change left {_share(noise)}{_left_out(cells['random-sign'])}.",
        *_everyday(method),
        *_chance(method["chance"]),
        _failure(method["failure"]["topk"], settings["budgets"]),
        _content(method),
    ]
    return " ".join(said)


def caution(images: int) -> str:
    """Return what has to be known of intervals from fewer than `FEW` images."""
    return "a single image has no interval" if images == 1 else "intervals from so few tend to be too narrow"


def budget_of_words(budgets: Sequence[float]) -> float:
    """Return the budget that words are about: 2 levels, or the nearest."""
    return min(budgets, key=lambda eps: abs(eps - 2))


def in_place(method: dict[str, Any]) -> dict[str, float | None]:
    """Return what everyday changes leave of the top pixels, but for a shift, with which a map ought to move."""
    return {change: method["natural"][change]["topk_intersection"]["mean"] for change in IN_PLACE}


SHOWS = {  # what a map of a method is, for readers who have not met it
    "gradient": "how strongly the score of the class would react to each pixel",
    "input-x-gradient": "how strongly the score would react to each pixel, times the pixel's value",
    "integrated-gradients": "how much each pixel added to the score on the way from an empty image to this one",
    "deeplift": "how much each pixel's difference to an empty image contributes to the score, layer by layer",
    "lrp": "the score, shared out among the pixels, layer by layer backwards",
    "deep-taylor": "the score, shared out among the pixels, layer by layer backwards, where it speaks for the class",
    "smoothgrad": "how strongly the score would react to each pixel, averaged over noisy copies of the image",
    "grad-cam": "in which coarse regions the network's last features speak for the class",
}
WORDS = {
    "jpeg": "compression with JPEG at quality 90",
    "shift": "a shift by one pixel",
    "brightness": "2 % more brightness",
    "resize": "making it smaller and large again",
}


def _verdict(kept: dict[str, Any], other: dict[str, Any]) -> str:
    """Return what is said first, of what is left and of what the maps of other images share."""
    if kept["mean"] is None:
        return "nothing could be measured."
    if kept["mean"] <= LOST:
        return "not steady: whoever knows the network can replace most of it, and the answer stays the same."
    if kept["low"] is None:
        return "not known: one image is too few."
    if kept["low"] <= _or(other["mean"], 0):
        return "not known: what is left cannot be told from what the explanations of two different images share."
    if kept["low"] >= STEADY:
        return "steady, on these images, against the attacks that were tried."
    return "partly steady: an attack replaces a part of it, and the answer stays the same."


TOO_WEAK = "not known: random noise moved it further than the attacks that were tried, which were too weak."


def _untouched(cell: dict[str, Any]) -> list[str]:
    """Return what is to be said of images on which the attack did not succeed."""
    if not cell["unchanged"]:
        return []
    return [f"On {cell['unchanged']} of {cell['images']} it found no way that kept the answer; there 100 % is counted."]


def _empty(count: int, others: int) -> list[str]:
    """Return what is to be said of images without an explanation, and of how few are left."""
    if not count:
        return []
    said = [f"On {count} of {count + others} images the map is zero everywhere or not finite; they are left out."]
    return said + [f"There are {others} left: {caution(others)}."] * (1 < others < FEW)


def _left_out(cell: dict[str, Any]) -> str:
    """Return what is to be said of images whose answer noise has changed."""
    changed = cell["answer_changed"]
    return f"; the answer itself was changed on {changed} of {cell['images']}, which are left out here" * (changed > 0)


def _everyday(method: dict[str, Any]) -> list[str]:
    natural, moved = in_place(method), method["natural"]["shift"]["topk_intersection"]["mean"]
    worst = min(natural, key=lambda change: _or(natural[change], 1))
    said = [
        f"Of what happens to pictures every day, {WORDS[worst]} moved it most, and left {_percent(natural[worst])}; "
        f"{WORDS['shift']}, with which one that follows the picture would move, left {_percent(moved)} where they were."
    ]
    changed = [
        f"by {WORDS[change]} on {cell['answer_changed']} of {cell['images']}"
        for change, cell in method["natural"].items()
        if cell["answer_changed"]
    ]
    if changed:
        said.append(f"The answer itself was changed {', '.join(changed)}; these are left out here.")
    return said


def _chance(chance: dict[str, Any]) -> list[str]:
    """Return what maps share that have nothing to do with each other, and what is left without what was learnt."""
    other, shuffled = (chance[kind]["topk_intersection"]["mean"] for kind in ("other", "shuffled"))
    said = []
    if other is not None:
        said.append(f"The explanations of two different images share {_percent(other)} on average: that is chance.")
    if shuffled is not None:
        means = (
            "the explanation shows the image more than what the network has learnt"
            if shuffled > 0.5
            else "the explanation depends, at least in part, on what the network has learnt"
        )
        said.append(f"With the network's weights shuffled, {_percent(shuffled)} is left: {means}.")
    return said


def _failure(found: dict[str, Any], budgets: Sequence[float]) -> str:
    least, most = _levels(min(budgets)), _levels(max(budgets))
    if not found["lost"]:
        return f"On no image did the top-k attack displace half of these pixels, even with {most}."
    lost = f"With at most {most}, the top-k attack displaced half of these pixels on {found['lost']} of "
    lost += f"{found['images']} image{'s' * (found['images'] > 1)}"
    if found["median"] is None:
        return f"{lost}; on most it took more than {most}."
    if found["median"] < min(budgets):
        return f"{lost}; on most it took less than {least}, the smallest change that was tried."
    said = f"{lost}; in the median it took {_levels(found['median'])}"
    if found["images"] == 1:
        return f"{said}."
    low, high = (f"more than {most}" if value is None else _levels(value) for value in (found["low"], found["high"]))
    return f"{said} (95 % interval from {low} to {high})."


def _levels(value: float) -> str:
    return f"{value:.2g} level{'s' * (f'{value:.2g}' != '1')}"


def _content(method: dict[str, Any]) -> str:
    """Return whether the map points at what the network uses."""
    down, up = method["deletion"]["difference"], method["insertion"]["difference"]
    if down["high"] is None or up["low"] is None:
        return "Whether it points at what the network uses could not be measured."
    removed, inserted = down["high"] < 0, up["low"] > 0
    if not (removed or inserted):
        return (
            "These images do not show that it points at pixels that matter to the network more than pixels drawn at "
            "random: even if it is steady, it may say little."
        )
    shown = {
        (True, True): "taking its pixels away lowers the network's confidence, and putting them into an empty image "
        "raises it, more than pixels drawn at random.",
        (True, False): "taking its pixels away lowers the network's confidence more than pixels drawn at random; "
        "putting them into an empty image did not show it.",
        (False, True): "putting its pixels into an empty image raises the network's confidence more than pixels drawn "
        "at random; taking them away did not show it.",
    }
    return f"It points at pixels that matter: {shown[removed, inserted]}"


def _share(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "nothing that could be measured"
    if found["low"] is None:
        return _percent(found["mean"])
    return f"{_percent(found['mean'])} (95 % interval from {_percent(found['low'])} to {_percent(found['high'])})"


def _percent(value: float | None) -> str:
    return "nothing measured" if value is None else f"{100 * value:.0f} %"


def _or(value: float | None, other: float) -> float:
    return other if value is None else value

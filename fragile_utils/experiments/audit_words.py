"""The numbers of an audit in words, for readers who sign and do not compute."""

from collections.abc import Sequence
from typing import Any

STEADY, LOST = 0.7, 0.3  # of the most salient pixels that are left
NOT_SAID = (
    "It does not say whether the network is right, or fit for its purpose: only how its explanations behave on these "
    "images.",
    "An explanation that stayed steady here may fall to another, stronger attack, or on other images: a search that "
    "finds nothing proves nothing.",
    "A fragile explanation need not be wrong, and a steady one need not be true: steadiness is necessary, not "
    "sufficient. Deletion and insertion say a little more, on average, and with their own weaknesses.",
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
    verdict = TOO_WEAK if weak else _verdict(kept["mean"])
    images = summary["images"]["audited"]
    said = [
        f"{name}: {verdict} On {images} image{'s' * (images > 1)}, no value of a pixel was changed by more than "
        f"{eps:g} of 255 levels, which is hard to see, and the network's answer stayed the same. Of the "
        f"{settings['k']:,} pixels that the explanation had marked as most important, an attack left "
        f"{_share(kept)} on average; on the worst image ({kept.get('worst_image', 'none')}) "
        f"{_percent(kept.get('worst'))}.",
        *_untouched(cells[attack]),
        f"Random noise of the same largest change left {_share(noise)}.",
    ]
    natural, moved = in_place(method), method["natural"]["shift"]["topk_intersection"]["mean"]
    worst = min(natural, key=lambda change: _or(natural[change], 1))
    said.append(
        f"What happens to pictures every day left {_percent(natural[worst])} or more ({WORDS[worst]} changed most); "
        f"{WORDS['shift']}, with which an explanation ought to move, left {_percent(moved)} where they were."
    )
    other = method["chance"]["other"]["topk_intersection"]["mean"]
    if other is not None:
        said.append(f"The explanations of two different images share {_percent(other)}: that is chance.")
    shuffled = method["chance"]["shuffled"]["topk_intersection"]["mean"]
    if shuffled is not None:
        said.append(
            f"With the network's weights shuffled, {_percent(shuffled)} remains"
            + (
                ": the explanation shows the image more than what the network has learnt."
                if shuffled > 0.5
                else ", so that the explanation depends on what the network has learnt."
            )
        )
    said.append(_failure(method["failure"]["topk"], max(settings["budgets"])))
    said.append(_content(method))
    return " ".join(said)


def budget_of_words(budgets: Sequence[float]) -> float:
    """Return the budget that words are about: 2 levels, or the nearest."""
    return min(budgets, key=lambda eps: abs(eps - 2))


def in_place(method: dict[str, Any]) -> dict[str, float | None]:
    """Return what everyday changes leave of the top pixels, but for a shift, with which a map ought to move."""
    return {
        change: cell["topk_intersection"]["mean"] for change, cell in method["natural"].items() if change != "shift"
    }


WORDS = {
    "jpeg": "compression with JPEG at quality 90",
    "shift": "a shift by one pixel",
    "brightness": "2 % more brightness",
    "resize": "making it smaller and large again",
}


def _verdict(kept: float | None) -> str:
    if kept is None:
        return "nothing could be measured."
    if kept >= STEADY:
        return "steady against the attacks that were tried."
    if kept <= LOST:
        return "not steady: someone who wants to can replace it while nothing else seems to change."
    return "partly steady: an attack replaces a good part of it."


TOO_WEAK = "not known: random noise moved it further than the attacks that were tried, which were too weak."


def _untouched(cell: dict[str, Any]) -> list[str]:
    """Return what is to be said of images on which the attack did not succeed."""
    if not cell["unchanged"]:
        return []
    return [f"On {cell['unchanged']} of {cell['images']} it found no way that kept the answer; there 100 % is counted."]


def _failure(found: dict[str, Any], largest: float) -> str:
    if not found["lost"]:
        return f"On no image did an attack of at most {largest:g} levels lose half of these pixels."
    lost = f"Half of these pixels were lost on {found['lost']} of {found['images']} images"
    if found["median"] is None:
        return f"{lost}; on most it took more than {largest:g} levels."
    bounds = [
        f"{value:.2g}" if value is not None else f"more than {largest:g}" for value in (found["low"], found["high"])
    ]
    return f"{lost}, in the median at {found['median']:.2g} levels (95 % interval from {bounds[0]} to {bounds[1]})."


def _content(method: dict[str, Any]) -> str:
    """Return whether the map points at what the network uses."""
    down, up = method["deletion"]["difference"], method["insertion"]["difference"]
    if down["high"] is None or up["low"] is None:
        return "Whether it points at what the network uses could not be measured."
    if down["high"] < 0 or up["low"] > 0:
        which = "taking its pixels away lowers" if down["high"] < 0 else "putting its pixels in raises"
        return f"It points at pixels that matter: {which} the network's confidence more than pixels drawn at random."
    return (
        "It does not point at pixels that matter to the network more than pixels drawn at random, on these images: "
        "even if it is steady, it says little."
    )


def _share(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "nothing that could be measured"
    return f"{_percent(found['mean'])} (95 % interval from {_percent(found['low'])} to {_percent(found['high'])})"


def _percent(value: float | None) -> str:
    return "nothing measured" if value is None else f"{100 * value:.0f} %"


def _or(value: float | None, other: float) -> float:
    return other if value is None else value

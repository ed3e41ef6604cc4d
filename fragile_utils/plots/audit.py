"""The report of an audit as one page of HTML that needs nothing but itself; and two reports side by side.

Every name that comes from a file, a class or a configuration is escaped where it enters the page.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fragile_utils.experiments.audit.words import FEW, SHOWS, WORDS, budget_of_words, caution, in_place
from fragile_utils.plots.curves import Curve, chart
from fragile_utils.plots.escaping import escaped

ATTACKS = {
    "topk": "top-k attack",
    "mass-center": "mass-centre attack",
    "random-sign": "noise of the same maximum",
}
MORE = ("rank correlation", "centre shift (pixels)")
NOISE = "noise of the same energy"
SEARCH = {"steps": "the number of steps", "step_size": "the size of a step", "patience": "patience"}
LEFT_OVER = "share of the top pixels that is left"


def page(summary: Mapping[str, Any], sliders: Mapping[str, str] = {}, of: str = "") -> str:
    """Return the report of an audit.

    Parameters
    ----------
    summary : mapping
        As `experiments.audit.summarise` returns it.
    sliders : mapping of str to str
        From "worst", "median" and "best" to the HTML of a slider.
    of : str
        Of which method the sliders are.
    """
    methods, order = summary["methods"], summary["order"]
    title = f"How fragile are the explanations of {summary['model']}?"
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f"<p>{escaped(_opening(summary))}</p>",
        *(f"<p>Not a whole audit: {escaped(' '.join(lines))}</p>" for lines in [summary.get("left_out")] if lines),
        "<h2>In short</h2>",
        _overview(summary),
        *(_section(name, methods[name], summary) for name in order),
    ]
    if sliders:
        parts.append("<h2>Worst, median and best image</h2>")
        parts.append(
            f"<p>Of {escaped(of)}, under the top-k attack: the slider sets how much of the image may change.</p>"
        )
        parts += [f"<h3>The {escaped(word)} image</h3>{slider}" for word, slider in sliders.items()]
    parts += [
        "<h2>What this report does not say</h2>",
        "<ul>" + "".join(f"<li>{escaped(line)}</li>" for line in summary["not_said"]) + "</ul>",
        "<h2>To repeat it</h2>",
        _repeat(summary),
    ]
    return document(title, "\n".join(parts))


def document(title: str, body: str) -> str:
    """Return a page with this body."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _opening(summary: Mapping[str, Any]) -> str:
    images, settings = summary["images"], summary["settings"]
    largest, unknown = max(settings["budgets"]), images["labelled"] < images["read"]
    known = images["labelled"] or "none" if unknown else "all"
    used = "that the network gets right" + ", or whose class is not known," * unknown
    return (
        f"{images['read']} images of {summary['data']} were read; the class of {known} of them is known. "
        f"{images['audited']} {used} were changed, so that it still names the same class. Measured is how much of each "
        f"explanation is left: of its {settings['k']:,} most important pixels, which share is still among the "
        f"{settings['k']:,} most important afterwards; 1 is all of them. Budgets are the largest change of any value "
        f"of a pixel, in levels of 255: here at most {largest:g}."
    )


def _overview(summary: Mapping[str, Any]) -> str:
    budgets = summary["settings"]["budgets"]
    eps = budget_of_words(budgets)
    rows = []
    for name in summary["order"]:
        method = summary["methods"][name]
        cells = _by_attack(method, eps)
        natural = in_place(method)
        rows.append(
            [
                name,
                *(_interval(cells[attack]) for attack in ATTACKS),
                _number(min((value for value in natural.values() if value is not None), default=None)),
                _number(method["chance"]["other"]["topk_intersection"]["mean"]),
                _budget(method["failure"]["topk"]["median"], budgets),
            ]
        )
    head = ["method", *ATTACKS.values(), "everyday changes in place, at worst", "chance", "half is lost at (levels)"]
    caption = f"What is left of the top pixels at {eps:g} levels: mean and 95 % interval; the steadiest method first."
    left_out = "".join(
        f"<p>{escaped(name)} does not apply to this network: {escaped(why)}</p>"
        for name, why in summary["refused"].items()
    )
    return _table(caption, head, rows) + left_out


def _section(name: str, method: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    budgets = summary["settings"]["budgets"]
    curves = []
    for attack, words in ATTACKS.items():
        cells = [_by_attack(method, eps)[attack] for eps in budgets]
        curves.append(Curve(words, *([cell[end] for cell in cells] for end in ("mean", "low", "high"))))
    noise = {cell["eps"]: cell["topk_intersection"] for cell in method["noise_rms"]}
    curves.append(Curve(NOISE, [noise[eps]["mean"] for eps in budgets]))
    chance = method["chance"]["other"]["topk_intersection"]["mean"]
    curves.append(Curve("chance", [chance] * len(budgets)))
    alt = f"{name}: {LEFT_OVER}, over budgets. " + "; ".join(
        f"{curve.name} {', '.join(map(_number, curve.values))}" for curve in curves
    )
    drawn = chart(budgets, curves, "budget, in levels of 255", LEFT_OVER, alt)
    return "\n".join(
        [
            f"<h2>{escaped(name)}</h2>",
            *(f"<p>What it shows: {words}.</p>" for words in [SHOWS.get(name.partition("(")[0])] if words),
            f"<p>{escaped(method['paragraph'])}</p>",
            f'<figure><div class="wide" tabindex="0" role="region" aria-label="chart of {escaped(name)}">{drawn}</div>'
            f"<figcaption>{escaped(name)}: {LEFT_OVER}; bands are 95 % intervals of the mean.</figcaption>"
            "</figure>",
            f"<details><summary>All numbers of {escaped(name)}</summary>",
            _all_cells(name, method),
            _natural(name, method),
            _failures(name, method, budgets),
            _controls(name, method),
            "</details>",
        ]
    )


def _all_cells(name: str, method: Mapping[str, Any]) -> str:
    rows = []
    for cell in method["cells"]:
        top = cell["topk_intersection"]
        rows.append(
            [
                ATTACKS[cell["attack"]],
                f"{cell['eps']:g}",
                _interval(top),
                _number(top["median"]),
                f"{_number(top.get('worst'))} ({top.get('worst_image', '')})",
                _number(cell["rank_correlation"]["mean"]),
                _number(cell["center_shift"]["mean"]),
                f"{cell['unchanged']} of {cell['images']}",
            ]
        )
    head = [
        "attack",
        "budget",
        "top pixels left",
        "median",
        "worst (image)",
        "rank correlation",
        "centre shift (pixels)",
    ]
    caption = (
        f"{name} under attack and noise. Images that an attack could not move count as unchanged; images whose answer "
        "noise has changed are left out."
    )
    return _table(caption, [*head, "not moved"], rows)


def _natural(name: str, method: Mapping[str, Any]) -> str:
    rows = [
        [
            WORDS[change],
            _interval(cell["topk_intersection"]),
            _number(cell["rank_correlation"]["mean"]),
            _number(cell["center_shift"]["mean"]),
            f"{cell['answer_changed']} of {cell['images']}",
        ]
        for change, cell in method["natural"].items()
    ]
    head = ["change", "top pixels left", *MORE, "answer changed"]
    return _table(f"{name} under everyday changes, of the images whose answer stays the same.", head, rows)


def _failures(name: str, method: Mapping[str, Any], budgets: Sequence[float]) -> str:
    rows = []
    for attack, words in (*ATTACKS.items(), ("noise_rms", NOISE)):
        found = method["failure"][attack]
        ends = ("median",) if found["images"] == 1 else ("median", "low", "high")
        median, *interval = (_budget(found[end], budgets) if found["images"] else "–" for end in ends)
        rows.append(
            [words, f"{found['lost']} of {found['images']}", median, " to ".join(dict.fromkeys(interval)) or "–"]
        )
    caption = f"{name}: the smallest budget, in levels, at which half of the top pixels are lost."
    return _table(caption, ["attack", "lost on", "median", "95 % interval"], rows)


def _controls(name: str, method: Mapping[str, Any]) -> str:
    chance = [
        [words, *(_number(method["chance"][kind][m]["mean"]) for m in ("topk_intersection", "rank_correlation"))]
        for kind, words in (("other", "the map of another image"), ("shuffled", "the map with weights shuffled"))
    ]
    content = [
        [
            kind,
            *(_number(method[kind][part]["mean"]) for part in ("map", "random")),
            _interval(method[kind]["difference"]),
        ]
        for kind in ("deletion", "insertion")
    ]
    return _table(
        f"{name} beside chance.", ["compared with", "top pixels shared", "rank correlation"], chance
    ) + _table(
        f"{name}: mean confidence while pixels are taken away (lower is better) or put in (higher is better).",
        ["measure", "in the order of the map", "in a random order", "difference"],
        content,
    )


def _repeat(summary: Mapping[str, Any]) -> str:
    facts = {
        "network": summary["network"],
        "SHA-256 of its parameters": summary["sha256"]["parameters"],
        "SHA-256 of the images": summary["sha256"]["pixels"],
        "hardware": summary["hardware"],
        "computed": summary["computed"],
        **{f"version of {name}": version for name, version in summary["versions"].items()},
        "seed": str(summary["settings"]["seed"]),
    }
    listed = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    settings = json.dumps(summary["settings"], indent=1)
    hashes = [[name, digest] for name, digest in summary["images_sha256"].items()]
    return (
        f"<dl>{listed}</dl><details><summary>Settings</summary><pre tabindex='0'>{escaped(settings)}</pre></details>"
        "<details><summary>Images</summary>"
        + _table("SHA-256 of the pixels of each image, as the network was shown it.", ["image", "SHA-256"], hashes)
        + "</details>"
    )


def compared(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]
) -> tuple[list[list[str]], str]:
    """Return the rows of two audits side by side, and a page of them: what is left at each budget both have.

    Raises
    ------
    ValueError
        If they have no method or no budget in common.
    """
    methods = [name for name in first["order"] if name in second["methods"]]
    budgets = [eps for eps in first["settings"]["budgets"] if eps in second["settings"]["budgets"]]
    if not methods or not budgets:
        raise ValueError("--compare: expected reports with a method and a budget in common, got none")
    rows = []
    for name in methods:
        for attack, words in ATTACKS.items():
            for eps in budgets:
                one, two = (_by_attack(report["methods"][name], eps)[attack] for report in (first, second))
                rows.append([name, words, f"{eps:g}", _interval(one), _interval(two), _steadier(one, two, names)])
    head = ["method", "attack", "budget", *names, "steadier"]
    title = f"{names[0]} beside {names[1]}"
    caption = f"{LEFT_OVER.capitalize()}: mean and 95 % interval."
    body = f"<h1>{escaped(title)}</h1><p>{escaped(remarks(first, second))}</p>"
    return [head, *rows], document(title, body + _table(caption, head, rows))


def remarks(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return what has to be known of two audits to read their rows side by side."""
    said = ["One is called steadier where the intervals do not overlap."]
    same = first["sha256"]["pixels"] == second["sha256"]["pixels"]
    said.append("Both are on the same images." if same else "They are on different images: differences may be theirs.")
    said += _few(first, second)
    if other := [words for name, words in SEARCH.items() if first["settings"][name] != second["settings"][name]]:
        said.append(f"They differ in {' and '.join(other)}: a shorter search finds less, and looks steadier.")
    return " ".join(said)


def _few(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return a caution for each number of images that is too small, with the methods whose rows rest on no more."""
    resting: dict[int, list[str]] = {}
    for name in (name for name in first["order"] if name in second["methods"]):
        cells = [cell for report in (first, second) for cell in report["methods"][name]["cells"]]
        resting.setdefault(min(cell["images"] for cell in cells), []).append(name)
    said = []
    for few in sorted(count for count in resting if count < FEW):
        of = f" for {', '.join(resting[few])}" * (len(resting) > 1)
        said.append(f"One is on {few} image{'s' * (few != 1)}{of}: {caution(few)}.")
    return said


def _steadier(one: Mapping[str, Any], two: Mapping[str, Any], names: tuple[str, str]) -> str:
    if None in (one["low"], two["low"]):  # nothing was measured, or on one image
        return "unknown"
    if one["low"] > two["high"]:
        return names[0]
    return names[1] if two["low"] > one["high"] else "neither"


# --- Pieces ----------------------------------------------------------------------------------------------------------


def _by_attack(method: Mapping[str, Any], eps: float) -> dict[str, Any]:
    return {cell["attack"]: cell["topk_intersection"] for cell in method["cells"] if cell["eps"] == eps}


def _interval(found: Mapping[str, Any]) -> str:
    if None in (found["mean"], found["low"]):
        return _number(found["mean"])
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _budget(found: float | None, budgets: Sequence[float]) -> str:
    """Return a budget at which half is lost, as far as budgets that were tried can say it."""
    if found is None:
        return f"more than {max(budgets):g}"
    return f"less than {min(budgets):g}" if found < min(budgets) else f"{found:.2g}"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escaped(caption)}"><table><caption><span>'
        f"{escaped(caption)}</span></caption><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


STYLE = """\
:root{color-scheme:light;--ink:#1b1b1b;--line:#767676}
body{margin:0;background:#fff;color:var(--ink);font:1rem/1.55 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.25}h2{margin-top:2.2rem;border-bottom:1px solid var(--line)}
.table{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;overflow-wrap:normal;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.3rem 0;font-weight:600}
caption span{position:sticky;left:0;display:inline-block;max-width:min(60rem,calc(100vw - 2rem))}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #ccc;vertical-align:top;min-width:4.5rem}
figure{margin:1rem 0}figcaption{font-size:.92rem}
.wide{overflow-x:auto}.chart{width:100%;min-width:34rem;max-width:46rem;height:auto;font:13px system-ui,sans-serif}
.chart text{fill:currentColor}.chart .grid{stroke:#ccc;stroke-width:1}
summary{cursor:pointer;padding:.4rem 0;font-weight:600}
dt{font-weight:600}dd{margin:0 0 .4rem 0;white-space:pre-wrap}
pre{overflow-x:auto;background:#f4f4f4;padding:.6rem}
@media print{details>*{display:block}details::details-content{content-visibility:visible;display:block}
figure,tr{break-inside:avoid}h2{break-after:avoid}body{font-size:10pt}}"""

"""`fragile audit` as a user meets it: the report, its exit status, two reports side by side, wrong input."""

import hashlib
import html.parser
import json
import re
import shutil

import browsing
import numpy as np
import pandas as pd
import pytest
import torch
from command_line import assert_refused
from PIL import Image

from fragile_utils import data, models
from fragile_utils.cli import audit
from fragile_utils.plots.curves import Curve, chart

NET = """
import torch
from networks import Tiny


def network():
    return torch.nn.Sequential(Tiny(), torch.nn.Softmax(1)).eval()
"""
UNSEEN = "\u202e\n\x1b[31m"  # a mark of direction, a line break, a code of terminals
HOSTILE = "<img src=x onerror=alert(1)>"
OPTIONS = (
    *("--model", "net.py:network", "--size", 16, "--classes", "names.txt", "--data", "images", "--out", "report"),
    *("--method", "gradient", "--method", "integrated-gradients:steps=3", "--images", 3, "--steps", 2),
    *("--step-size", 4, "--budgets", "1,2,8", "--k", 20, "--device", "cpu"),
)


def fill(folder):
    """A working folder with a network, names of classes and images, some of which have hostile names."""
    (folder / "net.py").write_text(NET)
    (folder / "names.txt").write_text("\n".join(f"{HOSTILE}{i}\u202e</b>" for i in range(5)), encoding="utf-8")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "'b&c", f"<script>alert(1)<!--{UNSEEN}"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / "images" / f"{name}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder, in which an audit was made."""
    from fragile_utils.cli import main

    place = tmp_path_factory.mktemp("place")
    fill(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        before = listed(place)
        assert main(["audit", *map(str, OPTIONS)]) == 0
        assert listed(place).items() >= before.items()
        new = {path for path in listed(place) if path not in before}
        assert all(path.startswith("report/") for path in new if "__pycache__" not in path)
    return place


def listed(folder):
    """The SHA-256 of each file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def page(place):
    return (place / "report" / "report.html").read_text(encoding="utf-8")


class Reader(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_needs_nothing_but_itself(here):
    reader = Reader(page(here))
    for tag, attributes in reader.elements:
        assert tag not in ("script", "link", "iframe", "object", "base"), tag
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in page(here)
    assert "http://" not in page(here)
    assert "https://" not in page(here)
    assert len(page(here)) < 3e6


def test_names_from_files_do_not_reach_the_page_unescaped(here):
    text = page(here)
    assert HOSTILE not in text
    assert "<script>alert" not in text
    reader = Reader(text)
    assert "<script>alert(1)<!--\\u202e\\n\\x1b[31m.png" in "".join(reader.words)
    assert re.search(re.escape(f"The network still says {HOSTILE}") + r"\d\\u202e</b> \(\d+%\)", "".join(reader.words))
    assert "\u202e" not in text
    assert "\x1b" not in text
    handlers = {attributes["oninput"] for _, attributes in reader.elements if "oninput" in attributes}
    assert len(handlers) == 1
    assert not any(name.startswith("on") and name != "oninput" for _, a in reader.elements for name in a)


def test_the_report_has_sliders_charts_tables_and_words(here):
    reader = Reader(page(here))
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("svg") == 2
    assert sum(a.get("type") == "range" for tag, a in reader.elements if tag == "input") == 3
    assert all(a.get("aria-label") for tag, a in reader.elements if tag == "svg")
    assert all(a.get("alt") for tag, a in reader.elements if tag == "img")
    assert ("html", {"lang": "en"}) in reader.elements
    words = " ".join(reader.words)
    for heading in ("In short", "What this report does not say", "To repeat it", "Worst, median and best image"):
        assert heading in words
    summary = json.loads((here / "report" / "summary.json").read_text())
    for method in summary["methods"].values():
        assert method["paragraph"] in words
    for digest in (*summary["sha256"].values(), *summary["images_sha256"].values()):
        assert digest in words
    assert "Not a whole audit: Not audited: input-x-gradient, deeplift" in words
    assert re.search(r"@media print\{", page(here))


@pytest.mark.parametrize("viewport", [browsing.PHONE, browsing.DESK], ids=["phone", "desk"])
def test_axe_finds_nothing_in_a_report_and_it_is_not_wider_than_a_phone(here, fragile, browser, viewport):
    assert fragile("audit", "--compare", "report", "report", "--out", "both")[0] == 0
    for path in (here / "report" / "report.html", here / "both" / "compare.html"):
        with browsing.watched(browser, path.as_uri(), viewport=viewport) as (tab, problems):
            tab.goto(path.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
            tab.evaluate(browsing.axe_script())
            found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert {rule["id"]: [node["html"][:200] for node in rule["nodes"]] for rule in found} == {}
            assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            right = tab.evaluate(
                "[...document.querySelectorAll('caption span')].map(part => part.getBoundingClientRect().right)"
            )
            assert 0 < max(right) <= viewport["width"]
        assert problems == []
    shutil.rmtree(here / "both")


def test_a_slider_is_moved_with_the_keyboard(here, browser):
    path = here / "report" / "report.html"
    with browsing.watched(browser, path.as_uri()) as (tab, problems):
        tab.goto(path.as_uri())
        first = tab.locator("output").first
        assert re.search(r"\b8 (of 255 )?levels", first.inner_text())
        while tab.evaluate("document.activeElement.type") != "range":
            tab.keyboard.press("Tab")
        for key, words in (("ArrowLeft", r"\b2 (of 255 )?levels"), ("Home", "^The original"), ("End", r"\b8 ")):
            tab.keyboard.press(key)
            assert re.search(words, first.inner_text())
    assert problems == []


BEYOND = """
[...document.querySelectorAll('svg.chart')].flatMap(svg => {
    const edge = svg.getBoundingClientRect()
    const outside = box => box.right > edge.right || box.left < edge.left || box.bottom > edge.bottom
    return [...svg.querySelectorAll('text')].filter(text => outside(text.getBoundingClientRect()))
}).map(text => text.textContent)
"""


def test_all_names_of_the_curves_lie_within_the_chart(here, browser):
    path = here / "report" / "report.html"
    with browsing.watched(browser, path.as_uri()) as (tab, _):
        tab.goto(path.as_uri())
        beyond = tab.evaluate(BEYOND)
    assert beyond == []


def test_on_paper_all_numbers_are_shown(here, browser):
    path = here / "report" / "report.html"
    with browsing.watched(browser, path.as_uri()) as (tab, _):
        tab.goto(path.as_uri())
        tab.emulate_media(media="print")
        assert tab.locator("table:visible").count() == tab.locator("table").count() > 3


def test_results_are_rows_of_attacks_and_of_natural_changes(here):
    table = pd.read_parquet(here / "report" / "results.parquet")
    assert set(table["attack"]) == {"topk", "mass-center", "random-sign", "jpeg", "shift", "brightness", "resize"}
    assert len(table) == 2 * 3 * (3 * 3 + 4)
    summary = json.loads((here / "report" / "summary.json").read_text())
    assert (summary["schema"], summary["images"]["audited"]) == ("fragile-audit/2", 3)


def test_the_same_command_gives_the_same_report(here, fragile):
    before = {name: digest for name, digest in listed(here).items() if not name.endswith(".pyc")}
    status, out, err = fragile("audit", *OPTIONS)
    assert (status, err) == (0, "")
    assert "expected time" in out
    assert {name: digest for name, digest in listed(here).items() if not name.endswith(".pyc")} == before


def test_a_report_whose_parts_are_lost_is_completed(here, fragile, tmp_path):
    shutil.copytree(here, tmp_path / "copy")
    expected = (here / "report" / "summary.json").read_text()
    shards = sorted((tmp_path / "copy" / "report" / "work" / "attacks" / "shards").iterdir())
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    (tmp_path / "copy" / "report" / "work" / "controls" / "00.parquet").write_text("damaged")
    whole = page(tmp_path / "copy")
    (tmp_path / "copy" / "report" / "report.html").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "copy")
        status, _, err = fragile("audit", *OPTIONS)
    assert (status, "damaged and computed again" in err) == (0, True)
    found, before = json.loads((tmp_path / "copy" / "report" / "summary.json").read_text()), json.loads(expected)
    assert page(tmp_path / "copy") == whole.replace(before["computed"], found["computed"])
    for summary in (found, before):
        del summary["computed"]
    assert found == before


def test_what_a_network_prints_is_no_part_of_the_summary(fragile, tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET.replace("    return", "    print('Loaded!')\n    return"))
    status, out, err = fragile("audit", *OPTIONS, "--json")
    assert (status, json.loads(out)["schema"]) == (0, "fragile-audit/2")
    assert "Loaded!" in err


def test_a_condition_that_is_not_met_is_exit_status_3(here, fragile):
    assert fragile("audit", *OPTIONS, "--fail-below", "topk_intersection=0.0@2")[0] == 0
    status, _, err = fragile("audit", *OPTIONS, "--fail-below", "topk_intersection=0.999@8")
    assert status == audit.BELOW == 3
    assert "fragile: gradient under topk at " in err
    assert "fragile: integrated-gradients under random-sign at 8 levels: topk_intersection" in err
    status, _, err = fragile("audit", *OPTIONS, "--fail-below", "topk_intersection=1@jpeg")
    assert status == 3
    assert "fragile: gradient under jpeg: topk_intersection" in err


def test_two_reports_are_set_side_by_side(here, fragile, tmp_path):
    shutil.copytree(here / "report", tmp_path / "after<b>")
    path = tmp_path / "after<b>" / "summary.json"
    summary = json.loads(path.read_text())
    for cell in summary["methods"]["gradient"]["cells"]:
        cell["topk_intersection"] |= {"mean": 1.0, "low": 1.0, "high": 1.0}
    path.write_text(json.dumps(summary))
    status, out, _ = fragile("audit", "--compare", "report", tmp_path / "after<b>", "--out", tmp_path / "both")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("gradient ") and "top-k attack" in line]
    assert lines[-1].endswith("after<b>")
    text = (tmp_path / "both" / "compare.html").read_text()
    assert "after&lt;b&gt;" in text
    assert "<b>" not in text
    for told in (out, text):
        assert "Both are on the same images. One is on 3 images: intervals from so few tend to be too narrow." in told
        assert "They differ" not in told
    summary["sha256"]["pixels"], summary["settings"]["steps"] = "0" * 64, 50
    path.write_text(json.dumps(summary))
    _, out, _ = fragile("audit", "--compare", "report", tmp_path / "after<b>")
    assert "They are on different images" in out
    assert "They differ in the number of steps: a shorter search finds less, and looks steadier." in out


def test_images_of_one_name_in_two_folders_are_two(fragile, tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    for folder, source in (("cat", "a.png"), ("dog", "'b&c.png")):
        (tmp_path / "images" / folder).mkdir()
        (tmp_path / "images" / source).rename(tmp_path / "images" / folder / "a.png")
    assert fragile("audit", *OPTIONS)[0] == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert {"cat/a.png", "dog/a.png"} < set(summary["images_sha256"])
    assert len(summary["images_sha256"]) == summary["images"]["audited"] == 3
    assert "the class of none of them is known" in " ".join(Reader(page(tmp_path)).words)


def test_budgets_are_in_order_whatever_the_order_in_which_they_are_given(here, fragile):
    options = [text if text != "1,2,8" else "8,1,2" for text in OPTIONS]
    assert fragile("audit", *options)[0] == 0  # in the folder of the same audit: nothing differs


def test_the_plan_alone_computes_nothing(here, fragile):
    network = ("--model", "net.py:network", "--size", 16)
    status, out, _ = fragile("audit", *network, "--data", "images", "--quick", "--plan")
    assert status == 0
    assert "3 images of images (3 read, none with a class: what the network answers counts as right), k" in out
    assert "grad-cam: about" in out


BAD = {
    "no out": (["--out", None], "expected --out REPORT"),
    "no such data": (["--data", "none"], "no such file or folder: none"),
    "no such network": (["--model", "none.py:net"], "no such file: none.py"),
    "onnx": (["--model", "net.onnx"], "ONNX holds no network"),
    "no method": (["--method", "tea-leaves"], "--method: expected one of gradient"),
    "an option": (["--method", "gradient:steps=3"], "--method: gradient: unknown option 'steps'"),
    "no images": (["--images", 0], "--images: expected a whole number from 1 to"),
    "k": (["--k", 500], "--k: expected at most 255"),
    "all pixels": (["--k", 256], "--k: expected at most 255, less than the pixels of an image, got 256"),
    "a scheduler": (["--scheduler", "local:0"], "--scheduler: local:N: expected a whole number from 1 to 256"),
    "a budget that rounding swallows": (["--budgets", "1e-300"], "a type that resolves the budget"),
    "a budget": (["--budgets", "0,1"], "--budgets: expected a number above 0"),
    "a condition": (["--fail-below", "topk=1@2"], "--fail-below: expected MEASURE=NUMBER@PLACE"),
    "another budget": (
        ["--fail-below", "topk_intersection=1@3"],
        "--fail-below: expected a budget of the audit",
    ),
    "a file": (["--out", "names.txt"], "--out: expected a folder, got the file names.txt"),
    "another folder": (["--out", "images"], "--out: expected a new folder, or that of an audit"),
    "too few names": (["--classes", "few.txt"], "--model: net.py:network: classes: expected 5 names, got 1"),
    "below a file": (["--out", "names.txt/report"], "--out: expected a folder, got the file "),
    "a budget twice": (["--budgets", "2,2"], "--budgets: expected each once"),
    "no such function": (["--model", "net.py:none"], "--model: cannot find net.py:none; in net.py are 'network'"),
    "a device": (["--device", "abacus"], "--device: 'abacus' is not available here"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_line_and_nothing_is_written(case, fragile, tmp_path, monkeypatch):
    fill(tmp_path)
    (tmp_path / "few.txt").write_text("cat\n")
    monkeypatch.chdir(tmp_path)
    (name, value), message = BAD[case]
    options = list(OPTIONS)
    while name in options:
        at = options.index(name)
        del options[at : at + 2]
    before = {*listed(tmp_path)}
    assert_refused(fragile("audit", *options, *([] if value is None else [name, value])), message)
    assert {path for path in listed(tmp_path) if "__pycache__" not in path} == before


def test_options_of_an_audit_are_refused_where_two_are_compared(here, fragile):
    flags = ["--json"], ["--plan"], ["--quick"], ["--trust"]
    numbers = (["--images", 3], ["--steps", 0], ["--budgets", "1,2"], ["--k", 5], ["--seed", 1], ["--batch-size", 2])
    names = ["--model", "cifar10"], ["--data", "images"], ["--method", "gradient"], ["--device", "cpu"]
    for options in (["--fail-below", "topk_intersection=1@2"], *flags, *numbers, *names):
        outcome = fragile("audit", "--compare", "report", "report", *options)
        assert_refused(outcome, f"{options[0]}: this does not apply where --compare is given; leave it out")


def test_a_plan_is_for_people(here, fragile):
    outcome = fragile("audit", *OPTIONS, "--plan", "--json")
    assert_refused(outcome, "--json: this does not apply where --plan is given; leave it out")


def test_a_summary_that_was_changed_is_refused_and_not_compared(here, fragile, tmp_path):
    summary = json.loads((here / "report" / "summary.json").read_text())
    for change in (
        {"methods": {}},
        {"methods": {"gradient": {}}},
        {"settings": {}},
        {"settings": []},
        {"order": 3},
        {"sha256": 4},
    ):
        (tmp_path / "summary.json").write_text(json.dumps(summary | change))
        outcome = fragile("audit", "--compare", "report", tmp_path)
        assert_refused(outcome, f"{tmp_path}/summary.json: these are not the numbers of a report: ")


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "fragile-audit/1"}', None])
def test_what_is_no_report_cannot_be_compared(content, fragile, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "summary.json").write_text(content)
    assert_refused(fragile("audit", "--compare", tmp_path / "a", tmp_path / "b"), "summary.json")


def test_a_chart_leaves_out_what_is_not_known():
    drawn = chart([1, 2, 4], [Curve("<a>", [0.5, None, 0.25]), Curve("b", [None] * 3)], "x", "y", "alt")
    assert drawn.count("<circle") == 2
    assert "&lt;a&gt;" in drawn
    assert ">b<" not in drawn


def turned(model, images):
    """By which share of itself the gradient (N,) changes with random signs of one level, by autograd alone."""

    def gradient(x):
        x = x.clone().requires_grad_()
        scores = model(x)
        return torch.autograd.grad(scores.amax(1).sum(), x)[0].flatten(1)

    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).sub(0.5).sign() / 255
    here, beside = gradient(images), gradient(images + noise)
    return (beside - here).norm(dim=1) / here.norm(dim=1)


@pytest.mark.slow
def test_of_two_networks_the_one_that_was_trained_for_steady_maps_is_called_steadier(fragile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, curvature = (models.cifar10_trained(name) for name in ("plain", "curvature"))
    batch = data.cifar10_samples().correct(plain)
    batch = batch.correct(curvature)[:8]
    assert len(batch) == 8
    assert (turned(curvature, batch.images) < 0.7 * turned(plain, batch.images)).all()
    (tmp_path / "images").mkdir()
    for name, image in zip(batch.names, batch.images, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    how = ("--data", "images", "--method", "gradient", "--images", 8, "--steps", 20, "--step-size", 1, "--budgets", 2)
    for name in ("plain", "curvature"):
        assert fragile("audit", "--model", f"cifar10-{name}", *how, "--out", name)[0] == 0
    status, out, _ = fragile("audit", "--compare", "plain", "curvature")
    assert status == 0
    assert "Both are on the same images." in out
    verdicts = {line[10:35].strip(): line.split()[-1] for line in out.splitlines() if line.startswith("gradient")}
    assert verdicts["top-k attack"] == "curvature"
    assert "plain" not in verdicts.values()

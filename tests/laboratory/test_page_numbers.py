"""Golden: what the browser computes at each step is what the package computes, each step from Python's iterate."""

import base64
import re

import browsing
import numpy as np
import pytest
import torch
from written import METHODS, large, small

from fragile_utils import attacks, laboratory, metrics, models, saliency
from fragile_utils.attacks import LEVEL, MapProblem, regions
from fragile_utils.attacks.base import confidence

EPS, STEPS = 8 * LEVEL, 5
SIGNS, RELATIVE, PIXELS, MEASURE = 0.995, 5e-3, 0.05, 1e-4  # bounds: share of equal pixels, of D, of the centre's D

RUN = """async ({ network, method, graph, image, original, reference, label, eps, stepSize }) => {
    const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
    const text = (values) => { let all = '';
        const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
        for (let i = 0; i < bytes.length; i += 4096) all += String.fromCharCode(...bytes.subarray(i, i + 4096));
        return btoa(all) };
    const { Engine } = await import('/js/engine.js');
    const measures = await import('/js/measures.js');
    const manifest = globalThis.manifest ??= await (await fetch('/models/manifest.json')).json();
    const found = manifest.networks.find(({ name }) => name === network);
    const engine = globalThis.engine ??= new Engine();
    await engine.open(found, found.methods.find(({ name }) => name === method));
    const { size, k } = engine.method, x0 = floats(original);
    const first = await engine.explain(x0);
    const given = { image: floats(image), original: x0, reference: floats(reference) };
    const y = await engine.step(graph, { ...given, label, eps, stepSize });
    const pair = [first.map, y.map];
    return { next: text(y.next), first: text(first.map), map: text(y.map), logits: text(y.logits), d: y.d,
        label: first.label, k,
        intersection: measures.intersection(...pair.map((map) => measures.topMask(map, k)), k),
        correlation: measures.correlation(...pair.map(measures.ranks)),
        shift: measures.shift(...pair.map((map) => measures.centre(map, size))) };
}"""


def sent(values):
    return base64.b64encode(np.ascontiguousarray(values.detach().float().numpy()).tobytes()).decode()


def received(text, *shape):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), np.float32).copy()).view(*shape)


def region(side):
    return regions.rectangle(side, side, top=side // 2, left=side // 2, bottom=side - 2, right=side - 2)


AIMS = {  # the graph, the attack, and the reference that the page hands to the graph
    "topk": ("topk", lambda side, k: attacks.TopK(k), lambda reference: reference),
    "centre": ("centre", lambda side, k: attacks.MassCenter(), lambda reference: reference),
    "targeted": ("topk", lambda side, k: attacks.Targeted(region(side)), lambda reference: -reference.float()),
}


@pytest.fixture(scope="module")
def browser():
    with browsing.chromium() as browser:
        yield browser


def agree(tab, network, name, aim, examples=slice(3)):
    """Take five steps on some examples in Python, each again in the browser, and compare."""
    method, model, images = METHODS[name], network.model, network.examples.images[examples]
    side, labels = images.shape[-1], network.examples.labels[examples]
    graph, make, as_sent = AIMS[aim]
    attack = make(side, metrics.default_k(side, side))
    for original, label in zip(images[:, None], labels[:, None], strict=True):
        maps = saliency.normalize(method.explain(model, original, label)[0]).detach()
        problem = MapProblem(
            images=original,
            labels=label,
            eps=EPS,
            seeds=(0,),
            attack=attack,
            model=model,
            surrogate=models.softplus_surrogate(model),
            method=method,
            guide=method.guide(),
            reference=attack.reference(maps),
        )
        x = original
        for _ in range(STEPS):
            outcome, _ = problem.evaluate(x)
            following = problem.clip(x + LEVEL * problem.direction(x))
            given = {"image": sent(x), "original": sent(original), "reference": sent(as_sent(problem.reference))}
            given |= {"network": network.name, "method": name, "graph": graph, "label": label.item()}
            found = tab.evaluate(RUN, {**given, "eps": EPS, "stepSize": LEVEL})
            first, now = (received(found[what], 1, side, side) for what in ("first", "map"))
            equal = (received(found["next"], *x.shape) - following).abs() < LEVEL / 10
            assert equal.float().mean() >= SIGNS
            bound = PIXELS if aim == "centre" else RELATIVE * abs(outcome.dissimilarity.item())
            assert found["d"] == pytest.approx(outcome.dissimilarity.item(), abs=bound)
            assert found["label"] == label
            assert (now - outcome.explanation).abs().sum() < RELATIVE, "of a map whose sum is 1"
            assert (first - maps).abs().sum() < RELATIVE
            logits = received(found["logits"], 1, -1)
            assert logits.argmax(1) == outcome.labels
            assert confidence(logits, label) == pytest.approx(outcome.confidence, abs=1e-3)
            measures = metrics.compare(first, now, found["k"]).iloc[0]
            assert found["intersection"] == pytest.approx(measures.topk_intersection, abs=MEASURE)
            assert found["correlation"] == pytest.approx(measures.rank_correlation, abs=MEASURE)
            assert found["shift"] == pytest.approx(measures.center_shift, abs=MEASURE * side)
            x = following


@pytest.fixture(scope="module")
def small_tab(browser, tmp_path_factory):
    network, folder = small(*METHODS), tmp_path_factory.mktemp("small") / "laboratory"
    laboratory.write(folder, [network])
    with browsing.served(folder) as site, browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        yield tab, network
        assert problems == []


@pytest.fixture(scope="module")
def large_site(tmp_path_factory):
    network, folder = large(*METHODS), tmp_path_factory.mktemp("large") / "laboratory"
    laboratory.write(folder, [network])
    with browsing.served(folder) as site:
        yield site, network


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("method", METHODS)
def test_each_step_on_the_small_network_is_that_of_the_package(small_tab, method, aim):
    agree(*small_tab, method, aim)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "aim"), enumerate(AIMS), ids=AIMS)  # an image for each aim
@pytest.mark.parametrize("method", METHODS)
def test_each_step_on_squeezenet_is_that_of_the_package(browser, large_site, method, place, aim):
    site, network = large_site
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        agree(tab, network, method, aim, slice(place, place + 1))
        assert problems == []


@pytest.mark.slow
def test_twenty_steps_empty_the_top_of_the_chairs_and_keep_the_label(browser, large_site):
    site, _ = large_site
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        tab.locator("#start").click()
        tab.locator("#play").click(timeout=60_000)
        status = tab.locator("#status")
        status.filter(has_text=re.compile("^After 20 steps")).wait_for(timeout=240_000)
        assert "still says “folding chair”" in status.inner_text()
        assert "more than 8 levels" in status.inner_text()
        best = tab.locator("#rows tr").filter(has_text="best that keeps").locator("td").all_inner_texts()
        assert best[0].startswith("folding chair")
        share = 0.5 if best[2].startswith("<") else float(best[2].split()[0])  # in percent
        assert share < 10
        assert problems == []

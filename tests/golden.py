"""What the browser computes at each step beside what the package computes, each step from Python's own iterate."""

import base64

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fragile_utils import attacks, data, metrics, models, saliency
from fragile_utils.attacks import LEVEL, MapProblem, regions
from fragile_utils.attacks.base import confidence

EPS, STEPS = 8 * LEVEL, 5
SIGNS, RELATIVE, PIXELS, MEASURE = 0.995, 5e-3, 0.05, 1e-4  # bounds: share of equal pixels, of D, of the centre's D

RUN = """async ({ runtime, network, method, graph, image, original, reference, label, eps, stepSize }) => {
    const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
    const text = (values) => { let all = '';
        const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
        for (let i = 0; i < bytes.length; i += 4096) all += String.fromCharCode(...bytes.subarray(i, i + 4096));
        return btoa(all) };
    const { Engine, [runtime]: made } = await import('/js/engine.js');
    const measures = await import('/js/measures.js');
    const manifest = globalThis.manifest ??= await (await fetch('/models/manifest.json')).json();
    const found = manifest.networks.find(({ name }) => name === network);
    const engine = globalThis.engine ??= new Engine(made);
    await engine.open(found, found.methods.find(({ name }) => name === method));
    const { size, k } = engine.method, x0 = floats(original);
    const of = [network, method, original].join(); // explained once for all steps that set out from it
    if (globalThis.explained?.of !== of) globalThis.explained = { of, ...await engine.explain(x0) };
    const first = globalThis.explained;
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


def most_in_a_square(marks, side):
    """How many of the marks (1, 3, H, W) stand in the square of an image that has most of them."""
    return F.avg_pool2d(marks.sum(1, keepdim=True), side, stride=1, padding=side // 2, divisor_override=1).max()


AIMS = {  # the graph, the attack, and the reference that the page hands to the graph
    "topk": ("topk", lambda side, k: attacks.TopK(k), lambda reference: reference),
    "centre": ("centre", lambda side, k: attacks.MassCenter(), lambda reference: reference),
    "targeted": ("topk", lambda side, k: attacks.Targeted(region(side)), lambda reference: -reference.float()),
}


def agree(tab, network, name, aim, runtime="WASM", pictures=3, but=0):
    """Take five steps on each of the first images in Python, each again in the browser, and compare.

    Signs may differ in one square of an image, of `but` pixels a side, besides those that may differ anywhere.
    """
    (explanation,) = (one for one in network.methods if one.name == name)
    method, model, images = explanation.method, network.model, network.examples.images[:pictures]
    side, labels = explanation.size or images.shape[-1], network.examples.labels[:pictures]
    if side != images.shape[-1]:
        images = F.interpolate(images, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        labels = data.predict(model, images)
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
            given |= {
                "runtime": runtime,
                "network": network.name,
                "method": name,
                "graph": graph,
                "label": label.item(),
            }
            found = tab.evaluate(RUN, {**given, "eps": EPS, "stepSize": LEVEL})
            first, now = (received(found[what], 1, side, side) for what in ("first", "map"))
            other = ((received(found["next"], *x.shape) - following).abs() >= LEVEL / 10).float()
            assert other.mean() - (most_in_a_square(other, but) / x.numel() if but else 0) <= 1 - SIGNS
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

"""The best of several runs."""

import pytest
import torch
from networks import Tiny
from small_attacks import GRADIENT, attack

from fragile_utils import attacks, defences
from fragile_utils.defences import ExpectationOverTransformation, Transfer, best_of, run_restarts
from fragile_utils.saliency import InputXGradient, SmoothGrad

OPTIONS = {"eps": 0.05, "steps": 8, "step_size": 0.01, "beta": 8.0}


def test_each_image_has_its_best_start(tiny, tiny_batch):
    images, labels = tiny_batch
    labels = labels.clone()
    labels[2] = (labels[2] + 1) % 5  # cannot be attacked
    given = (attacks.TopK(20), tiny, images, labels, GRADIENT)
    best = run_restarts(*given, restarts=3, seed=4, **OPTIONS)
    apart = defences.restarts.APART
    runs = [attacks.run(*given, seed=4 + apart * r, random_start=r > 0, **OPTIONS) for r in range(3)]
    for i in range(len(images)):
        number = max(range(3), key=lambda r: (runs[r].success[i].item(), runs[r].dissimilarity[i].item()))
        number = number if any(run.success[i] for run in runs) else 0
        assert best.chosen[i] == number
        for name in ("images", "maps", "labels_after", "confidence", "dissimilarity", "iteration"):
            assert torch.equal(getattr(best, name)[i], getattr(runs[number], name)[i])
        assert best.reasons[i] == runs[number].reasons[i]
        assert torch.equal(best.curve[:, i].nan_to_num(-9), runs[number].curve[:, i].nan_to_num(-9))
    assert len({*best.chosen.tolist()}) > 1
    assert list(best.compare(20).success) == best.success.tolist()


def test_more_starts_are_never_worse(tiny, tiny_batch):
    found = [
        run_restarts(attacks.TopK(20), tiny, *tiny_batch, GRADIENT, restarts=r, **OPTIONS).dissimilarity
        for r in (1, 2, 4)
    ]
    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    assert (found[0] < found[2]).any()


def test_a_first_run_that_is_known_is_not_repeated(tiny, tiny_batch):
    given = (attacks.TopK(20), tiny, *tiny_batch, GRADIENT)
    first = attacks.run(*given, **OPTIONS)
    whole, rest = (run_restarts(*given, restarts=2, first=known, **OPTIONS) for known in (None, first))
    assert torch.equal(whole.images, rest.images)
    assert run_restarts(*given, restarts=1, first=first, **OPTIONS).images is not None


def test_an_attack_with_a_seed_of_its_own_gets_another_in_each_start(tiny, tiny_batch):
    climbed = ExpectationOverTransformation(attacks.TopK(20), samples=2, seed=1)
    best = run_restarts(climbed, tiny, *tiny_batch, SmoothGrad(samples=2), restarts=2, **OPTIONS)
    assert best.attack == climbed
    second = ExpectationOverTransformation(attacks.TopK(20), samples=2, seed=1 + defences.restarts.APART)
    assert defences.restarts._seeded(climbed, lambda seed: seed + defences.restarts.APART) == second


def test_curves_of_different_lengths_are_filled_up(tiny, tiny_batch):
    results = [attack("topk", tiny, *tiny_batch, steps=steps) for steps in (3, 5)]
    best = best_of(results)
    assert best.curve.shape == (5, 6)
    assert torch.equal(best.dissimilarity, results[0].dissimilarity.maximum(results[1].dissimilarity))


def test_results_of_others_are_refused(tiny, tiny_batch):
    first = attack("topk", tiny, *tiny_batch)
    with pytest.raises(ValueError, match="results: expected those of the same images"):
        best_of([first, attack("topk", tiny, tiny_batch[0] * 0.5, tiny_batch[1])])
    other = attacks.run(attacks.TopK(20), tiny, *tiny_batch, InputXGradient(), **OPTIONS)
    with pytest.raises(ValueError, match="and method"):
        best_of([first, other])
    with pytest.raises(ValueError, match="expected at least one, got none"):
        best_of([])
    with pytest.raises(ValueError, match="restarts: expected a whole number"):
        run_restarts(attacks.TopK(20), tiny, *tiny_batch, GRADIENT, restarts=0, **OPTIONS)


def test_what_cannot_be_compared_has_no_best(tiny, tiny_batch):
    """D of another attack is another number, and a larger budget is no better attack."""
    given = (tiny, *tiny_batch, GRADIENT)
    first = attacks.run(attacks.TopK(20), *given, **OPTIONS)
    center = attacks.run(attacks.MassCenter(), *given, **OPTIONS)
    wider = attacks.run(attacks.TopK(20), *given, **OPTIONS | {"eps": 0.1})
    with pytest.raises(ValueError, match=r"expected those of one attack, got TopK\(k=20\) and MassCenter\(\)"):
        best_of([first, center])
    with pytest.raises(ValueError, match=r"expected those of one budget, got 0.05 and 0.1"):
        best_of([first, wider])
    with pytest.raises(ValueError, match=r"first: expected a result of TopK\(k=20\), got one of MassCenter\(\)"):
        run_restarts(attacks.TopK(20), *given, restarts=2, first=center, **OPTIONS)
    with pytest.raises(ValueError, match=r"expected those of one budget"):
        run_restarts(attacks.TopK(20), *given, restarts=2, first=wider, **OPTIONS)
    noisy = (tiny, *tiny_batch, SmoothGrad(samples=2))
    runs = [
        attacks.run(ExpectationOverTransformation(attacks.TopK(20), 2, seed), *noisy, seed=seed, **OPTIONS)
        for seed in (0, 1)
    ]
    assert len(best_of(runs).chosen) == len(tiny_batch[0])  # seeds may differ


def test_an_attack_from_elsewhere_begins_again(tiny, tiny_batch):
    """It makes a surrogate of its own each time, and is the same attack."""
    given = (tiny, *tiny_batch, GRADIENT)
    elsewhere = Transfer(attacks.TopK(20), model=Tiny(1).eval().requires_grad_(False))
    assert elsewhere == Transfer(attacks.TopK(20), model=elsewhere.model)
    assert elsewhere != Transfer(attacks.TopK(20), model=Tiny(2).eval())
    best = run_restarts(elsewhere, *given, restarts=2, **OPTIONS)
    assert best.success.any()
    assert len(best_of([attacks.run(elsewhere, *given, **OPTIONS), best]).chosen) == len(tiny_batch[0])

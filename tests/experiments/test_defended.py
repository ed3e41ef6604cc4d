"""One protocol for all defences, on a small network."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from networks import Tiny

from fragile_utils import attacks, defences, metrics
from fragile_utils.data import Batch
from fragile_utils.defences import Aggregate, Defence, SoftplusExplanation, sparsified_smoothgrad
from fragile_utils.experiments import Protocol, budget_to_failure, compare_defences, evaluate_defence, paired_difference
from fragile_utils.saliency import DeepLift, Gradient, InputXGradient, SmoothGrad

PROTOCOL = Protocol(
    objective=attacks.TopK(20),
    k=20,
    budgets=(4 / 255, 16 / 255),
    steps=8,
    step_size=3 / 255,
    restarts=2,
    draws=3,
    more_steps=(2, 8),
    batch_size=4,
)


class WithBeta(Tiny):
    """The network, with the sharpness of its surrogate."""

    beta = 8.0


def setting(count=6):
    with torch.random.fork_rng():
        model = WithBeta().eval().requires_grad_(False)
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return model, Batch(images, model(images).argmax(1))


@pytest.fixture(scope="module")
def smoothed():
    model, batch = setting()
    defence = Defence("smoothgrad", model, SmoothGrad(samples=4, sigma=0.1))
    return defence, batch, evaluate_defence(defence, batch, PROTOCOL)


def test_all_attack_and_the_worst_is_kept(smoothed):
    _, batch, found = smoothed
    table = found.table
    names = {"non-adaptive", "transfer", "adaptive", "restarts", "noise of equal maximum", "noise of equal RMS"}
    assert {*table["attack"]} == names | {"worst"}
    assert (table.groupby(["attack", "eps"]).size() == len(batch)).all()
    for (_, _), rows in table.groupby(["eps", "index"]):
        worst, others = rows[rows["attack"] == "worst"].iloc[0], rows[rows["attack"] != "worst"]
        successes = others[others["success"]]
        assert worst["success"] == (len(successes) > 0)
        if len(successes):
            assert worst["topk_intersection"] == successes["topk_intersection"].min()
            assert worst["topk_intersection"] == others.set_index("attack").loc[worst["by"], "topk_intersection"]
    failed = table[~table["success"]]
    assert (failed["topk_intersection"] == 1).all()
    assert (failed["rms"] == 0).all()


def test_budgets_are_kept_and_noise_has_the_size_it_says(smoothed):
    _, _, found = smoothed
    table = found.table
    assert (table["linf"] <= table["eps"] * (1 + 1e-5)).all()
    by = table[table["success"]].set_index(["eps", "index", "attack"])["rms"].unstack()
    both = by[["restarts", "noise of equal RMS"]].dropna()
    assert len(both) > 3
    np.testing.assert_allclose(both["restarts"], both["noise of equal RMS"], rtol=1e-4)


def test_paired_differences_are_those_of_each_image(smoothed):
    _, _, found = smoothed
    got = paired_difference(found.table).set_index("eps")
    for eps, rows in found.table.groupby("eps"):
        by = rows.set_index(["attack", "index"])["topk_intersection"]
        difference = by["worst"] - by["non-adaptive"]
        assert got.loc[eps, "mean"] == pytest.approx(difference.mean())
        assert (difference <= 1e-12).all()
        assert got.loc[eps, "low"] <= got.loc[eps, "mean"] <= got.loc[eps, "high"]
    with pytest.raises(ValueError, match="attack: expected one of"):
        paired_difference(found.table, "prayer")
    with pytest.raises(ValueError, match=r"measure: expected one of topk_intersection, .*, got 'size'"):
        paired_difference(found.table, measure="size")


def test_what_is_judged_is_the_displayed_explanation_with_noise_held_out(smoothed):
    defence, batch, found = smoothed
    attack = defences.ExpectationOverTransformation(attacks.TopK(20))
    method = defences.redraw(defence.method, defences.defence.ATTACKER)
    rows = found.table[(found.table["attack"] == "adaptive") & (found.table["eps"] == 16)].set_index("index")
    for start in (0, 4):
        part = batch[start : start + 4]
        options = {"eps": 16 / 255, "steps": 8, "step_size": 3 / 255, "seed": start}
        result = attacks.run(attack, defence.model, part.images, part.labels, method, **options)
        values = [
            metrics.topk_intersection(*(shown(defence.model, x, part.labels) for x in (part.images, result.images)), 20)
            for shown in defences.held_out(defence.method, 3)
        ]
        expected = torch.where(result.success, torch.stack(values).double().mean(0), 1.0)
        assert rows["topk_intersection"][start : start + 4].tolist() == pytest.approx(expected.tolist())


def test_failure_is_the_median_budget_and_its_errors(smoothed):
    _, _, found = smoothed
    budgets = budget_to_failure(found.table)
    for row in found.failure.itertuples():
        values = budgets.xs(row.attack, level="attack")
        assert row.median == np.median(values)
        assert row.never == np.isinf(values).mean()
        assert row.monte_carlo_low <= row.median <= row.monte_carlo_high
    assert (found.failure["monte_carlo_low"] < found.failure["monte_carlo_high"]).any()
    assert found.failure["attack"].iloc[-1] == "worst"


def test_the_same_seed_gives_the_same_table():
    model, batch = setting(3)
    defence = Defence("smoothgrad", model, SmoothGrad(samples=4, sigma=0.1))
    few = replace(PROTOCOL, budgets=(16 / 255,), steps=3, more_steps=(2,), batch_size=2)
    found, again, other = (evaluate_defence(defence, batch, replace(few, seed=seed)) for seed in (0, 0, 1))
    assert again.table.equals(found.table)
    assert again.steps.equals(found.steps)
    assert not other.table["topk_intersection"].equals(found.table["topk_intersection"])


def test_conditions_are_those_of_the_tables(smoothed):
    _, _, found = smoothed
    sanity = found.sanity.set_index("condition")
    assert [*sanity.index] == [
        "a large budget wins",
        "8 steps do no less than 2",
        "the gradient beats noise of equal maximum",
        "the gradient beats noise of equal RMS",
    ]
    means = found.steps.set_index("steps")["mean"]
    assert sanity.loc["8 steps do no less than 2", "measured"] == pytest.approx(means[2] - means[8])
    largest = found.table[found.table["eps"] == 16].groupby("attack")["topk_intersection"].mean()
    expected = largest["noise of equal maximum"] - largest["adaptive"]
    assert sanity.loc["the gradient beats noise of equal maximum", "measured"] == pytest.approx(expected)
    assert sanity.loc["the gradient beats noise of equal RMS", "holds"]
    assert found.steps["monte_carlo"].gt(0).all()


def test_an_attack_that_does_nothing_is_not_believed():
    model, batch = setting()

    class Blind(attacks.TopK):
        def direction(self, problem, x):
            return torch.zeros_like(x)

    found = evaluate_defence(Defence("none", model, Gradient()), batch, replace(PROTOCOL, objective=Blind(20)))
    sanity = found.sanity.set_index("condition")["holds"]
    assert not sanity["a large budget wins"]
    assert not sanity["the gradient beats noise of equal maximum"]
    assert not compare_defences([found])["sane"].item()


def test_who_knows_the_seed_attacks_and_is_judged_by_it():
    model, batch = setting()
    shown = SmoothGrad(samples=4, sigma=0.1, seed=9)
    defence = Defence("known seed", model, shown, knows_seed=True)
    found = evaluate_defence(defence, batch, PROTOCOL)
    assert (found.table.filter(like="_error") == 0).all(axis=None)
    attacker = defence.attackers(attacks.TopK(20))["adaptive"]
    assert (attacker.attack, attacker.method) == (attacks.TopK(20), shown)
    with pytest.raises(ValueError, match="knows_seed: expected a method with a seed"):
        Defence("no seed", model, SmoothGrad(seed=torch.Generator()), knows_seed=True)


def test_attackers_are_those_of_the_defence():
    model, _ = setting()
    before = Tiny(seed=4).eval().requires_grad_(False)
    objective = attacks.TopK(20)
    aggregate = Aggregate((Gradient(), InputXGradient()))
    found = Defence("aggregate", model, aggregate, undefended_model=before).attackers(objective)
    assert [*found] == ["non-adaptive", "transfer", "adaptive", "members"]
    assert (found["non-adaptive"].model, found["non-adaptive"].method) == (before, Gradient())
    assert found["transfer"].attack.model.model is before
    assert found["members"].attack == defences.ThroughMembers(objective, "maximum")
    noisy = Aggregate((Gradient(), SmoothGrad(samples=3)))
    hidden = Defence("noisy", model, noisy).attackers(objective, samples=7, seed=2)
    assert hidden["adaptive"].attack == defences.ExpectationOverTransformation(objective, 7, 2)
    assert hidden["members"].attack.attack == defences.ThroughMembers(objective, "maximum")
    votes = Defence("votes", model, sparsified_smoothgrad(samples=3), knows_seed=True).attackers(objective)
    assert votes["adaptive"].method.guide().method.temperature > 0
    assert votes["unvoted"].attack.method == SmoothGrad(samples=3, sigma=0.1)


def test_who_attacks_votes_by_the_maps_that_vote_draws_anew_at_each_step():
    model, batch = setting(3)
    method = sparsified_smoothgrad(samples=3)
    who = Defence("votes", model, method).attackers(attacks.TopK(20), seed=1)["unvoted"]
    options = {"eps": 8 / 255, "steps": 4, "step_size": 2 / 255, "seed": 1}
    attack = defences.ExpectationOverTransformation(attacks.TopK(20), seed=1)
    guide = SmoothGrad(samples=3, sigma=0.1)
    guided = attacks.run(attack, model, batch.images, batch.labels, who.method, guide=guide, **options)
    found = who.run(batch.images, batch.labels, **options)
    assert found.success.any()
    assert torch.equal(found.images, guided.images)


def test_what_is_the_same_attack_is_run_once(monkeypatch):
    model, batch = setting(3)
    begun = []
    run = defences.Attacker.run
    monkeypatch.setattr(defences.Attacker, "run", lambda who, *a, **o: begun.append(who) or run(who, *a, **o))
    how = replace(PROTOCOL, budgets=(8 / 255,), restarts=1, more_steps=(), measure_every=4)
    table = evaluate_defence(Defence("none", model, Gradient()), batch, how).table
    assert len(begun) == 3  # the same for two of them, the transfer, and the adaptive one at a large budget
    by = {name: rows["topk_intersection"].tolist() for name, rows in table.groupby("attack")}
    assert by["non-adaptive"] == by["adaptive"]


def test_defences_stand_side_by_side():
    model, batch = setting(3)
    protocol = replace(PROTOCOL, budgets=(8 / 255,), restarts=1, more_steps=(4,), measure="rank_correlation")
    found = [
        evaluate_defence(Defence("none", model, Gradient()), batch, protocol),
        evaluate_defence(Defence("softplus", model, SoftplusExplanation(1.0)), batch, protocol),
        evaluate_defence(Defence("aggregate", model, Aggregate((Gradient(), InputXGradient()))), batch, protocol),
    ]
    table = compare_defences(found)
    assert [*table["method"]] == ["none", "softplus", "aggregate"]
    assert {"worst: median", "non-adaptive: median", "accuracy", "seconds", "randomised", "sane"} <= {*table}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": ()}, "budgets: expected at least one"),
        ({"budgets": (8,)}, "budgets: expected at most 1"),
        ({"measure": "size"}, "measure: expected one of"),
        ({"restarts": 0}, "restarts: expected a whole number"),
        ({"objective": attacks.TopK}, "objective: expected a value such as"),
        ({"budgets": 0.1}, "budgets: expected several numbers, got 0.1"),
        ({"budgets": (0.1, 0.1)}, r"budgets: expected each once, got \(0.1, 0.1\)"),
        ({"more_steps": 5}, "more_steps: expected several numbers, got 5"),
        ({"more_steps": (5, 2, 5)}, r"more_steps: expected each once, got \(2, 5, 5\)"),
        ({"level": 2.0}, "level: expected below 1 for topk_intersection, got 2.0"),
        ({"measure": "center_shift", "level": 0}, "level: expected above 0 for center_shift, got 0"),
        ({"level": "half"}, "level: expected below 1 for topk_intersection, got 'half'"),
        ({"level": float("nan")}, "level: expected below 1 for topk_intersection, got nan"),
        ({"step_size": "a"}, "step_size: expected a number above 0, got 'a'"),
        ({"seed": "a"}, "seed: expected a whole number, got 'a'"),
        ({"common": "no"}, "common: expected true or false, got 'no'"),
        ({"samples": 0}, "samples: expected a whole number at least 1, got 0"),
    ],
)
def test_bad_protocols_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(PROTOCOL, **options)


def test_images_that_the_network_gets_wrong_are_refused():
    model, batch = setting(3)
    with pytest.raises(ValueError, match="expected images that the network gets right, got 3 others"):
        evaluate_defence(Defence("none", model, Gradient()), replace(batch, labels=(batch.labels + 1) % 5), PROTOCOL)


def test_attackers_on_parts_are_those_on_all():
    """Whatever they hold for each image: noise of votes, baselines, regions; and one sharpness for all."""
    with torch.random.fork_rng():
        model = Tiny().eval().requires_grad_(False)  # says nothing of its surrogate
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, model(images).argmax(1))
    region = torch.zeros(4, 16, 16, dtype=torch.bool)
    region[torch.arange(4), torch.arange(4), :4] = True
    votes = SmoothGrad(defences.TopShare(share=0.2), samples=2, sigma=0.3, shared=False)
    plain = DeepLift(baseline=images.flip(0))
    defence = Defence("votes", model, votes, undefended_method=plain, knows_seed=True)
    few = replace(
        PROTOCOL, budgets=(16 / 255,), steps=2, more_steps=(2,), restarts=1, objective=attacks.Targeted(region)
    )
    tables = [evaluate_defence(defence, batch, replace(few, batch_size=size)).table for size in (3, 4)]
    a, b = (table.sort_values(["attack", "index"], ignore_index=True) for table in tables)
    assert {"unvoted", "transfer", "adaptive"} <= {*a["attack"]}
    pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("knows_seed", [True, False])
def test_each_image_keeps_its_noise_in_whatever_part_it_is(knows_seed):
    """Those who draw noise of their own at each step are left out: in another part they draw another."""
    model, batch = setting(4)
    method = SmoothGrad(samples=2, sigma=0.3, shared=False)
    defence = Defence("smoothgrad", model, method, knows_seed=knows_seed)
    few = replace(PROTOCOL, budgets=(8 / 255,), steps=2, more_steps=(2,), restarts=1)
    tables = [evaluate_defence(defence, batch, replace(few, batch_size=size)).table for size in (3, 4)]
    same = ["non-adaptive", "transfer"] + ["adaptive", "worst"] * knows_seed
    keys = ["attack", "index"]
    a, b = (t[t["attack"].isin(same)].sort_values(keys, ignore_index=True) for t in tables)
    assert len(a) == 4 * len(same)
    pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)

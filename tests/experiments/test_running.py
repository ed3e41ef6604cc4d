"""A sweep as a value, its rows against `attacks.run` itself, and what survives kills, full disks and short memory."""

import collections
import errno
import itertools
import json
import logging
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pandas as pd
import pytest
import sweeps
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fragile_utils import attacks, data, experiments, saliency
from fragile_utils._base import files as whole_files
from fragile_utils.attacks import algorithm
from fragile_utils.experiments import _compute
from fragile_utils.experiments.choice import Choice
from fragile_utils.models.surrogate import choose_beta

CELL = ["model", "data", "method", "attack", "eps"]


def same(a, b):
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def files(folder):
    return sorted((folder / "shards").iterdir())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """With several, sums are rounded in whatever order the threads take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def forget():
    """Begin as a new process would, with nothing loaded; a test may call it again."""
    _compute._loaded.cache_clear()
    return _compute._loaded.cache_clear


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an undisturbed sweep, in shards of 3."""
    folder = tmp_path_factory.mktemp("undisturbed")
    experiments.run(sweeps.small(), folder, shard_size=3)
    return folder


# --- A sweep is a value ----------------------------------------------------------------------------------------------

NAMES = {
    "models": st.sampled_from(["squeezenet", "squeezenet-torchvision", "sweeps:network", "my_package.nets:large"]),
    "data": st.sampled_from(["imagenet", "cifar10-test", "imagenet-samples", "photos", "sweeps:images"]),
    "methods": st.sampled_from(
        [
            "gradient",
            {"name": "integrated-gradients", "steps": 10},
            {"name": "integrated-gradients", "steps": 20, "baseline": 0.5},
            {"name": "smoothgrad", "method": {"name": "deeplift"}, "sigma": 0.1},
            {"name": "smoothgrad", "method": {"name": "lrp", "rule": "zplus"}},
        ]
    ),
    "attacks": st.sampled_from(
        ["topk", "mass-center", "random-sign", {"name": "targeted", "region": [1, 2, 3, 4]}, {"name": "topk", "k": 7}]
    ),
    "budgets": st.floats(1e-3, 255),
}
SWEEPS = st.fixed_dictionaries(
    {name: st.lists(names, min_size=1, max_size=3, unique_by=str) for name, names in NAMES.items()},
    optional={
        "images": st.none() | st.integers(1, 1000),
        "steps": st.integers(1, 1000),
        "step_size": st.floats(1e-3, 9),
        "random_start": st.booleans(),
        "patience": st.none() | st.integers(1, 10),
        "seed": st.integers(0, 2**40),
        "size": st.none() | st.integers(1, 500),
        "fit": st.sampled_from(["crop", "stretch"]),
        "about": st.text(),
    },
)


@settings(deadline=None, max_examples=50)
@given(fields=SWEEPS)
def test_a_sweep_goes_to_json_and_back_unchanged(fields):
    sweep = experiments.Sweep.from_dict(fields)
    again = experiments.Sweep.from_json(sweep.to_json())
    assert again == sweep
    assert hash(again) == hash(sweep)
    assert again.to_json() == sweep.to_json()
    assert again.about == sweep.about
    for name, value in fields.items():
        assert sweep.to_dict()[name] == value


def test_a_single_part_needs_no_list():
    one = sweeps.small(methods="gradient", attacks={"name": "topk", "k": 3}, budgets=8)
    assert one == sweeps.small(methods=["gradient"], attacks=[{"name": "topk", "k": 3}], budgets=[8.0])
    assert one == sweeps.small(methods=[Choice("gradient")], attacks=[Choice("topk", (("k", 3),))], budgets=(8.0,))


def test_the_parts_become_what_attacks_run_takes():
    smooth = {"name": "smoothgrad", "method": {"name": "integrated-gradients", "steps": 5}, "samples": 2}
    sweep = sweeps.small(methods=["deeplift", smooth], attacks=["topk", {"name": "topk", "k": 3}], k=9)
    assert [sweep.method(choice) for choice in sweep.methods] == [
        saliency.DeepLift(),
        saliency.SmoothGrad(saliency.IntegratedGradients(5), samples=2),
    ]
    assert [sweep.attack(choice, None) for choice in sweep.attacks] == [attacks.TopK(9), attacks.TopK(3)]
    assert list(sweep.labels("attacks")) == ["topk", "topk(k=3)"]
    targeted = sweeps.small(attacks={"name": "targeted", "region": [0, 1, 2, 4]})
    region = targeted.attack(targeted.attacks[0], torch.rand(2, 3, 8, 8)).region
    assert region.nonzero().tolist() == [[r, c] for r in (0, 1) for c in (1, 2, 3)]
    superpixel = sweeps.small(attacks={"name": "targeted", "region": [4, 5]})
    region = superpixel.attack(superpixel.attacks[0], torch.rand(2, 3, 8, 8)).region
    assert region.shape == (2, 8, 8)
    assert region[:, 4, 5].all()


BAD = {
    "an unknown field": ({"step": 3}, "unknown 'step'; expected some of models, data"),
    "an unknown network": ({"models": "squeezenest"}, "models: expected one of squeezenet, .*got 'squeezenest'"),
    "an unknown method": ({"methods": "tea-leaves"}, "methods: expected one of gradient"),
    "an unknown attack": ({"attacks": "poke"}, "attacks: expected one of topk"),
    "an unknown option": (
        {"methods": {"name": "gradient", "steps": 3}},
        "methods: gradient: unknown option 'steps'; it has no options",
    ),
    "a wrong option": ({"methods": {"name": "integrated-gradients", "steps": 0}}, "steps: expected a whole number"),
    "an attack for a method": ({"methods": "fragile_utils.attacks:TopK"}, "expected .* to be a saliency method"),
    "a method for an attack": ({"attacks": "fragile_utils.saliency:Gradient"}, "to be an attack, got Gradient"),
    "no such function": ({"methods": "fragile_utils.attacks:Top"}, "cannot find 'fragile_utils.attacks:Top'"),
    "no such module": ({"methods": "no_such_module:Top"}, "cannot find .*No module named"),
    "not a function": ({"methods": "fragile_utils.attacks:LEVEL"}, "to be a function, got float"),
    "a nameless method": ({"methods": {"steps": 3}}, "methods: expected a name, or"),
    "a region of three": ({"attacks": {"name": "targeted", "region": [1, 2, 3]}}, "expected targeted with a region"),
    "no region": ({"attacks": "targeted"}, "expected targeted with a region"),
    "no methods": ({"methods": []}, "methods: expected a list with at least one entry"),
    "a method twice": ({"methods": ["lrp", "gradient", "lrp"]}, "methods: expected each once, got lrp, gradient, lrp"),
    "a budget twice": ({"budgets": [8, 8.0]}, "budgets: expected each once"),
    "a budget of 0": ({"budgets": [0]}, "budgets: expected a number above 0"),
    "a budget of 256": ({"budgets": [8, 256]}, "budgets: expected at most 255 levels, got 256"),
    "a budget in words": ({"budgets": ["large"]}, "budgets: expected a number above 0, got 'large'"),
    "a number for a network": ({"models": 3}, "models: expected names, got 3"),
    "no steps": ({"steps": 0}, "steps: expected a whole number"),
    "half a step": ({"steps": 1.5}, "steps: expected a whole number"),
    "no images": ({"images": 0}, "images: expected a whole number"),
    "a negative seed": ({"seed": -1}, "seed: expected a whole number, 0 or above, got -1"),
    "no yes or no": ({"random_start": 1}, "random_start: expected true or false, got 1"),
    "another fit": ({"fit": "tile"}, "fit: expected 'crop' or 'stretch', got 'tile'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_sweep_is_refused_with_a_message(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        sweeps.small(**changes)


def test_a_file_that_is_no_sweep_is_refused_by_name(tmp_path):
    path = tmp_path / "sweep.json"
    for text, message in (("{", "no JSON"), ("[]", "expected an object"), ("{}", "expected models, data, methods")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"sweep\.json: .*{message}"):
            experiments.Sweep.load(path)
    with pytest.raises(ValueError, match=r"cannot read .*none\.json: No such file"):
        experiments.Sweep.load(tmp_path / "none.json")


# --- The images of a sweep -------------------------------------------------------------------------------------------


def test_the_images_are_those_the_network_gets_right_evenly_spread():
    sweep = sweeps.small(data="sweeps:images", images=4)
    subject = experiments.Subject.choose(sweep, *sweep.subjects[0])
    right = [i for i in range(sweeps.COUNT) if i % 2]  # the others are labelled wrong
    assert (subject.read, subject.right) == (sweeps.COUNT, len(right))
    assert subject.rows == tuple(right[i] for i in (0, 1, 3, 4))
    assert subject.names == tuple(f"{i}.png" for i in subject.rows)
    model, batch = subject.load(sweep, "cpu")
    assert torch.equal(data.predict(model, batch.images), torch.tensor(subject.labels))
    assert torch.equal(batch.images, sweeps.images(None, "crop", None).images[list(subject.rows)])
    everything = sweeps.small(data="sweeps:images", images=None, candidates=7)
    assert experiments.Subject.choose(everything, *everything.subjects[0]).rows == (1, 3, 5)


def test_images_without_labels_are_explained_as_predicted(finished):
    predicted = data.predict(sweeps.network(), sweeps.many_images(None, "crop", None).images)
    assert experiments.SweepFolder.load(finished).subjects[0].labels == tuple(
        predicted[i * 40 // 7].item() for i in range(7)
    )


def test_too_few_right_images_are_an_error(tmp_path):
    sweep = sweeps.small(data="sweeps:images", images=7)
    with pytest.raises(ValueError, match="images: expected 7 that sweeps:network gets right, got 6 of the 12 read"):
        experiments.run(sweep, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="data: cifar10-samples has other classes than squeezenet"):
        experiments.run(sweeps.small(models="squeezenet", data="cifar10-samples"), tmp_path)


def test_a_network_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected evaluation mode"):
        experiments.run(sweeps.small(models="sweeps:training_network"), tmp_path)


# --- The rows --------------------------------------------------------------------------------------------------------


def test_there_is_one_row_for_each_image_and_cell(finished):
    settings, table = experiments.results(finished)
    sweep = sweeps.small()
    cells = list(itertools.product(["gradient", "integrated-gradients"], ["random-sign", "topk"], [4.0, 16.0]))
    assert list(table.groupby(CELL[2:], sort=False).groups) == cells
    assert table.groupby(CELL)["index"].apply(list).tolist() == [list(range(7))] * len(cells)
    assert len(files(finished)) == 3 * len(cells)
    assert settings["sweep"] == {name: value for name, value in sweep.to_dict().items() if name != "about"}
    assert settings["shards"] == {"done": 24, "of": 24, "images": 3}
    assert settings["versions"]["torch"] == torch.__version__.split("+")[0]
    json.dumps(settings, allow_nan=False)


def test_the_rows_are_those_of_attacks_run(finished):
    _, table = experiments.results(finished)
    plan = experiments.SweepFolder.load(finished)
    model, batch = plan.subjects[0].load(plan.sweep, "cpu")
    method = saliency.IntegratedGradients(3)
    for attack, name in ((attacks.TopK(15), "topk"), (attacks.RandomSign(), "random-sign")):
        given = (attack, model, batch.images, batch.labels, method)
        result = attacks.run(*given, eps=16 / 255, steps=3, step_size=4 / 255)
        expected = result.compare(20)
        rows = table[(table.method == "integrated-gradients") & (table.attack == name) & (table.eps == 16)]
        assert rows["success"].tolist() == expected["success"].tolist()
        assert rows["iteration"].tolist() == result.iteration.tolist()
        assert rows["reason"].tolist() == list(result.reasons)
        np.testing.assert_allclose(rows["linf"], 255 * expected["linf"], atol=1e-4)
        np.testing.assert_allclose(rows["rank_correlation"], expected["rank_correlation"], atol=2e-2)
        np.testing.assert_allclose(rows["topk_intersection"], expected["topk_intersection"], atol=0.051)
        np.testing.assert_allclose(rows["confidence"], result.confidence, atol=1e-3)
        np.testing.assert_allclose(rows["dissimilarity"], result.dissimilarity, atol=1e-3)


@pytest.mark.parametrize("changes", [{"attacks": "random-sign"}, {"random_start": True, "steps": 1}], ids=str)
def test_rows_do_not_depend_on_shards_and_batches(changes, tmp_path):
    sweep = sweeps.small(**changes, methods="gradient", budgets=16)
    experiments.run(sweep, tmp_path / "a", shard_size=7)
    experiments.run(sweep, tmp_path / "b", shard_size=4, executor=experiments.InProcess(batch_size=3))
    a, b = sweeps.rows(tmp_path / "a"), sweeps.rows(tmp_path / "b")
    pd.testing.assert_frame_equal(a, b, check_exact=False, rtol=1e-4, atol=1e-5)


def test_the_surrogate_does_not_depend_on_the_batch(tmp_path, monkeypatch):
    sweep = sweeps.small(models="sweeps:plain_network", methods="gradient", attacks="topk")
    experiments.run(sweep, tmp_path, shard_size=7)
    (subject,) = experiments.SweepFolder.load(tmp_path).subjects
    model, batch = subject.load(sweep, "cpu")
    assert subject.beta == choose_beta(model, batch.images)

    def refuse(*_):
        pytest.fail("beta was chosen again")

    monkeypatch.setattr(algorithm, "choose_beta", refuse)
    files(tmp_path)[0].unlink()
    experiments.run(sweep, tmp_path)


def test_several_networks_and_data_sets(tmp_path):
    sweep = sweeps.small(
        models=["sweeps:network", "sweeps:plain_network"],
        data=["sweeps:images", "sweeps:many_images"],
        images=2,
        methods="gradient",
        attacks="random-sign",
        budgets=8,
    )
    experiments.run(sweep, tmp_path)
    table = sweeps.rows(tmp_path)
    assert table[["model", "data", "index"]].apply(tuple, axis=1).tolist() == [
        (model, source, i) for model in sweep.models for source in sweep.data for i in (0, 1)
    ]


# --- Other settings --------------------------------------------------------------------------------------------------


def test_a_folder_with_other_settings_is_refused_by_name(finished):
    with pytest.raises(ValueError, match=r"begun with other settings: steps 3 \(now 4\); k 20 \(now 10\); choose"):
        experiments.run(sweeps.small(steps=4, k=10), finished)
    with pytest.raises(ValueError, match=r"begun with other settings: shard_size 3 \(now 4\)"):
        experiments.run(sweeps.small(), finished, shard_size=4)


def test_settings_without_results_may_be_corrected(tmp_path):
    with pytest.raises(ValueError, match="k: expected a whole number from 1 to 256, got 1000"):
        experiments.run(sweeps.small(k=1000), tmp_path)
    assert experiments.run(sweeps.small(), tmp_path).to_do == []
    assert experiments.status(tmp_path).plan.sweep == sweeps.small()


def test_a_remark_is_no_other_setting(finished):
    before = [path.stat().st_mtime_ns for path in files(finished)]
    assert experiments.run(sweeps.small(about="a remark"), finished).to_do == []
    assert [path.stat().st_mtime_ns for path in files(finished)] == before


def test_another_network_under_the_same_name_is_refused(forget, tmp_path, monkeypatch):
    network = sweeps.plain_network()
    network.last.bias.data += 1e-6
    sweep = sweeps.small(models="sweeps:plain_network", methods="gradient")
    experiments.run(sweep, tmp_path)
    files(tmp_path)[0].unlink()
    monkeypatch.setattr(sweeps, "plain_network", lambda: network)
    forget()
    with pytest.raises(ValueError, match="plain_network has other parameters than when the sweep began"):
        experiments.run(sweep, tmp_path)


@pytest.mark.parametrize("change", ["pixels", "names", "fewer"])
def test_other_images_under_the_same_name_are_refused(change, forget, tmp_path, monkeypatch):
    right = sweeps.images(None, "crop", None)
    pixels, names = right.images.clone(), right.names
    if change == "pixels":
        pixels[1, 0, 0, 0] = (pixels[1, 0, 0, 0] + 0.5) % 1
    elif change == "names":
        names = (*names[1:], names[0])
    other = data.Batch(pixels, right.labels, right.classes, names)[: 11 if change == "fewer" else None]
    sweep = sweeps.small(data="sweeps:images", images=3)
    experiments.run(sweep, tmp_path)
    files(tmp_path)[0].unlink()
    monkeypatch.setattr(sweeps, "images", lambda **_: other)
    forget()
    with pytest.raises(ValueError, match="sweeps:images has other images than when the sweep began"):
        experiments.run(sweep, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "not the settings of a sweep"), ("{", "not the settings of a sweep")]
)
def test_settings_that_are_none_are_refused(text, message, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        experiments.run(sweeps.small(), tmp_path)
    with pytest.raises(ValueError, match=r"expected the folder of a sweep, with settings\.json"):
        experiments.status(tmp_path / "none")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder: expected a folder, got the file"):
        experiments.run(sweeps.small(), tmp_path / "file")


# --- Damage ----------------------------------------------------------------------------------------------------------


def test_damaged_shards_are_reported_left_out_and_computed_again(finished, tmp_path, caplog):
    folder = tmp_path / "copy"
    copy(finished, folder)
    cut, foreign, missing, *_ = files(folder)
    cut.write_bytes(cut.read_bytes()[:-100])
    foreign.write_bytes(files(folder)[-1].read_bytes())
    missing.unlink()
    state = experiments.status(folder)
    assert {shard.name for shard in state.damaged} == {cut.name, foreign.name}
    assert [shard.name for shard in state.missing] == [missing.name]
    with pytest.raises(ValueError, match=r"21 of 24 shards done in .*, 2 damaged; .* run the sweep again"):
        experiments.results(folder)
    _, table = experiments.results(folder, partial=True)
    assert len(table) == 8 * 7 - 3 - 3 - 1

    with caplog.at_level(logging.WARNING):
        experiments.run(sweeps.small(), folder)
    assert [f"{cut.name} is damaged and computed again: it cannot be read" in text for text in caplog.messages] == [
        True,
        False,
    ]
    assert f"{foreign.name} is damaged and computed again: it has 1 rows, not 3" in caplog.messages[1]
    same(sweeps.rows(folder), sweeps.rows(finished))


def test_a_shard_of_another_sweep_is_damaged(finished, tmp_path):
    experiments.run(sweeps.small(steps=1), tmp_path, shard_size=3)
    files(tmp_path)[0].write_bytes((finished / "shards" / files(tmp_path)[0].name).read_bytes())
    assert list(experiments.status(tmp_path).damaged.values()) == ["it belongs to another sweep"]


def copy(source, target):
    (target / "shards").mkdir(parents=True)
    for path in source.rglob("*.*"):
        (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_a_full_disk_ends_the_sweep_with_a_message_and_it_goes_on_when_there_is_room(finished, tmp_path, monkeypatch):
    calls = itertools.count()

    def sometimes_full(_):
        if next(calls) >= 12:  # each file is synchronised, and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sometimes_full)
    with pytest.raises(ValueError, match=rf"cannot write {tmp_path}.*: No space left on device"):
        experiments.run(sweeps.small(), tmp_path, shard_size=3)
    monkeypatch.undo()
    assert len(experiments.status(tmp_path).done) == len(files(tmp_path)) == 5
    experiments.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


# --- Short memory ----------------------------------------------------------------------------------------------------


def refuse_cuda():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def refuse_cpu():
    torch.empty(2**58, dtype=torch.uint8)


@pytest.mark.parametrize("refuse", [refuse_cuda, refuse_cpu])
def test_short_memory_halves_the_batch_and_the_sweep_goes_on(refuse, finished, tmp_path, monkeypatch, caplog):
    sizes, run = [], attacks.run

    def limited(attack, model, images, labels, method, **options):
        sizes.append(len(images))
        if len(images) > 1 and isinstance(method, saliency.IntegratedGradients):
            refuse()
        return run(attack, model, images, labels, method, **options)

    monkeypatch.setattr(attacks, "run", limited)
    with caplog.at_level(logging.WARNING):
        experiments.run(sweeps.small(), tmp_path, shard_size=3)
    assert caplog.messages == ["integrated-gradients: out of memory; from here on 1 images at a time"]
    assert sizes == [3, 3, 1] * 4 + [3] + [1] * 28
    a, b = sweeps.rows(tmp_path), sweeps.rows(finished)
    same(a[a.method == "gradient"], b[b.method == "gradient"])
    pd.testing.assert_frame_equal(a[KEYS], b[KEYS])
    noise = a.attack == "random-sign"
    pd.testing.assert_frame_equal(a[noise], b[noise], check_exact=False, rtol=1e-4, atol=1e-5)


KEYS = [*CELL, "index", "name", "label"]


def test_memory_too_short_for_one_image_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "run", lambda *_, **__: refuse_cuda())
    with pytest.raises(ValueError, match=r"out of memory with one image at a time: CUDA out of memory"):
        experiments.run(sweeps.small(), tmp_path)


def test_other_errors_are_no_lack_of_memory(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(attacks, "run", broken)
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        experiments.run(sweeps.small(), tmp_path)


# --- Interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sweep_and_not_only_an_attack(number, finished, tmp_path, monkeypatch):
    calls, evaluate = itertools.count(), attacks.Problem.evaluate

    def interrupted(problem, x):
        if next(calls) == 16:  # in the middle of an attack of three steps
            os.kill(os.getpid(), number)
        return evaluate(problem, x)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(attacks.Problem, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiments.run(sweeps.small(), tmp_path, shard_size=3)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert 0 < len(experiments.status(tmp_path).done) < 24
    experiments.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


# --- SIGKILL ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fork(monkeypatch):
    """Start processes that have imported everything already, from a server that has not computed anything."""
    here = os.path.dirname(os.path.abspath(__file__))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.path.dirname(here)]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweeps"])

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start


def killed_at_random(kills, fork, tmp_path, steps):
    """Kill a sweep `kills` times, let it finish, and compare it with an undisturbed one.

    Where a sweep reaches its end between two kills, it is compared too, and the kills go on with another.
    """
    sweep = sweeps.small(images=24, methods="gradient", steps=steps)
    fork(sweeps.run, sweep, tmp_path / "warm", 24).join()  # the server's imports
    began = time.perf_counter()
    process = fork(sweeps.run, sweep, tmp_path / "undisturbed", 3)
    while not (tmp_path / "undisturbed" / "shards").exists():
        time.sleep(0.005)
    start = time.perf_counter() - began  # until there is something to lose
    process.join()
    work = time.perf_counter() - began - start
    assert process.exitcode == 0
    undisturbed = sweeps.rows(tmp_path / "undisturbed")

    def finished(folder):
        return len([*(folder / "shards").glob("[0-9]*")])

    moments = random.Random(0)
    folders, found = [tmp_path / "disturbed_0"], []
    while True:
        folder = folders[-1]
        before, process = finished(folder), fork(sweeps.run, sweep, folder, 3)
        if len(found) == kills:  # undisturbed from here
            process.join()
        elif moments.random() < 0.2:  # while it starts
            process.join(moments.uniform(0, start))
        else:  # between a shard and the next
            while finished(folder) == before and process.is_alive():
                time.sleep(0.001)
            process.join(moments.uniform(0, 0.6 * work / 32))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            found.append((folder, finished(folder)))
            continue
        assert process.exitcode == 0
        table = sweeps.rows(folder)
        assert collections.Counter(table.groupby([*CELL, "index"]).size()) == {1: 4 * 24}
        same(table, undisturbed)
        if len(found) == kills:
            break
        folders.append(tmp_path / f"disturbed_{len(folders)}")
    assert len(folders) <= 3, "it mostly finished before it could be killed"
    assert len(set(found)) > kills / 4, "the kills came too early to interrupt anything"


def test_a_sweep_killed_4_times_ends_with_the_rows_of_an_undisturbed_one(fork, tmp_path):
    killed_at_random(4, fork, tmp_path, steps=20)


@pytest.mark.slow
def test_a_sweep_killed_20_times_ends_with_the_rows_of_an_undisturbed_one(fork, tmp_path):
    killed_at_random(20, fork, tmp_path, steps=150)


def test_a_sweep_killed_between_writing_and_renaming_loses_that_shard_only(fork, finished, tmp_path):
    process = fork(sweeps.run_and_die_while_writing, sweeps.small(), tmp_path, 3)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    state = experiments.status(tmp_path)
    assert (len(state.done), len(state.damaged)) == (4, 0)
    assert len([path for path in files(tmp_path) if path.name.endswith(".part")]) == 1
    experiments.run(sweeps.small(), tmp_path)
    same(sweeps.rows(tmp_path), sweeps.rows(finished))


def test_a_disk_that_takes_no_more_is_reported(fork, finished, tmp_path):
    experiments.run(sweeps.small(), tmp_path / "sweep", shard_size=3)
    files(tmp_path / "sweep")[0].unlink()
    process = fork(sweeps.run_on_a_small_disk, sweeps.small(), tmp_path / "sweep", tmp_path / "said")
    process.join()
    assert "File too large" in (tmp_path / "said").read_text()
    assert len(files(tmp_path / "sweep")) == 23
    experiments.run(sweeps.small(), tmp_path / "sweep")
    same(sweeps.rows(tmp_path / "sweep"), sweeps.rows(finished))


# --- What is said of it ----------------------------------------------------------------------------------------------


def test_the_estimate_knows_what_kind_of_shard_takes_how_long(finished):
    state = experiments.status(finished)
    seconds = {("gradient", "random-sign"): 1.0, ("gradient", "topk"): 5.0, ("integrated-gradients", "topk"): 20.0}
    done = {
        shard: {"seconds": seconds[shard.cell.method, shard.cell.attack] * len(shard)}
        for shard in state.plan.shards
        if (shard.cell.method, shard.cell.attack) in seconds and shard.cell.eps == 4
    }
    state = experiments.Status(state.plan, done, {}, ())
    # Of the kinds that were timed, the other budget; of random signs, which were not, both, at the method's mean.
    expected = 7 * (1 + 5 + 20) + 2 * 7 * 20
    assert state.estimate() == pytest.approx(expected)
    assert experiments.Status(state.plan, {}, {}, ()).estimate() is None


def test_the_summary_counts_and_averages_what_succeeded(finished):
    _, table = experiments.results(finished)
    table.loc[table.index % 5 == 0, "success"] = False
    found = experiments.summary(table)
    assert len(found) == 8 * 3
    for row in found.itertuples():
        group = table[(table.method == row.method) & (table.attack == row.attack) & (table.eps == row.eps)]
        values = [value for value, success in zip(group[row.measure], group.success, strict=True) if success]
        assert (row.images, row.failures) == (7, 7 - len(values))
        np.testing.assert_allclose([row.mean, row.median], [np.mean(values), np.median(values)])
        assert min(values) <= row.low <= row.mean <= row.high <= max(values)


def test_a_cell_in_which_nothing_succeeded_has_no_mean(finished):
    _, table = experiments.results(finished)
    found = experiments.summary(table.assign(success=False))
    assert found[["mean", "low", "high", "median"]].isna().all(axis=None)
    assert (found.failures == found.images).all()


def test_every_file_says_on_what_and_how_long_it_was_computed(finished):
    for about in experiments.status(finished).done.values():
        assert {"seconds", "device", "hardware", "versions", "finished", "batch_size", "notes"} <= about.keys()
        assert about["seconds"] > 0
        assert about["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_progress_is_shown_when_asked(finished, tmp_path, capsys):
    experiments.run(sweeps.small(methods="gradient"), tmp_path, progress=True)
    assert "4/4 shards" in capsys.readouterr().err
    assert whole_files.UNFINISHED not in {path.suffix for path in files(tmp_path)}

"""The live widget, driven as a user drives it."""

import datetime
import io
import time

import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils import data
from fragile_utils.plots import widgets


@pytest.fixture
def live(tiny, tiny_batch):
    images, labels = tiny_batch
    batch = data.Batch(images, labels, tuple("abcde"), tuple(f"{i}.png" for i in range(6)))
    live = widgets.LiveAttack(batch, {"tiny": tiny}, k=20, device="cpu")
    live.steps.value = 3
    return live


def file(content, name="mine.png"):
    when = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    described = {"name": name, "type": "image/png", "size": len(content), "last_modified": when}
    return ({**described, "content": memoryview(content)},)


def png(size=(40, 30)):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("attack", ["topk", "mass-center", "targeted", "random-sign"])
def test_an_attack_runs_and_shows_its_figure(live, attack):
    live.attack.value = attack
    live.run(wait=True)
    assert "The label is kept" in live.status.value
    with Image.open(io.BytesIO(live.picture.value)) as picture:
        assert min(picture.size) > 300
    assert live.picture.layout.display is None
    assert (live.start.disabled, live.stop.disabled) == (False, True)
    assert live.result.settings.steps == (1 if attack == "random-sign" else 3)
    assert live.progress.value == live.result.settings.steps


def test_the_button_starts_and_the_other_stops(live):
    live.steps.value = 300
    live.start.click()
    assert live.start.disabled
    deadline = time.monotonic() + 60
    while live.progress.value < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    live.stop.click()
    live._thread.join(60)
    assert "Stopped: the best so far" in live.status.value
    assert 2 <= len(live.result.curve) < 300


def test_a_target_is_chosen_on_the_picture(live):
    assert live.target.layout.display == "none"
    live.attack.value = "targeted"
    assert live.target.layout.display is None
    first = live.place.value
    live.superpixel.value = live.superpixel.max
    assert live.place.value != first
    mask = live.region()
    live.shape.value = "rectangle"
    live.rows.value, live.columns.value = (2, 6), (3, 9)
    assert live.region().nonzero().tolist() == [[i, j] for i in range(2, 6) for j in range(3, 9)]
    assert not torch.equal(live.region(), mask)


def test_an_empty_rectangle_gets_a_message(live):
    live.attack.value, live.shape.value = "targeted", "rectangle"
    live.rows.value = (4, 4)
    assert "rows" in live.status.value
    live.run(wait=True)
    assert 'role="alert"' in live.status.value


def test_an_upload_is_explained_as_predicted(live, tiny):
    live.upload.value = file(png())
    assert live.image.value == "mine.png"
    live.run(wait=True)
    assert live.result.images.shape == (1, 3, 16, 16)
    assert live.result.reasons == ("",) or "failed" in live.status.value


def test_an_image_without_a_label_is_explained_as_predicted(tiny, tiny_batch):
    images, labels = tiny_batch
    live = widgets.LiveAttack(data.Batch(images, torch.full_like(labels, data.UNKNOWN)), {"tiny": tiny}, k=20)
    live.steps.value = 3
    live.run(wait=True)
    assert live.result.labels == labels[0]


def test_a_message_is_text_and_no_html(live):
    live.upload.value = file(b"no image", "<i>.png")
    assert "&lt;i&gt;.png cannot be read" in live.status.value


@pytest.mark.parametrize("content", [b"", b"not an image", png()[:200]], ids=["empty", "text", "cut short"])
def test_a_wrong_upload_gets_a_readable_message(live, content):
    before = live.image.value
    live.upload.value = file(content, "notes.txt")
    assert 'role="alert"' in live.status.value
    assert "notes.txt cannot be read as an image" in live.status.value
    assert live.image.value == before


def test_what_does_not_go_together_gets_a_message(live):
    live.method.value = "deeplift"  # the tiny network does not say what it subtracts
    live.run(wait=True)
    assert 'role="alert"' in live.status.value
    assert "baseline" in live.status.value
    assert not live.start.disabled


def test_bad_arguments_are_refused(tiny, tiny_batch):
    batch = data.Batch(*tiny_batch, tuple("abcde"), tuple("123456"))
    with pytest.raises(ValueError, match="networks: expected at least one"):
        widgets.LiveAttack(batch, {})
    with pytest.raises(ValueError, match="batch: expected at least one image"):
        widgets.LiveAttack(batch[:0], {"tiny": tiny})
    with pytest.raises(ValueError, match="training mode"):
        widgets.LiveAttack(batch, {"tiny": tiny.train()})
    with pytest.raises(ValueError, match="k: expected a whole number"):
        widgets.LiveAttack(batch, {"tiny": tiny.eval()}, k=0)


@pytest.mark.parametrize(
    ("error", "said"), [(MemoryError(), "MemoryError"), (RuntimeError("\u202eno <b>\nmore"), "\\u202eno &lt;b&gt;")]
)
def test_an_error_ends_the_attack_and_is_shown_though_it_may_say_nothing(live, error, said, monkeypatch):
    monkeypatch.setattr(live, "network", lambda name: throw(error))
    live.run(wait=True)
    assert f"The attack stopped: {said}<" in live.status.value
    assert not live.start.disabled


def throw(error):
    raise error

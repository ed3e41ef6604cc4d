"""Sliders as pages: complete in themselves, small, and moved by the keyboard in a real browser."""

import base64
import html
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from fragile_utils import attacks, saliency
from fragile_utils.plots import widgets

BUDGETS = [2 / 255, 8 / 255]


@pytest.fixture
def slider(tiny, tiny_batch):
    options = {"budgets": BUDGETS, "steps": 3, "beta": 8.0}
    results = attacks.run_budgets(attacks.TopK(20), tiny, *tiny_batch, saliency.Gradient(), **options)
    return widgets.EpsilonSlider(tiny_batch[0], results[::-1], 1, k=20, classes=list("abcde"), caption="<A> caption")


def pictures(source):
    """Return the pictures in a page, decoded."""
    found = re.findall(r'src="data:image/webp;base64,([^"]*)"', source)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_slider_is_complete_in_itself(slider):
    assert not re.search(r'(src|href)="(?!data:)', slider.html)
    assert "http" not in slider.html
    assert "<script" not in slider.html
    assert slider.html.startswith('<div class="fragile-')  # what the book's style for dark mode goes by
    assert "&lt;A&gt; caption" in slider.html
    assert slider._repr_html_() == slider.html


def test_an_epsilon_slider_has_a_frame_for_the_original_and_each_budget_in_order(slider):
    assert slider.labels == ["0 (original)", "2", "8"]
    assert repr(slider) == "EpsilonSlider(budget, in levels of 255: 0 (original), 2, 8)"
    assert len(pictures(slider.html)) == 3 * 3


def test_an_epsilon_slider_shows_what_the_attack_measured(tiny, tiny_batch):
    result = attacks.run(attacks.TopK(20), tiny, *tiny_batch, saliency.Gradient(), eps=8 / 255, steps=5, beta=8.0)
    source = html.unescape(widgets.EpsilonSlider(tiny_batch[0], [result], 2, k=20).html)
    row = result.compare(20).iloc[2]
    probability = tiny(result.images[2:3]).softmax(1).amax()
    assert f"<dd>{row.topk_intersection:.3f}</dd>" in source
    assert f"<dd>{row.rank_correlation:.2f}</dd>" in source
    assert f"<dd>{row.center_shift:.1f} pixels</dd>" in source
    assert f"({probability:.0%})" in source


def test_pictures_are_what_they_were():
    image = torch.linspace(0, 1, 64).expand(3, 64, 64) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
    slider = widgets.FrameSlider([widgets.Frame(label, {"": image}) for label in "ab"], "letter")
    (shown, _) = (torch.from_numpy(np.array(picture)) for picture in pictures(slider.html))
    torch.testing.assert_close(shown.permute(2, 0, 1) / 255, image, atol=0.05, rtol=0)


def test_large_pictures_are_shown_smaller_and_those_of_networks_as_they_are():
    generator = torch.Generator().manual_seed(0)
    for given, shown in (((512, 640), (256, 320)), ((299, 299), (299, 299))):
        image = torch.rand(3, *given, generator=generator)
        slider = widgets.FrameSlider([widgets.Frame(label, {"": image}) for label in "ab"], "letter")
        assert {np.array(picture).shape[:2] for picture in pictures(slider.html)} == {shown}
        assert len(slider.html) < 2 * 60_000


def test_a_failed_attack_is_said(tiny, tiny_batch):
    images, predicted = tiny_batch
    result = attacks.run(attacks.TopK(20), tiny, images, (predicted + 1) % 5, saliency.Gradient(), eps=0.1, steps=2)
    assert "the attack failed: predicted as class" in widgets.EpsilonSlider(images, [result], 0, k=20).html


def test_figures_can_be_frames():
    frames = []
    for x in (1, 2):
        figure, axes = plt.subplots(figsize=(2, 1))
        plt.close(figure)
        axes.plot([0, x])
        frames.append(widgets.Frame(f"x = {x}", {"line": figure}, f"The line ends at {x}."))
    slider = widgets.FrameSlider(frames, "end of the line")
    assert [picture.size for picture in pictures(slider.html)] == [(2 * widgets.FIGURE_DPI, widgets.FIGURE_DPI)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "frames: expected at least two, got 0"),
        ({"start": 2}, "start: expected one of 2 frames, got 2"),
        ({"frames": [widgets.Frame("a", {"x": torch.zeros(2, 2)})] * 2}, r"expected a tensor \(3, H, W\) or a figure"),
        ({"frames": [widgets.Frame("a", {}), widgets.Frame("b", {"x": torch.zeros(3, 2, 2)})]}, "the same titles"),
    ],
)
def test_bad_frames_are_refused(change, message):
    options = {"frames": [widgets.Frame("a", {"x": torch.zeros(3, 2, 2)})] * 2, "label": "budget"} | change
    with pytest.raises(ValueError, match=message):
        widgets.FrameSlider(**options)


def test_results_of_other_images_are_refused(tiny, tiny_batch):
    images, labels = tiny_batch
    result = attacks.run(attacks.RandomSign(), tiny, images, labels, saliency.Gradient(), eps=0.1)
    with pytest.raises(ValueError, match="results: expected those of one method on these images"):
        widgets.EpsilonSlider(images[:2], [result], k=20)
    with pytest.raises(ValueError, match="results: expected at least one"):
        widgets.EpsilonSlider(images, [], k=20)
    with pytest.raises(ValueError, match="index: expected one of 6 images, got 6"):
        widgets.EpsilonSlider(images, [result], 6, k=20)


def test_the_keyboard_walks_through_all_frames(slider, browser):
    page = browser.new_page()
    page.set_content(slider.html)
    control = page.get_by_role("slider", name="budget, in levels of 255")
    control.focus()
    seen = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        visible = page.locator("[data-frame]:visible")
        assert visible.count() == 1
        label = visible.get_attribute("data-frame")
        assert label == page.locator(".now").inner_text() == control.get_attribute("aria-valuetext")
        assert page.get_by_role("status").inner_text() == visible.get_attribute("data-text")
        seen.append(label)
    assert seen == [*slider.labels, slider.labels[-1]]
    page.close()


def test_without_scripts_all_frames_are_shown(slider, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(slider.html)
    assert page.locator("[data-frame]:visible").count() == 3
    context.close()


def test_on_paper_all_frames_are_shown_each_with_its_budget(slider, browser):
    page = browser.new_page()
    page.set_content(slider.html)
    page.emulate_media(media="print")
    assert page.locator("[data-frame]:visible").count() == 3
    shown = "[...document.querySelectorAll('[data-frame]')].map(f => getComputedStyle(f, '::before').content)"
    for label, content in zip(slider.labels, page.evaluate(shown), strict=True):
        assert content.startswith(f'"{label}. ')
    page.close()


@pytest.mark.slow
def test_an_epsilon_slider_at_227_is_under_400_kilobytes(squeezenet, correct):
    images, labels = correct.images[1:2], correct.labels[1:2]
    budgets = [eps / 255 for eps in (1, 2, 4, 8)]
    results = attacks.run_budgets(
        attacks.TopK(), squeezenet, images, labels, saliency.Gradient(), budgets=budgets, steps=10
    )
    assert len(widgets.EpsilonSlider(images, results, k=1000).html) < 400_000

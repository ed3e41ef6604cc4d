"""Predictions as a reader meets them: Markdown with folds, and with the script a form that keeps its answer back."""

import re
from pathlib import Path

import browsing
import pytest

from fragile_utils.course import load

ROOT = Path(__file__).resolve().parents[2]
PREDICT = [exercise for exercise in load(ROOT / "book" / "exercises").values() if exercise.kind == "predict"]
CHOSEN = [exercise for exercise in PREDICT if exercise.choices]
ESTIMATED = [exercise for exercise in PREDICT if exercise.estimate is not None]


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import predict_blocks

    return predict_blocks


@pytest.mark.parametrize("exercise", PREDICT, ids=lambda exercise: exercise.label)
def test_all_but_the_question_is_folded(exercise, blocks):
    text = blocks.as_markdown(exercise)
    open_text = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    assert exercise.statement in open_text
    answers = [choice.reply for choice in exercise.choices] + [cell.text for cell in exercise.solution]
    if exercise.estimate is not None:
        answers += [exercise.estimate.low, exercise.estimate.high, f"It is {exercise.estimate.value:g}"]
    for answer in answers:
        assert answer in text
        assert answer not in open_text
    assert text.count('<details class="right">') == 1
    assert text.count("<details") == text.count("</details>") == text.count("<summary>")


@pytest.mark.parametrize("exercise", PREDICT, ids=lambda exercise: exercise.label)
def test_the_question_alone_has_no_answer(exercise, blocks):
    text = blocks.as_question(exercise)
    assert exercise.statement in text
    assert all(f"- {choice.text}" in text for choice in exercise.choices)
    assert "**Right.**" not in text
    assert not any(choice.reply in text for choice in exercise.choices)


def test_the_script_is_on_pages_with_a_block_and_on_no_others(blocks):
    class App:
        def __init__(self):
            self.added = []

        def add_js_file(self, name, body):
            assert name is None, "the script stands in the page"
            self.added.append(body)

    app = App()
    blocks.add_script(app, "a", "page.html", {"body": "<p>fragile-predict</p>"}, None)
    blocks.add_script(app, "a", "page.html", {}, None)
    assert app.added == []
    blocks.add_script(app, "b", "page.html", {"body": blocks.as_markdown(PREDICT[0])}, None)
    assert len(app.added) == 1
    assert not re.search(r"https?:|import|fetch|</script", app.added[0])


# --- In a browser -----------------------------------------------------------------------------------------------------


def as_page(blocks, exercises):
    """A page with the blocks of some exercises and the script, as the site has them."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    body = "\n".join(markdown.render(blocks.as_markdown(exercise)) for exercise in exercises)
    script = blocks.SCRIPT.read_text(encoding="utf-8")
    head = f'<meta charset="utf-8"><title>Predict</title><script>{script}</script>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'


def said(box):
    return box.locator("[role=status]").inner_text()


@pytest.mark.slow
def test_a_choice_is_made_by_keyboard_and_answered(browser, blocks):
    tab = browser.new_page()
    tab.set_content(as_page(blocks, CHOSEN))
    for exercise in CHOSEN:
        box = tab.locator(f"#{exercise.label}")
        radios = box.get_by_role("radio")
        assert [label.inner_text().strip() for label in box.locator("label").all()] == [
            c.text for c in exercise.choices
        ]
        for i, choice in enumerate(exercise.choices):
            assert said(box) == ""
            radios.nth(i).focus()
            tab.keyboard.press("Space")
            tab.keyboard.press("Tab")
            tab.keyboard.press("Enter")
            assert said(box).startswith("Right." if choice.right else "No.")
            assert box.locator(".is-right").inner_text().strip() == next(c.text for c in exercise.choices if c.right)
            assert radios.nth(i).is_disabled()
            assert tab.evaluate("document.activeElement.textContent") == "Choose again"
            tab.keyboard.press("Enter")
            assert box.locator(".is-right").count() == 0
    tab.close()


@pytest.mark.slow
def test_a_number_is_judged_by_its_distance(browser, blocks):
    tab = browser.new_page()
    tab.set_content(as_page(blocks, ESTIMATED))
    for exercise in ESTIMATED:
        number, box = exercise.estimate, tab.locator(f"#{exercise.label}")
        for off, reply in ((0, "It is"), (0.9, "It is"), (-1.5, "You said less."), (1.5, "You said more.")):
            box.get_by_role("spinbutton").fill(f"{number.value + off * number.within:.6g}")
            tab.keyboard.press("Enter")
            assert f"It is {number.value:g}" in said(box)
            assert reply in said(box)
            assert ("You said" in said(box)) == (abs(off) > 1)
            box.get_by_role("button").click()
    tab.close()


@pytest.mark.slow
def test_nothing_is_answered_before_something_is_chosen(browser, blocks):
    tab = browser.new_page()
    tab.set_content(as_page(blocks, PREDICT[:1]))
    tab.get_by_role("button").click()
    assert said(tab.locator(f"#{PREDICT[0].label}")) == ""
    tab.close()


@pytest.mark.slow
def test_without_scripts_the_folds_answer(browser, blocks):
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.set_content(as_page(blocks, PREDICT[:1]))
        fold = tab.locator("details.right")
        assert not fold.get_by_text("Right.").is_visible()
        fold.locator("summary").press("Enter")
        assert fold.get_by_text("Right.").is_visible()


@pytest.mark.slow
def test_axe_finds_nothing_serious(browser, blocks):
    tab = browser.new_page()
    tab.set_content(as_page(blocks, PREDICT))
    tab.evaluate(browsing.axe_script())
    found = tab.evaluate("axe.run('main', {resultTypes: ['violations']})")["violations"]
    assert [violation["id"] for violation in found if violation["impact"] in ("serious", "critical")] == []
    tab.close()

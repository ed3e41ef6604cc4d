"""The slides of the built site: every part has them, and in a browser they fit and ask no other host."""

import hashlib
import importlib
import re
from pathlib import Path

import browsing
import pytest
from browsing import DESK, PHONE

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
VENDOR = ROOT / "book" / "slides" / "vendor" / "reveal"
HASHES = {
    "reveal.js": "46538b52db48724192f59bf46f5e851a18e302777c46f4a34c32709d010d6a29",
    "reveal.css": "68f915a11ebf7203c0446576b7e952ff61c5dd02134a8a226ffaf62ed42136d2",
    "notes.js": "df1201d19d03241a2897d39c3d38768177df1cbd4bde06327b321cb83461ae89",
}


@pytest.fixture
def slides(monkeypatch):
    pytest.importorskip("bs4", reason="the book's packages are not installed")
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return importlib.import_module("slides")


# --- From a page to slides -------------------------------------------------------------------------------------------

PAGE = """<html><body><article><section id="t"><h1>3. A title<a class="headerlink" href="#t">#</a></h1>
<div class="chapter-card"><p class="chapter-question">Why?</p><dl><dd><ul><li>do this</li></ul></dd></dl></div>
<p>Opening, see <a href="02_b.html#x">b</a>, <a href="#s">s</a> and <a href="../book/g.html">g</a>.</p>
<section id="s"><h2>3.1. With a figure</h2><p>Said first.</p><div class="cell_output">
<details><figure><img src="../_images/no.png"/></figure></details>
<figure id="fig-a"><img src="../_images/a.png" alt="A"/><figcaption><p>Caption.</p></figcaption></figure></div>
<p>Said after.</p></section>
<section id="e"><h2>3.2. An equation</h2><p>Before.</p><div class="math">\\[x\\]</div></section>
<section id="w"><h2>3.3. Words</h2><p>First sentence here. Second one.</p></section>
<section id="x"><h2>3.4. Exercises</h2><p>Secret task.</p></section>
</section></article></body></html>"""


@pytest.fixture
def made(slides, tmp_path):
    path = tmp_path / "chapters" / "03_t.html"
    path.parent.mkdir()
    path.write_text(PAGE, encoding="utf-8")
    return list(slides.slides_of(slides.read(path)))


def test_a_chapter_opens_with_the_question_of_its_card(made):
    assert "<h1>A title</h1>" in made[0]
    assert '<p class="question">Why?</p>' in made[0]
    assert "do this" in made[0]


def test_a_section_is_a_slide_but_for_exercises(made):
    assert [re.findall(r"<h2>(.*?)</h2>", text) for text in made[1:]] == [["With a figure"], ["An equation"], ["Words"]]
    assert "Secret" not in "".join(made)


def test_a_slide_shows_a_figure_else_an_equation_else_a_sentence(made):
    shown = [text.partition('<aside class="notes">')[0] for text in made]
    assert "a.png" in shown[1]
    assert "Caption." in shown[1]
    assert "no.png" not in shown[1]
    assert "\\[x\\]" in shown[2]
    assert "First sentence here.</p>" in shown[3]


def test_what_is_said_is_in_the_notes(made):
    notes = [text.partition('<aside class="notes">')[2] for text in made]
    assert "Said first." in notes[1]
    assert "Said after." in notes[1]
    assert "Second one." in notes[3]


def test_links_lead_to_the_pages_of_the_book(made):
    assert re.findall(r'href="([^"]+)"', made[0]) == [
        "../chapters/03_t.html",
        "../chapters/02_b.html#x",
        "../chapters/03_t.html#s",
        "../book/g.html",
    ]
    assert 'href="../chapters/03_t.html#s">in the book' in made[1]


def test_a_chapter_that_was_not_executed_says_so(slides, tmp_path):
    path = tmp_path / "03_t.html"
    path.write_text(PAGE.replace("cell_output", "cell_input"), encoding="utf-8")
    assert slides.NOT_EXECUTED in next(slides.slides_of(slides.read(path)))


def test_executed_chapters_do_not_say_so(slides, made):
    assert slides.NOT_EXECUTED not in made[0]


def test_a_part_without_its_pages_is_refused(slides, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no 01_a_first_broken_explanation"):
        slides.write(tmp_path)


def test_every_chapter_is_in_a_part(slides):
    chapters = [chapter for _, pages in slides.parts() for chapter in pages]
    assert sorted(chapters) == sorted(f"chapters/{path.stem}" for path in (ROOT / "chapters").glob("*.ipynb"))


@pytest.mark.parametrize("name", HASHES)
def test_the_vendored_files_are_those_of_the_package(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == HASHES[name]


def test_the_licence_of_what_is_vendored_stands_beside_it():
    assert "Permission is hereby granted, free of charge" in (VENDOR / "LICENSE").read_text(encoding="utf-8")


# --- On the site -----------------------------------------------------------------------------------------------------

DECKS = sorted((SITE / "slides").glob("*.html"))


@pytest.fixture(scope="module")
def site():
    if not DECKS:
        pytest.skip("there are no slides to look at: run `make book`")
    with browsing.served(SITE) as address:
        yield address


def test_every_part_has_slides_and_every_chapter_its_question(slides):
    if not DECKS:
        pytest.skip("there are no slides to look at: run `make book`")
    parts = dict(slides.parts())
    assert [path.stem for path in DECKS] == sorted(map(slides.slug, parts))
    for title, chapters in parts.items():
        text = (SITE / "slides" / f"{slides.slug(title)}.html").read_text(encoding="utf-8")
        assert text.count('<p class="question">') == len(chapters)
        drawn = ["<figure" in (SITE / f"{chapter}.html").read_text(encoding="utf-8") for chapter in chapters]
        assert text.count("<figure") >= sum(drawn)
        assert text.count("What you should take away") == len(chapters)


each_deck = pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)


@each_deck
def test_on_a_desk_every_slide_fits_and_no_other_host_is_asked(browser, site, path):
    with browsing.watched(browser, site, viewport=DESK | {"height": 720}) as (tab, problems):
        tab.goto(f"{site}slides/{path.name}", wait_until="networkidle")
        tab.wait_for_selector(".reveal.ready", timeout=120_000)
        tab.evaluate("window.MathJax.startup.promise")
        count = tab.evaluate("Reveal.getTotalSlides()")
        assert count > 5
        for i in range(count):
            tab.evaluate("i => Reveal.slide(i)", i)
            slide = tab.evaluate_handle("Reveal.getCurrentSlide()")
            over = tab.evaluate("slide => slide.scrollHeight - slide.clientHeight", slide)
            words = tab.evaluate("slide => slide.querySelector('h1, h2').textContent", slide)
            assert over <= 1, words
            assert tab.evaluate("slide => [...slide.querySelectorAll('img')].every(i => i.naturalWidth > 0)", slide)
        assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert problems == []


@each_deck
def test_on_a_phone_a_deck_is_a_page_that_fits(browser, site, path):
    with browsing.watched(browser, site, viewport=PHONE) as (tab, problems):
        tab.goto(f"{site}slides/{path.name}", wait_until="networkidle")
        tab.evaluate("window.MathJax.startup.promise")
        assert tab.locator(".reveal").count() == 0
        assert all(heading.is_visible() for heading in tab.locator("h1, h2").all())
        assert tab.locator("aside.notes:not(:empty)").last.is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert problems == []


def test_slides_move_by_keyboard_and_the_speaker_has_notes(browser, site):
    with browsing.watched(browser, site, viewport=DESK) as (tab, problems):
        tab.goto(f"{site}slides/{DECKS[0].name}", wait_until="networkidle")
        tab.wait_for_selector(".reveal.ready", timeout=120_000)
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("Reveal.getIndices().h") == 1
        while not tab.evaluate("Reveal.getCurrentSlide().querySelector('aside').textContent.trim()"):
            assert not tab.evaluate("Reveal.isLastSlide()")
            tab.keyboard.press("Space")
        with tab.expect_popup() as opened:
            tab.keyboard.press("s")
        notes = opened.value
        notes.wait_for_selector(".speaker-controls-notes:not(.hidden)")
        said = tab.evaluate("Reveal.getCurrentSlide().querySelector('aside').textContent.trim().slice(0, 40)")
        assert said in notes.locator(".speaker-controls-notes").inner_text()
        assert problems == []

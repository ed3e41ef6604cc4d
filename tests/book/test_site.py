"""The built site, as a reader's browser meets it: every link leads somewhere, and nothing is asked of other hosts."""

import ast
import functools
import importlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browsing
import pytest
from browsing import DESK, PHONE

from fragile_utils.course import load

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings tomli there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"

if not (SITE / "searchindex.js").exists():
    pytest.skip("there is no built site to look at: run `make book`", allow_module_level=True)

# The search index lists the documents of the last build; the folder may hold pages of earlier ones besides.
DOCUMENTS = json.loads(re.search(r'"docnames": (\[.*?\])', (SITE / "searchindex.js").read_text(encoding="utf-8"))[1])
SLIDES = [f"slides/{path.name}" for path in sorted((SITE / "slides").glob("*.html"))]
PAGES = ["index.html", "genindex.html", "search.html", "laboratory/index.html", *SLIDES]
PAGES += [f"{name}.html" for name in DOCUMENTS]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

LOADED = {"src", "srcset", "poster", "data"}  # attributes whose URL the browser fetches by itself
NOT_LOADED = {
    "author",
    "canonical",
    "index",
    "license",
    "next",
    "prev",
    "search",
}  # relations of <link> that it does not

each_page = pytest.mark.parametrize("page", PAGES)


class Page(HTMLParser):
    """What a page contains, as far as the tests below ask."""

    def __init__(self, path):
        super().__init__()
        self.ids = set()
        self.links = []  # every URL that the page names
        self.loaded = []  # those among them that the browser fetches by itself
        self.images = []  # (attributes, inside the article, inside a figure)
        self.figures = []  # the text of each figure's caption
        self.sliders = 0
        self.style = ""
        self.open = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = {name: value or "" for name, value in attributes}
        self.ids.update(attributes[name] for name in ("id", "name") if name in attributes)
        if tag in ("article", "figure", "figcaption", "style"):
            self.open.append(tag)
        if tag == "figure":
            self.figures.append("")
        if tag == "img":
            self.images.append((attributes, "article" in self.open, "figure" in self.open))
        if tag == "input" and attributes.get("type") == "range":
            self.sliders += 1
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
            self.links.append(attributes["content"].partition("url=")[2])
        if "href" in attributes:
            self.links.append(attributes["href"])
            if tag == "link" and not NOT_LOADED & {*attributes.get("rel", "").split()}:
                self.loaded.append(attributes["href"])
        for name in LOADED & {*attributes}:
            urls = [part.split()[0] for part in attributes[name].split(",")] if name == "srcset" else [attributes[name]]
            self.links += urls
            self.loaded += urls
        self.style += attributes.get("style", "")

    def handle_endtag(self, tag):
        if tag in self.open:
            self.open.remove(tag)

    def handle_data(self, data):
        if "figcaption" in self.open:
            self.figures[-1] += data
        if "style" in self.open:
            self.style += data


@functools.cache
def read(path):
    return Page(path)


# --- Without a browser ------------------------------------------------------------------------------------------------


@each_page
def test_every_internal_link_and_anchor_resolves(page):
    assert list(broken_links(SITE / page)) == []


def broken_links(path):
    for link in read(path).links:
        url = urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        if target.is_dir():
            target /= "index.html"
        found = target.is_relative_to(SITE) and target.exists()
        names_an_anchor = url.fragment and target.suffix == ".html"
        if not found or (names_an_anchor and unquote(url.fragment) not in read(target).ids):
            yield link


@each_page
def test_a_page_loads_nothing_from_another_host(page):
    assert [url for url in read(SITE / page).loaded if urlsplit(url).netloc] == []
    assert hosts_in_css(read(SITE / page).style) == []


def test_no_stylesheet_loads_anything_from_another_host():
    sheets = {path: hosts_in_css(path.read_text(encoding="utf-8")) for path in SITE.rglob("*.css")}
    assert {path: found for path, found in sheets.items() if found} == {}


def hosts_in_css(css):
    return re.findall(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""", css)


@each_page
def test_every_image_has_alternative_text(page):
    assert [image["src"] for image, _, _ in read(SITE / page).images if not image.get("alt", "").strip()] == []


@each_page
def test_every_image_of_ours_is_a_figure_with_a_caption(page):
    content = read(SITE / page)
    # The frames of a slider are its own pictures: they have titles, and the slider says what they show.
    alone = [image["src"] for image, ours, in_figure in content.images if ours and not in_figure]
    assert [src[:80] for src in alone if not src.startswith("data:image/webp;")] == []
    captions = [re.sub(r"^\s*Figure\s+[\d.]+\s*|#\s*$", "", caption).strip() for caption in content.figures]
    assert all(captions), captions


@pytest.mark.parametrize("document", DOCUMENTS)
def test_colab_opens_the_notebook_of_a_chapter_and_nothing_else(document):
    notebook = f"{document}.ipynb"
    address = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github")
    links = [url for url in read(SITE / f"{document}.html").links if "colab" in urlsplit(url).netloc]
    assert links == ([f"{address}/blob/main/{notebook}"] if (ROOT / notebook).exists() else [])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_page_leads_to_the_repository(document):
    assert REPOSITORY in read(SITE / f"{document}.html").links


def test_no_answer_of_the_examination_is_on_the_site(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "course")
    bank = importlib.import_module("bank")
    said = {" ".join(words(step)) for entry in bank.load() for _, step in entry.draw(0).steps if len(words(step)) > 4}
    assert len(said) > 100
    for path in [*SITE.rglob("*.html"), *SITE.rglob("*.ipynb"), *SITE.rglob("*.md"), *SITE.rglob("searchindex.js")]:
        shown = " ".join(words(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))))
        assert [step for step in said if step in shown] == [], path


def words(text):
    return re.findall(r"[^\W\d_]+", text)


# --- In a browser -----------------------------------------------------------------------------------------------------

THEME_ERRORS = ()  # messages on the console that are the theme's own, to be ignored: none at present


@pytest.fixture(scope="module")
def site():
    with browsing.served(SITE) as address:
        yield address


@pytest.fixture
def tab(browser, site):
    """A tab in which the site is all there is, and the list of what went wrong in it."""
    with browsing.watched(browser, site, THEME_ERRORS) as watched:
        yield watched


# What the theme does to our content, and we cannot mend there: rule of axe, and why it is let pass.
THEME_VIOLATIONS: dict[str, str] = {}

# Contrast is what takes long, and a page has thousands of elements that look alike. Two of them have the same contrast
# when they and all that they stand in have the same style, in both schemes, so the first of each look is examined for
# all. What looks like another within code, and the signs of a formula, then say nothing more to any rule.
MARK_LOOKS = """() => {
    const STYLE = ['color', 'backgroundColor', 'backgroundImage', 'opacity', 'fontSize', 'fontWeight', 'position',
        'display', 'visibility', 'textShadow', 'filter', 'mixBlendMode'];
    const looks = new Map(), seen = new Set();
    const look = (element) => {
        if (element === null) return '';
        if (!looks.has(element)) {
            const style = getComputedStyle(element);
            looks.set(element, [look(element.parentElement), ...STYLE.map((name) => style[name])].join('|'));
        }
        return looks.get(element);
    };
    for (const element of document.querySelectorAll('article *')) {
        const speaks = element.matches('input, select, textarea')
            || [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        const shown = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
        if (!speaks || !shown || seen.has(look(element))) continue;
        seen.add(look(element));
        element.setAttribute('data-first-of-its-look', '');
    }
}"""
LEAVE_THE_FIRST = """() => {
    const of_a_look = '[data-first-of-its-look]';
    for (const element of document.querySelectorAll('article pre *')) {
        if (!element.matches(of_a_look) && !element.querySelector(of_a_look)) element.replaceWith(element.textContent);
    }
    for (const formula of document.querySelectorAll('article mjx-container')) formula.replaceChildren();
    axe.configure({ rules: [{ id: 'color-contrast', selector: of_a_look }] });
}"""
USE = "scheme => { document.documentElement.dataset.theme = scheme }"
OF_COLOUR = ["color-contrast", "link-in-text-block"]  # the rules whose answer depends on the scheme


@pytest.fixture(scope="module")
def axe():
    return browsing.axe_script()


def serious(tab):
    """What axe calls serious or critical in the content of a page, by scheme and rule: where each begins."""
    found = {}
    for scheme in ("dark", "light"):
        tab.evaluate(USE, scheme)
        tab.evaluate(MARK_LOOKS)
    tab.evaluate(LEAVE_THE_FIRST)
    for scheme, rules in (("light", None), ("dark", OF_COLOUR)):
        tab.evaluate(USE, scheme)
        options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
        for violation in tab.evaluate("options => axe.run('article', options)", options)["violations"]:
            if violation["impact"] in ("serious", "critical") and violation["id"] not in THEME_VIOLATIONS:
                found[f"{violation['id']}, {scheme}"] = [node["html"][:200] for node in violation["nodes"]][:5]
    return found


@each_page
def test_a_page_is_whole_readable_and_fits_a_phone(tab, site, axe, page):
    """One visit for all that needs no hand: opening a page takes longer than looking at it."""
    tab, problems = tab
    tab.goto(site + page, wait_until="networkidle")
    found, ours = {}, page.removesuffix(".html") in DOCUMENTS
    if ours:
        tab.evaluate("window.MathJax?.startup?.promise")
        found["not typeset"] = tab.locator(".math:not(:has(mjx-container))").all_text_contents()
        found["wrong mathematics"] = tab.locator("mjx-merror, [data-mjx-error]").all_text_contents()
    found["problems"] = [*problems]  # those of the page: axe looks for style sheets that are not there
    tab.set_viewport_size(PHONE)
    width = tab.evaluate("document.documentElement.scrollWidth")
    found["wider than a phone"] = [] if width <= PHONE["width"] else [width]
    if ours:
        tab.set_viewport_size(DESK)
        tab.evaluate(axe)
        found |= serious(tab)
    assert {what: where for what, where in found.items() if where} == {}


def test_the_search_finds_a_page(tab, site):
    tab, problems = tab
    tab.goto(f"{site}search.html?q=saliency")
    tab.locator("#search-results li a").first.wait_for()
    assert problems == []


# --- Sliders ----------------------------------------------------------------------------------------------------------

WITH_SLIDERS = [document for document in DOCUMENTS if read(SITE / f"{document}.html").sliders]


def test_the_landing_page_shows_a_slider():
    assert read(SITE / "book" / "index.html").sliders == 1


FRAMES = """slider => [...slider.querySelectorAll('[data-frame]')].map(frame => ({
    name: frame.dataset.frame,
    visible: frame.getClientRects().length > 0 && frame.checkVisibility({visibilityProperty: true}),
    drawn: [...frame.querySelectorAll('img')].every(image => image.naturalWidth > 0),
}))"""


@pytest.mark.parametrize("document", WITH_SLIDERS)
def test_a_slider_walks_through_all_its_frames_by_keyboard(tab, site, document):
    tab, problems = tab
    tab.goto(f"{site}{document}.html", wait_until="networkidle")
    sliders = tab.locator(".fragile-slider:visible")
    assert sliders.count() > 0
    for slider in sliders.all():
        control, frames = slider.locator("input[type=range]"), slider.locator("[data-frame]")
        count = frames.count()
        assert control.get_attribute("max") == str(count - 1)
        control.focus()
        tab.keyboard.press("Home")
        shown = []
        for i in range(count):
            state = slider.evaluate(FRAMES)
            assert [frame["visible"] for frame in state] == [j == i for j in range(count)]
            assert control.get_attribute("aria-valuetext") == state[i]["name"]
            assert state[i]["drawn"]
            shown.append(slider.inner_text())
            tab.keyboard.press("ArrowRight")
        assert all(before != after for before, after in itertools.pairwise(shown))
        assert slider.inner_text() == shown[-1], "beyond the last frame nothing changes"
    assert problems == []


@pytest.mark.parametrize("document", WITH_SLIDERS)
def test_without_scripts_all_frames_of_a_slider_are_shown(browser, site, document):
    with browser.new_context(viewport=DESK, java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(f"{site}{document}.html")
        frames = tab.locator(".fragile-slider [data-frame]").all()
        assert frames
        assert all(frame.is_visible() for frame in frames if not frame.locator("xpath=ancestor::details").count())


# --- What is not for everybody ---------------------------------------------------------------------------------------


def names_of_tests(code):
    functions = (node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))
    return {name for name in functions if name.startswith("test_")}


def test_no_hidden_test_is_on_the_site():
    """Neither on a page, nor in its source or what the search knows. The page on writing exercises shows an example."""
    exercises = load(ROOT / "book" / "exercises").values()
    shown = re.findall(r"def (test_\w+)", (ROOT / "book" / "writing_exercises.md").read_text(encoding="utf-8"))
    public = set().union(*(names_of_tests(exercise.public) for exercise in exercises))
    hidden = set().union(*(names_of_tests(exercise.hidden) for exercise in exercises)) - public - {*shown}
    assert len(hidden) > 20
    for path in SITE.rglob("*"):
        if path.suffix in {".html", ".ipynb", ".md", ".js", ".json", ".txt"}:
            words = {*re.findall(r"test_\w+", path.read_text(encoding="utf-8", errors="replace"))}
            assert words & hidden == set(), path

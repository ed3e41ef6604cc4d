"""Slides for each part of the book, made from its built pages: with the site, or alone by `make slides`.

A chapter opens with the question of its card. Each section is a slide: its heading, and its first figure with the
caption, or its first equation, or its first list or sentence. What the section says is in the speaker's notes. As the
pages are those that were built, figures are those of the executed cells, and numbers and links are the book's own.

nbconvert has an exporter of slides. It knows neither the directives and references of the chapters nor the version of
MathJax that the site serves, so that only its use of reveal.js is followed here.
"""

import re
import shutil
import sys
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup
from repository_url import ROOT

SOURCE = ROOT / "book" / "slides"
LEFT_OUT = {"Exercises", "Limits"}  # sections that are no slide, by their first word
NOTES = 300  # words that a speaker can take in with a slide
NOT_EXECUTED = "This chapter was not executed when the page was built: its figures are missing."


def setup(app):
    app.connect("build-finished", write_with_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_with_site(app, exception):
    if exception is None and app.builder.name == "html":
        write(Path(app.outdir))


def write(site, root=ROOT):
    """Write the slides of every part into the folder `slides` of a built site, and return their paths."""
    folder = site / "slides"
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    written = []
    for title, chapters in parts(root):
        pages = [site / f"{chapter}.html" for chapter in chapters]
        missing = [page.name for page in pages if not page.exists()]
        if missing:
            raise FileNotFoundError(f"expected the built pages of part {title!r}, but there is no {missing[0]}")
        path = folder / f"{slug(title)}.html"
        path.write_text(deck(title, [read(page) for page in pages]), encoding="utf-8")
        written.append(path)
    return written


def parts(root=ROOT):
    """The parts of the book that have chapters: title, and the names of their pages."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    for part in contents["parts"]:
        chapters = [page["file"] for page in part["chapters"] if page["file"].startswith("chapters/")]
        if chapters:
            yield part["caption"], chapters


def slug(title):
    return re.sub(r"\W+", "-", title.lower()).strip("-")


# --- From a page to slides --------------------------------------------------------------------------------------------


def read(page):
    """The content of a page, with links that lead to the same places from the folder of the slides."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    for extra in article.select(".headerlink, script, style"):
        extra.decompose()
    for link in article.find_all("a", href=True):
        url = urlsplit(link["href"])
        if not url.netloc and not url.path:
            link["href"] = f"../{page.parent.name}/{page.name}#{url.fragment}"
        elif not url.netloc and not url.path.startswith("../"):
            link["href"] = f"../{page.parent.name}/{link['href']}"
    for named in article.find_all(id=True):
        if named.name != "section":
            del named["id"]
    article["data-page"] = f"../{page.parent.name}/{page.name}"
    return article


def slides_of(article):
    """The slides of a chapter, as HTML."""
    page = article["data-page"]
    top = article.find("section")
    yield slide(title_slide(article, top), opening(top), page)
    for section in top.find_all("section", recursive=False):
        heading = section.find("h2").extract()
        words = heading_words(heading)
        if words.split()[0] in LEFT_OUT:
            continue
        content = shown(section)
        yield slide(f"<h2>{escape(words)}</h2>{content}", paragraphs(section), f"{page}#{section['id']}")


def title_slide(article, top):
    """The title of a chapter, its question, and what one will be able to do."""
    parts = [f"<h1>{escape(heading_words(top.find('h1')))}</h1>"]
    card = top.select_one(".chapter-card")
    if card:
        parts.append(f'<p class="question">{card.select_one(".chapter-question").decode_contents()}</p>')
        parts.append(str(card.find("ul")))
        card.extract()
    if not article.select_one(".cell_output"):
        parts.append(f"<p>{NOT_EXECUTED}</p>")
    return "".join(parts)


def heading_words(heading):
    """The words of a heading, without its number."""
    return re.sub(r"^[\d.]+\s*", "", heading.get_text().strip())


def shown(section):
    """What a section shows: its first figure, equation, list or sentence."""
    for wanted in ("figure", "div.math", "ul, ol"):
        found = next((node for node in section.select(wanted) if not hidden(node)), None)
        if found is not None:
            found.extract()
            return str(found)
    first = section.find("p")
    return f"<p>{first_sentence(first)}</p>" if first else ""


def hidden(node):
    """Whether a node stands in something folded, an exercise, or the output of a check."""
    return node.find_parent(["details"]) is not None or node.find_parent(class_=["exercise", "solution"]) is not None


def first_sentence(paragraph):
    """A paragraph up to the end of its first sentence, as HTML."""
    html = paragraph.decode_contents()
    return re.split(r"(?<=[a-z*)>][.?!])\s+(?=[A-Z<])", html, maxsplit=1)[0]


def opening(top):
    """What is said with the title: the paragraphs before the first section."""
    return limited(top.find_all("p", recursive=False))


def paragraphs(section):
    return limited(section.find_all("p", recursive=False))


def limited(found):
    """Paragraphs, up to a number of words."""
    kept, count = [], 0
    for paragraph in found:
        count += len(paragraph.get_text().split())
        if kept and count > NOTES:
            break
        kept.append(str(paragraph))
    return "".join(kept)


def slide(content, notes, source):
    where = f'<p class="where"><a href="{source}">in the book</a></p>'
    return f'<section>{content}{where}<aside class="notes">{notes}</aside></section>'


# --- The page ---------------------------------------------------------------------------------------------------------

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="stylesheet" href="vendor/reveal/reveal.css">
<link rel="stylesheet" href="deck.css">
<script defer src="../vendor/mathjax/tex-chtml-full.js"></script>
<script defer src="vendor/reveal/reveal.js"></script>
<script defer src="vendor/reveal/notes.js"></script>
<script defer src="deck.js"></script>
</head>
<body>
<main class="deck"><div class="slides">
{slides}
</div></main>
</body>
</html>
"""


def deck(title, articles):
    """The page of a part."""
    links = "".join(
        f'<li><a href="{article["data-page"]}">{escape(heading_words(article.find("h1")))}</a></li>'
        for article in articles
    )
    keys = "Arrow keys move. <kbd>S</kbd> opens the speaker's notes, <kbd>F</kbd> fills the screen."
    first = f"<h1>{escape(title)}</h1><ul>{links}</ul>"
    slides = [slide(first, f"<p>{keys}</p>", "../book/teaching.html")]
    slides += [made for article in articles for made in slides_of(article)]
    return PAGE.format(title=escape(title), slides="\n".join(slides))


if __name__ == "__main__":
    try:
        print(*write(ROOT / "_build" / "html"), sep="\n")
    except FileNotFoundError as error:
        sys.exit(f"slides: {error} (make book builds the site)")

"""The book's sources, read without running them: what every chapter has, and what nothing may lack or have twice."""

import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
FRONT_AND_BACK = sorted(path for path in (ROOT / "book").rglob("*.md") if path.parent.name != "exercises")
PAGES = CHAPTERS + FRONT_AND_BACK
PACKAGE = ROOT / "fragile_utils"
LONGEST_CELL = 25  # lines


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


# --- What a page says -------------------------------------------------------------------------------------------------


def cells(path):
    """The cells of a notebook; those of a MyST page are its fences `code-cell`, without their settings."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4).cells
    fences = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", source(path), flags=re.MULTILINE | re.DOTALL)
    code = (re.sub(r"\A---\n.*?^---\n", "", fence, flags=re.MULTILINE | re.DOTALL) for fence in fences)
    return [nbformat.v4.new_code_cell(text) for text in code]


def source(path):
    return path.read_text(encoding="utf-8")


def code_cells(path):
    return [cell for cell in cells(path) if cell.cell_type == "code"]


def prose(path):
    """The text of a page, without its code."""
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")
    return source(path)


def headings(path):
    """The headings of a page, as (level, text); lines of code are none."""
    text = re.sub(r"^(`{3,}).*?^\1", "", prose(path), flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.+)$", text, flags=re.MULTILINE)]


def figures(path):
    """The figures that the cells of a notebook draw: (name, caption, alternative text)."""
    for cell in code_cells(path):
        settings = cell.metadata.get("mystnb", {})
        if "figure" in settings or "image" in settings:
            figure = settings.get("figure", {})
            yield figure.get("name"), figure.get("caption"), settings.get("image", {}).get("alt")


def labels(path):
    """Every label that a page gives: to equations, exercises, sections and figures."""
    text = prose(path)
    yield from re.findall(r"^:label: *(\S+)", text, flags=re.MULTILINE)
    yield from re.findall(r"^\((\S+)\)=$", text, flags=re.MULTILINE)
    yield from re.findall(r"^\$\$ *\((\S+)\)$", text, flags=re.MULTILINE)
    yield from (name for name, _, _ in figures(path))


def cited(path):
    """Every key that a page cites."""
    for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", source(path)):
        yield from (key.strip() for key in keys.split(","))


def bibliography():
    """The keys of the bibliography, and the text of each entry."""
    parts = re.split(r"^@\w+\{([^,\s]+),", source(ROOT / "book" / "references.bib"), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


# --- Figures ----------------------------------------------------------------------------------------------------------


@each(CHAPTERS)
def test_a_figure_has_a_name_a_caption_and_alternative_text(path):
    for name, caption, alternative in figures(path):
        assert name
        assert name.startswith("fig-")
        assert caption, name
        assert len(caption) > 20, name
        assert alternative, name
        assert alternative != caption, name


@each(CHAPTERS)
def test_a_cell_that_draws_is_a_figure(path):
    """A figure of matplotlib as the last value of a cell would stand on the page without number and caption."""
    for cell in code_cells(path):
        last = cell.source.rstrip().splitlines()[-1]
        draws = re.fullmatch(r"(figure|fig|plots\.(before_after|exemplars)\(.*\))", last)
        hidden = {"remove-output", "remove-cell", "hide-output"} & {*cell.metadata.get("tags", ())}
        assert not draws or hidden or "figure" in cell.metadata.get("mystnb", {}), cell.source


@each(CHAPTERS)
def test_every_figure_is_referred_to(path):
    text = "\n".join(map(prose, PAGES))
    referred = set(re.findall(r"\{(?:numref|ref)\}`(?:[^`<]*<)?([\w-]+)>?`", text))
    assert {name for name, _, _ in figures(path)} - referred == set()


# --- Labels and citations ---------------------------------------------------------------------------------------------


def test_no_label_is_given_twice():
    counts = Counter(label for path in PAGES for label in labels(path))
    assert [label for label, count in counts.items() if count > 1] == []


@each(PAGES)
def test_every_work_that_is_cited_is_in_the_bibliography(path):
    assert {*cited(path)} - {key for key, _ in bibliography()} == set()


def test_every_work_in_the_bibliography_is_cited():
    assert {key for key, _ in bibliography()} - {key for path in PAGES for key in cited(path)} == set()


def test_no_work_is_in_the_bibliography_twice():
    keys, entries = zip(*bibliography(), strict=True)
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    numbers = [number for entry in entries for number in re.findall(r"^ *(?:eprint|doi) *= \{(.+)\}", entry, re.M)]
    assert [number for number, count in Counter(numbers).items() if count > 1] == []


@pytest.mark.parametrize(("key", "entry"), bibliography(), ids=[key for key, _ in bibliography()])
def test_a_work_can_be_found(key, entry):
    fields = dict(re.findall(r"^ *(\w+) *= \{(.+)\},?$", entry, flags=re.MULTILINE))
    assert {"author", "title", "year"} <= {*fields}
    assert re.fullmatch(r"(18|19|20)\d\d", fields["year"])
    assert re.fullmatch(r"\d{4}\.\d{4,5}", fields.get("eprint", "0000.0000"))
    assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "10.0000/none"))
    # Books, and papers in proceedings that number neither, are found by who published them.
    assert {"eprint", "doi", "url", "booktitle", "publisher"} & {*fields}


# --- Chapters ---------------------------------------------------------------------------------------------------------


@each(CHAPTERS)
def test_a_chapter_has_exercises_and_ends_with_what_to_take_away(path):
    second = [words for level, words in headings(path) if level == 2]
    assert second[-2:] == ["Exercises", "What you should take away"]
    exercises = re.findall(r"^`{3,}\{exercise(?:-start)?\}", prose(path), flags=re.MULTILINE)
    assert 2 <= len(exercises) <= 8


@each(CHAPTERS)
def test_exercises_have_labels_and_solutions_name_them(path):
    text = prose(path)
    exercises = re.findall(r"^`{3,}\{exercise(?:-start)?\}[^\n]*\n:label: (ex-\S+)$", text, flags=re.MULTILINE)
    assert len(exercises) == len(re.findall(r"^`{3,}\{exercise(?:-start)?\}", text, flags=re.MULTILINE))
    solutions = re.findall(r"^`{3,}\{solution(?:-start)?\} *(\S+)\n((?::.*\n)*)", text, flags=re.MULTILINE)
    assert sorted(exercise for exercise, _ in solutions) == sorted(exercises), "each exercise has a solution"
    assert all(":class: dropdown" in options for _, options in solutions), "solutions are folded"


@each(CHAPTERS)
def test_a_chapter_has_one_title_and_checks_its_claims(path):
    assert [level for level, _ in headings(path)].count(1) == 1
    assert headings(path)[0][0] == 1
    assert any(re.search(r"^\s*check\(", cell.source, flags=re.MULTILINE) for cell in code_cells(path))


@each(CHAPTERS)
def test_checks_stand_in_folded_cells_of_their_own(path):
    """Their code is not in the way of a reader; on Colab and in JupyterLab it is folded as well."""
    for cell in code_cells(path):
        checks = re.search(r"\bcheck\(", cell.source) is not None
        assert checks == ("check" in cell.metadata.get("tags", ())), cell.source
        if checks:
            assert "hide-input" in cell.metadata["tags"], cell.source
            assert cell.metadata["jupyter"] == {"source_hidden": True}, cell.source
            assert not re.search(r"\b(print|display|def)\b", cell.source), cell.source


@each(CHAPTERS)
def test_the_formatter_formats_every_cell(path):
    assert not any(re.search(r"# fmt: *(skip|off)", cell.source) for cell in code_cells(path))


@each(PAGES)
def test_a_cell_is_not_long(path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source


@each(PAGES)
def test_a_page_is_in_the_table_of_contents(path):
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    contents = source(ROOT / "_toc.yml")
    assert len(re.findall(rf"^(?:root| *- file): {re.escape(name)}$", contents, flags=re.MULTILINE)) == 1


# --- The reference ----------------------------------------------------------------------------------------------------


def modules():
    """The names of rooms and of the files in them, but for private ones and the command line."""
    for path in PACKAGE.rglob("*.py"):
        parts = [part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__"]
        private = any(part.startswith("_") for part in parts if part != "_base")
        if parts and not private and parts[0] != "cli":
            yield ".".join(parts)


def test_the_reference_has_every_module_once_on_the_page_of_its_room():
    documented = [
        (name, path.stem)
        for path in FRONT_AND_BACK
        for name in re.findall(r"^\.\. automodule:: fragile_utils\.([\w.]+)$", source(path), flags=re.MULTILINE)
    ]
    machinery = ("_base", "saliency.propagation", "saliency.relevance")
    pages = {name: "machinery" if name.startswith(machinery) else name.split(".")[0] for name in modules()}
    assert sorted(documented) == sorted(pages.items())


def test_the_reference_shows_the_help_of_every_command():
    commands = {path.stem for path in (PACKAGE / "cli").glob("[!_]*.py")}
    page = source(ROOT / "book" / "api" / "command_line.md")
    assert sorted(re.findall(r'^show_help\("(\w+)"\)$', page, flags=re.MULTILINE)) == sorted(commands)


# --- What the build adds to Jupyter Book ------------------------------------------------------------------------------


def test_formulas_in_docstrings_are_kept_as_they_are(extension):
    from docutils.core import publish_doctree

    lines = ["The norm |d| with ``|x|``:", "", "    a = |b|", "      + c_", "", "Parameters"]
    text = "\n".join(extension("plain_docstrings").as_restructured_text(lines))
    document = publish_doctree(text, settings_overrides={"report_level": 5})
    first, literal, last = document.children
    assert first.astext() == "The norm |d| with |x|:"
    assert (literal.tagname, literal.astext()) == ("literal_block", "a = |b|\n  + c_")
    assert last.astext() == "Parameters"
    assert not list(document.findall(lambda node: node.tagname in ("system_message", "problematic")))


@pytest.mark.parametrize(
    ("name", "where", "leads_to"),
    [
        ("attacks.run", "fragile_utils.plots.attack", "fragile_utils.attacks.maps.run"),
        ("TopK", "fragile_utils.attacks", "fragile_utils.attacks.objectives.TopK"),
        ("Batch.label_names", "fragile_utils.data.sources", "fragile_utils.data.batch.Batch.label_names"),
        ("fragile_utils.experiments.Sweep", None, "fragile_utils.experiments.sweep.Sweep"),
        ("plots.widgets", "fragile_utils.plots", "fragile_utils.plots.widgets"),
        ("data.image_files", None, "fragile_utils.data.folders.image_files"),
        ("data", "fragile_utils.experiments.sweep", None),  # the module there, but a parameter in docstrings
        ("attacks.nothing", "fragile_utils.attacks", None),
    ],
)
def test_a_name_in_a_docstring_leads_to_where_it_is_defined(extension, name, where, leads_to):
    found = [full for full in extension("plain_docstrings").meanings(name, where) if full.startswith("fragile_utils")]
    assert found[:1] == ([] if leads_to is None else [leads_to])


def test_a_name_stands_in_the_reference_as_one_writes_it(extension):
    written = extension("plain_docstrings").written
    assert written("fragile_utils.attacks.maps", "run") == "attacks"
    assert written("fragile_utils.attacks.regions", "rectangle") == "regions"
    assert written("fragile_utils.metrics", "compare") == "metrics"


def test_the_role_finds_the_chapter_of_a_number(extension):
    find = extension("chapter_role").find
    pages = [f"chapters/{path.stem}" for path in CHAPTERS]
    assert [find(pages, int(path.stem[:2])) for path in CHAPTERS] == pages
    assert find(pages, 99) is None


def test_a_signature_on_several_lines_is_no_list_of_definitions(extension):
    html = '<dl>\n<dd><em class="sig-param">x</em>,</dd>\n<dd><em class="sig-param">y</em>,</dd>\n</dl>\n'
    other = "<dl>\n<dt>a</dt><dd>b</dd>\n</dl>\n"
    lines = '<span class="sig-line"><em class="sig-param">{}</em>,</span>'
    assert extension("accessible_html").mend(html + other) == lines.format("x") + lines.format("y") + other


def test_the_status_page_knows_what_a_page_reads(extension):
    data_of = extension("build_status").data_of
    assert data_of("model = models.squeezenet()") == []
    found = data_of("batch = data.imagenet_samples()[1]\nsettings, table = data.results('x')")
    assert found == ["20 ImageNet images (embedded)", "stored results"]


def test_the_list_of_claims_reads_what_check_writes(extension, monkeypatch):
    from docutils import nodes

    from fragile_utils import claims

    pages = []
    monkeypatch.setattr(claims, "_present", lambda claim: pages.append(claims.as_html(claim)))
    claims.check("one < two", 1, at_most=2)
    claims.check("a sign", -1.0, at_most=0, because='it\'s <all> that "is" known')
    claims.check("a truth", True)
    page = nodes.container("", *(nodes.raw("", text, format="html") for text in pages))
    listed = extension("claim_list")
    found = list(listed.claims_of(page))
    assert [(claim["statement"], claim["slack"]) for claim in found] == [
        ("one < two", 2.0),
        ("a sign", math.inf),
        ("a truth", None),
    ]
    assert found[1]["because"] == 'it\'s <all> that "is" known'
    assert listed.summary(found).startswith("3 claims were checked. 2 of them have a bound")
    assert [listed.slack(claim) for claim in found[:2]] == ["2.00", "∞"]


def test_an_execution_keeps_the_environment_that_it_was_seen_in(extension, monkeypatch, tmp_path):
    status = extension("build_status")
    env = SimpleNamespace(
        mystnb_config=SimpleNamespace(execution_cache_path=tmp_path),
        config=SimpleNamespace(root_doc="a"),
        toctree_includes={"a": ["b"]},
        nb_metadata=defaultdict(dict),
    )
    late = extension("late_tables")
    env.nb_metadata.update(
        a={"exec_data": {"runtime": 1.25}}, b={"exec_data": {"runtime": 2.5}, late.HAS_LATE_TABLE: True}
    )
    assert late.pages_to_write(None, env) == ["b"]
    monkeypatch.setattr(status, "environment", lambda: {"torch": "1"})
    status.note_environments(None, env)
    assert env.fragile_environments == {"a": {"torch": "1"}, "b": {"torch": "1"}}
    env.nb_metadata["b"]["exec_data"]["runtime"] = 2.75  # b has been executed again, on something else
    monkeypatch.setattr(status, "environment", lambda: {"torch": "2"})
    status.note_environments(None, env)
    assert env.fragile_environments == {"a": {"torch": "1"}, "b": {"torch": "2"}}


def test_the_single_page_stands_where_its_paths_lead(extension, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").write_text('<a href="book/index.html#here"><img src="_images/a.png">')
    app = SimpleNamespace(
        builder=SimpleNamespace(name="singlehtml"), outdir=tmp_path, config=SimpleNamespace(root_doc="book/index")
    )
    extension("single_page").move_up(app, None)
    assert (tmp_path / "index.html").read_text() == '<a href="#here"><img src="_images/a.png">'
    assert not (tmp_path / "book" / "index.html").exists()

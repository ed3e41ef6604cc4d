"""What holds the project together: one address, one version, one list of packages, and the rooms of the package."""

import ast
import csv
import importlib
import json
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import mutants
import nbformat
import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings tomli there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
ADDRESS = PROJECT["urls"]["Repository"]
OWNER_AND_NAME = ADDRESS.removeprefix("https://github.com/")
OTHERS_REPOSITORIES = {"amiratag/InterpretationFragility"}

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
PACKAGE = ROOT / "fragile_utils"
MODULES = sorted(PACKAGE.rglob("*.py"))
DATA = {"resources", "results"}  # folders of files that are no modules
PAGE = PACKAGE / "laboratory" / "page"  # and one more, with what a browser reads
FIRST_FLOOR = {"__init__.py", "__main__.py", "claims.py", "metrics.py", "py.typed"}
LAYERS = [  # from the ground up; a module imports from its own room and from layers below
    {"_base"},
    {"data", "metrics"},
    {"models"},
    {"saliency"},
    {"attacks", "curvature"},
    {"influence", "defences", "experiments", "laboratory"},
    {"plots"},
    {"course"},
    {"cli"},
    {"__main__"},
]
BESIDES = {"experiments": {"defences"}}  # what a room may import of its own layer
ALONE = {"claims"}  # imports from the ground only

INSTALL_CELL = f'''\
# On Colab: install the package, leave torch as it is. Elsewhere: nothing.
import importlib.util

if importlib.util.find_spec("fragile_utils") is None:
    %env GOMP_SPINCOUNT=10000
    %pip install -q "fragile_utils @ git+{ADDRESS}"'''


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def text(name, root=ROOT):
    return (root / name).read_text(encoding="utf-8")


# --- One address ------------------------------------------------------------------------------------------------------


def carriers(root=ROOT):
    """The files that name the repository: pyproject.toml, and those that cannot read it."""
    names = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff")
    return [root / name for name in names] + sorted(root.glob("book/*.md")) + sorted(root.glob("chapters/*.ipynb"))


def repositories(path):
    """Every GitHub repository that a file names: directly, through Colab, or as a published site."""
    contents = path.read_text(encoding="utf-8")
    direct = re.findall(r"github(?:\.com)?/([\w-]+/[\w.-]*\w)", contents)
    published = re.findall(r"([\w-]+)\.github\.io/([\w.-]*\w)", contents)
    return {*direct, *map("/".join, published)} - OTHERS_REPOSITORIES


@each(carriers())
def test_every_file_names_the_repository_of_pyproject(path):
    assert repositories(path) <= {OWNER_AND_NAME}, "make url repairs this"


@each([ROOT / "README.md", ROOT / "CITATION.cff", *CHAPTERS])
def test_the_repository_is_named_where_a_reader_needs_it(path):
    assert repositories(path) == {OWNER_AND_NAME}


@each(carriers())
def test_a_clone_gets_the_folder_that_the_text_goes_to(path):
    """Whatever the repository is called."""
    cloned = re.findall(rf"git clone {re.escape(ADDRESS)}(.*)", path.read_text(encoding="utf-8"))
    assert all(rest.startswith(" book") for rest in cloned)


@pytest.fixture
def copy(tmp_path):
    """A copy of the files that name the repository."""
    for path in carriers():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


@pytest.fixture
def repository_url(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    import repository_url

    return repository_url


def test_make_url_carries_a_new_address_everywhere(copy, repository_url):
    changed = repository_url.carry("https://github.com/some-one/book2.git", root=copy)
    assert {"pyproject.toml", "README.md", "CITATION.cff", *(f"chapters/{path.name}" for path in CHAPTERS)} <= {
        *changed
    }
    assert repository_url.read(copy) == "https://github.com/some-one/book2"
    assert set().union(*map(repositories, carriers(copy))) == {"some-one/book2"}
    assert "https://some-one.github.io/book2/" in text("README.md", copy)
    assert repository_url.carry(root=copy) == []
    assert [path for path in carriers(copy) if OWNER_AND_NAME.split("/")[0] in path.read_text(encoding="utf-8")] == []


def test_make_url_follows_pyproject(copy, repository_url):
    path = copy / "pyproject.toml"
    path.write_text(path.read_text().replace(ADDRESS, "https://github.com/a/b"))
    assert "README.md" in repository_url.carry(root=copy)
    assert set().union(*map(repositories, carriers(copy))) == {"a/b"}


@pytest.mark.parametrize("url", ["github.com/a/b", "https://github.com/a", "https://github.com/a/b/tree/main"])
def test_make_url_refuses_what_is_no_repository(copy, repository_url, url):
    with pytest.raises(ValueError, match=r"expected https://github\.com/OWNER/NAME, got"):
        repository_url.carry(url, root=copy)
    assert repository_url.read(copy) == ADDRESS


# --- One list of packages, one version --------------------------------------------------------------------------------


def test_requirements_are_those_of_pyproject():
    lines = [line.split("#")[0].strip() for line in text("requirements.txt").splitlines()]
    expected = ["-e .", *PROJECT["dependencies"], *PROJECT["optional-dependencies"]["book"]]
    assert [line for line in lines if line] == expected


def test_every_file_states_the_same_version():
    import fragile_utils

    citation = re.search(r"^version: (\S+)$", text("CITATION.cff"), flags=re.MULTILINE)[1]
    newest = re.findall(r"^## \[(\d\S*)\]", text("CHANGELOG.md"), flags=re.MULTILINE)[0]
    assert PROJECT["dynamic"] == ["version"], "setuptools reads that of the package"
    assert {citation, newest} == {fragile_utils.__version__}


# --- Notebooks --------------------------------------------------------------------------------------------------------


@each(CHAPTERS)
def test_a_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == [], cell.source
        assert cell.execution_count is None, cell.source


@each(CHAPTERS)
def test_a_chapter_begins_with_the_install_cell(path):
    first = code_cells(nbformat.read(path, as_version=4))[0]
    assert first.source == INSTALL_CELL
    assert {"hide-input", "remove-output"} <= {*first.metadata.get("tags", ())}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- The package's rooms ----------------------------------------------------------------------------------------------


def module_name(path):
    """The name of a module within the package: "data.batch", of a room "data", of the package itself ""."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {module_name(path) for path in MODULES}
PACKAGES = sorted(module_name(path) for path in MODULES if path.stem == "__init__")  # the package itself and its rooms
WITHOUT_NAMES = {"", "_base", "cli", "saliency.propagation", "saliency.relevance"}  # imported file by file
WITH_NAMES = [name for name in PACKAGES if name not in WITHOUT_NAMES]
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
each_room = pytest.mark.parametrize("room", [name for name in PACKAGES if "." not in name])


def imports(tree):
    """What a syntax tree imports, wherever in it the import stands: modules, and names with their module's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of_ours(path):
    """The modules and names that a module imports from the package, as `module_name` has them."""
    ours = {name.removeprefix("fragile_utils.") for name in imports(parsed(path)) if name.startswith("fragile_utils.")}
    return ours - {"__version__"}


def parsed(path):
    return ast.parse(text(path))


def room_of(name):
    return name.split(".")[0]


def module_of(name):
    """The module that a name is imported from."""
    return name if name in NAMES else name.rpartition(".")[0]


def test_every_room_has_its_place_in_the_layers():
    assert {room_of(name) for name in NAMES - {""}} <= set().union(ALONE, *LAYERS), "say where the new room stands"


def test_every_list_of_rooms_has_all_of_them():
    import fragile_utils

    rooms = {room_of(name) for name in NAMES} - {"", "__main__"}
    contributing = text("CONTRIBUTING.md")
    assert {*re.findall(r"^\| `(\w+)(?:/|\.py)` \|", contributing, flags=re.MULTILINE)} == rooms
    line = re.search(r"^    (_base < .*?)\n\n", contributing, flags=re.MULTILINE | re.DOTALL)[1]
    assert [{*re.findall(r"\w+", layer)} for layer in line.split("<")] == LAYERS[:-1]
    readers = rooms - {"_base"}
    assert readers <= {*re.findall(r"``(\w+)``", fragile_utils.__doc__)}
    inside = re.search(r"^    fragile_utils/ .*?^    tests/", text("README.md"), flags=re.MULTILINE | re.DOTALL)[0]
    assert readers <= {*re.findall(r"\w+", inside)}


@each_module
def test_a_module_imports_from_its_own_room_and_those_below(path):
    room = room_of(module_name(path))
    below = LAYERS[: next((i for i, layer in enumerate(LAYERS) if room in layer), 1 if room in ALONE else 0)]
    allowed = {room}.union(BESIDES.get(room, ()), *below)
    assert {name for name in imports_of_ours(path) if room_of(name) not in allowed} == set()


@each_module
def test_what_is_private_to_a_room_is_not_imported_from_another(path):
    room = room_of(module_name(path))
    others = (name for name in imports_of_ours(path) if room_of(name) != room)
    assert [name for name in others if "._" in name] == []


@each_room
def test_there_is_no_circle_of_imports_within_a_room(room):
    paths = {module_name(path): path for path in MODULES if room_of(module_name(path)) == room}
    graph = {name: {module_of(other) for other in imports_of_ours(path)} & {*paths} for name, path in paths.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_first_floor_holds_rooms_and_little_else():
    found = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert {path.name for path in found if path.is_file()} == FIRST_FLOOR
    assert {path.name for path in found if path.is_dir()} == {*filter(None, map(room_of, PACKAGES)), *DATA}


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_says_what_it_is_about(room):
    assert ast.get_docstring(parsed(PACKAGE.joinpath(*room.split("."), "__init__.py")))


@pytest.mark.parametrize("room", WITH_NAMES)
def test_the_public_names_of_a_room_exist(room):
    module = importlib.import_module(f"fragile_utils.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_setuptools_finds_every_room():
    setuptools = pytest.importorskip("setuptools")
    settings = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    assert settings["namespaces"] is False, "folders of data are no packages"
    found = setuptools.find_packages(ROOT, include=settings["include"])
    assert sorted(found) == [f"fragile_utils.{name}".removesuffix(".") for name in PACKAGES]


def test_setuptools_finds_every_file_that_is_no_module():
    settings = PYPROJECT["tool"]["setuptools"]["package-data"]
    assert {*settings} == {"fragile_utils"}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    in_folders = {path for path in files if path.parent.name in DATA or PAGE in path.parents}
    assert {PACKAGE / "py.typed"} | in_folders == files
    assert {path for pattern in settings["fragile_utils"] for path in PACKAGE.glob(pattern)} == files


MAY_ASK = {"data.folders", "__main__", "cli.info"}  # where data are; the command sets how threads wait; and says it


@pytest.mark.parametrize("path", [path for path in MODULES if module_name(path) not in MAY_ASK], ids=module_name)
def test_only_the_folders_of_data_read_the_environment(path):
    assert not re.search(r"\bos\.(environ|getenv)\b", text(path))


PROBE = """
import hashlib, importlib, json, random, sys, warnings

for name in {libraries}:
    importlib.import_module(name)

import numpy, torch

def state():
    return {{
        "default dtype": str(torch.get_default_dtype()),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "gradients on": torch.is_grad_enabled(),
        "denormals kept": torch.full((1,), 1e-40).mul(1).item() > 0,
        "random state": [torch.get_rng_state().tolist(), str(random.getstate()), str(numpy.random.get_state())],
        "warning filters": [str(entry) for entry in warnings.filters],
    }}

before = state()
for name in {modules}:
    importlib.import_module(name)
after = state()
print(json.dumps({{
    "changed": [name for name in before if before[name] != after[name]],
    "imported": sorted({{"foolbox", "mlxtend", "captum", "jupyter_client", "ipykernel"}} & {{*sys.modules}}),
}}))
"""


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.wrong)
def test_a_mutant_replaces_one_place_of_the_package(mutant):
    assert (PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old


def test_the_stored_table_has_every_mutant_and_something_that_noticed_it():
    with (ROOT / "book" / "results" / "mutants.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["mutant"]: row for row in csv.DictReader(file)}
    assert [*rows] == [mutant.wrong for mutant in mutants.MUTANTS]
    assert len(rows) >= 25
    for mutant in mutants.MUTANTS:
        row = rows[mutant.wrong]
        assert int(row["chapter"]) == mutant.chapter
        assert {row["claim that fails"], row["test that fails"]}.isdisjoint({"", "none", "not tried"})
        file, _, name = row["test that fails"].partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_importing_the_package_has_no_side_effects():
    # The libraries that the modules import first come first, so that what those change is not held against ours.
    top = {name for path in MODULES for node in parsed(path).body for name in modules_of_statement(node)}
    ours = {*sys.stdlib_module_names, "fragile_utils"}
    libraries = sorted(name for name in top if name.split(".")[0] not in ours)
    modules = sorted(f"fragile_utils.{name}".removesuffix(".") for name in NAMES)
    code = PROBE.format(libraries=libraries, modules=modules)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"changed": [], "imported": []}


def modules_of_statement(node):
    """The modules that a statement imports, without the names that it takes from them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


# --- The cache of executed notebooks ----------------------------------------------------------------------------------


@pytest.fixture
def fragile_book(repository_url):
    pytest.importorskip("sphinx", reason="the book's packages are not installed")
    import fragile_book

    return fragile_book


def test_the_cache_is_named_after_the_contents_of_the_package(fragile_book, tmp_path):
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    (package / "a.py").write_text("1")
    first = fragile_book.cache_folder(cache, package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_text("compiled")
    assert fragile_book.cache_folder(cache, package) == first
    (package / "a.py").write_text("2")
    second = fragile_book.cache_folder(cache, package)
    (package / "a.py").rename(package / "b.py")
    third = fragile_book.cache_folder(cache, package)
    assert len({first, second, third}) == 3


def test_a_folder_that_takes_no_part_changes_no_name(fragile_book, tmp_path):
    package, cache = tmp_path / "package", tmp_path / "cache"
    (package / "laboratory" / "page").mkdir(parents=True)
    (package / "laboratory" / "page" / "page.css").write_text("1")
    (package / "laboratory" / "pages.py").write_text("1")

    def name():
        return fragile_book.cache_folder(cache, package, without="laboratory/page")

    first = name()
    (package / "laboratory" / "page" / "page.css").write_text("2")
    assert name() == first
    (package / "laboratory" / "pages.py").write_text("2")
    assert name() != first


def test_the_caches_of_other_versions_are_removed(fragile_book, tmp_path):
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    (package / "a.py").write_text("1")
    old = fragile_book.cache_folder(cache, package)
    old.mkdir(parents=True)
    (cache / "unrelated").mkdir()
    assert fragile_book.cache_folder(cache, package) == old
    assert old.exists()
    (package / "a.py").write_text("2")
    fragile_book.cache_folder(cache, package)
    assert [path.name for path in cache.iterdir()] == ["unrelated"]

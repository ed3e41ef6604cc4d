"""What this book adds to Jupyter Book.

- The repository's address is read from pyproject.toml; the buttons of every page follow from it. The Colab button
  stands only on pages that Colab can open.
- MathJax is copied out of the pip package sphinx-mathjax-offline into the site, so that no page asks another host.
- The cache of executed notebooks is named after the contents of fragile_utils/, so that a change in the package
  executes the chapters again. (The stock cache looks at the notebooks alone.) The page of the laboratory, which is in
  the package as well, takes no part in that: no chapter reads it.
"""

import hashlib
import shutil
from importlib import metadata
from pathlib import Path, PurePosixPath

import repository_url
from sphinx.errors import ExtensionError

PACKAGE = repository_url.ROOT / "fragile_utils"
PAGE = PurePosixPath("laboratory/page")  # in the package
MATHJAX = PurePosixPath("vendor/mathjax")  # in the built site
MATHJAX_SOURCE = PurePosixPath("sphinx-mathjax-offline/static/mathjax")  # in site-packages
MATHJAX_SCRIPT = "tex-chtml-full.js"  # with every TeX extension inside; the smaller ones fetch some on demand
MATHJAX_FONTS = PurePosixPath("output/chtml/fonts/woff-v2")


def setup(app):
    # After the extensions' own handlers, and before the environment asks whether the configuration has changed.
    app.connect("config-inited", configure, priority=900)
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", keep_colab_to_notebooks, priority=900)  # after the theme has made its buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def configure(app, config):
    config.html_theme_options.update(
        repository_url=repository_url.read(),
        use_repository_button=True,
        use_issues_button=True,
        navbar_persistent=[],  # no second search field above the page: the sidebar has one
    )
    config.mathjax_path = f"../{MATHJAX / MATHJAX_SCRIPT}"  # Sphinx resolves it from _static/
    config.nb_execution_cache_path = str(cache_folder(Path(app.outdir).parent / ".jupyter_cache", without=PAGE))


def cache_folder(parent, package=PACKAGE, without=None):
    """The folder in `parent` for what is made with this `package`; those of other versions are removed."""
    folder = parent / f"package-{package_hash(package, without)}"
    for other in parent.glob("package-*"):
        if other != folder:
            shutil.rmtree(other)
    return folder


def package_hash(package=PACKAGE, without=None):
    """The first 16 hexadecimal digits of SHA-256 over names and contents, without what Python leaves behind.

    A folder `without`, seen from the package, takes no part.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        left_out = without is not None and path.is_relative_to(package / without)
        if path.is_file() and "__pycache__" not in path.parts and not left_out:
            contents = path.read_bytes()
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(contents)}\0".encode())
            digest.update(contents)
    return digest.hexdigest()[:16]


def copy_mathjax(app):
    if app.builder.format != "html":
        return
    folder = Path(app.outdir, MATHJAX)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("mathjax-LICENSE"), folder / "LICENSE")
    copied = 0
    for file in metadata.files("sphinx-mathjax-offline") or ():
        if file == MATHJAX_SOURCE / MATHJAX_SCRIPT or file.parent == MATHJAX_SOURCE / MATHJAX_FONTS:
            target = folder / file.relative_to(MATHJAX_SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)
            copied += 1
    if copied < 2:
        raise ExtensionError("sphinx-mathjax-offline holds no MathJax where version 0.0.2 has it")


def keep_colab_to_notebooks(app, pagename, templatename, context, doctree):
    """Colab opens .ipynb files alone, but the theme offers it for Markdown pages with code as well."""
    if app.env.doc2path(pagename).endswith(".ipynb"):
        return
    context["header_buttons"] = [
        button for button in context.get("header_buttons", ()) if button.get("label") != "launch-buttons"
    ]

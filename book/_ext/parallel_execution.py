"""Pages that have to be executed are executed side by side, before Sphinx reads the first of them.

myst-nb executes one page after the other. The steps of an attack are too short to keep several cores busy, so that two
kernels of one thread each are done earlier than one kernel of two. What is executed here goes into myst-nb's own cache,
where it is found when the page is read. The pages that take longest go first, so that no core is left without work
while another is busy for minutes; how long each took is kept beside the cache, also when the package has changed.
"""

import json
import math
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import create_nb_reader
from sphinx.errors import ExtensionError
from sphinx.util import logging

SECONDS = "seconds.json"  # beside the folder of the cache
MOST_KERNELS = 4  # each holds networks and images: a few gigabytes
logger = logging.getLogger(__name__)


def setup(app):
    app.connect("env-before-read-docs", execute_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def execute_pages(app, env, docnames):
    """Execute those of the pages that the cache does not hold."""
    if env.mystnb_config.execution_mode != "cache":
        return
    cache = get_cache(env.mystnb_config.execution_cache_path)
    pages = {Path(env.doc2path(docname)).relative_to(app.srcdir).as_posix(): read(env, docname) for docname in docnames}
    new = {name: notebook for name, notebook in pages.items() if notebook and not is_known(cache, notebook)}
    noted = Path(env.mystnb_config.execution_cache_path).with_name(SECONDS)
    seconds_of = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    timeout, failed = env.mystnb_config.execution_timeout, []
    with kernels() as number, ProcessPoolExecutor(number, get_context("spawn")) as pool:
        waiting = {pool.submit(execute, new[name], timeout): name for name in longest_first(new, seconds_of)}
        for future in as_completed(waiting):
            name, (notebook, seconds, traceback) = waiting[future], future.result()
            if traceback is None:
                bundle = CacheBundleIn(notebook, str(Path(app.srcdir, name)), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                seconds_of[name] = round(seconds, 1)
                noted.write_text(json.dumps(seconds_of, indent=1, sort_keys=True), encoding="utf-8")
                logger.info("%s: executed in %.0f seconds", name, seconds)
            else:
                failed.append(name)
                logger.error("%s: execution failed\n%s", name, traceback)
    if failed:
        raise ExtensionError(f"{len(failed)} of {len(new)} pages could not be executed: {', '.join(sorted(failed))}")


def read(env, docname):
    """The notebook that a page is; None for a page without code."""
    path = env.doc2path(docname)
    text = Path(path).read_text(encoding="utf-8")
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config, text)
    return reader and reader.read(text)


def longest_first(pages, seconds_of):
    """The names of the pages, in the order in which to begin them.

    Those that were never executed come first: they may take any time, and more where they hold more code.
    """

    def cost(name):
        code = sum(len(cell.source) for cell in pages[name].cells if cell.cell_type == "code")
        return seconds_of.get(name, math.inf), code

    return sorted(pages, key=cost, reverse=True)


def is_known(cache, notebook):
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def execute(notebook, timeout):
    """Execute a notebook in an empty folder; return it, the seconds, and the traceback if a cell failed.

    It runs in a process of its own: nbclient leaves event loops behind.
    """
    with TemporaryDirectory() as folder:
        result = single_nb_execution(notebook, cwd=folder, allow_errors=False, timeout=timeout)
    return result.nb, result.time, result.exc_string


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def kernels():
    """How many kernels to run at once; those started meanwhile share the cores, and let each other compute."""
    number = min(cores(), MOST_KERNELS)
    wanted = {"OMP_NUM_THREADS": str(cores() // number), "GOMP_SPINCOUNT": "10000"}
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield number
    finally:
        for name in mine:
            del os.environ[name]

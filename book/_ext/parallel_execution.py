"""Pages that have to be executed are executed side by side, before Sphinx reads the first of them.

myst-nb executes one page after the other. The steps of an attack are too short to keep several cores busy, so that two
kernels of one thread each are done earlier than one kernel of two. What is executed here goes into myst-nb's own cache,
where it is found when the page is read.
"""

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
    pages = {env.doc2path(docname): read(env, docname) for docname in docnames}
    new = [(path, notebook) for path, notebook in pages.items() if notebook and not is_known(cache, notebook)]
    new.sort(reverse=True)  # the end of the book is the part that takes longest
    failed = []
    with kernels() as number, ProcessPoolExecutor(number, get_context("spawn")) as pool:
        waiting = {pool.submit(execute, notebook, env.mystnb_config.execution_timeout): path for path, notebook in new}
        for future in as_completed(waiting):
            path, (notebook, seconds, traceback) = waiting[future], future.result()
            name = Path(path).relative_to(app.srcdir).as_posix()
            if traceback is None:
                bundle = CacheBundleIn(notebook, path, data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
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

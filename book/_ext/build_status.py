"""The directive ``build-status``: when, how long, where and on which data each page of the book was executed.

The times come from myst-nb's records of the executions, which the cache keeps. What they do not hold, the versions and
the hardware, is noted in a file beside the cache when an execution is seen for the first time; it is known again by its
duration, a number of many digits.
"""

import json
import os
import platform
import re
from datetime import datetime
from importlib import metadata
from pathlib import Path

from docutils import nodes
from late_tables import add_late_table, executions, link, table
from parallel_execution import cores

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "captum", "matplotlib", "jupyter-book")
NOTES = "environments.json"  # in the folder of the cache

# What a page reads, by the function of `fragile_utils` that its code calls; the embedded tier unless said otherwise.
DATA = {
    r"\bimagenet_samples\(": "20 ImageNet images (embedded)",
    r"\bcifar10_samples\(|cifar10-samples": "20 CIFAR-10 images (embedded)",
    r"\bmnist_samples\(|\binfluence\.digits\(": "MNIST digits (embedded)",
    r"\bdata\.flowers\(|\binfluence\.flowers\(": "flower photos (online, or your own folder)",
    r"\bflowers_or_digits\(": "flower photos where they are, else MNIST digits (embedded)",
    r"\bimagenet_folder\(|\bclass_folders\(|\bcifar10_folder\(": "images of your own folder",
    r"\bdata\.results\(": "stored results",
}


def setup(app):
    add_late_table(app, "build-status", tables)
    app.connect("env-updated", note_environments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- What is known of the executions ----------------------------------------------------------------------------------


def note_environments(app, env):
    """Note the environment of executions that are new."""
    path = Path(env.mystnb_config.execution_cache_path, NOTES)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    now = environment()
    notes = {}
    for docname, record in executions(env).items():
        note = known.get(docname, {})
        if note.get("seconds") != record["runtime"]:
            note = {"seconds": record["runtime"], "environment": now}
        notes[docname] = note
    env.fragile_environments = {docname: note["environment"] for docname, note in notes.items()}
    if notes and notes != known:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notes, indent=1), encoding="utf-8")


def environment():
    """Versions and hardware, as they are shown."""
    import torch

    return {
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()}, {cores()} cores",
        "graphics card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "FRAGILE_DATA": "set" if os.environ.get("FRAGILE_DATA") else "not set: embedded data only",
    }


def processor():
    """The name of the processor, as the system gives it."""
    facts = Path("/proc/cpuinfo")
    named = facts.exists() and re.search(r"^model name\s*:\s*(.+)$", facts.read_text(), re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def data_of(source):
    """What a page reads, from its source."""
    return [words for pattern, words in DATA.items() if re.search(pattern, source)]


# --- The tables -------------------------------------------------------------------------------------------------------


def tables(env):
    """Two tables: the pages that were executed, and the environments in which they were."""
    records = executions(env)
    kinds = []  # the different environments; one letter stands for each
    for found in env.fragile_environments.values():
        if found not in kinds:
            kinds.append(found)
    letters = [chr(ord("A") + index) for index in range(len(kinds))]
    rows = []
    for docname, record in records.items():
        source = Path(env.doc2path(docname)).read_text(encoding="utf-8")
        rows.append(
            [
                link(env, docname),
                datetime.fromtimestamp(record["mtime"]).strftime("%d\u00a0%B\u00a0%Y").lstrip("0"),
                "" if record["runtime"] is None else f"{record['runtime']:.0f}",
                letters[kinds.index(env.fragile_environments[docname])],
                "; ".join(data_of(source)) or "none",
            ]
        )
    total = sum(record["runtime"] or 0 for record in records.values())
    rows.append(["all", "", f"{total:.0f}", "", ""])
    facts = list(kinds[0]) if kinds else []
    return [
        table(["page", "executed", "seconds", "on", "data"], rows),
        nodes.paragraph(text="The letters stand for what it was executed on:"),
        table(["environment", *letters], [[fact, *(kind[fact] for kind in kinds)] for fact in facts]),
    ]

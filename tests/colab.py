"""A chapter's first cell where Colab's packages are installed already: none of them may move, and chapters have to run.

`make colab` does it in an environment of its own, _build/colab, with the versions of colab.txt: minutes, gigabytes and
a network, so that it is no test of the suite. Other chapters: `make colab ARGS="03 17"`.
"""

import re
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "_build" / "colab"
PYTHON = HERE / "bin" / "python"
VERSIONS = Path(__file__).with_name("colab.txt")
CHAPTERS = ("01", "10", "15")
LIMIT = 3600  # seconds for a chapter

INSTALLED = "from importlib.metadata import version; import sys; print(*map(version, sys.argv[1:]))"
EXECUTE = f"""
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout={LIMIT}, kernel_name="python3").execute()
"""


def main(chapters: list[str]) -> None:
    """Make the environment, install the package into it, and execute chapters there."""
    venv.create(HERE, clear=True, with_pip=True)
    pip("-r", VERSIONS, "nbclient")
    wanted = dict(re.findall(r"^([\w-]+)==(\S+)$", VERSIONS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    expect(wanted, "installed")
    pip(ROOT)  # in place of the address on GitHub
    expect(wanted, "moved by the install cell")
    for number in chapters:
        path = next((ROOT / "chapters").glob(f"{number}_*.ipynb"))
        start = time.monotonic()
        subprocess.run([PYTHON, "-c", EXECUTE, path], check=True, cwd=HERE)
        print(f"{path.stem}: {time.monotonic() - start:.0f} s", flush=True)


def pip(*arguments: str | Path) -> None:
    subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments], check=True)


def expect(wanted: dict[str, str], what: str) -> None:
    """End, and name the packages whose versions are others."""
    run = subprocess.run([PYTHON, "-c", INSTALLED, *wanted], check=True, capture_output=True, text=True, cwd=HERE)
    found = dict(zip(wanted, run.stdout.split(), strict=True))
    moved = [f"{name} {version} -> {found[name]}" for name, version in wanted.items() if found[name] != version]
    if moved:
        sys.exit(f"colab: {what}: {', '.join(moved)}")
    print(f"{len(wanted)} packages as on Colab: not {what}" if "moved" in what else "Colab's packages are installed")


if __name__ == "__main__":
    main(sys.argv[1:] or list(CHAPTERS))

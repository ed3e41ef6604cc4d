"""Roundings: do the claims of the chapters hold on computers that round otherwise?

    python tests/roundings.py [--only 01 12 ...] [--jobs N] [--out FILE]

Who adds the same numbers in another order rounds otherwise, and an attack follows the signs of numbers some of which
are nearly zero: after a few steps it is elsewhere. What a chapter claims of it has to hold all the same. Each is
executed as it comes, and in ways that make PyTorch choose other functions for the same sums; a claim that fails in one
of them is named. It is about one computer: claim a mean in its place, or a bound that is wider, and say why. It takes
about forty minutes; `make roundings` stores the table in book/results.
"""

import argparse
import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import ROOT, run

ROUNDINGS = {
    "as it comes, one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "vectors of 256 bits": {"OMP_NUM_THREADS": "1", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "without oneDNN": {"OMP_NUM_THREADS": "1", "ONEDNN": "0"},
}


def main() -> int:
    """Execute the chapters, and write the table; 1 if a claim fails."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", default=[""], help="chapters that begin so: 01 12")
    options.add_argument("--jobs", type=int, default=1, help="how many run at a time (1)")
    options.add_argument("--out", type=Path, help="the table, as CSV")
    options = options.parse_args()
    chapters = [path for path in sorted((ROOT / "chapters").glob("*.ipynb")) if path.name.startswith((*options.only,))]
    tasks = [(name, chapter) for name in ROUNDINGS for chapter in chapters]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(tasks, pool.map(lambda task: claims_of(task[1], ROUNDINGS[task[0]]), tasks), strict=True))
    by_rounding = {
        name: [(chapter.name, *claim) for chapter in chapters for claim in found[name, chapter]] for name in ROUNDINGS
    }
    as_it_comes = {claim[:3] for claim in next(iter(by_rounding.values()))}
    table = [("rounding", "claims", "that find another number", "that fail")]
    for name, claims in by_rounding.items():
        failing = [claim for claim in claims if not claim[3]]
        for where, what, measured, _ in failing:
            print(f"{name}, {where}: {what}: {measured}")
        others = sum(claim[:3] not in as_it_comes for claim in claims)
        table.append((name, len(claims), others, len(failing)))
    print(*(" | ".join(map(str, row)) for row in table), sep="\n")
    if options.out:
        with options.out.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    return int(any(row[-1] for row in table[1:]))


def claims_of(chapter: Path, settings: dict[str, str]) -> list[list]:
    """Return what each claim of a chapter finds: statement, measured, whether it holds."""
    command = [sys.executable, str(ROOT / "tests" / "executed.py"), str(chapter), "--go-on"]
    status, output = run(command, ROOT, **settings)
    lines = [line.removeprefix("@") for line in output.splitlines() if line.startswith("@")]
    stopped = [["the chapter stops", lines.pop() if lines else output[-200:], False]] if status else []
    return [*map(json.loads, lines), *stopped]


if __name__ == "__main__":
    sys.exit(main())

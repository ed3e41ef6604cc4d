"""Do a GPU and a processor give the same means? Two sweeps with the same settings, on the photographs that both have.

    python benchmarks/gpu_and_cpu.py CPU_FOLDER GPU_FOLDER

The folders are those of `fragile sweep`. Images are paired by name, and count where both attacks succeeded. In
single precision the two attacks take other paths, so that single images differ; the means should not.
"""

import argparse
from pathlib import Path

import pandas as pd

from fragile_utils import experiments

CELL = ["method", "attack", "eps"]


def compared(cpu: pd.DataFrame, gpu: pd.DataFrame) -> pd.DataFrame:
    """Return the means of both, one row for each cell that both have; noise is left out, which is drawn anew."""
    pairs = cpu.merge(gpu, on=[*CELL, "name"], suffixes=("_cpu", "_gpu"))
    pairs = pairs[pairs.success_cpu & pairs.success_gpu & (pairs.attack != "random-sign")]
    of = [f"{measure}_{where}" for measure in experiments.MEASURES for where in ("cpu", "gpu")]
    cells = pairs.groupby(CELL)
    return cells[of].mean().round(4).assign(images=cells.size()).reset_index()


def main() -> None:
    """Print a table with one row for each method, attack and budget, and the largest differences."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", type=Path, nargs=2, metavar="FOLDER")
    options = options.parse_args()
    table = compared(*(experiments.results(folder, partial=True)[1] for folder in options.folders))
    print(table.to_string(index=False))
    for measure in experiments.MEASURES:
        apart = (table[f"{measure}_cpu"] - table[f"{measure}_gpu"]).abs().max()
        print(f"{measure}: at most {apart:.4f} apart")


if __name__ == "__main__":
    main()

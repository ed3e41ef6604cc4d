"""What the laboratory makes a browser load, and the time of a step there, as far as onnxruntime on this machine tells.

For each network and method of the book's laboratory: bytes of graphs and weights, and CPU time of a step with one
thread. A browser takes about three times as long. Run it alone on the machine: ``make bench``.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from fragile_utils import laboratory

REPEATS = 5


def step_ms(path: Path) -> float:
    """Return the median CPU time of a step, in milliseconds, after one to warm up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for given in session.get_inputs():
        if given.name == "label":
            feeds[given.name] = np.zeros(1, np.int64)
        else:
            feeds[given.name] = np.asarray(rng.random(given.shape), np.float32)
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        session.run(None, feeds)
        times.append(time.process_time() - start)
    return 1000 * sorted(times[1:])[REPEATS // 2]


def main() -> None:
    """Print a table with one row for each method."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "laboratory"
        manifest = laboratory.write(out, laboratory.of_the_book())
        print(f"{'network':<12} {'method':<22} {'size':>5} {'graphs (kB)':>12} {'weights (kB)':>13} {'step (ms)':>10}")
        for network in manifest["networks"]:
            for method in network["methods"]:
                graphs = sum(graph["bytes"] for graph in method["graphs"].values()) / 1000
                ms = step_ms(out / "models" / method["graphs"]["topk"]["file"])
                row = f"{network['name']:<12} {method['name']:<22} {method['size']:5} {graphs:12.0f}"
                print(f"{row} {network['weights']['bytes'] / 1000:13.0f} {ms:10.0f}", flush=True)


if __name__ == "__main__":
    main()

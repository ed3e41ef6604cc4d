"""Mutants: wrong versions of the package, each of which a chapter and a unit test have to notice.

    python tests/mutants.py [--only WORDS] [--skip-chapters | --skip-tests] [--jobs N] [--out FILE]

Each mutant replaces one piece of the code in a copy of the repository. A chapter that speaks of that piece is executed
there, until one of its claims does not hold; then the tests of the piece are run. A mutant that survives is a claim, or
a test, that is missing. First the chapters and the tests are run as they are: what fails without a mutant notices none.
It takes one to two hours; `make mutants` stores the table in book/results.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("fragile_utils", "tests", "chapters", "book", "pyproject.toml", "_toc.yml", "README.md", "Makefile")


@dataclass(frozen=True)
class Mutant:
    """One wrong version.

    Parameters
    ----------
    wrong : str
        What is wrong with it.
    file : str
        In fragile_utils.
    old, new : str
        What stands there, once, and what stands there instead.
    chapter : int
    tests : str
        In tests: files, and further arguments of pytest.
    """

    wrong: str
    file: str
    old: str
    new: str
    chapter: int
    tests: str


KEPT = "(predicted == self.labels) & (maps.sum(dim=(1, 2)) > 0)"
PROJECT = "return x.clamp(originals - eps, originals + eps).clamp_(0, 1)"
MUTANTS = [
    # The attack
    Mutant("direction: sign flipped", "attacks/base.py", "return gradient.sign()", "return -gradient.sign()", 10,
           "attacks"),
    Mutant("direction: random", "attacks/base.py", "return gradient.sign()",
           "return torch.randn_like(gradient).sign()", 10, "attacks"),
    Mutant("budget: doubled", "attacks/base.py", PROJECT,
           "return x.clamp(originals - 2 * eps, originals + 2 * eps).clamp_(0, 1)", 10, "attacks"),
    Mutant("budget: no clipping", "attacks/base.py", PROJECT, "return x.clamp(0, 1)", 10, "attacks"),
    Mutant("images: not kept in [0, 1]", "attacks/base.py", PROJECT,
           "return x.clamp(originals - eps, originals + eps)", 9, "attacks"),
    Mutant("label: no constraint", "attacks/base.py", f"allowed = {KEPT}", "allowed = maps.sum(dim=(1, 2)) > 0", 10,
           "attacks"),
    Mutant("best iterate: the last one", "attacks/algorithm.py",
           "better = allowed & (new.dissimilarity > kept.dissimilarity)", "better = allowed", 10, "attacks"),
    Mutant("step: twice as long", "attacks/algorithm.py", "x + settings.step_size * direction",
           "x + 2 * settings.step_size * direction", 10, "attacks"),
    Mutant("surrogate: a ReLU network", "models/surrogate.py", "smooth = Smooth(self.beta)",
           "smooth = Smooth(1e9)", 10, "models/test_surrogate.py"),
    Mutant("guide: one point of the path", "saliency/integrated_gradients.py", "GUIDE_STEPS = 10", "GUIDE_STEPS = 1",
           14, "attacks/test_maps.py saliency/test_integrated_gradients.py"),
    # What it climbs
    Mutant("top-k: k off by ten", "attacks/objectives.py", "return metrics.top_mask(before, self.k)",
           "return metrics.top_mask(before, self.k - 10)", 10, "attacks"),
    Mutant("top-k: climbs the mass in place of its loss", "attacks/objectives.py",
           "return -(maps * reference).sum(dim=(1, 2))", "return (maps * reference).sum(dim=(1, 2))", 10, "attacks"),
    Mutant("mass-centre: rows only", "attacks/objectives.py", "shift.sum(dim=1), shift.norm(dim=1))",
           "shift[:, 0], shift[:, 0].abs())", 11, "attacks"),
    Mutant("targeted: away from the region", "attacks/objectives.py",
           "return (maps * reference).sum(dim=(1, 2))", "return -(maps * reference).sum(dim=(1, 2))", 12, "attacks"),
    Mutant("random signs: half as large", "attacks/objectives.py", "return 1, eps", "return 1, eps / 2", 9, "attacks"),
    Mutant("matched noise: of equal maximum", "attacks/noise.py", "of_size(result.rms,", "of_size(result.linf,", 10,
           "attacks/test_noise.py"),
    # Measures
    Mutant("measures: intersection and correlation exchanged", "metrics.py",
           '"topk_intersection": topk_intersection(before, after, k),',
           '"topk_intersection": rank_correlation(before, after),', 8, "test_metrics.py"),
    Mutant("rank correlation: of values, not ranks", "metrics.py",
           "a, b = _centred_ranks(before), _centred_ranks(after)",
           "a, b = before - before.mean(1, keepdim=True), after - after.mean(1, keepdim=True)", 8, "test_metrics.py"),
    Mutant("centre: rows and columns from different sides", "metrics.py",
           "columns = torch.arange(width, device=maps.device, dtype=maps.dtype)",
           "columns = torch.arange(1, width + 1, device=maps.device, dtype=maps.dtype) / 2", 8, "test_metrics.py"),
    Mutant("maps: no absolute value", "saliency/method.py", "magnitude = attributions.abs().sum(dim=1)",
           "magnitude = attributions.sum(dim=1).abs()", 3, "saliency/test_method.py saliency/test_gradient.py"),
    # Methods
    Mutant("gradient: of the first class", "saliency/method.py",
           "return logits.gather(1, targets.clamp(max=logits.shape[1] - 1)[:, None]).squeeze(1)",
           "return logits[:, 0]", 3, "saliency/test_gradient.py"),
    Mutant("integrated gradients: without the factor x - x0", "saliency/integrated_gradients.py",
           "return (x - x0) * mean, logits", "return mean, logits", 4, "saliency/test_integrated_gradients.py"),
    Mutant("integrated gradients: half of the path", "saliency/integrated_gradients.py",
           "torch.lerp(x0, x, places[points])", "torch.lerp(x0, x, places[points] / 2)", 4,
           "saliency/test_integrated_gradients.py"),
    Mutant("baseline: black in place of the mean", "saliency/baseline.py",
           "return module.mean.flip(0) if module.bgr else module.mean", "return 0 * module.mean", 5,
           "saliency/test_baseline.py"),
    Mutant("DeepLIFT: slopes in place of secants", "saliency/deeplift.py",
           "secant = torch.where(near, self.activation.slope(kept), (value - at_reference.value).div_(run))",
           "secant = self.activation.slope(kept)", 5, "saliency/test_deeplift.py"),
    Mutant("DeepLIFT: max pools by the gradient", "saliency/deeplift.py",
           "ratio = slope(y - y0, change, gained.to(y.dtype))", "ratio = torch.ones_like(y)", 5,
           "saliency/test_deeplift.py"),
    Mutant("LRP: epsilon without the sign of the sum", "saliency/relevance/shares.py",
           "share = 1 - self.epsilon / (kept.value.abs() + self.epsilon)",
           "share = 1 - self.epsilon / (kept.value + self.epsilon)", 6, "saliency/test_lrp.py"),
    Mutant("z-plus: what lowers a value counts as well", "saliency/relevance/shares.py",
           'once("signs", (x,), lambda: (x.clamp(min=0), x.clamp(max=0)))',
           'once("signs", (x,), lambda: (x.abs(), x.clamp(max=0)))', 6, "saliency/test_lrp.py"),
    Mutant("deep Taylor: no z-box", "saliency/relevance/pixels.py",
           "kept.below * of_x - kept.width * self.transpose(s, up)", "kept.below * of_x", 6, "saliency/test_lrp.py"),
    Mutant("SmoothGrad: no noise", "saliency/smoothgrad.py", "noise = self.sigma * self._noise(",
           "noise = 0 * self._noise(", 3, "saliency/test_smoothgrad.py"),
    Mutant("Grad-CAM: negative parts stay", "saliency/grad_cam.py",
           ".sum(dim=1, keepdim=True).clamp(min=0)", ".sum(dim=1, keepdim=True)", 7, "saliency/test_grad_cam.py"),
    # Curvature
    Mutant("H v: scaled", "curvature/hessian.py", "return product if product.any()",
           "return 1.1 * product if product.any()", 18, "curvature/test_hessian.py"),
    Mutant("curvature: not divided by the length", "curvature/directions.py",
           "return Curvature((d * products).sum(1) / lengths.square(), products.norm(dim=1) / lengths)",
           "return Curvature((d * products).sum(1), products.norm(dim=1))", 18, "curvature/test_directions.py"),
    # Influence
    Mutant("influence: sign flipped", "influence/functions.py",
           'return -torch.einsum("tkn,nk->tn", solved @ self.inputs.T, self.residuals)',
           'return torch.einsum("tkn,nk->tn", solved @ self.inputs.T, self.residuals)', 15,
           "influence/test_functions.py"),
    Mutant("influence: no l2 in the Hessian", "influence/functions.py", "head.l2 + solver.damping", "solver.damping",
           15, "influence/test_functions.py"),
    Mutant("influence: damping left out", "influence/functions.py", "head.l2 + solver.damping", "head.l2", 15,
           "influence"),
    Mutant("influence attack: random training images", "influence/attack.py",
           "pull = explain.pull(most(scores, attack.top, attack.side))",
           "pull = explain.pull(torch.randint(scores.shape[1], (len(scores), attack.top)))", 16,
           "influence/test_attack.py"),
    Mutant("influence attack: towards them", "influence/attack.py",
           'return total if self.side == "helpful" else -total', 'return -total if self.side == "helpful" else total',
           16, "influence/test_attack.py"),
    # Attention
    Mutant("rollout: no shortcuts", "saliency/rollout.py",
           "row = (row @ seen.by_head(matrix).mean(dim=1) + row) / 2", "row = row @ seen.by_head(matrix).mean(dim=1)",
           20, "saliency/test_rollout.py"),
    # The audit
    Mutant("audit: the best image is called the worst", "experiments/audit/summary.py",
           "values.idxmin() if measure in BOUNDED else values.idxmax()",
           "values.idxmax() if measure in BOUNDED else values.idxmin()", 23, "experiments/audit/test_summary.py"),
]  # fmt: skip


def main() -> int:
    """Try the mutants and write the table of what noticed them; 1 if one survived."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="mutants whose description has these words")
    options.add_argument("--skip-chapters", action="store_true")
    options.add_argument("--skip-tests", action="store_true")
    options.add_argument("--jobs", type=int, default=1, help="how many are tried at a time (1)")
    options.add_argument("--out", type=Path, help="the table, as CSV")
    options = options.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.wrong]
    failing = without_a_mutant(chosen, options)
    if failing:
        print(*failing, sep="\n", file=sys.stderr)
        return 2
    table = [("mutant", "chapter", "claim that fails", "test that fails")]
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, noticed in zip(chosen, pool.map(partial(tried, options=options), chosen), strict=True):
            table.append((mutant.wrong, f"{mutant.chapter:02d}", *(what or "none" for what in noticed)))
            print(*table[-1], sep=" | ", flush=True)
    if options.out:
        with options.out.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
    return int(any("none" in row for row in table))


def without_a_mutant(chosen: list[Mutant], options: argparse.Namespace) -> list[str]:
    """Run what is to notice the mutants on the package as it is, and return what fails."""
    chapters = {} if options.skip_chapters else {mutant.chapter: mutant for mutant in chosen}
    tests = {} if options.skip_tests else {mutant.tests: mutant for mutant in chosen}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        copy = copied(Path(folder))
        claims = pool.map(partial(noticed_by_a_claim, copy=copy), chapters.values())
        failures = pool.map(partial(noticed_by_a_test, copy=copy), tests.values())
        found = [*zip(chapters, claims, strict=True), *zip(tests, failures, strict=True)]
    return [f"without a mutant, {where} fails: {what}" for where, what in found if what]


def tried(mutant: Mutant, options: argparse.Namespace) -> tuple[str, str]:
    """Return the claim and the test that noticed the mutant; "" where none did, "not tried" where none was asked."""
    with tempfile.TemporaryDirectory() as folder:
        copy = mutated(mutant, Path(folder))
        by_claim = "not tried" if options.skip_chapters else noticed_by_a_claim(mutant, copy)
        by_test = "not tried" if options.skip_tests else noticed_by_a_test(mutant, copy)
    return by_claim, by_test


def copied(folder: Path) -> Path:
    """Copy the repository into a folder."""
    ignored = shutil.ignore_patterns("__pycache__", "_build")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    return folder


def mutated(mutant: Mutant, folder: Path) -> Path:
    """Return a copy of the repository in which the mutant lives."""
    path = copied(folder) / "fragile_utils" / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.wrong}: expected once in {mutant.file}: {mutant.old}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return folder


def noticed_by_a_claim(mutant: Mutant, copy: Path) -> str:
    """Return the claim of the chapter that does not hold on the mutant, or what else stops it; "" if nothing does."""
    (chapter,) = (copy / "chapters").glob(f"{mutant.chapter:02d}_*.ipynb")
    status, output = run([sys.executable, str(copy / "tests" / "executed.py"), str(chapter)], copy)
    said = output.rsplit("\n@", 1)[-1].strip().splitlines()[:1]
    if status == 0:
        return ""
    return said[0] if status == 3 and said else f"(no claim: the chapter stops) {said[0] if said else ''}".strip()


def noticed_by_a_test(mutant: Mutant, copy: Path) -> str:
    """Return the name of a test that fails on the mutant; "" if all pass."""
    files = [f"tests/{name}" for name in mutant.tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *files]
    status, output = run(command, copy)
    failed = [line.split()[1] for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].removeprefix("tests/").split("[")[0] if status == 1 and failed else ""


def run(command: list[str], folder: Path, **settings: str) -> tuple[int, str]:
    """Run a command with the package of `folder`; return its exit status and what it printed."""
    env = os.environ | {"PYTHONPATH": str(folder), "MPLBACKEND": "Agg"} | settings
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main())

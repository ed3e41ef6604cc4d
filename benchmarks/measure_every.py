"""What is lost when only some of the iterates are measured: SqueezeNet at 227 x 227, the embedded photographs.

    python benchmarks/measure_every.py [--images 6] [--steps 40] [--every 2 5 10]

For each method, attack and budget: the share of the attack's gain in D that is missed when every second, fifth, tenth
iterate is measured in place of all of them, as the mean over the images and at worst (1: no measured iterate keeps the
label). Images on which no iterate gains are left out. `measured/measure_every.csv` has the numbers; of DeepLIFT's last
three attacks, and of deep Taylor, those of every second iterate alone.
"""

import argparse

from fragile_utils import attacks, data, models, saliency

METHODS = {"gradient": saliency.Gradient(), "deeplift": saliency.DeepLift(), "deep-taylor": saliency.DeepTaylor()}
ATTACKS = {"topk": attacks.TopK(1000), "mass-center": attacks.MassCenter()}
LEVELS = (1, 4)


def main() -> None:
    """Print a table with one row for each method, attack and budget, and each number of `--every`."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=6)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    options.add_argument("--every", type=int, nargs="*", default=[2, 5, 10])
    options = options.parse_args()
    model = models.squeezenet()
    right = data.imagenet_samples().correct(model)
    right = right[:: max(1, len(right) // options.images)]

    def gain(method, attack, levels, every):
        given = model, right.images, right.labels, method
        run = attacks.run(attack, *given, eps=levels / 255, steps=options.steps, measure_every=every)
        return run.after.dissimilarity - run.before.dissimilarity

    print("method,attack,eps,every,mean_loss,worst_loss")
    for method in options.methods:
        for attack, objective in ATTACKS.items():
            for levels in LEVELS:
                full = gain(METHODS[method], objective, levels, 1)
                for every in options.every:
                    lost = 1 - gain(METHODS[method], objective, levels, every)[full > 0] / full[full > 0]
                    print(f"{method},{attack},{levels},{every},{lost.mean():.4f},{lost.max():.4f}", flush=True)


if __name__ == "__main__":
    main()

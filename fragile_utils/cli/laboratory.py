"""``fragile laboratory``: write a page on which explanations are attacked in the reader's own browser."""

import argparse

from fragile_utils import data, saliency
from fragile_utils.cli import _common as common


def add_parser(commands) -> None:
    """Add this command to the sub-parsers `commands`."""
    parser = commands.add_parser(
        "laboratory",
        help="write a page that attacks explanations in the reader's own browser",
        description="Write a folder with a page that attacks the explanations of a network in the browser, and all "
        "that it needs. Any web server serves it; nothing that a reader gives it leaves her machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=run)
    add = parser.add_argument
    common.add_model_options(parser)
    add("--out", type=common.path, required=True, metavar="FOLDER", help="new, empty, or of an earlier laboratory")
    add("--method", choices=saliency.METHODS, nargs="+", default=["gradient"], help="the explanations to choose from")
    add("--pixels", type=common.whole, help="the side of explained images (default: that of the network's)")
    add("--points", type=common.whole, default=5, help="points of integrated gradients, samples of SmoothGrad")
    add("--data", help=f"example images: {', '.join(data.SAMPLES)}, an image file, or a folder (default: samples)")
    add("--images", type=common.whole, default=12, help="how many example images, at most")
    add("--json", action="store_true", help="print one JSON object: what was written, and its bytes")


def run(options: argparse.Namespace) -> int:
    """Write the laboratory that the options name."""
    common.check_options(options, counts=("pixels", "points", "images"), positive=())
    from fragile_utils import laboratory  # ONNX, which no other command needs

    methods = [laboratory.explanation(name, options.pixels, options.points) for name in options.method]
    network = laboratory.network(options.model, common.load_model(options), methods, options.data, options.images)
    manifest = laboratory.write(options.out, [network])
    facts = summary(manifest)
    if options.json:
        common.print_json({"folder": str(options.out)} | facts)
    else:
        print(f"{options.out}/: " + ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in facts.items()))
        print(f"to look at it: python -m http.server --directory {options.out}")
    return 0


def summary(manifest: dict) -> dict[str, int]:
    """Return how many graphs and examples there are, and the bytes of graphs and weights."""
    networks = manifest["networks"]
    graphs = [graph for network in networks for method in network["methods"] for graph in method["graphs"].values()]
    return {
        "graphs": len(graphs),
        "examples": len(manifest["examples"]),
        "bytes_of_graphs": sum(graph["bytes"] for graph in graphs),
        "bytes_of_weights": sum(network["weights"]["bytes"] for network in networks),
    }

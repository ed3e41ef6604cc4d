"""Image classifiers of Hugging Face's transformers, from a folder on this machine. Needs the extra ``hf``."""

from pathlib import Path
from typing import Any

from fragile_utils._base import schema
from fragile_utils.models.files import in_order
from fragile_utils.models.wrapping import Wrapped, wrap

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


def huggingface(path: str, **options: Any) -> Wrapped:
    """Return the image classifier that ``save_pretrained`` has written to a folder, its parameters frozen.

    Nothing is downloaded, and no code that the folder holds is executed. Mean, standard deviation and size are those
    of its preprocessor, and the classes those of its configuration, where `options`, those of `wrap`, do not say.

    Raises
    ------
    ValueError
        If transformers is not installed, or the folder holds no image classifier.
    """
    folder = Path(path).expanduser()
    if not (folder / CONFIG).is_file():
        raise ValueError(f"hf: expected a folder with {CONFIG}, as save_pretrained writes it, got {schema.shown(path)}")
    try:
        import transformers
    except ImportError as error:
        raise ValueError('hf: this needs transformers; pip install "fragile_utils[hf]"') from error
    try:
        network = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
        )
    except Exception as error:  # whatever a folder can be short of
        raise ValueError(f"hf: {folder}: expected an image classifier: {schema.reason(error)}") from error
    return wrap(network.eval().requires_grad_(False), **_described(folder) | options)


def _described(folder: Path) -> dict[str, Any]:
    """Return what the files of a folder say of the images and classes, as `wrap` takes it."""
    found: dict[str, Any] = {}
    if names := _read(folder / CONFIG).get("id2label"):
        found["classes"] = in_order(schema.fields(names, "id2label", ()), f"{folder / CONFIG}: id2label")
    if not (folder / PREPROCESSOR).is_file():
        return found
    given = _read(folder / PREPROCESSOR)
    scaled = given.get("do_rescale", True)
    if scaled and abs(given.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise ValueError(f"{folder / PREPROCESSOR}: expected images in [0, 1], got a rescale_factor; give mean and std")
    if given.get("do_normalize", True) and "image_mean" in given:
        found |= {"mean": given["image_mean"], "std": given["image_std"]}
    size = given.get("crop_size") if given.get("do_center_crop") else given.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return found | ({"size": size} if isinstance(size, int) else {})


def _read(path: Path) -> dict[str, Any]:
    return schema.load(path, lambda found: dict(schema.fields(found, path.name, ())))

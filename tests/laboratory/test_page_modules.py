"""The page's modules without a network: measures, noise, resampling, headers, pictures and links, against Python's."""

import base64
import io
import json
import re
import shutil
import subprocess
from importlib import resources

import browsing
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fragile_utils import metrics, plots

PAGE = resources.files("fragile_utils") / "laboratory" / "page"
MODULES = sorted(path.name for path in (PAGE / "js").iterdir())


@pytest.fixture(scope="module")
def modules():
    """Call an expression of JavaScript with the page's modules at hand: ``run("measures.centre(given, 3)", given)``."""
    with (
        browsing.served(PAGE) as site,
        browsing.chromium() as browser,
        browsing.watched(browser, site) as (tab, problems),
    ):
        tab.goto(site + "vendor/ort/LICENSE.txt")  # a page of this server without scripts of its own

        def run(expression, given=None):
            used = {*re.findall(r"\b([a-z]+)\.(?=[a-zA-Z])", expression)} & {name[:-3] for name in MODULES}
            imports = "".join(f"const {name} = await import('/js/{name}.js');" for name in sorted(used))
            return tab.evaluate(f"async (given) => {{ {imports} return {expression}; }}", given)

        yield run
        assert problems == []


# --- Measures ---------------------------------------------------------------------------------------------------------


def random_maps(side, seed):
    maps = torch.rand(2, side, side, generator=torch.Generator().manual_seed(seed)) ** 4
    return maps / maps.sum(dim=(1, 2), keepdim=True)


def tied_maps(side, seed):
    """Few values, so that most pixels share theirs; 0 among them."""
    levels = torch.randint(0, 5, (2, side, side), generator=torch.Generator().manual_seed(seed)).float()
    return levels / levels.sum(dim=(1, 2), keepdim=True)


PAIR = "given.map((map) => Float32Array.from(map))"
CORRELATION = f"measures.correlation(...{PAIR}.map(measures.ranks))"


@pytest.mark.parametrize("side", [16, 61])
@pytest.mark.parametrize("maps", [random_maps, tied_maps])
def test_measures_are_those_of_python(modules, maps, side):
    before, after = maps(side, 0), maps(side, 1)
    for a, b in zip(before, after, strict=True):
        pair = [a.flatten().tolist(), b.flatten().tolist()]
        assert modules(CORRELATION, pair) == pytest.approx(metrics.rank_correlation(a[None], b[None]).item(), abs=1e-6)
        centres = np.array(modules(f"{PAIR}.map((map) => measures.centre(map, {side}))", pair))
        assert centres == pytest.approx(metrics.mass_center(torch.stack([a, b]).double()).numpy(), abs=1e-6)
        shift = modules(f"measures.shift(...{PAIR}.map((map) => measures.centre(map, {side})))", pair)
        assert shift == pytest.approx(metrics.center_shift(a[None].double(), b[None].double()).item(), abs=1e-6)


@pytest.mark.parametrize("k", [1, 40, 256])
def test_the_intersection_is_that_of_python(modules, k):
    a, b = random_maps(16, 2)[:1], random_maps(16, 3)[:1]
    pair = [a.flatten().tolist(), b.flatten().tolist()]
    shared = modules(f"measures.intersection(...{PAIR}.map((map) => measures.topMask(map, {k})), {k})", pair)
    assert shared == pytest.approx(metrics.topk_intersection(a, b, k).item(), abs=1e-7)


@pytest.mark.parametrize("k", [1, 40, 255])
def test_the_top_of_a_map_with_ties_has_k_pixels_and_none_below_the_others(modules, k):
    values = tied_maps(16, 4)[0].flatten().numpy()
    mask = np.array(modules(f"[...measures.topMask(Float32Array.from(given), {k})]", values.tolist()), dtype=bool)
    assert mask.sum() == k
    assert values[mask].min() >= values[~mask].max()


def test_a_constant_map_has_no_rank_correlation(modules):
    pair = [[1.0] * 9, list(range(9))]
    assert modules(f"Number.isNaN({CORRELATION})", pair) is True


def test_the_loss_is_the_cross_entropy_also_of_large_logits(modules):
    logits = torch.tensor([[900.0, 903.5, -20.0, 899.0]])
    for label in range(4):
        expected = torch.nn.functional.cross_entropy(logits.double(), torch.tensor([label])).item()
        given = logits[0].tolist()
        assert modules(f"measures.loss(Float32Array.from(given), {label})", given) == pytest.approx(expected, rel=1e-6)
    assert modules("measures.argmax(given)", logits[0].tolist()) == 1


def test_the_ceiling_of_a_map_is_that_of_the_figures(modules):
    saliency_map = random_maps(23, 5)[0]
    found = modules("paint.ceiling(Float32Array.from(given))", saliency_map.flatten().tolist())
    assert found == pytest.approx(plots.ceiling(saliency_map), rel=1e-6)


# --- Noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("original", ["grey", "black and white"])
def test_noise_has_the_size_that_was_asked_for_and_one_amplitude(modules, original):
    rng = np.random.default_rng(0)
    image = np.float32(rng.uniform(0.3, 0.7, 3000) if original == "grey" else rng.choice([0.0, 1.0, 0.5], 3000))
    noisy = np.array(modules("[...noise.noisy(Float32Array.from(given), 0.02, 7)]", image.tolist()))
    change = noisy - image
    assert np.sqrt(np.mean(change**2)) == pytest.approx(0.02, rel=1e-4)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    moved = np.abs(change[np.abs(change) > 1e-6])
    assert moved == pytest.approx(moved[0], rel=1e-4)


def test_the_signs_of_noise_are_even_and_follow_the_seed(modules):
    signs = np.array([modules(f"[...noise.signs(20000, {seed})]") for seed in (0, 0, 1)])
    assert {*signs.flat} == {-1, 1}
    assert np.array_equal(signs[0], signs[1])
    assert abs(np.mean(signs[0])) < 0.03  # four standard deviations of a fair coin
    assert abs(np.mean(signs[0] * signs[2])) < 0.03
    assert abs(np.mean(signs[0][1:] * signs[0][:-1])) < 0.03


# --- From a file to the network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 60), (61, 33), (227, 227), (16, 16), (9, 7), (300, 20)], ids=str)
@pytest.mark.parametrize("size", [16, 61])
def test_a_photograph_is_brought_to_size_as_pillow_does_it_to_the_last_bit(modules, shape, size):
    width, height = shape
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = ImageOps.fit(Image.fromarray(pixels), (size, size), Image.Resampling.BILINEAR)
    rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    found = modules(
        "[...resample.resample({ data: Uint8ClampedArray.from(given.data), width: given.width, height: given.height },"
        " given.size, resample.middleSquare(given.width, given.height))]",
        {"data": rgba.ravel().tolist(), "width": width, "height": height, "size": size},
    )
    assert np.array_equal(np.array(found, np.uint8).reshape(size, size, 3), np.asarray(expected))


def picture(kind, size=(33, 21), **options):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, kind, **options)
    return file.getvalue()


def frames(kind):
    made = [Image.new("RGB", (33, 21), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    made[0].save(file, kind, save_all=True, append_images=made[1:], duration=100)
    return file.getvalue()


def header(modules, content):
    given = base64.b64encode(content).decode()
    return modules("header.readHeader(Uint8Array.from(atob(given), (one) => one.charCodeAt(0)).buffer)", given)


STILL = {"PNG": {}, "JPEG": {"exif": b"Exif\0\0" + bytes(20000)}, "GIF": {}, "BMP": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", STILL)
def test_a_header_says_how_large_a_picture_is(modules, kind):
    found = header(modules, picture(kind, **STILL[kind]))
    assert (found["width"], found["height"], found["animated"]) == (33, 21, False)


def test_the_header_of_a_lossy_webp(modules):
    found = header(modules, picture("WEBP", quality=50))
    assert (found["width"], found["height"], found["animated"]) == (33, 21, False)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_a_header_says_what_is_an_animation(modules, kind):
    found = header(modules, frames(kind))
    assert (found["width"], found["height"], found["animated"]) == (33, 21, True)


@pytest.mark.parametrize("content", [b"", b"GIF", b"plain text, longer than a header", b"\xff\xd8\xff", b"\x89PNG"])
def test_what_is_no_picture_has_no_header(modules, content):
    assert header(modules, content) is None


@pytest.mark.parametrize("kind", [*STILL])
def test_a_header_that_is_cut_short_is_none_and_no_error(modules, kind):
    content = picture(kind)
    for length in range(0, min(len(content), 60), 7):
        found = header(modules, content[:length])
        assert found is None or found["width"] in (0, 33)


# --- Pictures ---------------------------------------------------------------------------------------------------------


def rgb(values):
    return np.array(values).reshape(-1, 4)[:, :3]


def test_a_map_has_the_colours_of_the_figures(modules):
    values = np.linspace(0, 1.2, 500, dtype=np.float32)
    found = rgb(modules("[...paint.mapPicture(Float32Array.from(given), 1)]", values.tolist()))
    assert np.array_equal(found, matplotlib.colormaps[plots.MAP_COLORS](values.clip(0, 1), bytes=True)[:, :3])


def test_the_top_pixels_have_the_colours_of_the_figures(modules):
    before, after = random_maps(9, 6)
    given = [metrics.top_mask(one[None], 30).int().flatten().tolist() for one in (before, after)]
    found = rgb(modules(f"[...paint.topPicture(...{PAIR})]", given))
    expected = plots.top_pixels(before, after, 30).permute(1, 2, 0).reshape(-1, 3) * 255
    assert found == pytest.approx(expected.numpy(), abs=0.5)


def test_a_change_is_amplified_as_in_the_figures(modules):
    generator = torch.Generator().manual_seed(8)
    before = torch.rand(3, 5, 5, generator=generator)
    after = (before + torch.rand(3, 5, 5, generator=generator) / 50).clamp(0, 1)
    given = [one.flatten().tolist() for one in (before, after)]
    found = rgb(modules(f"[...paint.changePicture(...{PAIR})]", given))
    expected = plots.change_pixels(before, after).permute(1, 2, 0).reshape(-1, 3) * 255
    assert np.abs(found - expected.numpy()).max() <= 0.51


# --- Links ------------------------------------------------------------------------------------------------------------

MANIFEST = {
    "networks": [{"name": "net", "methods": [{"name": "gradient", "size": 32, "graphs": {}}]}],
    "examples": [{"file": "00.png", "network": "net"}],
}
CHOICE = {"network": "net", "method": "gradient-32", "example": "00.png", "levels": 4, "steps": 30}
CHOICE |= {"objective": "region", "region": {"top": 1, "left": 2, "bottom": 32, "right": 9}}


@pytest.mark.parametrize("objective", ["top", "centre", "region"])
def test_a_link_says_all_that_was_chosen(modules, objective):
    choice = {**CHOICE, "objective": objective, "region": CHOICE["region"] if objective == "region" else None}
    given = {"choice": choice, "manifest": MANIFEST}
    assert modules("link.fromFragment(link.asFragment(given.choice), given.manifest)", given) == choice


@pytest.mark.parametrize(
    "change",
    [
        {"network": "other"},
        {"method": "gradient-64"},
        {"example": "../x.png"},
        {"objective": "away"},
        {"levels": 17},
        {"levels": 0.5},
        {"steps": 1000},
        {"region": {"top": 5, "left": 0, "bottom": 5, "right": 9}},
        {"region": {"top": 0, "left": 0, "bottom": 33, "right": 9}},
        {"region": None},
    ],
    ids=json.dumps,
)
def test_a_link_that_names_what_is_not_there_is_none(modules, change):
    given = {"choice": {**CHOICE, **change}, "manifest": MANIFEST}
    assert modules("link.fromFragment(link.asFragment(given.choice), given.manifest)", given) is None


# --- Sentences --------------------------------------------------------------------------------------------------------

OUTCOME = {"iterate": 7, "predicted": 1, "confidence": 0.9, "largest": 2, "intersection": 0.02, "shift": 3.21, "d": 0.3}


@pytest.mark.parametrize(
    ("state", "objective", "said"),
    [
        ({"shown": "best"}, "top", "still says “dog” (90 %), no colour of any pixel has moved by more than 2 levels"),
        ({"shown": "best"}, "top", "and 2 % of the explanation’s 10 most salient pixels are where they were. (This is"),
        ({"shown": "best"}, "centre", "moved by 3.2 pixels. (This is iterate 7, which is shown: the best so far.)"),
        ({"shown": "latest"}, "region", "30 % of the explanation’s weight is in your region. (This is iterate 7"),
        ({"shown": "latest"}, "top", "(This is iterate 7, which the table below has: the best so far.)"),
        ({"shown": "best", "success": False}, "top", "no iterate has brought the attack nearer to its aim"),
        ({"shown": "latest", "best": None}, "top", "the attack has failed, and Algorithm 1 returns the original. What"),
    ],
)
def test_a_sentence_says_what_an_attack_came_to(modules, state, objective, said):
    given = {"latest": OUTCOME | {"iterate": 9}, "best": OUTCOME, "success": True} | state
    call = "words.verdict(given.state, given.objective, ['cat', 'dog'], 10)"
    assert said in modules(call, {"state": given, "objective": objective})


# --- The source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_valid_small_and_tidy(name):
    source = (PAGE / "js" / name).read_text(encoding="utf-8")
    lines = source.splitlines()
    assert lines[0].startswith("// "), "says what it is about"
    assert len(lines) < 360
    assert [line for line in lines if len(line) > 120 or line != line.rstrip() or "\t" in line] == []
    assert "innerHTML" not in source
    assert "https://" not in source.replace("http://www.w3.org/2000/svg", "")
    if node := shutil.which("node"):
        checked = subprocess.run([node, "--check", "--input-type=module"], input=source, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_every_module_loads(modules):
    others = [name for name in MODULES if name not in ("main.js", "worker.js")]  # these two begin to work at once
    load = f"Promise.all({others}.map((name) => import('/js/' + name)))"
    assert modules(f"{load}.then((found) => found.length)") == len(others)

"""What the tests share: networks, images, and a way to run the command line."""

from pathlib import Path

import browsing
import numpy as np
import pytest
import torch
from networks import Tiny
from PIL import Image

from fragile_utils import data, models
from fragile_utils.cli import main
from fragile_utils.influence import tasks


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own is the same whenever it runs, and whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser():
    """A browser; the tests that ask for it are skipped where there is none."""
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture
def tiny() -> Tiny:
    with torch.random.fork_rng():
        return Tiny().eval().requires_grad_(False)


@pytest.fixture
def tiny_batch(tiny: Tiny) -> tuple[torch.Tensor, torch.Tensor]:
    """Six images, and the classes that the tiny network predicts on them."""
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return images, data.predict(tiny, images)


@pytest.fixture(scope="session")
def squeezenet() -> models.Classifier:
    return models.squeezenet()


@pytest.fixture(scope="session")
def samples() -> data.Batch:
    return data.imagenet_samples()


@pytest.fixture(scope="session")
def correct(samples: data.Batch, squeezenet: models.Classifier) -> data.Batch:
    """The 12 embedded ImageNet images that SqueezeNet gets right."""
    return samples.correct(squeezenet)


@pytest.fixture(scope="session")
def digit_network() -> models.Classifier:
    """The network of the task of two digits, for tests in which it need not be trained again."""
    samples = data.mnist_samples()
    return tasks.digit_network(samples[~torch.isin(samples.labels, torch.tensor([4, 9]))])


@pytest.fixture
def fragile(capsys, monkeypatch):
    """Run `fragile ...` and return the exit status, what it printed and what it complained about."""
    monkeypatch.delenv("FRAGILE_DATA", raising=False)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def garden(tmp_path, monkeypatch):
    """Photos of two colours, in the folder that FRAGILE_DATA names."""
    rng = np.random.default_rng(0)
    for name, colour in (("roses", (200, 30, 60)), ("sunflowers", (230, 200, 30))):
        (tmp_path / "flower_photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(np.array(colour) + rng.integers(-60, 60, (40, 60, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "flower_photos" / name / f"{i}.jpg")
    monkeypatch.setenv("FRAGILE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder for downloads, new and not there yet; FRAGILE_DATA is not set."""
    monkeypatch.delenv("FRAGILE_DATA", raising=False)
    monkeypatch.setenv("FRAGILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Cutting(browsing.QuietHandler):
    """Of ``cut.bin`` only the first half arrives."""

    def do_GET(self):
        if self.path != "/cut.bin":
            return super().do_GET()
        content = Path(self.directory, "cut.bin").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True
        return None


@pytest.fixture
def server(tmp_path):
    """The address of a server of the folder ``served``, which is empty."""
    folder = tmp_path / "served"
    folder.mkdir()
    with browsing.served(folder, Cutting) as address:
        yield address.rstrip("/")

"""What the tests of data share."""

import numpy as np
import pytest
from pictures import RED, save
from PIL import Image


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """A folder of files that are no images, or not the images that were meant; FRAGILE_DATA is not set."""
    monkeypatch.delenv("FRAGILE_DATA", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not an image")
    save(tmp_path / "plain" / "a.png", RED)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = save(tmp_path / "mixed" / "b.png", noise).read_bytes()
    save(tmp_path / "mixed" / "c.png", RED)
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    return tmp_path

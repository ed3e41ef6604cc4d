"""Files of one colour, for the tests of whatever reads images."""

import numpy as np
from PIL import Image

RED = np.zeros((40, 60, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path

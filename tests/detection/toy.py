"""Detectors of a user's own, as ``--detector tests.detection.toy:…`` names them, and photos for them."""

import os
import time

import numpy as np
from PIL import Image

from jaxcolor.data.types import Boxes


class Bright:
    """Finds the one bright rectangle of a photo; its score tells how bright, and a second box a tenth of it."""

    name = "bright"
    batch_size = 3
    threshold = 0.5

    def __init__(self, pause=0.0):
        self.pause = pause
        self.batches = []

    def detect(self, photos, threshold):
        time.sleep(self.pause)
        self.batches.append([photo.shape for photo in photos])
        return [self.find(photo) for photo in photos]

    def find(self, photo):
        assert (photo[..., 0] == photo[..., 1]).all()
        y, x = np.nonzero(photo[..., 0] > 100)
        if not len(x):
            return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        score = photo.max() / 255
        return Boxes(np.array([box, box], np.float32), np.array([score / 10, score], np.float32))


def slow():
    return Bright(float(os.environ.get("TOY_PAUSE", "0.05")))


def failing():
    """Works for two batches of three."""

    class Failing(Bright):
        def detect(self, photos, threshold):
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().detect(photos, threshold)

    return Failing()


def wrong():
    class Wrong(Bright):
        def detect(self, photos, threshold):
            return [Boxes(np.zeros((2, 4), np.float32), np.ones(1, np.float32)) for _ in photos]

    return Wrong()


def forgetful():
    class Forgetful(Bright):
        def detect(self, photos, threshold):
            return super().detect(photos, threshold)[1:]

    return Forgetful()


def nothing():
    return object()


NUMBER = 3


def rectangle(number):
    """Where the bright rectangle of a photo is; None: it has none."""
    if number % 5 == 4:
        return None
    x, y = 3 * (number % 7), 2 * (number % 4)
    return x, y, x + 5 + number % 3, y + 9


def make_photos(folder, count):
    """Photos of 40 x 30, named so that their order is not that of their numbers."""
    folder.mkdir()
    for number in range(count):
        pixels = np.zeros((30, 40, 3), np.uint8)
        box = rectangle(number)
        if box is not None:
            pixels[box[1] : box[3], box[0] : box[2]] = (255, 255, 200 + number % 50)
        Image.fromarray(pixels).save(folder / f"{number * 37 % 101:03d}_{number}.png")
    return folder

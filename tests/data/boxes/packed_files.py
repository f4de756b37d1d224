"""Packed stores made for a test."""

import numpy as np

from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.boxes.packed_writer import PackedWriter
from jaxcolor.data.types import Boxes

BOXES = Boxes(np.arange(8, dtype=np.float32).reshape(2, 4), np.array([0.75, 0.5], np.float32))


def write(path, photos, **options):
    with PackedWriter(path, source_kind="npz", source_name="made up", **options) as writer:
        for key, boxes in photos.items():
            writer.add(key, boxes)
    return PackedStore(path)


def many(count):
    """Photos whose boxes tell which photo they are of."""
    return {
        f"photo {n}": Boxes(np.full((n % 3, 4), n, np.float32), np.full(n % 3, 0.5, np.float32)) for n in range(count)
    }


def npz_folder(path, photos):
    path.mkdir()
    for key, (boxes, scores) in photos.items():
        np.savez(path / f"{key}.npz", bbox=boxes, scores=scores)
    return path


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.boxes.shape == (len(found.scores), 4)


def beside(path):
    """What lies in the store's folder's folder."""
    return sorted(p.name for p in path.parent.iterdir())

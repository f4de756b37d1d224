"""Masks on their way from a source into a batch: through choice, window, flip and packing."""

import json
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import ConfigError, DataConfig, ScenesConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import make_source, open_source
from jaxcolor.data.transforms import Augment, example
from jaxcolor.data.types import DataError, Photo
from tests.data.sources.test_coco import INSTANCES, lay_out
from tests.data.test_loader import MadeUp

SIDE = 16
MASKED = DataConfig(source="scenes", box_choice="ground_truth", masks=True, seed=3, scenes=ScenesConfig(length=12))


class Marked:
    """Photos whose instances are pure red where their masks are, on gray: crops and masks can be compared."""

    def __init__(self, photos=6):
        self.photos = photos

    def __len__(self):
        return self.photos

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        rgb = np.full((48, 64, 3), 90, np.uint8)
        boxes, masks = [], []
        for column in range(3):
            x0, y0 = 21 * column + int(rng.integers(0, 6)), int(rng.integers(0, 20))
            width, height = (int(v) for v in rng.integers(8, 16, 2))
            mask = np.zeros((48, 64), bool)
            mask[y0 + 2 : y0 + height - 1, x0 + 1 : x0 + 1 + width // 2] = True
            rgb[mask] = (255, 0, 0)
            boxes.append([x0, y0, x0 + width, y0 + height])
            masks.append(mask)
        boxes.insert(1, [5, 5, 5, 9])  # no crop: rows of boxes and of masks must still agree
        masks.insert(1, np.ones((48, 64), bool))
        truth = np.array(boxes, np.float32)
        return Photo(f"p{index}", Image.fromarray(rgb), truth[:0], np.zeros(0, np.float32), truth, masks)

    def picture(self, index, least_side=None):
        return self[index]._replace(truth_boxes=None, truth_masks=None)

    def crop_count(self, index):
        return 3

    def with_boxes(self):
        return range(self.photos)

    def describe(self):
        return "marked photos"


def red(crops):
    """Where the crops show the instance: half of the way from gray to red, as masks are half covered."""
    return crops[..., 0].astype(int) - crops[..., 1] >= (255 + 1) / 2


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    "augment", [Augment(), Augment(flip=True), Augment(True, 0.4, 1.5, 0.25)], ids=["plain", "flip", "window"]
)
def test_masks_lie_on_their_crops(augment, devices):
    config = DataConfig(box_choice="ground_truth", masks=True, max_crops_per_image=2.0)  # one of three finds no place
    arguments = {"parts": "both", "side": SIDE, "batch_size": 4, "augment": augment, "device_count": devices}
    with train_batches(Marked(), config, **arguments) as batches:
        for loaded in islice(batches, 8):
            batch = loaded.batch
            assert batch.crop_mask.shape == (8, SIDE, SIDE)
            assert batch.crop_mask.dtype == bool
            real = batch.crop_to_image >= 0
            assert not batch.crop_mask[~real].any()
            # Pillow rounds colours and masks for themselves.
            differing = (batch.crop_mask != red(batch.crop_rgb))[real]
            assert differing.mean() < 0.01
            assert 0.05 < batch.crop_mask[real].mean() < 0.9


def test_example_mirrors_masks():
    photo = Marked()[0]
    boxes = photo.truth_boxes[[0, 2]].astype(np.int32)
    masks = [photo.truth_masks[0], photo.truth_masks[2]]
    plain, mirrored = (
        example(photo.image, boxes, np.ones(2, np.float32), SIDE, masks=masks, mirrored=m) for m in (False, True)
    )
    for ours, other in zip(mirrored.crop_mask, plain.crop_mask, strict=True):
        np.testing.assert_array_equal(ours, other[:, ::-1])
        assert ours.any()
    assert example(photo.image, boxes, np.ones(2, np.float32), SIDE).crop_mask == []


def test_stages_without_fusion_read_none():
    source = make_source(MASKED, SIDE)
    for parts in ("full", "instance"):
        with train_batches(source, MASKED, parts=parts, side=SIDE, batch_size=2) as batches:
            assert next(batches).batch.crop_mask.shape == (0, SIDE, SIDE)


def test_scenes_show_their_objects():
    source = make_source(MASKED, SIDE)
    for index in range(len(source)):
        scene = source.scene(index)
        masks = scene.photo.truth_masks
        assert len(masks) == len(scene.photo.truth_boxes)
        for number, ((x0, y0, x1, y1), mask) in enumerate(
            zip(scene.photo.boxes.astype(int).tolist(), masks, strict=True)
        ):
            np.testing.assert_array_equal(mask, scene.object_map == number)
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
    with eval_batches(source, MASKED, side=SIDE, batch_size=5) as batches:
        for loaded in batches:
            real = loaded.batch.crop_to_image >= 0
            shares = loaded.batch.crop_mask[real].mean(axis=(1, 2))
            assert (shares > 0.2).all()  # a diamond or a triangle, less its margin
            assert (shares < 1).all()


def with_masks(content):
    """COCO's instances with a mask over the left half of each box."""
    entries = []
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        half = [x, y, x + width / 2, y, x + width / 2, y + height, x, y + height]
        entries.append({**entry, "segmentation": [half]})
    return {**content, "annotations": entries}


def test_coco(tmp_path):
    path = lay_out(tmp_path / "coco", zipped=False)
    fields = {"source": "coco", "path": str(path), "split": "val", "box_choice": "ground_truth", "masks": True}
    with pytest.raises(DataError, match=r"instances_val2017\.json: annotation 0: no mask"):
        open_source(DataConfig(**fields))
    (path / "annotations" / "instances_val2017.json").write_text(json.dumps(with_masks(INSTANCES)))
    source = open_source(DataConfig(**fields))
    masks = {source[i].name: source[i].truth_masks for i in range(len(source))}
    (first,), none, (third,) = (masks[f"{number:012d}"] for number in (9, 25, 30))
    assert none == []
    assert first.shape == third.shape == (30, 40)
    assert np.argwhere(third).min(axis=0).tolist() == [4, 3]
    assert np.argwhere(third).max(axis=0).tolist() == [9, 4]  # centres of x 3 to 5.5 and y 4 to 10
    with eval_batches(source, DataConfig(**fields), side=SIDE, batch_size=3) as batches:
        batch = next(batches).batch
    real = batch.crop_to_image >= 0
    assert real.sum() == 2
    for mask in batch.crop_mask[real]:
        assert mask[:, : SIDE // 2 - 2].all()  # 2 columns of 5, 5 of 10
        assert not mask[:, SIDE // 2 + 1 :].any()
    # A file named by hand is the same one.
    named = DataConfig(
        source="folder",
        path=str(path / "val2017"),
        box_choice="ground_truth",
        masks=True,
        truth_boxes_path=str(path / "annotations" / "instances_val2017.json"),
    )
    np.testing.assert_array_equal(open_source(named)[0].truth_masks[0], first)


def test_sources_without_masks():
    config = DataConfig(box_choice="all", masks=False)
    with eval_batches(MadeUp([2]), config, side=SIDE, batch_size=1) as batches:
        assert next(batches).batch.crop_mask.shape == (0, SIDE, SIDE)

    class Annotated(MadeUp):
        def __getitem__(self, index):
            photo = super().__getitem__(index)
            return photo._replace(truth_boxes=photo.boxes)

    masked = DataConfig(box_choice="ground_truth", masks=True)
    with (
        eval_batches(Annotated([2]), masked, side=SIDE, batch_size=1) as batches,
        pytest.raises(DataError, match=r"photo photo0: no annotated masks, which data\.masks asks for"),
    ):
        next(batches)


def test_only_annotated_boxes_have_masks():
    with pytest.raises(ConfigError, match=r"config\.masks: True, which must be False unless box_choice is 'ground_t"):
        from_dict(DataConfig, {"masks": True})

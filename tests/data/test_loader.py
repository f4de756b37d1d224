import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from jaxcolor.boxes import level_boxes
from jaxcolor.config import DataConfig, ScenesConfig
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.transforms import Augment
from jaxcolor.data.types import DataError, Photo, usable_boxes
from tests.data.plainly import cut, resize

SIDE = 16
CONFIG = DataConfig(source="scenes", seed=7, scenes=ScenesConfig(length=13))
SCENES = make_source(CONFIG, SIDE)


class MadeUp:
    """Photos in memory, each with the number of boxes asked for; their scores fall from photo to photo and box to box.

    A photo whose count is None cannot be read.
    """

    def __init__(self, counts):
        self.counts = counts

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, index):
        count = self.counts[index]
        if count is None:
            raise DataError(f"photo {index} is broken")
        rgb = np.random.default_rng(index).integers(0, 256, (24, 40, 3), dtype=np.uint8)
        first = np.arange(count, dtype=np.float32)
        boxes = np.stack([first, first, first + 9, first + 7], axis=1)
        return Photo(f"photo{index}", Image.fromarray(rgb), boxes, (1 - index / 100 - first / 1000).astype(np.float32))

    def picture(self, index, least_side=None):
        photo = self[index]
        return photo._replace(boxes=photo.boxes[:0], scores=photo.scores[:0])

    def crop_count(self, index):
        return self.counts[index] or 0

    def with_boxes(self):
        return tuple(i for i, count in enumerate(self.counts) if count != 0)

    def describe(self):
        return f"{len(self)} made-up photos"


def take(count, source=SCENES, config=CONFIG, **arguments):
    arguments = {"parts": "both", "side": SIDE, "batch_size": 4, **arguments}
    with train_batches(source, config, **arguments) as batches:
        return list(islice(batches, count))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a[1:] == b[1:]
        for x, y in zip(a.batch[:6], b.batch[:6], strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


class TestOrder:
    @pytest.mark.parametrize("parts", ["full", "instance", "both"])
    @pytest.mark.parametrize("threads", [0, 1, 3])
    def test_resume_is_exact_for_any_threads(self, parts, threads):
        config = replace(CONFIG, threads=threads, box_choice="random_k", boxes_per_photo=2)
        whole = take(11, config=replace(config, threads=2), parts=parts, augment=Augment(flip=True))  # three epochs
        assert_same(take(4, config=config, parts=parts, augment=Augment(flip=True), start_step=7), whole[7:])

    def test_epochs_hold_every_photo_once_in_new_order(self):
        names = [name for loaded in take(13) for name in loaded.names]
        epochs = [names[i : i + 13] for i in range(0, 52, 13)]
        assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 13 for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 4

    def test_seed(self):
        assert take(2)[0].names != take(2, config=replace(CONFIG, seed=8))[0].names

    def test_devices_share_out_the_same_photos(self):
        one, two = take(3), take(3, device_count=2)
        assert [x.names for x in one] == [x.names for x in two]
        np.testing.assert_array_equal(one[0].batch.full_rgb, two[0].batch.full_rgb)

    def test_single_photo(self):
        assert take(2, MadeUp([2]))[1].names == ("photo0",) * 4

    def test_flips_half(self):
        plain, flipped = (take(40, MadeUp([1] * 5), parts="full", augment=Augment(flip=f)) for f in (False, True))
        mirrored = 0
        for a, b in zip(plain, flipped, strict=True):
            assert a.names == b.names
            for x, y in zip(a.batch.full_rgb, b.batch.full_rgb, strict=True):
                mirrored += np.array_equal(x[:, ::-1], y)
                assert np.array_equal(x[:, ::-1], y) or np.array_equal(x, y)
        assert abs(mirrored - 80) < 4 * np.sqrt(40)


class TestParts:
    def test_full(self):
        loaded = take(1, parts="full", device_count=2)[0]
        shapes = [(4, 16, 16, 3), (0, 16, 16, 3), (0,), (0, 4, 4), (4,), (0, 16, 16)]
        assert [x.shape for x in loaded.batch[:6]] == shapes
        assert loaded.batch.is_real.all()

    def test_instance(self):
        source = MadeUp([3, 0, 1, 0, 12])
        for loaded in take(30, source, parts="instance", device_count=2):
            batch = loaded.batch
            shapes = [(0, 16, 16, 3), (4, 16, 16, 3), (4,), (4, 4, 4), (4,), (0, 16, 16)]
            assert [x.shape for x in batch[:6]] == shapes
            assert batch.crop_to_image.tolist() == [0, 1, 0, 1]
            assert batch.is_real.all()
            assert set(loaded.names) <= {"photo0", "photo2", "photo4"}  # the others have no boxes
            assert loaded.dropped_crops == 0

    def test_instance_takes_any_box_of_the_photo(self):
        # More boxes than top_k would keep, and all of them are visited.
        source, config = MadeUp([12]), replace(CONFIG, boxes_per_photo=1)
        crops = np.concatenate([x.batch.crop_rgb for x in take(60, source, config, parts="instance")])
        photo = source[0]
        wanted = [resize(cut(photo.rgb, box), SIDE) for box in usable_boxes(photo, "all").boxes]
        visits = [sum(np.array_equal(crop, w) for crop in crops) for w in wanted]
        assert sum(visits) == 240
        assert (np.abs(np.array(visits) - 20) < 5 * np.sqrt(20)).all()

    def test_both(self):
        source = MadeUp([2, 1, 3])
        config = replace(CONFIG, max_crops_per_image=3.0)
        loaded = take(1, source, config, batch_size=3)[0]
        assert loaded.batch.crop_rgb.shape == (9, 16, 16, 3)
        row = 0
        for place, name in enumerate(loaded.names):
            photo = source[int(name.removeprefix("photo"))]
            np.testing.assert_array_equal(loaded.batch.full_rgb[place], resize(photo.rgb, SIDE))
            boxes = usable_boxes(photo, "all").boxes
            for box in boxes:
                assert loaded.batch.crop_to_image[row] == place
                np.testing.assert_array_equal(loaded.batch.crop_rgb[row], resize(cut(photo.rgb, box), SIDE))
                np.testing.assert_array_equal(
                    loaded.batch.level_boxes[row], level_boxes(box[None], photo.size, SIDE)[0]
                )
                row += 1
        assert loaded.batch.crop_to_image[row:].tolist() == [-1] * (9 - row)

    def test_choices(self):
        source = MadeUp([5])
        scores = source[0].scores
        for fields, count in [
            ({"box_choice": "top_k", "boxes_per_photo": 2}, 2),
            ({"box_choice": "random_k", "boxes_per_photo": 3}, 3),
            ({"box_choice": "threshold", "score_threshold": float(scores[3])}, 4),
            ({"box_choice": "all"}, 5),
        ]:
            config = replace(CONFIG, max_crops_per_image=8.0, **fields)
            assert (take(1, source, config, batch_size=1)[0].batch.crop_to_image == 0).sum() == count
        picks = [x.batch.level_boxes.tobytes() for x in take(20, source, replace(CONFIG, box_choice="random_k"))]
        again = [x.batch.level_boxes.tobytes() for x in take(20, source, replace(CONFIG, box_choice="random_k"))]
        assert picks == again


class TestOverflow:
    def test_lowest_scores_of_each_device_go(self):
        source = MadeUp([4, 4, 1, 0])
        config = replace(CONFIG, max_crops_per_image=2.5, box_choice="all")
        with eval_batches(source, config, side=SIDE, batch_size=4, device_count=2) as batches:
            loaded = next(batches)
        assert loaded.batch.crop_to_image.tolist() == [0, 0, 0, 0, 1, 0, -1, -1, -1, -1]
        assert loaded.dropped_crops == 3

    def test_more_boxes_than_the_device_holds(self):
        config = replace(CONFIG, max_crops_per_image=0.5, box_choice="all")
        loaded = take(1, MadeUp([9]), config, batch_size=4)[0]
        assert loaded.batch.crop_rgb.shape[0] == 2
        assert loaded.dropped_crops == 4 * 9 - 2


class TestEval:
    @pytest.mark.parametrize("threads", [0, 2])
    @pytest.mark.parametrize("device_count", [1, 2])
    def test_every_photo_once_in_order(self, threads, device_count):
        config = replace(CONFIG, threads=threads)
        with eval_batches(SCENES, config, side=SIDE, batch_size=4, device_count=device_count) as batches:
            loaded = list(batches)
        names = [name for x in loaded for name in x.names]
        assert names == [SCENES[i].name for i in range(13)] + [""] * 3
        assert [x.batch.is_real.sum() for x in loaded] == [4, 4, 4, 1]
        assert all(len(x.batch.is_real) == 4 and len(x.batch.crop_rgb) == 12 for x in loaded)
        assert not loaded[-1].batch.full_rgb[1:].any()

    def test_photos_without_boxes_come_too(self):
        with eval_batches(MadeUp([0, 2, 0]), CONFIG, side=SIDE, batch_size=2) as batches:
            first, second = batches
        assert first.names == ("photo0", "photo1")
        assert set(first.batch.crop_to_image.tolist()) == {1, -1}
        assert set(second.batch.crop_to_image.tolist()) == {-1}
        assert second.batch.is_real.tolist() == [True, False]

    @pytest.mark.parametrize(("asked", "given"), [(0, 13), (5, 5), (99, 13)])
    def test_how_many(self, asked, given):
        with eval_batches(SCENES, CONFIG, side=SIDE, batch_size=4, photos=asked) as batches:
            assert sum(x.batch.is_real.sum() for x in batches) == given

    def test_negative(self):
        with pytest.raises(DataError, match=r"eval\.photos: -1"):
            eval_batches(SCENES, CONFIG, side=SIDE, batch_size=4, photos=-1)


class TestBadPhotos:
    source = MadeUp([1, None, 2, None, None, 1])

    @pytest.mark.parametrize("threads", [0, 2])
    def test_stop(self, threads):
        with pytest.raises(DataError, match=r"photo [134] is broken"):
            take(3, self.source, replace(CONFIG, threads=threads))

    @pytest.mark.parametrize("parts", ["full", "instance", "both"])
    def test_the_next_readable_one_steps_in(self, parts, capsys):
        config = replace(CONFIG, bad_photos="skip")
        first = take(9, self.source, config, parts=parts)
        lines = sorted(capsys.readouterr().err.splitlines())
        assert lines == [f"skipped: photo {i} is broken" for i in (1, 3, 4)]  # each told once
        assert sum(len(x.skipped) for x in first) == 24  # 6 passes: photo 3's place skips 4 too
        assert {name for x in first for name in x.names} == {"photo0", "photo2", "photo5"}
        resumed = take(5, self.source, replace(config, threads=0), parts=parts, start_step=4)
        assert_same(resumed, first[4:])

    def test_left_out_of_evaluation(self, capsys):
        with eval_batches(self.source, replace(CONFIG, bad_photos="skip"), side=SIDE, batch_size=4) as batches:
            loaded = list(batches)
        assert [x.names for x in loaded] == [("photo0", "", "photo2", ""), ("", "photo5", "", "")]
        assert loaded[1].batch.is_real.tolist() == [False, True, False, False]
        assert [len(x.skipped) for x in loaded] == [2, 1]
        assert len(capsys.readouterr().err.splitlines()) == 3

    def test_none_left(self):
        with pytest.raises(
            DataError, match=r"not one photo can be used: 2 made-up photos; the last: photo . is broken"
        ):
            take(1, MadeUp([None, None]), replace(CONFIG, bad_photos="skip"))

    def test_damaged_body_of_a_real_file(self, tmp_path, capsys):
        (tmp_path / "p").mkdir()
        for name in "abc":
            noise = np.random.default_rng(ord(name)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "p" / f"{name}.jpg")
        path = tmp_path / "p" / "b.jpg"
        path.write_bytes(path.read_bytes()[:2000])  # the header is whole
        config = DataConfig(path=str(tmp_path / "p"), missing_boxes="none", bad_photos="skip")
        source = make_source(config, SIDE)
        assert len(source) == 3
        with eval_batches(source, config, side=SIDE, batch_size=3) as batches:
            assert next(batches).names == ("a", "", "c")
        assert "b.jpg: cannot read this photo" in capsys.readouterr().err


class TestSettings:
    @pytest.mark.parametrize("parts", ["instance", "both"])
    def test_no_boxes_at_all(self, parts):
        with pytest.raises(DataError, match=r"no photo with a usable box .*: 3 made-up photos"):
            take(1, MadeUp([0, 0, 0]), parts=parts)

    @pytest.mark.parametrize(
        ("fields", "arguments", "message"),
        [
            ({}, {"batch_size": 6, "device_count": 4}, "6 photos do not divide evenly among 4 devices"),
            ({}, {"start_step": -1}, "start_step: -1"),
            ({}, {"side": 20}, "model.side: 20 is not a multiple of 8"),
            ({}, {"side": 0}, "model.side: 0"),
            ({"max_crops_per_image": 0.0}, {}, "max_crops_per_image: 0.0"),
            ({"boxes_per_photo": 0}, {}, "boxes_per_photo: 0"),
        ],
    )
    def test_that_cannot_be(self, fields, arguments, message):
        with pytest.raises(DataError, match=message):
            take(1, config=replace(CONFIG, **fields), **arguments)


def test_closing_ends_it():
    batches = train_batches(SCENES, CONFIG, parts="full", side=SIDE, batch_size=4)
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []


@pytest.mark.parametrize("ending", ["", "batches.close()", "del batches"])
def test_leaving_the_program_makes_no_noise(ending):
    program = f"""
        from jaxcolor.config import DataConfig
        from jaxcolor.data.loader import train_batches
        from jaxcolor.data.sources.registry import make_source
        config = DataConfig(source="scenes", threads=2)
        batches = train_batches(make_source(config, 16), config, parts="both", side=16, batch_size=4)
        next(batches)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

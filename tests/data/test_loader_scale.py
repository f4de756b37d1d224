"""The same batches for any number of processes, workers and threads; budgets, windows, gray photos."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import DataConfig, ScenesConfig
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.transforms import Augment, read_image
from jaxcolor.data.types import DataError, Photo
from tests.data.plainly import resize
from tests.data.test_loader import MadeUp, assert_same

SIDE = 16
CONFIG = DataConfig(source="scenes", seed=7, scenes=ScenesConfig(length=13), box_choice="random_k", boxes_per_photo=2)
SCENES = make_source(CONFIG, SIDE)
AUGMENT = Augment(flip=True, area=0.4, aspect=1.3)


def take(count, source=SCENES, config=CONFIG, **arguments):
    arguments = {"parts": "both", "side": SIDE, "batch_size": 8, "device_count": 4, "augment": AUGMENT, **arguments}
    with train_batches(source, config, **arguments) as batches:
        return list(islice(batches, count))


def joined(shares):
    """One step's batches of all processes as one."""
    arrays = [np.concatenate(parts) for parts in zip(*(s.batch[:6] for s in shares), strict=True)]
    return arrays, tuple(name for s in shares for name in s.names), sum(s.dropped_crops for s in shares)


@pytest.mark.parametrize("parts", ["full", "instance", "both"])
@pytest.mark.parametrize("batching", ["shuffled", "balanced"])
@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_same_global_batches(parts, batching, process_count):
    config = replace(CONFIG, batching=batching, balance_window=3, max_crops_per_image=1.0)
    whole = take(5, config=config, parts=parts)
    each = [
        take(5, config=config, parts=parts, process_index=i, process_count=process_count) for i in range(process_count)
    ]
    for step, shares in zip(whole, zip(*each, strict=True), strict=True):
        arrays, names, dropped = joined(shares)
        assert (names, dropped) == (step.names, step.dropped_crops)
        for got, wanted in zip(arrays, step.batch[:6], strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert parts != "both" or sum(step.dropped_crops for step in whole) > 0


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_give_the_same_batches(workers):
    config = replace(CONFIG, batching="balanced", balance_window=3)
    whole = take(9, config=config)
    assert_same(take(5, config=replace(config, workers=workers, threads=1), start_step=4), whole[4:])


@pytest.mark.parametrize(("process_count", "workers"), [(2, 0), (4, 0), (2, 2)])
def test_evaluation_counts_every_photo_once_over_processes(process_count, workers):
    config = replace(CONFIG, workers=workers)
    names, steps = [], set()
    for index in range(process_count):
        with eval_batches(
            SCENES, config, side=SIDE, batch_size=4, device_count=4, process_index=index, process_count=process_count
        ) as batches:
            loaded = list(batches)
        steps.add(len(loaded))
        names += [n for x in loaded for n in x.names if n]
    assert sorted(names) == sorted(SCENES[i].name for i in range(13))
    assert steps == {4}  # or a collective would wait forever


def test_bad_photos_with_workers(capsys):
    source, config = MadeUp([1, None, 2, None, None, 1]), replace(CONFIG, bad_photos="skip")
    plain = take(6, source, config)
    assert sorted(capsys.readouterr().err.splitlines()) == [f"skipped: photo {i} is broken" for i in (1, 3, 4)]
    assert_same(take(6, source, replace(config, workers=2)), plain)
    assert sorted(capsys.readouterr().err.splitlines()) == [f"skipped: photo {i} is broken" for i in (1, 3, 4)]
    with pytest.raises(DataError, match=r"^photo [134] is broken$"):
        take(3, source, replace(config, bad_photos="error", workers=2))


@pytest.mark.parametrize("ending", ["", "batches.close()", "del batches"])
def test_workers_leave_without_noise(ending, tmp_path):
    program = f"""
        from jaxcolor.config import DataConfig
        from jaxcolor.data.loader import train_batches
        from jaxcolor.data.sources.registry import make_source
        if __name__ == "__main__":
            config = DataConfig(source="scenes", threads=1, workers=2)
            batches = train_batches(make_source(config, 16), config, parts="both", side=16, batch_size=4)
            next(batches)
            {ending or "pass"}
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestBalanced:
    source = MadeUp(np.random.default_rng(0).choice([1, 2, 8], size=64, p=[0.6, 0.2, 0.2]).tolist())

    def dropped(self, batching):
        config = replace(
            CONFIG, box_choice="top_k", boxes_per_photo=8, max_crops_per_image=3.0, batching=batching, balance_window=4
        )
        steps = take(16, self.source, config, batch_size=16, device_count=2, augment=Augment())
        assert sorted(n for s in steps[:4] for n in s.names) == sorted(f"photo{i}" for i in range(64))
        return sum(s.dropped_crops for s in steps)

    def test_drops_fewer(self):
        mean = np.mean(self.source.counts)
        assert 2 < mean < 3  # the budget holds them, if they are dealt out well
        assert self.dropped("balanced") == 0
        assert self.dropped("shuffled") > 20

    def test_other_stages_keep_their_order(self):
        config = replace(CONFIG, batching="balanced")
        assert_same(take(3, config=config, parts="full"), take(3, parts="full"))

    def test_no_window(self):
        with pytest.raises(DataError, match=r"data\.balance_window: 0"):
            take(1, config=replace(CONFIG, batching="balanced", balance_window=0))


class InMemory(MadeUp):
    """Photos given as arrays, with one box each that covers its right half."""

    def __init__(self, photos):
        super().__init__([1] * len(photos))
        self.photos = photos

    def __getitem__(self, index):
        rgb = self.photos[index]
        height, width = rgb.shape[:2]
        boxes = np.array([[width // 2, 0, width, height]], np.float32)
        return Photo(f"photo{index}", Image.fromarray(rgb), boxes, np.ones(1, np.float32))


def colourful(seed, shape=(24, 40)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def gray(seed, shape=(24, 40)):
    return np.repeat(np.random.default_rng(seed).integers(0, 256, (*shape, 1), dtype=np.uint8), 3, axis=-1)


class TestGrayPhotos:
    source = InMemory([colourful(0), gray(1), colourful(2), gray(3)])

    def test_kept_and_counted(self):
        steps = take(2, self.source, batch_size=4)
        assert [s.gray_photos for s in steps] == [2, 2]
        assert steps[0].counts == {"dropped_crops": 0, "skipped_photos": 0, "gray_photos": 2}

    @pytest.mark.parametrize("parts", ["full", "instance", "both"])
    def test_skipped(self, parts, capsys):
        config = replace(CONFIG, gray_photos="skip")
        steps = take(4, self.source, config, parts=parts, batch_size=4)
        assert {n for s in steps for n in s.names} == {"photo0", "photo2"}
        assert sum(s.gray_photos for s in steps) == 0
        assert sum(len(s.skipped) for s in steps) == 8
        assert sorted(capsys.readouterr().err.splitlines()) == [
            f"skipped: photo photo{i}: it is gray; data.gray_photos is 'skip'" for i in (1, 3)
        ]

    def test_refused(self):
        with pytest.raises(DataError, match=r"photo photo[13]: it is gray; data.gray_photos is 'error'"):
            take(1, self.source, replace(CONFIG, gray_photos="error"), batch_size=4)

    def test_left_out_of_evaluation(self, capsys):
        config = replace(CONFIG, gray_photos="skip")
        with eval_batches(self.source, config, side=SIDE, batch_size=4) as batches:
            assert next(batches).batch.is_real.tolist() == [True, False, True, False]
        assert capsys.readouterr().err.count("it is gray") == 2


class TestWindows:
    def test_shows_a_part_of_the_photo(self):
        # A photo whose red grows to the right and green downwards: the window can be read off its canvas.
        across = np.broadcast_to(np.linspace(0, 250, 200)[None, :], (120, 200))
        down = np.broadcast_to(np.linspace(0, 250, 120)[:, None], (120, 200))
        rgb = np.stack([across, down, np.zeros((120, 200))], axis=-1).astype(np.uint8)
        augment = Augment(area=0.25, aspect=4 / 3)
        steps = take(60, InMemory([rgb]), parts="full", batch_size=4, augment=augment)
        full = np.concatenate([s.batch.full_rgb for s in steps]).astype(float)
        spans = (
            np.stack([np.ptp(full[..., 0], axis=(1, 2)), np.ptp(full[..., 1], axis=(1, 2))]) / 250 * SIDE / (SIDE - 1)
        )
        area, aspect = spans.prod(axis=0), spans[0] / spans[1]
        assert 0.2 < area.min() < 0.35
        assert 0.9 < area.max() < 1.1
        assert 0.62 < aspect.mean() / 1 < 1.5
        assert 0.65 < aspect.min() < 0.9
        assert 1.1 < aspect.max() < 1.5

    def test_boxes_follow(self):
        # The box is the right half, painted: in each window its place on the canvas is where the paint begins.
        rgb = np.zeros((96, 128, 3), np.uint8)
        rgb[:, 64:] = (250, 20, 20)
        steps = take(30, InMemory([rgb]), batch_size=4, augment=Augment(area=0.3, aspect=1.2, flip=True))
        seen = 0
        for step in steps:
            for device in range(4):
                batch = step.batch
                crops = np.flatnonzero(batch.crop_to_image[device * 3 : device * 3 + 3] >= 0) + device * 3
                if not len(crops):
                    continue
                seen += 1
                x0, y0, width, height = batch.level_boxes[crops[0], 0].tolist()
                red = batch.full_rgb[device, SIDE // 2, :, 0] > 125
                assert (y0, height) == (0, SIDE)
                assert np.abs(np.flatnonzero(red)[[0, -1]] - [x0, x0 + width - 1]).max() <= 1
                assert (batch.crop_rgb[crops[0]] == (250, 20, 20)).all()
        assert seen > 60

    def test_none_for_instances(self):
        source = InMemory([colourful(0)])
        wanted = resize(colourful(0)[:, 20:], SIDE)
        crops = take(2, source, parts="instance", augment=Augment(area=0.1))[0].batch.crop_rgb
        assert all(np.array_equal(crop, wanted) for crop in crops)


class TestJpegDraft:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "p").mkdir()
        small = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        for name, size in (("big", (640, 512)), ("small", (40, 36))):
            Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(
                tmp_path / "p" / f"{name}.jpg", quality=95
            )
        return tmp_path / "p"

    def test_decodes_a_fraction(self, folder):
        assert read_image(folder / "big.jpg", 100).size == (160, 128)
        assert read_image(folder / "big.jpg", 513).size == (640, 512)
        assert read_image(folder / "small.jpg", 100).size == (40, 36)

    @pytest.mark.parametrize("augment", [Augment(), AUGMENT])
    def test_close_to_a_full_decode_and_only_in_stage_full(self, folder, augment):
        config = DataConfig(path=str(folder), missing_boxes="none")
        source = make_source(config, SIDE)
        arguments = {"parts": "full", "batch_size": 4, "augment": augment}
        plain, draft = (take(3, source, c, **arguments) for c in (config, replace(config, jpeg_draft=True)))
        for a, b in zip(plain, draft, strict=True):
            assert a.names == b.names
            difference = np.abs(a.batch.full_rgb.astype(int) - b.batch.full_rgb)
            assert difference.mean() < 3
            big = np.array([name == "big" for name in a.names])
            assert difference[~big].max() == 0 if (~big).any() else True
            assert difference[big].max() > 0 if big.any() else True

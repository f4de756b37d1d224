import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcolor.boxes import DroppedBoxes
from jaxcolor.cli import main
from jaxcolor.config import DataConfig
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.sources.photo_source import PhotoSource
from jaxcolor.data.tools.box_show import TILE, box_tile
from jaxcolor.data.tools.box_statistics import (
    BUDGET_STEP,
    MOST_DROPPED,
    best,
    cost,
    covered,
    crops_distribution,
    measure,
    propose_budget,
    table,
)
from jaxcolor.data.types import DataError, UsableBoxes
from tests.data.photo_files import write_zip

corner = st.integers(0, 20)
box = st.tuples(corner, corner, st.integers(1, 10), st.integers(1, 10)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(deadline=None)
@given(st.lists(box, max_size=6))
def test_covered_counts_pixels_once(boxes):
    pixels = np.zeros((40, 40), bool)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = True
    assert covered(np.array(boxes, np.int64).reshape(-1, 4)) == pixels.sum()


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), photos=st.integers(1, 4), capacity=st.integers(1, 20)
)
def test_costs_are_those_of_all_batches(counts, photos, capacity):
    totals = np.array([sum(batch) for batch in itertools.product(counts, repeat=photos)])
    distribution = crops_distribution(np.array(counts), photos)
    np.testing.assert_allclose(distribution, np.bincount(totals, minlength=len(distribution)) / len(totals), atol=1e-12)
    dropped, padding = cost(distribution, capacity)
    assert dropped == pytest.approx(np.maximum(totals - capacity, 0).sum() / totals.sum(), abs=1e-9)
    assert padding == pytest.approx(np.maximum(capacity - totals, 0).mean() / capacity, abs=1e-9)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 8), min_size=1, max_size=6), photos=st.integers(1, 6))
def test_proposed_budget_is_the_lowest_that_does(counts, photos):
    distribution = crops_distribution(np.array(counts), photos)
    budget = propose_budget(np.array(counts), photos)
    assert cost(distribution, crops_per_device(photos, budget)).dropped <= MOST_DROPPED
    if budget > BUDGET_STEP:
        assert cost(distribution, crops_per_device(photos, budget - BUDGET_STEP)).dropped > MOST_DROPPED


@pytest.fixture
def photos(tmp_path):
    """One photo of 40 x 20 with three boxes, one with one box, one without."""
    folder, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
    folder.mkdir()
    boxes.mkdir()
    for stem, corners in (("a", [[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 40, 20]]), ("b", [[0, 0, 4, 4]]), ("c", [])):
        Image.new("RGB", (40, 20), (90, 90, 90)).save(folder / f"{stem}.png")
        scores = np.array([0.9, 0.8, 0.3][: len(corners)], np.float32)
        np.savez(boxes / f"{stem}.npz", bbox=np.array(corners, np.float32).reshape(-1, 4), scores=scores)
    return folder


def test_measure(photos):
    told = []
    found = measure(PhotoSource(DataConfig(path=str(photos))), 2, progress=lambda: told.append(1))
    assert len(told) == 3
    assert found.usable.tolist() == [3, 1, 0]
    assert found.used.tolist() == [2, 1, 0]
    assert found.coverage.tolist() == [150 / 800, 16 / 800, 0]
    assert found.sides.tolist() == [10, 10, 4]
    assert found.shares.tolist() == [100 / 800, 100 / 800, 16 / 800]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.9], atol=1e-6)
    with pytest.raises(DataError, match="boxes_per_photo: 0 boxes are none"):
        measure(PhotoSource(DataConfig(path=str(photos))), 0)


def test_table(photos):
    lines = table(measure(PhotoSource(DataConfig(path=str(photos))), 8), 8, 4).splitlines()
    words = [line.split() for line in lines]
    assert lines[0] == "boxes a photo: mean 1.33, most 3; used: the best 8"
    for row in (["0", "1", "33.3%"], ["1", "1", "33.3%"], ["3", "1", "33.3%"]):
        assert row in words
    assert ["3", "(holds", "all)", "12", "0.0%", "33.3%"] in words  # on average 8 of 12


def test_nothing_to_propose(photos):
    for path in photos.with_name("photos_bbox").iterdir():
        np.savez(path, bbox=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32))
    text = table(measure(PhotoSource(DataConfig(path=str(photos))), 8), 8, 4)
    assert text.endswith("no photo has a usable box: there is no budget to propose")


class TestSheet:
    def found(self, *boxes):
        return UsableBoxes(
            np.array(boxes, np.int32).reshape(-1, 4),
            np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
            DroppedBoxes(),
            np.arange(len(boxes)),
        )

    def test_draws_where_the_box_is(self):
        rgb = np.full((300, 600, 3), 128, np.uint8)
        picture, caption = box_tile("a", rgb, self.found([100, 150, 500, 250]))
        assert caption == "a: 1 box"
        assert picture.size == (TILE, TILE // 2)
        pixels = np.asarray(picture)
        assert pixels[99, TILE // 2].tolist() == [0, 0, 0]  # its lower edge: 250 of 300 rows are 100 of 120
        assert pixels[98, TILE // 2].tolist() == [255, 255, 255]
        assert pixels[80, TILE // 2].tolist() == [128, 128, 128]  # inside
        assert pixels[100, TILE // 2].tolist() == [128, 128, 128]  # below
        assert rgb.min() == rgb.max() == 128  # the photo itself stays as it is

    @pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000)])
    def test_odd_photos(self, size):
        picture, caption = box_tile("long name " * 30, np.zeros((*size, 3), np.uint8), self.found([0, 0, 1, 1]))
        assert max(picture.size) <= TILE
        assert caption.endswith("long name : 1 box")

    def test_no_box(self):
        assert box_tile("a", np.zeros((9, 9, 3), np.uint8), self.found())[1] == "a: no boxes"


def test_best():
    boxes = np.arange(12, dtype=np.int32).reshape(3, 4)
    kept = best(UsableBoxes(boxes, np.array([0.1, 0.9, 0.5], np.float32), DroppedBoxes(), np.array([0, 3, 4])), 2)
    assert kept.boxes.tolist() == boxes[[1, 2]].tolist()
    assert kept.rows.tolist() == [3, 4]


class TestCommand:
    def test_shows(self, photos, tmp_path, capsys):
        path = tmp_path / "sheet.png"
        arguments = ["boxes", "show", str(photos), "--sheet", str(path)]
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{photos}: 3 photos, 2 with boxes; 4 boxes from {photos}_bbox\nboxes a photo: mean 1.33")
        assert "(proposed)" in out
        assert out.endswith(f"wrote {path}\n")
        with Image.open(path) as picture:
            assert picture.width > 3 * TILE
        assert main(arguments) == 1
        assert "sheet.png: exists; give --force to replace it" in capsys.readouterr().err
        assert main([*arguments, "--force", "--sheet-photos", "1"]) == 0

    def test_shows_photos_of_a_zip_file(self, photos, tmp_path, capsys):
        assert main(["boxes", "show", str(photos)]) == 0
        folder = capsys.readouterr().out
        zipped = write_zip(photos.with_suffix(".zip"), {f"x/{p.name}": p.read_bytes() for p in photos.iterdir()})
        assert main(["boxes", "show", str(zipped), "--sheet", str(tmp_path / "s.png")]) == 0
        assert capsys.readouterr().out == folder.replace(f"{photos}:", f"{zipped}:") + f"wrote {tmp_path}/s.png\n"

    def test_unreadable_photos(self, photos, tmp_path, capsys):
        (photos / "b.png").unlink()
        noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
        Image.fromarray(noise).save(photos / "b.jpg")
        (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:-2000])  # its header is fine
        (photos / "c.png").write_bytes((photos / "c.png").read_bytes()[:-30])  # without boxes its size is not asked for
        assert main(["boxes", "show", str(photos), "--sheet", str(tmp_path / "s.png")]) == 0
        captured = capsys.readouterr()
        assert captured.err.count("left out: ") == 3  # c.png twice: for the statistics and for the sheet
        assert "boxes a photo: mean 2.00" in captured.out
        for stem in "ac":
            (photos / f"{stem}.png").unlink()
        assert main(["boxes", "show", str(photos), "--sheet", str(tmp_path / "t.png")]) == 1
        assert "not one of the photos for the contact sheet can be read" in capsys.readouterr().err

    def test_what_goes_wrong(self, photos, tmp_path, capsys):
        for arguments, message in (
            (["--batch", "0"], "--batch 0"),
            (["--sheet", "s.jpg"], "s.jpg: does not end in .png"),
            (["--boxes", str(tmp_path / "gone")], "gone: no such folder or file of boxes"),
        ):
            assert main(["boxes", "show", str(photos), *arguments]) == 1
            assert message in capsys.readouterr().err
        (photos.with_name("photos_bbox") / "c.npz").unlink()
        assert main(["boxes", "show", str(photos)]) == 1
        assert "c.npz: no such box file" in capsys.readouterr().err
        assert main(["boxes", "show", str(photos), "--missing-boxes", "none"]) == 0

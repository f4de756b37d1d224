"""One of each of the six things that people add, defined here, and one run that trains, evaluates and colors with all.

Nothing of the package is edited: the config names them by dotted paths.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from jaxcolor.ablation.plan import Ablation, Variant
from jaxcolor.ablation.run import run_ablation
from jaxcolor.config import Config, ConfigError, DataConfig, EvalConfig, FusionConfig, ModelConfig, StageConfig
from jaxcolor.config_io import from_dict, to_config_dict
from jaxcolor.data.boxes.base import MissingBoxesError
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.types import Boxes, Photo
from jaxcolor.evaluation.metrics import Metric
from jaxcolor.evaluation.metrics.masking import extent_mask, masked_mean
from jaxcolor.evaluation.run import evaluate_files
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.models import networks, ops
from jaxcolor.models.backbone import Backbone, Fuse, Layers, Tap
from jaxcolor.models.fusion import FusionStrategy, FusionWeights, Instances, box_mask_weights
from jaxcolor.models.ops import relu
from jaxcolor.models.outputs import OutputHead
from jaxcolor.training import train
from jaxcolor.training.checkpoints import CheckpointError
from jaxcolor.weights import native

SIDE = 16
COUNT = 12


class OneGate(FusionStrategy):
    """Fusion strategy: in boxes the instances take the same trained share everywhere."""

    @nn.compact
    def weights(self, full_feature: jax.Array, instance_feature: jax.Array, instances: Instances) -> FusionWeights:
        real = jnp.promote_types(full_feature.dtype, jnp.float32)
        gate = jax.nn.sigmoid(jnp.asarray(self.param("logit", nn.initializers.zeros, (), jnp.float32)))
        boxes = box_mask_weights(instances.inside, instances.crop_to_image, len(full_feature), real)
        return FusionWeights(1 - gate * (1 - boxes.full), gate * boxes.instance)


class Shallow(Backbone):
    """Backbone: two convolutions, one of them at half the side."""

    taps = (Tap("half", 1, 8, "encoder"), Tap("whole", 0, 8, "decoder"))
    head_inputs = {0: "whole"}  # noqa: RUF012
    output_layers = ("whole", "laplace")
    multiple = 2

    def features(self, inputs: jax.Array, layers: Layers, fuse: Fuse) -> dict[str, ops.Feature]:
        half = fuse("half", layers.norm("norm", relu(layers.conv("half", inputs[:, ::2, ::2], 8))))
        up = ops.value(layers.up("up", half, 8))
        return {"half": half, "whole": fuse("whole", relu(layers.conv("whole", up, 8)))}


class Prediction(NamedTuple):
    ab: jax.Array
    log_scale: jax.Array


class Laplace(OutputHead):
    """Output head: the negative log-likelihood of a Laplace distribution, whose middle is the color."""

    scope_name = "laplace"

    @nn.compact
    def __call__(self, x: ops.Feature) -> Prediction:
        kernel, bias = self.kernel_and_bias(ops.channels(x), 3)
        y = ops.value(ops.conv1x1(x, kernel, bias, self.dtype)).astype(jnp.float32)
        return Prediction(y[..., :2], y[..., 2:])

    @staticmethod
    def decode(output: Prediction, size: tuple[int, int]) -> jax.Array:
        return jnp.clip(output.ab, -1, 1)

    @staticmethod
    def loss(output: Prediction, true_ab: jax.Array) -> jax.Array:
        error = jnp.abs(output.ab - true_ab) * jnp.exp(-output.log_scale) + output.log_scale
        return error.sum(axis=-1).mean(axis=(1, 2))


class Corners:
    """Box store: a file whose lines are a photo's key and the side of the box in its upper left corner."""

    kind = f"{__name__}:Corners"
    note = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sides = {key: float(side) for key, side in (line.split() for line in path.read_text().splitlines())}

    def __len__(self) -> int:
        return len(self._sides)

    def __contains__(self, key: object) -> bool:
        return key in self._sides

    def keys(self) -> Iterator[str]:
        return iter(self._sides)

    def read(self, key: str) -> Boxes:
        if key not in self:
            raise MissingBoxesError(self.absent(key))
        side = self._sides[key]
        return Boxes(np.array([[0, 0, side, side]], np.float32), np.ones(1, np.float32))

    def absent(self, key: str) -> str:
        return f"{self.path}: no line for {key}"


class Squares:
    """Data source: orange squares on gray, which fill a quarter of their box; boxes from a store."""

    def __init__(self, config: DataConfig, side: int) -> None:
        self._store = open_store(Path(config.boxes_path), config.boxes_format)
        self._side = 2 * side

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> Photo:
        if not 0 <= index < len(self):
            raise IndexError(index)
        found = self._store.read(f"square{index}")
        image = Image.new("RGB", (self._side, self._side), (90 + 4 * index,) * 3)
        image.paste((230, 120, 40), tuple(int(x) // 2 for x in found.boxes[0]))
        return Photo(f"square{index}", image, *found, truth_boxes=found.boxes)

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        return self[index]

    def crop_count(self, index: int) -> int:
        return 1

    def with_boxes(self) -> Sequence[int]:
        return range(len(self))

    def describe(self) -> str:
        return f"{len(self)} squares"


def red_error(prediction: jax.Array, truth: jax.Array, *, size: jax.Array | None) -> jax.Array:
    """Metric: mean absolute error of red."""
    error = jnp.abs(prediction[..., 0].astype(jnp.float32) - truth[..., 0])
    return masked_mean(error, None if size is None else extent_mask(size, *error.shape[1:]))


RED = Metric("red", red_error, "red error", digits=1, direction="lower", group="Mine", of_objects=True)

MODEL = ModelConfig(
    side=SIDE,
    backbone=f"{__name__}:Shallow",
    outputs=(f"{__name__}:Laplace",),
    fusion=FusionConfig(strategy=f"{__name__}:OneGate"),
)


def config_of(boxes: Path) -> Config:
    """Through a ``ConfigDict``, as the programs read it."""
    data = DataConfig(source=f"{__name__}:Squares", boxes_path=str(boxes), boxes_format=Corners.kind, threads=0)
    config = Config(
        model=MODEL,
        data=data,
        full=StageConfig(steps=3, batch_size=8, learning_rate=1e-2),
        instance=StageConfig(steps=3, batch_size=8, learning_rate=1e-2),
        fusion=StageConfig(steps=3, batch_size=8, learning_rate=1e-2, trained="fusion_and_output"),
        log_every=3,
        checkpoint_every=3,
        eval=EvalConfig(data=data, batch_size=8, metrics=f"{__name__}:RED", report_photos=0, sheet_photos=0),
    )
    return from_dict(Config, to_config_dict(config).to_dict())


class Finished(NamedTuple):
    config: Config
    workdir: Path
    trees: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("one_of_each")
    (folder / "corners.txt").write_text("".join(f"square{i} {SIDE + i}\n" for i in range(COUNT)))
    config = config_of(folder / "corners.txt")
    return Finished(config, folder / "run", train.train(config, folder / "run"))


def flat(tree: Any) -> dict[str, np.ndarray]:
    return traverse_util.flatten_dict(dict(tree), sep="/")


def test_every_stage_trains_what_it_should(finished: Finished) -> None:
    full, fusion = (flat(finished.trees[name]["params"]) for name in ("full", "fusion"))
    assert {name.split("/")[0] for name in full} == {"half", "norm", "up", "whole", "laplace"}
    assert fusion["fuse_half/logit"] != 0 != fusion["fuse_whole/logit"]
    changed = {name.split("/")[0] for name in full if (full[name] != fusion[f"trunk/{name}"]).any()}
    assert changed == {"whole", "laplace"}  # output_layers
    instance = flat(finished.trees["instance"]["params"])
    assert all((full[name] != instance[name]).any() for name in ("half/kernel", "laplace/kernel"))


def test_a_finished_run_is_read_from_its_checkpoints(finished: Finished) -> None:
    again = train.train(finished.config, finished.workdir)
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(finished.trees), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_workdir_of_another_model_is_refused(finished: Finished) -> None:
    other = dataclasses.replace(
        finished.config, model=dataclasses.replace(MODEL, backbone="unet", outputs=("classes",))
    )
    with pytest.raises(CheckpointError, match=r"model\.backbone: '.*:Shallow' -> 'unet'"):
        train.train(other, finished.workdir)


def test_its_weights_are_evaluated_by_its_metric(finished: Finished, tmp_path: Path) -> None:
    metrics = evaluate_files(finished.config, finished.workdir / train.WEIGHTS_FILE, tmp_path)
    assert metrics["photos"] == COUNT
    assert 0 < metrics["fused"]["red"] < 255
    assert metrics["fused"]["red"] != metrics["full"]["red"]
    assert "red error" in (tmp_path / "tables.md").read_text()
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"]["model"]["backbone"] == MODEL.backbone


def test_its_weights_color(finished: Finished) -> None:
    weights = finished.workdir / train.WEIGHTS_FILE
    assert native.load(weights).config == MODEL
    colorizer = Colorizer.from_pretrained(weights)
    photo = np.full((40, 30, 3), 120, np.uint8)
    alone = colorizer(photo)
    boxed = colorizer(photo, np.array([[0, 0, 15, 20]]))
    assert alone.shape == boxed.shape == photo.shape
    assert np.ptp(alone.astype(int), axis=-1).max() > 0
    assert (alone != boxed).any()


def test_variants_of_an_ablation(finished: Finished, tmp_path: Path) -> None:
    """A strategy of one's own has parameters to train, as the package cannot know by its name."""
    base = dataclasses.replace(
        finished.config,
        stages=("fusion",),
        start_from=str(finished.workdir / train.WEIGHTS_FILE),
        fusion=dataclasses.replace(finished.config.fusion, steps=1, trained="fusion"),
        eval=dataclasses.replace(finished.config.eval, photos=4),
    )
    variants = (Variant("one_gate"), Variant("box_mask", {"model.fusion.strategy": "box_mask"}))
    found = run_ablation(Ablation("mine", base=base, shared=(), variants=variants, baseline="one_gate"), tmp_path)
    assert {row.name: row.cost.trained_parameters for row in found.rows} == {"one_gate": 2, "box_mask": 0}
    assert set(found.rows[0].means) >= {"psnr", "red"}


def test_a_head_without_a_feature_of_its_level_is_refused() -> None:
    config = ModelConfig(side=16, width=0.125, backbone=f"{__name__}:Shallow", outputs=("regression", "classes"))
    with pytest.raises(ConfigError, match=r"^model\.outputs: 'classes': .* no feature of level 2 "):
        networks.abstract(config)

"""Objects found by a small head on the full-image network's own features: center, size and score, of no class.

A heat map of centers with the penalty-reduced focal loss and boxes read at its peaks are CenterNet's (Zhou, Wang and
Krähenbühl 2019, Objects as Points). Elliptic Gaussians in proportion to the box, and boxes that are trained with
generalized IoU on all cells near a center, each object weighing the same, are those of TTFNet (Liu et al. 2020), which
needs a tenth of the passes. The network below stays as it is: no gradient reaches it.

Boxes are x0, y0, x1, y1 as shares of the canvas, 0 to 1. All functions are batched, with static shapes: boxes are
padded, and a mask says which are boxes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxcolor.config import BoxHeadConfig, ConfigError, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import backbone_class, parameter_type

_PRIOR = -4.0
"""Bias of the heat map at the start: nearly nowhere is a center."""
_START_SIZE = -1.2
"""The same of the logarithm of sides: e^-1.2 is 0.3 of the canvas."""
_LEAST_SIDE, _MOST_SIDE = -6.0, 0.2
"""Limits of that logarithm."""
_REACH = 0.54
"""Share of a box that its Gaussian covers, six standard deviations of it (TTFNet's alpha)."""
_ALPHA, _BETA = 2, 4
"""Exponents of the focal loss, as in CenterNet."""
_PEAK = 3
"""Cells of the window within which only the highest is a center."""


class BoxMaps(NamedTuple):
    """What the head says of every cell, at least float32."""

    heat: Float[jax.Array, "B h w"]
    """Logit of there being an object's center."""
    boxes: Float[jax.Array, "B h w 4"]
    """The object's box, if the center is here."""


class Targets(NamedTuple):
    """What it should say."""

    heat: Float[jax.Array, "B h w"]
    """1 at centers, falling off around them."""
    boxes: Float[jax.Array, "B h w 4"]
    """The box of the cell: where several objects' reach it, the smallest one's."""
    weight: Float[jax.Array, "B h w"]
    """Of the cell's box; those of an object add up to 1 unless a smaller one covers some."""
    objects: Float[jax.Array, " B"]
    """How many the photo has."""


class Detections(NamedTuple):
    """The K best boxes of each photo, best first."""

    boxes: Float[jax.Array, "B K 4"]
    scores: Float[jax.Array, "B K"]
    """0 to 1; 0 marks what is no box."""


class BoxHead(nn.Module):
    """The head: features of two or more resolutions brought to the finest, and once down and up for a wider view.

    Attributes:
      config: taps and channels.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    config: BoxHeadConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, taps: Mapping[str, Float[jax.Array, "B _ _ _"]]) -> BoxMaps:
        """Read the features of a backbone (``BackboneOutput.taps``)."""
        by_side: dict[int, list[jax.Array]] = {}
        for name in self.config.taps:
            tap = jax.lax.stop_gradient(taps[name]).astype(self.dtype)
            by_side.setdefault(tap.shape[1], []).append(tap)
        levels = [jnp.concatenate(by_side[side], axis=-1) for side in sorted(by_side)]
        x = self._layer("coarse", levels[0], 1)
        down = self._layer("down", x, 3, stride=2)
        deepest = self._layer("down_again", down, 3, stride=2)
        down = self._layer("up", down + _up(deepest, down), 3)
        x = self._layer("up_again", x + _up(down, x), 3)
        for number, level in enumerate(levels[1:]):
            x = self._layer(f"finer{number}", level, 1) + _up(x, level)
        x = x + self._layer("joined", x, 3)
        heat = self._maps("heat", self._layer("heat_in", x, 3), 1, [_PRIOR])[..., 0]
        raw = self._maps("boxes", self._layer("boxes_in", x, 3), 4, [0.0, 0.0, _START_SIZE, _START_SIZE])
        return BoxMaps(heat, _boxes_of(raw))

    def _layer(self, name: str, x: jax.Array, size: int, stride: int = 1) -> jax.Array:
        """Convolution, group norm, ReLU."""
        channels = self.config.channels
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kernel = nn.initializers.he_normal()
        x = nn.Conv(channels, (size, size), stride, use_bias=False, kernel_init=kernel, name=name, **types)(x)
        norm = nn.GroupNorm(num_groups=None, group_size=channels // self.config.groups, name=f"{name}_norm", **types)
        return nn.relu(norm(x))

    def _maps(self, name: str, x: jax.Array, channels: int, bias: list[float]) -> jax.Array:
        """The last layer, in at least float32."""
        return nn.Conv(
            channels,
            (1, 1),
            dtype=self.param_dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=lambda _key, _shape, dtype: jnp.asarray(bias, dtype),
            name=name,
        )(x)


def make_head(model: ModelConfig, config: BoxHeadConfig) -> BoxHead:
    """The head of a model.

    Raises:
      ConfigError: the backbone has no tap of a name in ``config.taps``.
    """
    known = {tap.name for tap in backbone_class(model).taps}
    if absent := [name for name in config.taps if name not in known]:
        raise ConfigError(
            f"boxes.taps: backbone {model.backbone!r} has no {', '.join(absent)}; it has {', '.join(sorted(known))}"
        )
    return BoxHead(config, jnp.dtype(model.compute_dtype), parameter_type(model))


def run_head(head: BoxHead, variables: Mapping[str, Any], taps: Mapping[str, jax.Array]) -> BoxMaps:
    """The head on the features of a backbone."""
    return cast(BoxMaps, head.apply(dict(variables), taps))


def init(model: ModelConfig, config: BoxHeadConfig, seed: int) -> dict[str, Any]:
    """Fresh variables: ``{"params": …}``."""
    return cast(dict[str, Any], _init(jax.random.key(seed), model, config))


@functools.partial(jax.jit, static_argnames=("model", "config"))
def _init(key: jax.Array, model: ModelConfig, config: BoxHeadConfig) -> dict[str, Any]:
    backbone, side = networks.build(model).full, 8 * backbone_class(model).multiple
    inputs = jnp.zeros((1, side, side, 4), parameter_type(model))
    taps = jax.eval_shape(lambda: backbone.init_with_output(key, inputs)[0].taps)
    zeros = jax.tree.map(lambda tap: jnp.zeros(tap.shape, tap.dtype), taps)
    return cast(dict[str, Any], make_head(model, config).init(key, zeros))


def abstract(model: ModelConfig, config: BoxHeadConfig) -> dict[str, Any]:
    """Shapes and types of the variables, computed without making them."""
    return jax.eval_shape(lambda: init(model, config, 0))


def cell_centers(height: int, width: int) -> Float[jax.Array, "{height} {width} 2"]:
    """x, y of the middle of each cell."""
    y, x = jnp.meshgrid((jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij")
    return jnp.stack([x, y], axis=-1)


def _boxes_of(raw: Float[jax.Array, "B h w 4"]) -> Float[jax.Array, "B h w 4"]:
    """Offset of the center in cells and logarithm of the sides, as boxes."""
    height, width = raw.shape[1:3]
    center = cell_centers(height, width) + raw[..., :2] / jnp.array([width, height])
    half = jnp.exp(jnp.clip(raw[..., 2:], _LEAST_SIDE, _MOST_SIDE)) / 2
    return jnp.concatenate([center - half, center + half], axis=-1)


def _up(x: Float[jax.Array, "B h w C"], like: Float[jax.Array, "B H W D"]) -> Float[jax.Array, "B H W C"]:
    """Twice the side, nearest neighbor, cut to the side of ``like``."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : like.shape[1], : like.shape[2]]


def render_targets(boxes: Float[jax.Array, "B N 4"], valid: Bool[jax.Array, "B N"], height: int, width: int) -> Targets:
    """The maps that boxes should give.

    Args:
      boxes: with x0 < x1 and y0 < y1 where they are valid; their centers lie on the canvas.
      valid: which are boxes.
      height: of the head's grid.
      width: of the head's grid.
    """
    grid = jnp.array([width, height], boxes.dtype)
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 * grid
    cell = jnp.clip(jnp.floor(center), 0, grid - 1)
    size = boxes[..., 2:] - boxes[..., :2]
    sigma = jnp.maximum(size * grid * _REACH / 6, 1e-3)
    x, y = (
        jnp.square((jnp.arange(count) - cell[..., i, None]) / sigma[..., i, None])
        for i, count in enumerate((width, height))
    )
    gaussian = jnp.where(valid[..., None, None], jnp.exp(-(x[..., None, :] + y[..., :, None]) / 2), 0)
    # Beyond two standard deviations a cell is no part of the center.
    near = jnp.where(gaussian > jnp.exp(-2.0), gaussian, 0)
    share = near / jnp.maximum(near.sum(axis=(2, 3), keepdims=True), 1e-6)
    area = jnp.where(near > 0, size.prod(axis=-1)[..., None, None], jnp.inf)
    owner = area.argmin(axis=1)
    # One-hot products in place of gathers, which are slow where there are many.
    owned = jax.nn.one_hot(owner, boxes.shape[1], axis=1, dtype=boxes.dtype)
    return Targets(
        gaussian.max(axis=1),
        jnp.einsum("bnhw,bnk->bhwk", owned, jnp.where(valid[..., None], boxes, 0), precision="highest"),
        (owned * share).sum(axis=1),
        valid.sum(axis=1).astype(boxes.dtype),
    )


def heat_loss(logit: Float[jax.Array, "B h w"], target: Float[jax.Array, "B h w"]) -> Float[jax.Array, " B"]:
    """Penalty-reduced focal loss (CenterNet, equation 1), summed over a photo; to be divided by the objects."""
    log_p, log_q = jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit)
    p = jnp.exp(log_p)
    at_center = -((1 - p) ** _ALPHA) * log_p
    elsewhere = -((1 - target) ** _BETA) * p**_ALPHA * log_q
    return jnp.where(target >= 1, at_center, elsewhere).sum(axis=(1, 2))


def generalized_iou(a: Float[jax.Array, "*n 4"], b: Float[jax.Array, "*n 4"]) -> Float[jax.Array, "*n"]:
    """IoU less the share of the smallest enclosing box that neither covers (Rezatofighi et al. 2019): -1 to 1."""
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b))
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    both = jnp.maximum(high - low, 0).prod(axis=-1)
    either = area_a + area_b - both
    around = (jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])).prod(axis=-1)
    return both / jnp.maximum(either, 1e-9) - (around - either) / jnp.maximum(around, 1e-9)


def box_loss(boxes: Float[jax.Array, "B h w 4"], targets: Targets) -> Float[jax.Array, " B"]:
    """1 - generalized IoU, at most 1 for each object, summed over a photo."""
    return ((1 - generalized_iou(boxes, targets.boxes)) * targets.weight).sum(axis=(1, 2))


def loss(maps: BoxMaps, targets: Targets, config: BoxHeadConfig) -> Float[jax.Array, " B"]:
    """Both losses, summed over a photo; to be divided by the objects of all photos."""
    return heat_loss(maps.heat, targets.heat) + config.box_weight * box_loss(maps.boxes, targets)


def overlaps(boxes: Float[jax.Array, "B K 4"]) -> Float[jax.Array, "B K K"]:
    """IoU of each two boxes of a photo."""
    area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    low = jnp.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = jnp.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    both = jnp.maximum(high - low, 0).prod(axis=-1)
    return both / jnp.maximum(area[:, :, None] + area[:, None, :] - both, 1e-9)


def suppress(found: Detections, most_overlap: float) -> Detections:
    """Greedy non-maximum suppression: a box that overlaps a better one, which stays, by more has score 0."""
    count = found.scores.shape[1]
    covers = (overlaps(found.boxes) > most_overlap) & (found.scores > 0)[:, :, None]
    later = jnp.arange(count)

    def step(i: int | jax.Array, kept: jax.Array) -> jax.Array:
        return kept & ~(kept[:, i, None] & covers[:, i] & (later > i))

    kept = jax.lax.fori_loop(0, count, step, found.scores > 0)
    return _best(found._replace(scores=jnp.where(kept, found.scores, 0)), count)


def decode(maps: BoxMaps, count: int, most_overlap: float = 1.0) -> Detections:
    """The boxes at the highest peaks of the heat map.

    Args:
      maps: of the head.
      count: K; of a grid with fewer cells, as many.
      most_overlap: IoU above which the worse of two boxes goes; 1: none does.
    """
    highest = nn.max_pool(maps.heat[..., None], (_PEAK, _PEAK), padding="SAME")[..., 0]
    scores = jnp.where(maps.heat >= highest, jax.nn.sigmoid(maps.heat), 0).reshape(len(maps.heat), -1)
    boxes = jnp.clip(maps.boxes.reshape(*scores.shape, 4), 0, 1)
    found = _best(Detections(boxes, scores), min(count, scores.shape[1]))
    return suppress(found, most_overlap) if most_overlap < 1 else found


def _best(found: Detections, count: int) -> Detections:
    scores, rows = jax.lax.top_k(found.scores, count)
    return Detections(jnp.take_along_axis(found.boxes, rows[..., None], axis=1), scores)

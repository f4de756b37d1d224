"""What a variant costs: parameters trained, crops, operations."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jaxcolor.ablation.outcome import Cost
from jaxcolor.ablation.plan import trains
from jaxcolor.batch import LEVELS, Batch
from jaxcolor.config import Config, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.backbone import backbone_class
from jaxcolor.models.fusion import fused_taps
from jaxcolor.training.flops import count_flops
from jaxcolor.training.stages import partition, stage_config, stages_of


def count_cost(config: Config, trees: Any, train_seconds: float, boxes_per_photo: float) -> Cost:
    """The cost of a run.

    Args:
      config: of the variant.
      trees: its three trees.
      train_seconds: of the stages that it trained.
      boxes_per_photo: boxes that were in the batch, on average.
    """
    trained = 0
    if trains(config):
        for stage in stages_of(config):
            settings, backbone = stage_config(config, stage), backbone_class(config.model)
            parameters, _ = partition(trees[stage.name]["params"], settings.trained, backbone)
            trained += networks.count_parameters(list(parameters.values()))
    crops = boxes_per_photo if fused_taps(config.model) else 0.0
    bare, with_one = (fused_flops(config.model, crops=count) for count in (0, 1))
    return Cost(round(train_seconds, 1), trained, crops, (bare + crops * (with_one - bare)) / 1e9)


@functools.lru_cache(maxsize=32)
def fused_flops(model: ModelConfig, crops: int) -> int:
    """Operations of the instance and fusion networks for one photo with so many crops; traced, not run.

    What no fused layer reads is not counted: with fusion in the encoder alone, the instance network's decoder.
    """
    nets, side = networks.build(model), model.side

    def fused(variables: networks.Variables, batch: Batch) -> jax.Array:
        return networks.run_fused(nets, variables, networks.to_lab(batch, model)).ab

    batch = Batch(
        full_rgb=jnp.zeros((1, side, side, 3), jnp.uint8),
        crop_rgb=jnp.zeros((crops, side, side, 3), jnp.uint8),
        crop_to_image=jnp.zeros(crops, jnp.int32),
        level_boxes=jnp.ones((crops, LEVELS, 4), jnp.int32),
        is_real=jnp.ones(1, bool),
        crop_mask=jnp.zeros((crops, side, side), bool),
    )
    arguments = (networks.abstract(model), batch)
    traced = jax.make_jaxpr(fused)(*arguments)
    needed, used = dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals))
    leaves = [leaf for leaf, is_used in zip(jax.tree.leaves(arguments), used, strict=True) if is_used]
    return count_flops(jaxpr_as_fun(ClosedJaxpr(needed, traced.consts)), *leaves)

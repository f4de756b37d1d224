"""How gradients change weights: Adam and its settings, the learning rate, the averaged weights.

Parameters are flat here, named by their path (``trunk/conv10_2/kernel``): what Orbax stores and error messages name.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from jaxcolor.batch import Array
from jaxcolor.config import Config, StageConfig
from jaxcolor.training.layout import SHARDED, WHOLE, Flat, Layout


class OptState(NamedTuple):
    """What the optimizer remembers from step to step."""

    rule: Any
    """Optax's: the moments, in the layout of the optimizer, and the count of updates."""
    average: Any
    """``params`` (as the moments) and ``batch_stats`` averaged over the updates; empty if ``ema_decay`` is 0."""


class Updated(NamedTuple):
    """What an update gives."""

    trained: Flat
    state: OptState
    grad_norm: Float[jax.Array, ""]
    """Of the whole gradient, before clipping."""


def learning_rate(stage: StageConfig) -> optax.Schedule:
    """The learning rate by step, the first being 0.

    Steps, not updates, are what is counted: a step without a valid picture takes its share of the schedule with it, so
    that a stage ends where its schedule ends. Constant, then linear is the reference's ``niter`` and ``niter_decay``.
    """
    high, steps = stage.learning_rate, stage.steps
    warmup = stage.warmup_steps if stage.warmup_steps > 1 else 0  # the n-th step takes n parts: a single one is whole
    begin = round(steps * stage.decay_start)
    if stage.schedule == "cosine":
        after = optax.cosine_decay_schedule(high, max(steps - warmup, 1))
    elif stage.schedule == "linear" and begin < steps:
        after = optax.linear_schedule(high, 0.0, steps - begin, begin - warmup)
    else:
        # A Python float, where linear_schedule would compute in float32 even for a float64 run.
        after = optax.constant_schedule(high)
    if not warmup:
        return after
    # From high / warmup, not from 0: no step is for nothing.
    return optax.join_schedules([optax.linear_schedule(high / warmup, high, warmup - 1), after], [warmup])


def _is_decayed(name: str) -> bool:
    """Whether weight decay applies: to kernels, not to biases and the scales of norms."""
    return name.endswith("/kernel")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer of a stage; pure functions, to be mapped over devices with the step.

    Attributes:
      rule: optax's part, from gradients to a direction; it knows no learning rate.
      clip_norm: as in ``OptimizerConfig``.
      ema_decay: as in ``OptimizerConfig``.
      layout: which part of the parameters each device updates.
    """

    rule: optax.GradientTransformation
    clip_norm: float
    ema_decay: float
    layout: Layout = WHOLE

    def init(self, trained: Flat, batch_stats: Any) -> OptState:
        """The state before the first update, whole; ``placement.Placement`` brings it to the devices."""
        average = {"params": trained, "batch_stats": batch_stats} if self.ema_decay else {}
        return OptState(self.rule.init(trained), average)

    def update(
        self, gradients: Flat, state: OptState, trained: Flat, batch_stats: Any, rate: Float[jax.Array, ""] | float
    ) -> Updated:
        """One update, inside a mapped function.

        Args:
          gradients: of the trained parameters; this device's, which add up to the gradient.
          state: from the update before, in the layout of the optimizer.
          trained: the parameters themselves, whole.
          batch_stats: the running statistics after this step, for the average.
          rate: the learning rate.
        """
        layout = self.layout
        gradients = jax.tree.map(_row_major, layout.summed(gradients))
        own = layout.own(trained)
        norm = jnp.sqrt(layout.total(optax.tree.norm(gradients, squared=True)))
        if self.clip_norm:
            gradients = optax.tree.scale(jnp.minimum(1.0, self.clip_norm / norm), gradients)
        directions, rule = self.rule.update(gradients, state.rule, own)
        own = optax.apply_updates(own, optax.tree.scale(-rate, directions))
        average = state.average
        if self.ema_decay:
            share = _share_of_newest(self.ema_decay, optax.tree.get(rule, "count"))
            newest = {"params": own, "batch_stats": batch_stats}
            average = jax.tree.map(lambda old, new: old + share * (new - old), average, newest)
        return Updated(layout.whole(own, trained), OptState(rule, average), norm)


def _row_major(gradient: Float[Array, ...]) -> jax.Array:
    """The gradient, laid out in memory as its parameter is.

    Those of a GPU's convolutions are not. Brought into line here, once, everything after is computed in place; compiled
    into the update, XLA copies what it wrote.
    """
    return jax.lax.optimization_barrier(jnp.ravel(gradient)).reshape(gradient.shape)


def _share_of_newest(decay: float, count: Int[jax.Array, ""]) -> Float[jax.Array, ""]:
    """Share of the newest weights in the average of ``count`` of them: (1 - decay) / (1 - decay^count).

    That is the bias-corrected average of ``optax.ema``, the first weights counting no more than their share, but taken
    as steps towards the newest: in float32, decay and 1 - decay do not add up to 1, and at 0.9999 a sum weighted by
    the two would settle 2e-4 beside the weights.
    """
    return (1 - decay) / -jnp.expm1(count * math.log(decay))


def make_optimizer(config: Config, stage: StageConfig) -> Optimizer:
    """The optimizer of a stage."""
    settings = config.optimizer
    rule = [optax.scale_by_adam(settings.b1, settings.b2, settings.eps)]
    if settings.name == "adamw":
        rule.append(
            optax.add_decayed_weights(settings.weight_decay, mask=lambda flat: {k: _is_decayed(k) for k in flat})
        )
    layout = SHARDED if config.shard_optimizer else WHOLE
    return Optimizer(optax.chain(*rule), settings.clip_norm, settings.ema_decay, layout)

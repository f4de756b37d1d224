"""The optimizer of a stage: Adam or AdamW, gradient clipping, learning-rate schedule, averaged weights.

Parameters are flat here, named by their path (``trunk/conv10_2/kernel``): these are the names in checkpoints and in
error messages.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from jaxcolor.batch import Array
from jaxcolor.config import Config, StageConfig
from jaxcolor.runtime.parallel import AXIS

Flat = dict[str, Any]
"""Parameters, gradients or the like by name."""


class OptState(NamedTuple):
    """The optimizer's state."""

    rule: Any
    """Optax's state: the moments and the count of updates."""
    average: Any
    """``params`` (the trained ones) and ``batch_stats`` averaged over the updates; empty if ``ema_decay`` is 0."""


class Updated(NamedTuple):
    """The result of an update."""

    trained: Flat
    state: OptState
    grad_norm: Float[jax.Array, ""]
    """Global norm of the gradient, before clipping."""


def learning_rate(stage: StageConfig) -> optax.Schedule:
    """The learning rate by step, the first being 0.

    It follows the count of steps, not of updates: a step without a valid picture updates nothing and still advances the
    schedule, so that a stage ends where its schedule ends. Constant, then linear is the reference's ``niter`` and
    ``niter_decay``.
    """
    high, steps = stage.learning_rate, stage.steps
    warmup = stage.warmup_steps if stage.warmup_steps > 1 else 0  # a warm-up of one step is no warm-up
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
    # From high / warmup, not from 0: every step updates something.
    return optax.join_schedules([optax.linear_schedule(high / warmup, high, warmup - 1), after], [warmup])


def _is_decayed(name: str) -> bool:
    """Whether weight decay applies: to kernels, not to biases and the scales of norms."""
    return name.endswith("/kernel")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer of a stage; pure functions, to be mapped over devices with the step.

    Attributes:
      rule: Optax's transformation of gradients to update directions, without the learning rate.
      clip_norm: as in ``OptimizerConfig``.
      ema_decay: as in ``OptimizerConfig``.
    """

    rule: optax.GradientTransformation
    clip_norm: float
    ema_decay: float

    def init(self, trained: Flat, batch_stats: Any) -> OptState:
        """The state before the first update."""
        average = {"params": trained, "batch_stats": batch_stats} if self.ema_decay else {}
        return OptState(self.rule.init(trained), average)

    def update(
        self, gradients: Flat, state: OptState, trained: Flat, batch_stats: Any, rate: Float[jax.Array, ""] | float
    ) -> Updated:
        """One update, inside a mapped function.

        Args:
          gradients: of the trained parameters; this device's share, summed over the devices here.
          state: from the previous update.
          trained: the parameters.
          batch_stats: the running statistics after this step, for the average.
          rate: the learning rate.
        """
        gradients = jax.tree.map(_row_major, jax.lax.psum(gradients, AXIS))
        norm = optax.tree.norm(gradients)
        if self.clip_norm:
            gradients = optax.tree.scale(jnp.minimum(1.0, self.clip_norm / norm), gradients)
        directions, rule = self.rule.update(gradients, state.rule, trained)
        trained = optax.apply_updates(trained, optax.tree.scale(-rate, directions))
        average = state.average
        if self.ema_decay:
            share = _share_of_newest(self.ema_decay, optax.tree.get(rule, "count"))
            newest = {"params": trained, "batch_stats": batch_stats}
            average = jax.tree.map(lambda old, new: old + share * (new - old), average, newest)
        return Updated(trained, OptState(rule, average), norm)


def _row_major(gradient: Float[Array, ...]) -> jax.Array:
    """The gradient, laid out in memory as its parameter is.

    Weight gradients of a GPU's convolutions are not. Transposed once, here, everything after is computed in place;
    fused into the update, XLA would copy its result.
    """
    return jax.lax.optimization_barrier(jnp.ravel(gradient)).reshape(gradient.shape)


def _share_of_newest(decay: float, count: Int[jax.Array, ""]) -> Float[jax.Array, ""]:
    """Share of the newest weights in the average of ``count`` of them: (1 - decay) / (1 - decay^count).

    This is the bias-corrected average of ``optax.ema``, written as a step towards the newest weights: in float32, decay
    and 1 - decay do not add up to 1, and at 0.9999 a sum weighted by the two would settle 2e-4 off the weights.
    """
    return (1 - decay) / -jnp.expm1(count * math.log(decay))


def _scaled(directions: Flat, rates: tuple[tuple[str, float], ...]) -> Flat:
    """Directions times the factors of their parameters, weight decay included."""
    return {name: direction * rate_factor(name, rates) for name, direction in directions.items()}


def rate_factor(name: str, rates: tuple[tuple[str, float], ...]) -> float:
    """What a parameter's learning rate is multiplied by (``OptimizerConfig.layer_rates``).

    Args:
      name: its path in the tree that is trained, joined by ``/``.
      rates: pattern and factor; the first pattern that is found in the name holds.
    """
    return next((factor for rule, factor in rates if re.search(rule, name)), 1.0)


def make_optimizer(config: Config, stage: StageConfig) -> Optimizer:
    """The optimizer of a stage."""
    settings = config.optimizer
    rule = [optax.scale_by_adam(settings.b1, settings.b2, settings.eps)]
    if settings.name == "adamw":
        rule.append(
            optax.add_decayed_weights(settings.weight_decay, mask=lambda flat: {k: _is_decayed(k) for k in flat})
        )
    if settings.rates:
        rule.append(optax.stateless(lambda directions, _: _scaled(directions, settings.rates)))
    return Optimizer(optax.chain(*rule), settings.clip_norm, settings.ema_decay)

"""The transposed convolution of the decoder: flax's own against ours (``models/ops/up_conv.py``), forward and backward.

Command: ``python benchmarks/up_conv.py`` prints JSON: milliseconds, median of 10 runs after one that compiles.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor.models.ops import value
from jaxcolor.models.ops.up_conv import UpConv

LAYERS = {"conv8_up": (128, 64, 8), "conv9_up": (64, 32, 16), "conv10_up": (32, 32, 32)}
"""Of the demo's model (width 0.25, S = 64): channels in, channels out, side."""
BATCH = 16


def milliseconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Median of ten runs."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e3, 2)


def measure(module: nn.Module, x: jax.Array) -> dict[str, float]:
    """Forward, and forward with both gradients."""
    variables = module.init(jax.random.key(0), x)

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return value(module.apply(variables, x))  # ours is pending until it is asked for its value

    gradients = jax.grad(lambda v, x: (apply(v, x) ** 2).sum(), argnums=(0, 1))
    return {
        "forward": milliseconds(jax.jit(apply), variables, x),
        "forward_and_backward": milliseconds(jax.jit(gradients), variables, x),
    }


def main() -> None:
    """Measure flax's and our implementation of every layer."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()} {platform.system()}, {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "batch": BATCH,
        "unit": "ms",
    }
    for name, (channels, features, side) in LAYERS.items():
        x = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, side, side, channels)), jnp.float32)
        padding = ((2, 2), (2, 2))
        plain = nn.ConvTranspose(features, (4, 4), strides=(2, 2), padding=padding, transpose_kernel=True)
        ours = UpConv(features, jnp.float32, jnp.float32, nn.initializers.lecun_normal())
        result[name] = {"flax": measure(plain, x), "ours": measure(ours, x)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

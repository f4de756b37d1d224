"""A U-Net (Ronneberger et al. 2015) as backbone: concatenating skip connections, GroupNorm, no dilation.

To compare with the reference's: ``--config.model.backbone=unet``. It has no reference weights.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxcolor.models import ops
from jaxcolor.models.backbone import Backbone, Fuse, Layers, Tap
from jaxcolor.models.ops import relu

CHANNELS = (64, 128, 256, 512)
"""Of levels 0 to 3, at width 1."""


class UNet(Backbone):
    """Two convolutions a level down, three at the bottom, two a level up."""

    taps = (
        *(Tap(f"down{level}", level, channels, "encoder") for level, channels in enumerate(CHANNELS)),
        *(Tap(f"up{level}", level, CHANNELS[level], "decoder") for level in (2, 1, 0)),
    )
    head_inputs: ClassVar = {0: "up0", 2: "up2"}
    output_layers = ("up0_2", "up0_2_norm", "output", "classes")
    decoder_layers = (
        *(f"up{level}{part}" for level in (2, 1, 0) for part in ("", "_1", "_1_norm", "_2", "_2_norm")),
        *("output", "classes"),
    )

    def features(self, inputs: jax.Array, layers: Layers, fuse: Fuse) -> dict[str, ops.Feature]:
        """Down, and up again."""
        taps: dict[str, Any] = {}

        def conv(name: str, x: ops.Feature, channels: int) -> ops.Feature:
            return relu(layers.norm(f"{name}_norm", layers.conv(name, x, channels), "group"))

        x = inputs
        for level, channels in enumerate(CHANNELS):
            for i in range(1, 3 if level < 3 else 4):
                x = conv(f"down{level}_{i}", x, channels)
            taps[f"down{level}"] = fuse(f"down{level}", x)
            x = taps[f"down{level}"][:, ::2, ::2] if level < 3 else taps["down3"]
        for level in (2, 1, 0):
            x = jnp.concatenate([ops.value(layers.up(f"up{level}", x, CHANNELS[level])), taps[f"down{level}"]], axis=-1)
            x = conv(f"up{level}_1", x, CHANNELS[level])
            x = taps[f"up{level}"] = fuse(f"up{level}", conv(f"up{level}_2", x, CHANNELS[level]))
        return taps

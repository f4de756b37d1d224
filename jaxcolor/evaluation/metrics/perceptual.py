"""The metrics that need the weights of a network: LPIPS with three networks, and FID."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jaxtyping import Float, Num

from jaxcolor.evaluation.metrics import lpips
from jaxcolor.evaluation.metrics.masking import Size
from jaxcolor.evaluation.metrics.metric import Metric


def _lpips(
    params: Any,
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    *,
    net: lpips.Net,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    return lpips.lpips(params, net, prediction, truth, size=size)


def _metric(net: lpips.Net, needs: str = "") -> Metric:
    return Metric(
        f"lpips_{net}",
        functools.partial(_lpips, net=net),
        f"LPIPS {net}",
        direction="lower",
        group="Whole picture",
        of_objects=True,
        load=functools.partial(lpips.load, net),
        least_side=functools.partial(lpips.least_side, net),
        needs=needs,
        needs_text=lpips.how_to_get(net),
        available=functools.partial(lpips.is_available, net),
    )


LPIPS_ALEX = _metric("alex")
LPIPS_SQUEEZE = _metric("squeeze", needs="lpips_squeeze")
LPIPS_VGG = _metric("vgg", needs="lpips_vgg")

FID = Metric(
    "fid",
    None,
    "FID",
    digits=2,
    direction="lower",
    group="Whole picture",
    needs="inception",
    needs_text="give those of pytorch-fid's InceptionV3, pt_inception-2015-12-05-6726825d.pth",
)
"""Of all photos together: ``evaluator.evaluate`` computes it from ``inception.features`` and ``fid``."""

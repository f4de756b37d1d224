"""The table of built-in metrics, in the order of reading, and the choice that a config makes among them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from jaxcolor.config import EvalConfig
from jaxcolor.evaluation.metrics.metric import Column, Metric
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import Registry

_HERE = "jaxcolor.evaluation.metrics"

METRICS = Registry(
    "metric",
    {
        "psnr": f"{_HERE}.psnr:PSNR",
        "ssim": f"{_HERE}.ssim:SSIM",
        "psnr_objects": f"{_HERE}.psnr:PSNR_OBJECTS",
        "psnr_background": f"{_HERE}.psnr:PSNR_BACKGROUND",
        "ssim_objects": f"{_HERE}.ssim:SSIM_OBJECTS",
        "ssim_background": f"{_HERE}.ssim:SSIM_BACKGROUND",
        "lpips_alex": f"{_HERE}.perceptual:LPIPS_ALEX",
        "lpips_squeeze": f"{_HERE}.perceptual:LPIPS_SQUEEZE",
        "lpips_vgg": f"{_HERE}.perceptual:LPIPS_VGG",
        "delta_e_2000": f"{_HERE}.colors:DELTA_E_2000",
        "psnr_ab": f"{_HERE}.psnr:PSNR_AB",
        "ssim_uniform7": f"{_HERE}.ssim:SSIM_UNIFORM7",
        "fid": f"{_HERE}.perceptual:FID",
        "colorfulness_hs": f"{_HERE}.colors:COLORFULNESS_HS",
        "colorfulness_abs": f"{_HERE}.colors:COLORFULNESS_ABS",
    },
)
"""Built-in name -> where its record is. Others are named by their dotted path."""

_FIELD = "config.eval.metrics"
_RESERVED = frozenset(
    [
        "boxes",
        "by_size",
        "colorless",
        "height",
        "interval_95",
        "median",
        "name",
        "objects",
        "per_object",
        "photos",
        "psnr_capped",
        "side",
        "size",
        "system",
        "width",
        "without_colorless",
        "x0",
        "y0",
    ]
)
"""Keys of ``metrics.json`` and columns of the tables that mean something else."""


@functools.cache
def builtin() -> tuple[Metric, ...]:
    """All built-in metrics, in the order of reading."""
    return tuple(METRICS.get(name) for name in METRICS.names)


def columns(metrics: Iterable[Metric]) -> dict[str, Column]:
    """Key -> column of all that these metrics give."""
    return {key: column for metric in metrics for key, column in metric.columns.items()}


@functools.cache
def builtin_columns() -> dict[str, Column]:
    """Key -> column of all that built-in metrics give, in the order of reading."""
    return columns(builtin())


def chosen(config: EvalConfig) -> tuple[tuple[Metric, ...], frozenset[str]]:
    """The metrics that a config asks for.

    Args:
      config: ``metrics`` holds names and dotted paths, or ``all`` (the built-in metrics whose weights are at hand);
        metrics whose file another field names are measured too.

    Returns:
      In the order of reading: built-in ones first, then others as they are named; and the names that were given
      themselves, which must not be left out silently.

    Raises:
      UserError: a name or path that leads to no metric, a name given to two metrics, weights that are not named.
    """
    asked = config.metrics.split(",") if isinstance(config.metrics, str) else config.metrics
    names = [name.strip() for name in asked if name.strip()]
    named = {name: _get(name) for name in names if name != "all"}
    own = [metric for name, metric in named.items() if name not in METRICS.builtin]
    taken = {*METRICS.names, *builtin_columns(), *_RESERVED}
    for metric in own:
        clash = sorted(taken & {*metric.columns})
        if clash:
            raise UserError(f"{_FIELD}: the name {clash[0]!r} is taken; rename your metric {metric.title!r}")
        taken |= {*metric.columns}
    for name, metric in named.items():
        if metric.needs and not getattr(config, metric.needs) and not metric.available():
            raise UserError(
                f"{_FIELD}: {name} needs weights, whose file config.eval.{metric.needs} names: {metric.needs_text}"
            )
    found = [
        metric
        for metric in builtin()
        if metric.always
        or metric.name in named
        or ("all" in names and (not metric.needs or metric.available()))
        or (metric.needs and getattr(config, metric.needs))
    ]
    return (*found, *own), frozenset(metric.name for metric in named.values())


def _get(name: str) -> Metric:
    try:
        found = METRICS.get(name)
    except UserError as error:
        raise UserError(f"{_FIELD}: {error}") from error
    if not isinstance(found, Metric):
        raise UserError(f"{_FIELD}: {name} is no jaxcolor.evaluation.metrics.Metric but a {type(found).__name__}")
    return found

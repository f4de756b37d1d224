"""From what output heads predict to the color that is shown: ``safe``, or ``vivid`` to some strength.

``safe`` is the first head's color; a regression's is the mean of what is plausible, which pales where hues differ.
``vivid:v`` with 0 < v <= 1 goes from there to a color as strong as real ones. Where the weights have a
``SaturationCurve``, the safe color's chroma goes by the share v to where the curve puts it; else, with a class head,

    ab = (1 - v) * safe + v * annealed mean,    at the temperature of Zhang et al. 2016, 0.38.

v = 0 is ``safe``, bit for bit. The curve goes first because it is measured: of our weights for photographs, the
annealed mean is no more colorful than the safe color, and further from the truth (docs/model_card.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from jaxcolor import color
from jaxcolor.color import AB_SCALE, SaturationCurve
from jaxcolor.config import ModelConfig
from jaxcolor.registries import OUTPUTS
from jaxcolor.runtime.errors import UserError

SAFE = "safe"
CLASS_HEAD = "classes"
"""The output head whose distribution of colors is read."""

_VIVID = re.compile(r"vivid:([0-9]+(?:\.[0-9]+)?)")


def has_classes(config: ModelConfig) -> bool:
    """Whether the networks predict a trained distribution of colors."""
    return CLASS_HEAD in config.outputs


def parse_decode(decode: str) -> float:
    """The strength of ``safe`` (0) or ``vivid:0.5`` (0.5).

    Raises:
      UserError: neither of both, or a strength that is not above 0 and at most 1.
    """
    found = _VIVID.fullmatch(decode)
    if decode != SAFE and not (found and 0 < float(found[1]) <= 1):
        raise UserError(f"decode {decode!r}: must be 'safe', or 'vivid:V' with a strength V above 0 and at most 1")
    return float(found[1]) if found else 0.0


def check_vivid(vivid: float, config: ModelConfig, curve: SaturationCurve | None) -> None:
    """Whether colors of this strength can be had from such networks.

    Raises:
      UserError: a strength that is not from 0 to 1, or above 0 with neither a class head nor a curve.
    """
    if not (math.isfinite(vivid) and 0 <= vivid <= 1):
        raise UserError(f"vivid {vivid}: must be from 0 (safe) to 1")
    if vivid and curve is None and not has_classes(config):
        raise UserError(
            f"vivid {vivid}: these weights have neither a class head (model.outputs) nor a saturation curve; "
            "saturation needs neither"
        )


def annealed_ab(outputs: Mapping[str, Any], size: tuple[int, int]) -> Float[jax.Array, "B H W 2"]:
    """Normalized ab of the class head at a size (height, width): its annealed mean, resized bilinearly."""
    ab: jax.Array = OUTPUTS.get(CLASS_HEAD).decode(outputs[CLASS_HEAD], size)
    return ab


def mix_vivid(
    safe: Float32[np.ndarray, "*shape 2"],
    annealed: Float32[np.ndarray, "*shape 2"] | None,
    curve: SaturationCurve | None,
    vivid: float,
) -> Float32[np.ndarray, "*shape 2"]:
    """Normalized ab of some strength.

    Args:
      safe: normalized ab of the first head.
      annealed: normalized ab of the class head; not needed where there is a curve.
      curve: of the weights, where they have one.
      vivid: 0 to 1.
    """
    if not vivid:
        return safe
    if curve is not None:
        ab: np.ndarray = color.apply_saturation(curve, safe * np.float32(AB_SCALE), vivid) / np.float32(AB_SCALE)
        return ab
    if annealed is None:
        raise ValueError("neither a class head's color nor a saturation curve")
    return (1 - np.float32(vivid)) * safe + np.float32(vivid) * annealed


def curve_from_json(values: Any) -> SaturationCurve | None:
    """A curve as it is kept with weights, ``{"predicted": [...], "wanted": [...]}``; None stays None.

    Raises:
      UserError: it is no curve: knots that do not begin with (0, 0), ascend and have finite numbers.
    """
    if values is None:
        return None
    try:
        # A mapping with other keys than a curve's fields is refused by its constructor.
        curve = SaturationCurve(**{name: tuple(map(float, knots)) for name, knots in values.items()})
        predicted, wanted = (np.asarray(knots, np.float64) for knots in curve)
        good = (
            predicted.shape == wanted.shape
            and len(predicted) > 0
            and predicted[0] == wanted[0] == 0
            and bool(np.isfinite([predicted, wanted]).all())
            and bool((np.diff(predicted) > 0).all())
            and bool((np.diff(wanted) >= 0).all())
        )
    except (AttributeError, TypeError, ValueError):
        good = False
    if not good:
        raise UserError(
            "saturation_curve: must be lists 'predicted' and 'wanted' of as many finite numbers from 0 on, the first "
            "ascending, the second not descending"
        )
    return curve

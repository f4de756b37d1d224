"""Colors: CIEDE2000 between two pictures, and how colorful one picture is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

from jaxcolor import color
from jaxcolor.evaluation.metrics.masking import Size, counted, masked_mean
from jaxcolor.evaluation.metrics.metric import Metric


def _degrees(a: Any, b: Any) -> Any:
    """Hue angle in [0, 360); 0 where both are 0."""
    hue = jnp.rad2deg(jnp.arctan2(b, a))
    return jnp.where(hue < 0, hue + 360, hue)


def ciede2000(first: Float[jax.Array, "*shape 3"], second: Float[jax.Array, "*shape 3"]) -> Float[jax.Array, "*shape"]:
    """Color difference CIEDE2000 of Lab colors, k_L = k_C = k_H = 1 (Sharma, Wu and Dalal 2005).

    The formula jumps where two hues are opposite; there float32 is decided as the paper's test data are, by the order
    of the two hues. Not meant to be differentiated (0 / 0 for equal colors).
    """
    l1, a1, b1 = (first[..., i] for i in range(3))
    l2, a2, b2 = (second[..., i] for i in range(3))
    seventh = ((jnp.hypot(a1, b1) + jnp.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * jnp.sqrt(seventh / (seventh + 25.0**7))
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = jnp.hypot(a1, b1), jnp.hypot(a2, b2)
    h1, h2 = _degrees(a1, b1), _degrees(a2, b2)

    # The angle between the hues straight from cross and dot product: a difference of two angles has few digits left
    # where they are close, and has to be wrapped. The cross product of differences is 0 for equal colors.
    cross, dot = a1 * (b2 - b1) - b1 * (a2 - a1), a1 * a2 + b1 * b2
    opposite = (jnp.abs(cross) <= 4 * jnp.finfo(cross.dtype).eps * c1 * c2) & (dot < 0)
    turn = jnp.where(opposite, jnp.where(h2 > h1, 180.0, -180.0), jnp.rad2deg(jnp.arctan2(cross, dot)))
    achromatic = c1 * c2 == 0
    turn = jnp.where(achromatic, 0.0, turn)
    mean_h = jnp.where(achromatic, h1 + h2, (h1 + turn / 2) % 360)

    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    lightness, chroma = l2 - l1, c2 - c1
    hue = 2 * jnp.sqrt(c1 * c2) * jnp.sin(jnp.deg2rad(turn / 2))
    t = 1 + sum(
        weight * jnp.cos(jnp.deg2rad(times * mean_h + shift))
        for weight, times, shift in ((-0.17, 1, -30.0), (0.24, 2, 0.0), (0.32, 3, 6.0), (-0.20, 4, -63.0))
    )
    off_middle = (mean_l - 50) ** 2
    scale_l = 1 + 0.015 * off_middle / jnp.sqrt(20 + off_middle)
    scale_c, scale_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    seventh = mean_c**7
    rotation = 2 * jnp.sqrt(seventh / (seventh + 25.0**7))
    rotation *= -jnp.sin(jnp.deg2rad(60 * jnp.exp(-(((mean_h - 275) / 25) ** 2))))
    lightness, chroma, hue = lightness / scale_l, chroma / scale_c, hue / scale_h
    # The form is positive; rounding may leave it a little below 0.
    return jnp.sqrt(jnp.maximum(lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue, 0))


def delta_e_2000(
    prediction: Num[jax.Array, "B H W 3"],
    truth: Num[jax.Array, "B H W 3"],
    mask: Bool[jax.Array, "B H W"] | None = None,
    size: Size | None = None,
) -> Float[jax.Array, " B"]:
    """Mean over pixels of the CIEDE2000 difference of two 8-bit pictures, taken to CIE Lab (D65).

    Args:
      prediction: sRGB, 0 to 255.
      truth: sRGB, 0 to 255.
      mask: pixels that count; None: all.
      size: height and width of each photo in its canvas; None: the whole canvas.

    Returns:
      One number a photo, at least 0 (about 1 is just noticeable); NaN where no pixel counts.
    """
    a, b = (color.rgb_to_lab(color.unit_rgb(x, jnp.float32)) for x in (prediction, truth))
    difference = ciede2000(a, b)
    return masked_mean(difference, counted(mask, size, *difference.shape[1:]))


def _opponents(picture: Num[jax.Array, "B H W 3"]) -> tuple[Float[jax.Array, "B H W"], Float[jax.Array, "B H W"]]:
    """R - G and (R + G) / 2 - B, each -255 to 255."""
    r, g, b = (picture[..., i].astype(jnp.float32) for i in range(3))
    return r - g, (r + g) / 2 - b


def _spread_and_mean(rg: Float[jax.Array, "B H W"], yb: Float[jax.Array, "B H W"], size: Size | None) -> jax.Array:
    """sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^2 + mean yb ^2), with variances over N."""
    mask = counted(None, size, *rg.shape[1:])
    means = [masked_mean(x, mask) for x in (rg, yb)]
    variances = [
        masked_mean(jnp.square(x - mean[:, None, None]), mask) for x, mean in zip((rg, yb), means, strict=True)
    ]
    return jnp.sqrt(variances[0] + variances[1]) + 0.3 * jnp.hypot(*means)


def colorfulness_hs(picture: Num[jax.Array, "B H W 3"], size: Size | None = None) -> Float[jax.Array, " B"]:
    """Colorfulness M3 of Hasler and Süsstrunk 2003.

    sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^2 + mean yb ^2) with signed rg = R - G and yb = (R + G) / 2 - B; variances
    over N. 0 is gray; on the paper's scale 33 is moderately, 59 quite and 109 extremely colorful.

    Args:
      picture: sRGB, 0 to 255.
      size: height and width of each photo in its canvas; None: the whole canvas.
    """
    return _spread_and_mean(*_opponents(picture), size)


def colorfulness_abs(picture: Num[jax.Array, "B H W 3"], size: Size | None = None) -> Float[jax.Array, " B"]:
    """The same formula on ``|R - G|`` and ``|(R + G) / 2 - B|``, as code that later papers share has it.

    Its values differ from ``colorfulness_hs`` (smaller spread, larger mean); never compare one with the other.
    """
    rg, yb = _opponents(picture)
    return _spread_and_mean(jnp.abs(rg), jnp.abs(yb), size)


COLORLESS_CHROMA = 2.0
"""A photo whose mean chroma is below this has no color that could be predicted: about what an eye can just tell from
gray (a difference of 2.3 in Lab; Mahy, Van Eycken and Oosterlinck 1994), above what JPEG leaves in a gray photo, and
below all of 1,433 colored photos that were looked at (the lowest mean is 2.5)."""


def mean_chroma(picture: Num[jax.Array, "B H W 3"], size: Size | None = None) -> Float[jax.Array, " B"]:
    """Mean over pixels of the CIE Lab chroma sqrt(a*^2 + b*^2); 0 is gray, colored photos have about 10 to 30.

    Args:
      picture: sRGB, 0 to 255.
      size: height and width of each photo in its canvas; None: the whole canvas.
    """
    ab = color.rgb_to_lab(color.unit_rgb(picture, jnp.float32))[..., 1:]
    chroma = jnp.linalg.norm(ab, axis=-1)
    return masked_mean(chroma, counted(None, size, *chroma.shape[1:]))


def _of_prediction(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A measure of one picture as a metric, which is given the ground truth too."""
    return lambda prediction, truth, *, size=None: function(prediction, size=size)


DELTA_E_2000 = Metric("delta_e_2000", delta_e_2000, "ΔE 2000", 2, "lower", "Whole picture")
COLORFULNESS_HS = Metric(
    "colorfulness_hs", _of_prediction(colorfulness_hs), "CF", 2, group="Colorfulness", of_truth=True
)
COLORFULNESS_ABS = Metric(
    "colorfulness_abs", _of_prediction(colorfulness_abs), "CF abs", 2, group="Colorfulness", of_truth=True
)

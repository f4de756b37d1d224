"""Numbers from the paper's tables, to stand beside ours: as printed, not measured here.

Su, Chu, Huang: Instance-aware Image Colorization, CVPR 2020, Table 1 (whole pictures) and Table 2 (instances of
COCO-Stuff, annotated boxes). How they were computed is not said in all points, and nobody has reproduced them; see
docs/evaluation.md before comparing. Typed by hand and not yet compared with the print: look there before quoting them.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row of the paper."""

    title: str
    lpips: float
    """Of a network and a version that the paper does not name: not to be compared with ``lpips_alex`` or another."""
    psnr: float
    ssim: float


_ZHANG = "Zhang et al. 2017"
_SU = "Su et al. 2020"
_TUNED = ", tuned on COCO"
"""Fine-tuned on COCO-Stuff."""

WHOLE = {
    "coco_stuff": (
        Published(_ZHANG, 0.138, 26.823, 0.937),
        Published(_SU, 0.125, 27.777, 0.940),
        Published(_ZHANG + _TUNED, 0.128, 27.251, 0.938),
        Published(_SU + _TUNED, 0.110, 28.592, 0.944),
    ),
    "imagenet_ctest10k": (
        Published(_ZHANG, 0.145, 26.166, 0.932),
        Published(_SU, 0.134, 26.980, 0.933),
        Published(_ZHANG + _TUNED, 0.140, 26.482, 0.932),
        Published(_SU + _TUNED, 0.125, 27.562, 0.937),
    ),
    "places205": (
        Published(_ZHANG, 0.149, 25.823, 0.948),
        Published(_SU, 0.130, 27.167, 0.954),
        Published(_ZHANG + _TUNED, 0.153, 25.720, 0.947),
        Published(_SU + _TUNED, 0.120, 27.800, 0.957),
    ),
}
"""Data set -> rows of Table 1."""

PER_OBJECT = {
    "coco_stuff": (
        Published(_ZHANG, 0.154, 26.447, 0.918),
        Published(_SU, 0.115, 28.339, 0.929),
        Published(_ZHANG + _TUNED, 0.149, 26.675, 0.919),
        Published(_SU + _TUNED, 0.095, 29.522, 0.938),
    ),
}
"""Data set -> rows of Table 2."""

"""Numbers from two papers' tables: as printed, not measured here.

The paper's own stand beside ours where photos and size are its own, else in a footnote; those that DDColor's authors
measured of ten systems are a table of their own.

Su, Chu, Huang: Instance-aware Image Colorization, CVPR 2020, Table 1 (whole pictures) and Table 2 (instances of
COCO-Stuff, annotated boxes). How they were computed is not said in all points, and nobody has reproduced them; see
docs/evaluation.md before comparing. Typed by hand and not yet compared with the print: look there before quoting them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxcolor.evaluation.metrics.metric import Column
from jaxcolor.evaluation.table_types import Cell, Row, Table
from jaxcolor.runtime.text import counted


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

_PHOTOS = {"coco_stuff": 5_000, "imagenet_ctest10k": 10_000, "places205": 20_500}
_SIDE = 256

LPIPS = "lpips"
"""Column of published LPIPS, whose network the paper does not name: it stands under no network's heading."""


class MeasuredAgain(NamedTuple):
    """A system on one data set as DDColor's authors measured it; None: their table has a dash."""

    fid: float | None = None
    colorfulness: float | None = None
    delta_colorfulness: float | None = None
    psnr: float | None = None


_NOT_THERE = MeasuredAgain()
MEASURED_AGAIN = {
    "CIC (Zhang et al. 2016)": (MeasuredAgain(27.88, 33.84, 4.40, 22.73), MeasuredAgain(8.72, 31.60, 6.61, 22.64)),
    "Su et al. 2020": (MeasuredAgain(13.09, 27.45, 10.79, 23.38), MeasuredAgain(8.06, 24.87, 13.34, 23.28)),
    "DeOldify": (MeasuredAgain(13.86, 24.99, 13.25, 24.19), MeasuredAgain(6.59, 21.29, 16.92, 24.11)),
    "Wu et al. 2021": (_NOT_THERE, MeasuredAgain(5.95, 32.98, 5.23, 21.68)),
    "ColTran": (MeasuredAgain(14.94, 36.27, 1.97, 21.72), MeasuredAgain(6.44, 34.50, 3.71, 20.95)),
    "CT2": (_NOT_THERE, MeasuredAgain(5.51, 38.48, 0.27, 23.50)),
    "BigColor": (_NOT_THERE, MeasuredAgain(5.36, 39.74, 1.53, 21.24)),
    "ColorFormer": (MeasuredAgain(8.68, 36.34, 1.90, 23.91), MeasuredAgain(4.91, 38.00, 0.21, 23.10)),
    "DDColor, tiny": (MeasuredAgain(7.24, 38.48, 0.24, 23.45), MeasuredAgain(4.38, 37.66, 0.55, 23.54)),
    "DDColor, large": (MeasuredAgain(5.18, 38.48, 0.24, 22.85), MeasuredAgain(3.92, 38.26, 0.05, 23.85)),
}
"""System -> COCO-Stuff, ImageNet val5k: Table 1 of Kang et al., "DDColor", ICCV 2023 (arXiv 2212.11613), without its
columns of ImageNet's 50,000 photos and of ADE20K. Typed from the paper's text; its printed pages were not seen. In each
row colorfulness and its difference lead to the same truth, 38.24 and 38.21 (a test), so a slip there would show; in FID
and PSNR it would not."""
_AGAIN_COLUMNS = tuple(
    column._replace(title=f"{column.title}, {photos}")
    for photos in ("COCO-Stuff", "val5k")
    for column in (
        Column("FID", 2, "lower"),
        Column("CF", 2),
        Column("ΔCF", 2, "lower"),
        Column("PSNR", 2, "higher"),
    )
)
AGAIN_TITLE = "As DDColor's authors measured"


def data_set(metrics: Mapping[str, Any]) -> str:
    """Whose published numbers are wanted (``eval.published``); empty: nobody's."""
    return str(metrics.get("protocol", {}).get("published", ""))


def is_comparable(metrics: Mapping[str, Any]) -> bool:
    """Whether as many photos were compared, at the size of the paper."""
    protocol = metrics.get("protocol", {})
    sized = protocol.get("size", "canvas") == "canvas" and protocol.get("canvas") == _SIDE
    return sized and metrics.get("photos") == _PHOTOS.get(data_set(metrics))


def of_photos(metrics: Mapping[str, Any]) -> tuple[Published, ...]:
    """The paper's rows to stand beside whole pictures; none where they cannot be compared."""
    return WHOLE.get(data_set(metrics), ()) if is_comparable(metrics) else ()


def of_objects(metrics: Mapping[str, Any]) -> tuple[Published, ...]:
    """The paper's rows to stand beside annotated objects; none where they cannot be compared."""
    return PER_OBJECT.get(data_set(metrics), ()) if is_comparable(metrics) else ()


def columns_beside(shown: Sequence[str], beside: Sequence[Published]) -> tuple[str, ...]:
    """The columns of a table with room for published LPIPS, if there are published rows."""
    return (*shown, LPIPS) if beside else tuple(shown)


def rows(beside: Sequence[Published], shown: Sequence[str]) -> tuple[Row, ...]:
    """Rows of the paper, with three digits as printed."""
    return tuple(
        Row(
            "published",
            f"{row.title} (published)",
            tuple(Cell(getattr(row, m, None), None, 3, False) for m in shown),
        )
        for row in beside
    )


def measured_again(metrics: Mapping[str, Any]) -> list[Table]:
    """DDColor's table, a block of its own, where its photos or others of ImageNet were measured."""
    if data_set(metrics) not in ("coco_stuff", "imagenet_ctest10k"):
        return []
    found = tuple(
        Row("published", f"{title} (published)", tuple(Cell(value, None, 2, False) for one in both for value in one))
        for title, both in MEASURED_AGAIN.items()
    )
    return [Table(AGAIN_TITLE, _AGAIN_COLUMNS, (), (), found)]


def footnotes(metrics: Mapping[str, Any]) -> list[str]:
    """What must be known of the published rows, and these themselves where they may not stand beside ours."""
    name = data_set(metrics)
    if name not in WHOLE:
        return []
    said = "by a protocol that it does not state in full; see docs/evaluation.md."
    notes = [f"Published rows are as printed in the paper, at {_SIDE}x{_SIDE} pixels, {said}"]
    if not is_comparable(metrics):
        at = metrics.get("protocol", {}).get("compared_at") or "another size"
        notes = [
            f"The paper's numbers are of {_PHOTOS[name]:,} photos at {_SIDE}x{_SIDE} pixels, {said} They do not stand "
            f"beside these ({counted(metrics['photos'], 'photo')}; {at}): {_in_words(WHOLE[name])}."
        ]
        if name in PER_OBJECT and metrics.get("objects"):
            notes.append(f"Of annotated objects the paper prints {_in_words(PER_OBJECT[name])}.")
    if measured_again(metrics):
        notes.append(
            f"{AGAIN_TITLE}, with the systems' own code and weights (Kang et al., ICCV 2023, Table 1), is of "
            f"{_SIDE}x{_SIDE} pixels: COCO-Stuff's 5,000 photos, resized, and the first 5,000 of ImageNet's validation "
            "set (val5k), cropped to their middle square. ΔCF is the difference of mean colorfulness to that of the "
            "true photos; which of the two formulas it is, what became of photos without color, and how resizing "
            "filters is not said. The paper's PSNR is on another scale: it prints 28.592 dB for its system on "
            "COCO-Stuff, and they measured 23.38."
        )
    return notes


def _in_words(beside: Sequence[Published]) -> str:
    return "; ".join(f"{row.title}: {row.psnr:.3f} dB, SSIM {row.ssim:.3f}, LPIPS {row.lpips:.3f}" for row in beside)

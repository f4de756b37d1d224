"""Numbers from two papers' tables: as printed, not measured here.

The paper's own stand beside ours where photos and size are its own, else in a footnote; those that DDColor's authors
measured of several systems are a table of their own.

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
    """A system as DDColor's authors measured it (Kang et al., ICCV 2023, Table 1); None: not known here.

    Not their whole table: what is quoted in docs/model_card.md (COCO-Stuff) and in DDColor's issue 9 (ImageNet).
    """

    title: str
    coco_psnr: float | None = None
    coco_colorfulness: float | None = None
    imagenet_fid: float | None = None
    imagenet_colorfulness: float | None = None


MEASURED_AGAIN = (
    MeasuredAgain("DeOldify", 24.19, 24.99),
    MeasuredAgain("Su et al. 2020", 23.38, 27.45),
    MeasuredAgain("DDColor, size of lower PSNR", 22.85, 38.48),
    MeasuredAgain("DDColor, size of higher PSNR", 23.45, 38.48),
    MeasuredAgain("DDColor, large", None, None, 3.92, 38.26),
)
_AGAIN_COLUMNS = (
    Column("PSNR, COCO-Stuff", 2, "higher"),
    Column("CF, COCO-Stuff", 2),
    Column("FID, ImageNet val5k", 2, "lower"),
    Column("CF, ImageNet val5k", 2),
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
        Row("published", f"{title} (published)", tuple(Cell(value, None, 2, False) for value in values))
        for title, *values in MEASURED_AGAIN
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
            f"{AGAIN_TITLE} (Kang et al., ICCV 2023, in part) is of {_SIDE}x{_SIDE} pixels: COCO-Stuff's 5,000 photos, "
            "resized, and the first 5,000 of ImageNet's validation set (val5k), cropped to their middle square. "
            "The paper's PSNR is on another scale: it prints 28.592 dB for its system on COCO-Stuff, and they measured "
            "23.38."
        )
    return notes


def _in_words(beside: Sequence[Published]) -> str:
    return "; ".join(f"{row.title}: {row.psnr:.3f} dB, SSIM {row.ssim:.3f}, LPIPS {row.lpips:.3f}" for row in beside)

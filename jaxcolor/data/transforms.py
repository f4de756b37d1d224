"""Transforms of one photo, from its file to the arrays of an example: decode, resize, crop, flip. NumPy and Pillow."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8, UInt16
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from jaxcolor.batch import LEVELS
from jaxcolor.boxes import crop_sides as sides_of_crops
from jaxcolor.boxes import level_boxes, mirror_boxes
from jaxcolor.data import formats
from jaxcolor.data.profiles import gray_table, profile_of, to_srgb
from jaxcolor.data.tiff import check_tiff, tiff_size
from jaxcolor.data.types import DataError, Encoded, Example, PhotoFile
from jaxcolor.data.wide_gray import is_wide_gray, shown_levels, transparent
from jaxcolor.runtime.errors import one_line

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""Pillow's names of what is read. A fixed list: of the other formats some start programs (EPS), and some raise anything
at all. JPEG covers MPO, whose first picture counts."""
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows a photo upright, by its EXIF orientation."""
_SIDEWAYS = (5, 6, 7, 8)


@contextlib.contextmanager
def _opened(photo: PhotoFile) -> Iterator[Image.Image]:
    """The photo in a file, its header read; whatever goes wrong with it, here or in the block, is a ``DataError``."""
    where = photo if isinstance(photo, Path) else photo.where
    try:
        with contextlib.ExitStack() as stack:
            # Never by its name: Pillow maps some files into memory then, and forgets to turn them.
            file = stack.enter_context(_open_regular(photo)) if isinstance(photo, Path) else io.BytesIO(photo.data)
            begin = file.read(16)
            file.seek(0)
            taken: tuple[str, ...] = _FORMATS
            if formats.HEIF_IS_READ and begin[4:8] == b"ftyp" and formats.is_heif(begin):
                formats.register_heif()
                taken = (formats.HEIF,)
            try:
                image = stack.enter_context(Image.open(file, formats=taken))
            except UnidentifiedImageError:
                raise ValueError(formats.unidentified(begin)) from None
            if isinstance(image, TiffImageFile):
                check_tiff(image)
            yield image
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{where}: cannot read this photo: not enough memory") from error
    except Exception as error:  # Pillow raises nearly anything on broken files; one photo must not end a job
        reason = getattr(error, "strerror", None) or one_line(error)  # without errno and the name again
        raise DataError(f"{where}: cannot read this photo: {reason}") from error


def _open_regular(path: Path) -> BinaryIO:
    """A file, opened; a pipe would be waited for, for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")
    return path.open("rb")


def read_encoded(photo: PhotoFile) -> Encoded:
    """A photo's file in memory.

    Raises:
      DataError: it cannot be read.
    """
    if not isinstance(photo, Path):
        return photo
    try:
        with _open_regular(photo) as file:
            return Encoded(str(photo), file.read())
    except (OSError, ValueError, MemoryError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        raise DataError(f"{photo}: cannot read this photo: {reason}") from error


def read_image(photo: PhotoFile, least_side: int | None = None) -> Image.Image:
    """The photo in a file as a viewer shows it, in mode RGB.

    Its EXIF orientation is applied, whatever else its EXIF says. Gray, palettes and CMYK become RGB, 12 and 16 bits
    become 8, transparent parts lie on white, and of an animation or of several pages the first picture is taken. Colors
    are converted to sRGB from an embedded ICC profile that fits the pixels; without one they are taken for sRGB. What
    it is follows from its contents, not from its name. Pixels without a known white (floating-point, signed, more than
    16 bits) and those that Pillow would read wrong (see ``data.tiff``) are refused. Above Pillow's limit for
    decompression bombs (179 million pixels) it is refused; above half of that Pillow warns.

    Args:
      photo: its file.
      least_side: let the JPEG decoder reduce the photo by 2, 4 or 8 as long as both sides stay at least this many
        pixels; None: the original size.

    Raises:
      DataError: the file is missing, no regular file, no photo, damaged, or of a kind that is not read.
    """
    with _opened(photo) as image:
        if least_side is not None:
            image.draft(None, (least_side, least_side))  # does nothing for other formats
        return _upright(image)


def read_wide_gray(photo: PhotoFile | Image.Image) -> UInt16[np.ndarray, "H W"] | None:
    """The gray of a photo of more than 8 bits, upright and in sRGB, in 16 bits: what ``read_image`` rounds to 8.

    Args:
      photo: its file, or a picture of Pillow, which is not changed.

    Returns:
      The gray; None for photos of other pixels, and for gray with a profile that is not one for gray.

    Raises:
      DataError: see ``read_image``.
    """
    if isinstance(photo, Image.Image):
        with _used(photo):
            return _wide_gray(photo)
    with _opened(photo) as image:
        return _wide_gray(image)


def _wide_gray(image: Image.Image) -> UInt16[np.ndarray, "H W"] | None:
    if not is_wide_gray(image):
        return None
    _load(image)
    profile = profile_of(image) if image.info.get("icc_profile") else None
    if profile is not None and gray_table(profile, 2) is None:
        return None
    gray = shown_levels(image, profile, 16)
    clear = transparent(image)
    if clear is not None:
        gray[clear] = 65535
    turn = _TURNS.get(_orientation(image))
    return gray if turn is None else np.asarray(Image.fromarray(gray).transpose(turn))


def count_pictures(photo: PhotoFile) -> int:
    """How many pictures a file holds, of which ``read_image`` gives the first: pages, or those of an animation.

    The small ones that cameras add to a JPEG (MPO) do not count. Raises as ``read_size``.
    """
    with _opened(photo) as image:
        return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that is in memory, or opened and not yet read, as ``read_image`` would give it; it is not changed.

    Raises:
      DataError: it is damaged, or its pixels have no known white.
    """
    with _used(image):
        rgb = _upright(image)
        return rgb.copy() if rgb is image else rgb


@contextlib.contextmanager
def _used(image: Image.Image) -> Iterator[None]:
    """A picture that was opened by others; whatever goes wrong with it is a ``DataError``."""
    try:
        if isinstance(image, TiffImageFile):
            check_tiff(image)
        yield
    except Exception as error:
        raise DataError(f"this picture cannot be used: {one_line(error)}") from error


def read_rgb(photo: PhotoFile) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of the photo in a file, see ``read_image``."""
    return np.asarray(read_image(photo))


def read_size(photo: PhotoFile) -> tuple[int, int]:
    """Width and height of the photo in a file as a viewer shows it, from its header as far as possible.

    Raises:
      DataError: the file is missing, or its header is not that of a photo.
    """
    with _opened(photo) as image:
        if isinstance(image, TiffImageFile):
            return tiff_size(image)
        width, height = image.size
        if image.format == "PNG" and "exif" not in image.info:
            image.load()  # the standard lets EXIF follow the pixels
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def stored_size(photo: PhotoFile) -> tuple[int, int]:
    """Width and height of the photo in a file as it lies there, perhaps turned; its header alone is read.

    Raises:
      DataError: the file is missing, or its header is not that of a photo.
    """
    with _opened(photo) as image:
        return image.size


def check_pixels(photo: PhotoFile, most: int) -> None:
    """Checks by its header alone that a photo has not too many pixels.

    Raises:
      DataError: it has more than ``most``, the file is missing, or its header is not that of a photo.
    """
    with _opened(photo) as image:
        if image.width * image.height > most:
            raise ValueError(f"it is {image.width} x {image.height} pixels; at most {most / 1e6:g} million are taken")


def check_header(photo: PhotoFile) -> None:
    """Checks that a file begins like a photo; cheaper than ``read_size``.

    Raises:
      DataError: it is missing, or does not.
    """
    with _opened(photo):
        pass


class Augment(NamedTuple):
    """What is done at random to photos in training; the defaults do nothing."""

    flip: bool = False
    """Mirror half of them left to right."""
    area: float = 1.0
    """Smallest share of the photo's area that a random window keeps; 1: no window."""
    aspect: float = 1.0
    """The window's aspect is the photo's times a factor between 1 / this and this."""
    visible: float = 0.0
    """Boxes of which less than this share of the area lies in the window have no crop."""


class Window(NamedTuple):
    """A part of a photo, in shares of its width and height, so that it fits the photo at any size."""

    x0: float
    y0: float
    x1: float
    y1: float

    def pixels(self, photo_size: tuple[int, int]) -> Int32[np.ndarray, " 4"]:
        """x0, y0, x1, y1 in whole pixels of a photo of this width and height, at least one each way."""
        limit = np.array(photo_size)
        start = np.minimum(np.rint(np.array([self.x0, self.y0]) * limit), limit - 1)
        end = np.maximum(np.rint(np.array([self.x1, self.y1]) * limit), start + 1)
        return np.concatenate([start, end]).astype(np.int32)


WHOLE = Window(0.0, 0.0, 1.0, 1.0)


def random_window(augment: Augment, rng: np.random.Generator) -> Window:
    """A window as Inception's training takes it (Szegedy et al. 2015).

    Its share of the photo's area is uniform between ``augment.area`` and 1; the factor of its aspect is log-uniform,
    and what would stick out of the photo is cut off; its place is uniform.
    """
    if augment.area >= 1:
        return WHOLE
    share = rng.uniform(augment.area, 1.0)
    factor = augment.aspect ** (rng.uniform(-1.0, 1.0) / 2)
    width, height = min(1.0, math.sqrt(share) * factor), min(1.0, math.sqrt(share) / factor)
    x0, y0 = rng.uniform(0.0, 1.0 - width), rng.uniform(0.0, 1.0 - height)
    return Window(x0, y0, x0 + width, y0 + height)


GRAY_GRID = 64
"""Whether a photo is gray is looked up on a grid of at most about this many of its pixels a side."""


def is_gray(image: Image.Image, tolerance: int) -> bool:
    """Whether a photo has no color: the channels of no pixel of a regular grid differ by more than ``tolerance``.

    The tolerance is for gray photos that were saved in color: JPEG leaves traces of a few steps.
    """
    # Nearly every photo shows color at one of the first few pixels, which cost less than a picture of all.
    width, height = image.size
    for place in itertools.product(_grid(width, 8), _grid(height, 8)):
        pixel = cast(tuple[int, int, int], image.getpixel(place))
        if max(pixel) - min(pixel) > tolerance:
            return False
    pixels = np.asarray(image.resize((min(width, GRAY_GRID), min(height, GRAY_GRID)), Image.Resampling.NEAREST))
    return int(np.ptp(pixels, axis=2).max()) <= tolerance


def _grid(side: int, most: int) -> list[int]:
    """The middles of at most so many equal parts of a side, as pixels."""
    count = min(side, most)
    return [(2 * part + 1) * side // (2 * count) for part in range(count)]


def example(
    image: Image.Image,
    boxes: Int32[np.ndarray, "n 4"],
    scores: Float32[np.ndarray, " n"],
    side: int,
    *,
    mirrored: bool = False,
    with_full: bool = True,
    masks: Sequence[Bool[np.ndarray, "H W"]] = (),
    crop_sides: Sequence[int] = (),
) -> Example:
    """The full image, the crops and the level boxes of one photo, ready to be collated.

    Args:
      image: the photo at its original size, mode RGB.
      boxes: cleaned boxes, x0, y0, x1, y1 in whole pixels of ``image``; each is cut from the original, then resized.
      scores: of the boxes.
      side: S of the canvas.
      mirrored: whether all of it is shown mirrored left to right. Pictures are mirrored after resizing: resizing a
        mirrored photo could round differently in the last bit.
      with_full: whether the full image is wanted.
      masks: pixels of ``image`` that show each box's object, or none.
      crop_sides: of the crops, ascending, to choose from by the boxes' sizes (``boxes.crop_sides``); none: S.
    """
    canvas = (side, side)
    full = np.asarray(image.resize(canvas, Image.Resampling.BILINEAR)) if with_full else None
    cut_out = (image.crop(tuple(box)) for box in boxes.tolist())
    sides = sides_of_crops(boxes, crop_sides or (side,)).tolist()
    crops = [
        np.asarray(crop.resize((own, own), Image.Resampling.BILINEAR)) for crop, own in zip(cut_out, sides, strict=True)
    ]
    cut_masks = [_cut_mask(mask, box, canvas) for mask, box in zip(masks, boxes.tolist(), strict=bool(masks))]
    if mirrored:
        full = full[:, ::-1] if full is not None else None
        crops, boxes = [crop[:, ::-1] for crop in crops], mirror_boxes(boxes, image.width)
        cut_masks = [mask[:, ::-1] for mask in cut_masks]
    return Example(full, crops, level_boxes(boxes, image.size, side, LEVELS), scores, cut_masks)


def _cut_mask(mask: Bool[np.ndarray, "H W"], box: list[int], canvas: tuple[int, int]) -> Bool[np.ndarray, "S S"]:
    """A mask resized as its crop is: pixels of which it covers at least half."""
    x0, y0, x1, y1 = box
    part = Image.fromarray(np.where(mask[y0:y1, x0:x1], np.uint8(255), np.uint8(0)))
    return np.asarray(part.resize(canvas, Image.Resampling.BILINEAR)) >= 128


def _orientation(image: Image.Image) -> int:
    """From its tag alone; EXIF that cannot be read turns nothing."""
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return 1
    return found if isinstance(found, int) else 1


def _upright(image: Image.Image) -> Image.Image:
    """The picture in mode RGB and upright; it is loaded, and else not changed."""
    _load(image)
    rgb = _to_rgb(image)
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb is not image:
        rgb.info = {}  # its orientation and profile are no longer true
    return rgb


def _load(image: Image.Image) -> None:
    """Read its pixels."""
    if not isinstance(image, TiffImageFile):
        image.load()
        return
    name, image.filename = image.filename, ""  # which keeps Pillow from mapping it into memory
    try:
        image.load()  # turns it
    finally:
        image.filename = name


def _to_rgb(image: Image.Image) -> Image.Image:
    """Its pixels in sRGB, transparent parts on white."""
    profile = profile_of(image) if image.info.get("icc_profile") else None
    if image.mode.startswith("I"):  # gray of 12 or 16 bits
        return _from_wide_gray(image, profile)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is unknown")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if profile is not None:
            gray = image.mode.startswith("L")
            colors = _without_profile(rgba.getchannel("R") if gray else rgba.convert("RGB"), profile)
            colors.putalpha(rgba.getchannel("A"))
            rgba = colors
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if profile is not None:
        gray = image.mode in ("1", "L")
        return _without_profile(image.convert("L" if gray else "CMYK" if image.mode == "CMYK" else "RGB"), profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of mode L, RGB or CMYK in sRGB."""
    table = gray_table(profile, 256)
    if table is not None:
        return image.point(table.tolist()).convert("RGB")
    if image.mode == "L":  # of an RGB profile
        image = image.convert("RGB") if profile[16:20] == b"RGB " else image
    return to_srgb(image, profile)


def _from_wide_gray(image: Image.Image, profile: bytes | None) -> Image.Image:
    gray = Image.fromarray(shown_levels(image, profile, 8))
    converted = profile is None or gray_table(profile, 2) is not None
    rgb = gray.convert("RGB") if converted or profile is None else _without_profile(gray, profile)
    if (clear := transparent(image)) is not None:
        rgb.paste((255, 255, 255), mask=Image.fromarray(clear))
    return rgb

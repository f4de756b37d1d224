"""Boxes from Pascal VOC annotations: a folder with ``<stem>.xml`` for each photo."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from jaxcolor.data.boxes.npz import FileStore
from jaxcolor.data.types import Boxes, DataError
from jaxcolor.runtime.regular_file import open_regular

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_store(path: Path) -> FileStore:
    """A folder of annotations, see ``read_voc``."""
    return FileStore(path, "voc", ".xml", read_voc)


def read_voc(path: Path) -> Boxes:
    """The annotated boxes in a file, each with score 1.

    VOC counts pixels from 1 and a box holds its last pixel: xmin and ymin become x0 = xmin - 1, y0 = ymin - 1, xmax and
    ymax stay what they are, exclusive. (Annotations counted from 0, as some of ImageNet's are, so come out shifted by
    one pixel; a corner of -1 is clipped.) Objects marked difficult or truncated are objects like others; boxes of their
    parts (head, hand, foot) are not read. The file's own ``filename`` is not looked at: ImageNet's says ``%s``.

    A document type declaration is refused: annotations have none, and entities that unfold to gigabytes or name other
    files need one.

    Raises:
      DataError: the file is missing, no XML, no annotation, or an object in it has no box of four finite numbers.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path}: not a VOC annotation: its root is <{root.tag}>; it must be <annotation>")
    boxes = [_box(f"{path}: object {number}", entry) for number, entry in enumerate(root.findall("object"))]
    with np.errstate(over="ignore"):  # what is too big for float32 becomes infinite and is dropped with its box
        corners = np.array(boxes, np.float64).reshape(-1, 4).astype(np.float32)
    return Boxes(corners, np.ones(len(boxes), np.float32))


def _parse(path: Path) -> ElementTree.Element:
    """The file's root, by expat itself: ElementTree's parser has no way to refuse a declaration."""

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path}: has a document type declaration (<!DOCTYPE …>), which VOC annotations have not: refused"
        )

    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        with open_regular(path) as file:
            parser.Parse(file.read(), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: encodings that it does not know
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot read this XML file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot read this file: {error.strerror or error}") from error
    return builder.close()


def _box(where: str, entry: ElementTree.Element) -> tuple[float, float, float, float]:
    found = entry.findall("bndbox")
    if len(found) != 1:
        raise DataError(f"{where} has {len(found) or 'no'} <bndbox>; it must have one")
    x0, y0, x1, y1 = (_corner(where, found[0], name) for name in _CORNERS)
    return x0 - 1, y0 - 1, x1, y1


def _corner(where: str, box: ElementTree.Element, name: str) -> float:
    texts = [element.text or "" for element in box.findall(name)]
    if len(texts) != 1:
        raise DataError(f"{where}: its <bndbox> has {len(texts) or 'no'} <{name}>; it must have one")
    try:
        value = float(texts[0])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{name}> is {texts[0][:40]!r}; it must be a finite number")
    return value

"""Telling apart two kinds of ``.pth`` files that look the same, and turning the one into the other.

The backbone of the reference is ``siggraph17``, so a file of its full branch and the file of the ``colorizers`` package
(richzhang/colorization) have the same keys and shapes, and nothing in their arrays says which is which. But where a
pixel has no colour hint, the reference's mask is -0.5 and that of ``colorizers`` is 0. Weights that are read as the
wrong kind colour everything a little wrong, so the kind must be known: from the file's name or checksum, or be said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import traverse_util

Form = Literal["auto", "reference", "siggraph17"]
"""Kind of a ``.pth`` file of the full branch; ``auto``: to be found out."""

FULL_FILE = "latest_net_GComp.pth"
"""The reference's name for its full branch."""

PACKAGE_NAME = "siggraph17"
PACKAGE_CHECKSUM = "df00044c"
"""How the SHA-256 of the package's file begins: PyTorch's hub puts it in the file's name, siggraph17-df00044c.pth."""

MASK_CHANNEL = 3
"""Place of the hint mask among the inputs: L, hint a, hint b, mask."""

NOTE = (
    "siggraph17, whose hint mask is 0 where there is no hint and here -0.5: the mask's weights in conv1_1 were set to 0"
)


def form_of(path: Path) -> Literal["reference", "siggraph17"] | None:
    """The kind of a ``.pth`` file of the full branch; None if neither its name nor its checksum tells.

    Raises:
      OSError: the file cannot be read.
    """
    if path.name == FULL_FILE:
        return "reference"
    if path.name.startswith(PACKAGE_NAME):
        return "siggraph17"
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return "siggraph17" if checksum.startswith(PACKAGE_CHECKSUM) else None


def without_mask(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of ``siggraph17`` for our input, without a hint equal to theirs to the bit.

    Their mask is 0 at every pixel and in the zero padding, so its weights never add anything. Ours is -0.5 at every
    pixel but 0 in the padding; no bias can undo that at the borders, but weights of 0 leave it out everywhere. What
    is lost is how these weights answer to hints, which no stage gives.
    """
    flat = traverse_util.flatten_dict(dict(variables))
    path = ("params", "conv1_1", "kernel")
    kernel = np.array(flat[path])
    kernel[:, :, MASK_CHANNEL] = 0
    return traverse_util.unflatten_dict({**flat, path: kernel})

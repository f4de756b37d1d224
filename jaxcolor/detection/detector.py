"""What a detector is, and which one a person means."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from jaxcolor.data.types import Boxes
from jaxcolor.detection.inputs import Fit
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.regular_file import open_regular

MASK_RCNN = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2")
"""Names of torchvision's models, as torchvision has them."""

OWN = "own"
"""Name of the head that weights of ours bring along."""


class DetectorError(UserError):
    """A detector that cannot be used: its file, its packages, or what it answers."""


@runtime_checkable
class Detector(Protocol):
    """Finds objects. Any object with these can be one: ``--detector package.module:factory``.

    For the same photos in the same batches it must answer the same, or a run that was interrupted has other boxes than
    one that was not.
    """

    name: str
    """Kept in the store's manifest: what it is, its weights too, so that two that differ have two names."""
    batch_size: int
    """How many photos it likes to get at a time."""
    threshold: float
    """Lowest score of a box worth keeping, where nobody asks for another."""

    def detect(self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], threshold: float) -> list[Boxes]:
        """The objects in some photos.

        Args:
          photos: gray photos, see ``inputs.detector_gray``, upright, each of its own size; at least one, and up to as
            many as the batch that the run was given, by default ``batch_size``.
          threshold: lowest score that is wanted. Boxes with lower ones may be among those given back: they are dropped.

        Returns:
          For each photo its boxes, float32 x0 y0 x1 y1 in its pixels, one for each object, and their scores. What lies
          outside of the photo is cut off later.
        """
        ...


@dataclasses.dataclass(frozen=True)
class DetectorSpec:
    """Which detector; small and can be pickled, where a detector cannot."""

    name: str
    """``OWN``, a ``.tflite`` or ``.onnx`` file, one of ``MASK_RCNN``, or ``package.module:factory``."""
    weights: str = ""
    """For ``MASK_RCNN``: a file with the model's state dict, or empty: torchvision's own weights. For ``OWN``: weights
    with a head, a file or a name in the package, or empty: the package's default."""
    fit: Fit = "letterbox"
    """For files: how a photo comes to the model's input size."""
    most_overlap: float = 0.45
    """For files whose outputs still need it: boxes of a class that overlap more are one object."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 0
    """For files and ``MASK_RCNN`` on a CPU; 0: one for each core."""

    def open(self) -> Detector:
        """The detector, ready.

        Raises:
          DetectorError: there is none of that name, its file is no model or one of another layout, or a package that it
            needs is not installed.
          OSError, WeightsError: of ``OWN``, weights that cannot be read or have no head.
        """
        if self.name == OWN:
            from jaxcolor.detection.own import OwnHead

            return OwnHead(self.weights)
        suffix = Path(self.name).suffix.lower()
        if suffix in (".tflite", ".onnx"):
            from jaxcolor.detection.model_file import open_model_file

            self._refuse_weights()
            return open_model_file(self)
        if self.name in MASK_RCNN:
            from jaxcolor.detection.mask_rcnn import MaskRCNN

            return MaskRCNN(self)
        if ":" in self.name:
            self._refuse_weights()
            return _made_by(self.name)
        raise DetectorError(
            f"--detector {self.name}: no such detector; it is {OWN}, a .tflite or .onnx file, "
            f"{' or '.join(MASK_RCNN)}, or package.module:factory"
        )

    def _refuse_weights(self) -> None:
        if self.weights:
            takers = ", ".join((OWN, *MASK_RCNN))
            raise DetectorError(f"--weights {self.weights}: is for {takers}; {self.name} has its own")

    @property
    def thread_count(self) -> int:
        """Threads to compute with."""
        return self.threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else self.threads or 1


def _made_by(name: str) -> Detector:
    """What the function of that name gives, called without arguments."""
    module_name, _, function_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise DetectorError(
            f"--detector {name}: cannot be imported: {error}; is its folder in PYTHONPATH, or its package installed?"
        ) from error
    except (AttributeError, ValueError) as error:
        raise DetectorError(f"--detector {name}: no {function_name!r} in {module_name!r}") from error
    if not callable(factory):
        raise DetectorError(f"--detector {name}: is no function or class that makes a detector")
    detector = factory()
    if not isinstance(detector, Detector):
        lacking = [n for n in ("name", "batch_size", "threshold", "detect") if not hasattr(detector, n)]
        raise DetectorError(
            f"--detector {name}: what it gives is no detector: it has no {', '.join(lacking)} "
            "(see jaxcolor.detection.detector.Detector)"
        )
    return detector


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
      DetectorError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetectorError(f"{path}: cannot read this file: {error.strerror or error}") from error

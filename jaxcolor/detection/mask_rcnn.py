"""Mask R-CNN as torchvision has it (extra ``detect``).

The paper's boxes come from detectron2's Mask R-CNN with a ResNeXt-101-FPN trunk, score at least 0.7. torchvision brings
the same network with a ResNet-50-FPN trunk, trained on the same COCO, in two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxcolor.data.types import Boxes
from jaxcolor.detection.detector import DetectorError, DetectorSpec, file_sha256
from jaxcolor.runtime.errors import one_line


class MaskRCNN:
    """A torchvision model; only its boxes are used, so the mask head is left out of the computation."""

    threshold = 0.7
    """The paper's."""
    batch_size = 4

    def __init__(self, spec: DetectorSpec) -> None:
        """Builds the model and loads its weights.

        Args:
          spec: ``name`` is the model's name in torchvision; ``weights`` a file with its state dict, or empty:
            torchvision's own weights (COCO_V1), which it downloads once.

        Raises:
          DetectorError: no torch or torchvision, no CUDA where it is asked for, or weights that cannot be had or are
            of another model.
        """
        try:
            import torch
            from torchvision.models import detection, get_model_weights
        except (ImportError, RuntimeError) as error:  # RuntimeError: made for another torch
            raise DetectorError(
                f"--detector {spec.name}: needs torch and the torchvision made for it ({one_line(error)}): "
                "pip install 'jaxcolor[detect]'"
            ) from error
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise DetectorError("--device cuda: this PyTorch sees no CUDA device")
        torch.set_num_threads(spec.thread_count)
        build = getattr(detection, spec.name)
        if spec.weights:
            source = f"{Path(spec.weights).name} (SHA-256 {file_sha256(Path(spec.weights))})"
            # weights_backbone=None: torchvision would download ImageNet's for the trunk.
            self._model: Any = _loaded(torch, build(weights=None, weights_backbone=None), Path(spec.weights))
        else:
            weights = get_model_weights(spec.name).DEFAULT
            source = f"torchvision's {weights.name}"
            try:
                self._model = build(weights=weights)
            except (OSError, RuntimeError) as error:  # URLError is an OSError
                raise DetectorError(
                    f"--detector {spec.name}: torchvision cannot get its weights ({one_line(error)}); download "
                    f"{weights.url} elsewhere and give --weights FILE"
                ) from error
            source += f" (SHA-256 {_state_sha256(self._model)})"
        self.name = f"torchvision {spec.name}, {source}"
        self._torch = torch
        self._device = torch.device(spec.device)
        self._model.eval().to(self._device)
        self._model.roi_heads.mask_roi_pool = None  # nobody looks at masks
        self._model.roi_heads.mask_head = None
        self._model.roi_heads.mask_predictor = None

    def detect(self, photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], threshold: float) -> list[Boxes]:
        """Boxes of each photo with a score of at least ``threshold``, best first; suppression is the model's own."""
        torch = self._torch
        self._model.roi_heads.score_thresh = threshold
        pictures = [
            torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))).to(self._device).float() / 255
            for photo in photos
        ]
        with torch.inference_mode():
            answers = self._model(pictures)
        return [Boxes(*(answer[field].float().cpu().numpy() for field in ("boxes", "scores"))) for answer in answers]


def _loaded(torch: Any, model: Any, path: Path) -> Any:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile's, pickle's and torch's own
        raise DetectorError(f"{path}: cannot be read as PyTorch weights: {one_line(error)}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DetectorError(f"{path}: not the weights of this model: {one_line(error)}") from error
    return model


def _state_sha256(model: Any) -> str:
    sha = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sha.update(name.encode() + tensor.cpu().numpy().tobytes())
    return sha.hexdigest()

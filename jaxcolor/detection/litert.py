"""LiteRT files (``.tflite``), by the package ai-edge-litert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxcolor.detection.detector import DetectorError, DetectorSpec
from jaxcolor.runtime.errors import one_line


class LiteRTModel:
    """A model on the CPU. Integer inputs and outputs are scaled as the file says."""

    def __init__(self, path: Path, spec: DetectorSpec) -> None:
        """Opens the file.

        Raises:
          DetectorError: no package, no model, more than one input or output, or ``spec`` asks for a GPU.
        """
        if spec.device != "cpu":
            raise DetectorError(f"--device {spec.device}: .tflite files run on the CPU; an .onnx file can use a GPU")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise DetectorError(
                f"{path}: .tflite files need ai-edge-litert ({one_line(error)}): pip install 'jaxcolor[detect-litert]'"
            ) from error
        try:
            self._interpreter: Any = Interpreter(str(path), num_threads=spec.thread_count)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise DetectorError(f"{path}: cannot be opened as a LiteRT model: {one_line(error)}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            shapes = [tuple(detail["shape"].tolist()) for detail in (*inputs, *outputs)]
            raise DetectorError(
                f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs {shapes}; a detector has one of each"
            )
        self._path = path
        self._input, self._output = inputs[0], outputs[0]
        self.input_shape: tuple[int | None, ...] = tuple(self._input["shape"].tolist())
        self.output_shape: tuple[int | None, ...] = tuple(self._output["shape"].tolist())

    def run(self, pictures: Float32[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
        """One run of the model."""
        self._interpreter.set_tensor(self._input["index"], to_integers(pictures, self._input))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise DetectorError(f"{self._path}: does not run: {one_line(error)}") from error
        return from_integers(self._interpreter.get_tensor(self._output["index"]), self._output)


def to_integers(values: np.ndarray, detail: Any) -> np.ndarray:
    """Values as a tensor of the type that LiteRT's ``detail`` of it says: real = scale * (integer - zero point)."""
    dtype = np.dtype(detail["dtype"])
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype, copy=False)
    scale, zero = detail["quantization"]
    limits = np.iinfo(dtype)
    # A scale of 0 is LiteRT's way to say "none": such integers are the 8 bits of the picture.
    whole = np.rint(values / scale + zero if scale else values * 255)
    return np.clip(whole, limits.min, limits.max).astype(dtype)


def from_integers(values: np.ndarray, detail: Any) -> np.ndarray:
    """The inverse of ``to_integers``, as float32."""
    if not np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float32)
    scale, zero = detail["quantization"]
    return ((values.astype(np.float32) - zero) * (scale or 1.0)).astype(np.float32)

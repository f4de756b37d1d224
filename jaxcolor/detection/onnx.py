"""ONNX files, by the package onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxcolor.detection.detector import DetectorError, DetectorSpec
from jaxcolor.runtime.errors import one_line

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxModel:
    """A model on the CPU, or on a GPU where onnxruntime-gpu is installed."""

    def __init__(self, path: Path, spec: DetectorSpec) -> None:
        """Opens the file.

        Raises:
          DetectorError: no package, no model, more than one input or output, an input type that pictures cannot have,
            or no GPU where one is asked for.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise DetectorError(
                f"{path}: .onnx files need onnxruntime ({one_line(error)}): pip install 'jaxcolor[detect-onnx]'"
            ) from error
        providers = ["CPUExecutionProvider"]
        if spec.device == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DetectorError("--device cuda: this onnxruntime has no CUDA; pip install onnxruntime-gpu")
            providers.insert(0, "CUDAExecutionProvider")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = spec.thread_count
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its classes share no base but Exception
            raise DetectorError(f"{path}: cannot be opened as an ONNX model: {one_line(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            shapes = [f"{value.name} {tuple(value.shape)}" for value in (*inputs, *outputs)]
            raise DetectorError(
                f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs ({', '.join(shapes)}); "
                "a detector has one of each"
            )
        if inputs[0].type not in _TYPES:
            raise DetectorError(f"{path}: its input is {inputs[0].type}; known are {', '.join(_TYPES)}")
        self._path = path
        self._name, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self.input_shape = _shape(inputs[0].shape)
        self.output_shape = _shape(outputs[0].shape)

    def run(self, pictures: Float32[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
        """One run of the model."""
        values = np.rint(pictures * 255) if self._type is np.uint8 else pictures
        try:
            (output,) = self._session.run(None, {self._name: values.astype(self._type, copy=False)})
        except Exception as error:
            raise DetectorError(f"{self._path}: does not run: {one_line(error)}") from error
        return np.asarray(output, np.float32)


def _shape(sides: list[Any]) -> tuple[int | None, ...]:
    """Names stand for sides of any size."""
    return tuple(side if isinstance(side, int) and side > 0 else None for side in sides)

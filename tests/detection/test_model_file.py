import sys
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.transforms import read_rgb
from jaxcolor.detection import model_file
from jaxcolor.detection.detector import Detector, DetectorError, DetectorSpec
from jaxcolor.detection.inputs import detector_gray
from jaxcolor.detection.litert import from_integers, to_integers
from jaxcolor.detection.model_file import FileDetector, class_count, input_layout

SHARED = Path(__file__).parents[3] / "shared"
YOLO = SHARED / "weights" / "detector" / "yolov8n_int8.tflite"
VAL = SHARED / "data" / "coco_val2017"
CELL = 8


class Cells:
    """A model that sees each cell of 8 x 8 pixels as an object of class 0 as sure as it is bright, 1 as it is dark."""

    def __init__(self, input_shape=(1, 64, 96, 3), unit="pixels", finished=False):
        self.input_shape = input_shape
        self.finished = finished
        self.output_shape = (input_shape[0], None, 6) if finished else (input_shape[0], 6, 96)
        self.unit = unit
        self.batches = []

    def run(self, pictures):
        self.batches.append(pictures.shape)
        if self.input_shape[1] == 3:
            pictures = pictures.transpose(0, 2, 3, 1)
        assert 0 <= pictures.min() <= pictures.max() <= 1
        batch, height, width, _ = pictures.shape
        bright = pictures[..., 0].reshape(batch, height // CELL, CELL, width // CELL, CELL).mean((2, 4))
        y, x = np.mgrid[0:height:CELL, 0:width:CELL]
        corners = np.stack([x, y, x + CELL, y + CELL], axis=-1).reshape(-1, 4).astype(np.float32)
        middles = np.stack([x + CELL / 2, y + CELL / 2, 0 * x + CELL, 0 * y + CELL], axis=-1).reshape(-1, 4)
        if self.unit == "shares":
            scale = np.array([width, height, width, height])
            corners, middles = corners / scale, middles / scale
        bright = bright.reshape(batch, -1)
        if self.finished:
            rows = [np.c_[corners, score, np.zeros(len(score))] for score in bright]
            return np.array(rows, np.float32)
        return np.array([np.r_[middles.T, [score], [0.4 - score]] for score in bright], np.float32)


def photo(width, height, box):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return pixels


def outline(found):
    corners = [*found.boxes[:, :2].min(axis=0).tolist(), *found.boxes[:, 2:].max(axis=0).tolist()]
    return [round(corner, 4) for corner in corners]


class TestDecoding:
    @pytest.mark.parametrize("finished", [False, True])
    @pytest.mark.parametrize("unit", ["pixels", "shares"])
    @pytest.mark.parametrize("shape", [(1, 64, 96, 3), (1, 3, 64, 96), (2, 64, 96, 3), (None, 3, 64, 96)])
    def test_finds_the_rectangle(self, shape, unit, finished):
        model = Cells(shape, unit, finished)
        detector = FileDetector("cells", model, "letterbox", 0.45, "cells.onnx")
        assert isinstance(detector, Detector)
        # 48 x 32 comes twice as big onto 96 x 64: a cell is 4 photo pixels.
        photos = [photo(48, 32, (8, 4, 24, 28)), photo(48, 32, (40, 0, 48, 32)), photo(48, 32, (0, 0, 4, 4))]
        found = detector.detect(photos, 0.6)
        assert [outline(boxes) for boxes in found] == [[8, 4, 24, 28], [40, 0, 48, 32], [0, 0, 4, 4]]
        assert [len(boxes.scores) for boxes in found] == [4 * 6, 2 * 8, 1]
        assert all(boxes.scores.min() > 0.8 for boxes in found)
        batch = shape[0] or 3
        assert len(model.batches) == -(-3 // batch)
        assert {b[0] for b in model.batches} == {batch}

    def test_letterbox_and_stretch(self):
        tall = photo(32, 64, (8, 8, 24, 40))
        for fit in ("letterbox", "stretch"):
            (found,) = FileDetector("c", Cells(), fit, 0.45, "c").detect([tall], 0.6)
            assert np.abs(np.array(outline(found)) - [8, 8, 24, 40]).max() <= (0 if fit == "letterbox" else 3)

    def test_threshold_and_nothing(self):
        detector = FileDetector("c", Cells(), "stretch", 0.45, "c")
        black = np.zeros((64, 96, 3), np.uint8)
        assert len(detector.detect([black], 0.6)[0].boxes) == 0
        (dark,) = detector.detect([black], 0.3)  # each cell is of class 1
        assert len(dark.boxes) == 96
        assert dark.boxes.dtype == dark.scores.dtype == np.float32

    def test_suppresses_within_classes(self):
        output = np.zeros((1, 6, 20), np.float32)
        output[0, :4, 0] = output[0, :4, 1] = output[0, :4, 2] = (40, 30, 20, 10)
        output[0, 4:, 0], output[0, 4:, 1], output[0, 4:, 2] = (0.9, 0.1), (0.2, 0.7), (0.8, 0.1)
        output[0, :, 3] = (40, np.nan, 20, 10, 1, 1)
        model = Cells()
        model.output_shape, model.run = (1, 6, 20), lambda pictures: output
        (found,) = FileDetector("c", model, "stretch", 0.45, "c").detect([np.zeros((64, 96, 3), np.uint8)], 0.25)
        assert found.boxes.tolist() == [[30, 25, 50, 35]] * 2
        np.testing.assert_allclose(found.scores, [0.9, 0.7])

    def test_another_output_than_it_said(self):
        model = Cells()
        model.run = lambda pictures: np.zeros((1, 7, 30), np.float32)
        with pytest.raises(DetectorError, match=r"gave \(1, 7, 30\) for a batch of 1; it was to be \(1, 6, 96\)"):
            FileDetector("c", model, "stretch", 0.45, "c").detect([np.zeros((9, 9, 3), np.uint8)], 0.25)


@pytest.mark.parametrize("shape", [(1, 640, 640), (1, 4, 640, 640), (1, 3, 64, 3), (1, 640, 640, 1), ()])
def test_other_inputs_are_refused(shape):
    with pytest.raises(DetectorError, match=r"m\.onnx: its input is \("):
        input_layout(shape, "m.onnx")


def test_inputs_of_any_size():
    assert input_layout((None, 3, None, None), "m") == (None, True, (640, 640))
    assert input_layout((1, 320, 480, 3), "m") == (1, False, (480, 320))


@pytest.mark.parametrize("shape", [(1, 25200, 85), (1, 4, 8400), (1, 10), (1, 8400, 84), (1, 1, 84, 8400), (1, 84, 40)])
def test_other_outputs_are_refused(shape):
    with pytest.raises(DetectorError, match=r"m\.onnx: its output is \(1, .*; known are"):
        class_count(shape, "m.onnx")


def test_outputs():
    assert class_count((1, 84, 8400), "m") == 80
    assert class_count((None, 5, None), "m") == 1
    assert class_count((1, 300, 6), "m") == 0


def test_integers():
    detail = {"dtype": np.int8, "quantization": (1 / 255, -128)}
    values = np.array([0.0, 0.6, 1.0, 2.0], np.float32)
    assert to_integers(values, detail).tolist() == [-128, 25, 127, 127]
    np.testing.assert_allclose(from_integers(to_integers(values, detail), detail), [0, 0.6, 1, 1], atol=1e-6)
    assert to_integers(values, {"dtype": np.uint8, "quantization": (0.0, 0)}).tolist() == [0, 153, 255, 255]
    floats = {"dtype": np.float32, "quantization": (0.0, 0)}
    assert to_integers(values, floats) is values
    assert from_integers(values, floats).tolist() == values.tolist()


class TestOnnx:
    @pytest.fixture
    def save(self, tmp_path):
        pytest.importorskip("onnxruntime", reason="runs ONNX files: pip install 'jaxcolor[detect-onnx]'")
        onnx = pytest.importorskip("onnx", reason="makes ONNX files: pip install onnx")
        from onnx import TensorProto, helper, numpy_helper

        def save(batch=1, dtype=TensorProto.FLOAT, outputs=1):
            """``Cells`` as a file, channels first, 64 x 96, in pixels."""
            y, x = np.mgrid[4:64:CELL, 4:96:CELL]
            middles = np.stack([x, y, 0 * x + CELL, 0 * y + CELL]).reshape(1, 4, -1).astype(np.float32)
            constants = {
                "one": np.array([0], np.int64),
                "two": np.array([1], np.int64),
                "axis": np.array([1], np.int64),
                "flat": np.array([0, 1, -1], np.int64),
                "half": np.array(0.4, np.float32),
                "middles": middles,
                "zero": np.array(0, np.float32),
            }
            scale = 255.0 if dtype == TensorProto.UINT8 else 1.0
            constants["scale"] = np.array(scale, np.float32)
            nodes = [
                helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("Div", ["wide", "scale"], ["unit"]),
                helper.make_node("Slice", ["unit", "one", "two", "axis"], ["gray"]),
                helper.make_node("AveragePool", ["gray"], ["pooled"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
                helper.make_node("Reshape", ["pooled", "flat"], ["bright"]),
                helper.make_node("Sub", ["half", "bright"], ["dark"]),
                helper.make_node("Mul", ["bright", "zero"], ["nought"]),
                helper.make_node("Add", ["nought", "middles"], ["places"]),  # for each picture of the batch
                helper.make_node("Concat", ["places", "bright", "dark"], ["output0"], axis=1),
            ]
            results = [("output0", [batch, 6, 96]), ("bright", [batch, 1, 96])][:outputs]
            graph = helper.make_graph(
                nodes,
                "cells",
                [helper.make_tensor_value_info("images", dtype, [batch, 3, 64, 96])],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in results],
                [numpy_helper.from_array(value, name) for name, value in constants.items()],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
            onnx.checker.check_model(model)
            path = tmp_path / "cells.onnx"
            path.write_bytes(model.SerializeToString())
            return path

        return save

    @pytest.mark.parametrize("batch", [1, 2, "N"])
    def test_finds_the_rectangle(self, save, batch):
        detector = DetectorSpec(str(save(batch)), threads=1).open()
        assert detector.name.startswith("cells.onnx (SHA-256 ")
        assert detector.batch_size == (8 if batch == "N" else batch)
        photos = [photo(48, 32, (8, 4, 24, 28)), photo(48, 32, (40, 0, 48, 32)), np.zeros((32, 48, 3), np.uint8)]
        found = detector.detect(photos, 0.6)
        assert [outline(boxes) for boxes in found[:2]] == [[8, 4, 24, 28], [40, 0, 48, 32]]
        assert found[2].boxes.shape == (0, 4)

    def test_eight_bits(self, save):
        onnx = pytest.importorskip("onnx")
        detector = DetectorSpec(str(save(dtype=onnx.TensorProto.UINT8)), threads=1).open()
        (found,) = detector.detect([photo(48, 32, (8, 4, 24, 28))], 0.6)
        assert outline(found) == [8, 4, 24, 28]

    def test_what_is_refused(self, save, tmp_path):
        onnx = pytest.importorskip("onnx")
        with pytest.raises(DetectorError, match="has 1 inputs and 2 outputs"):
            DetectorSpec(str(save(outputs=2))).open()
        with pytest.raises(DetectorError, match=r"its input is tensor\(double\); known are"):
            DetectorSpec(str(save(dtype=onnx.TensorProto.DOUBLE))).open()
        for data in (b"", b"no model", save().read_bytes()[:200]):
            (tmp_path / "bad.onnx").write_bytes(data)
            with pytest.raises(DetectorError, match=r"bad\.onnx: ") as caught:
                DetectorSpec(str(tmp_path / "bad.onnx")).open()
            assert "\n" not in str(caught.value)
        with pytest.raises(DetectorError, match="--device cuda"):
            DetectorSpec(str(save()), device="cuda").open()


class TestLiteRT:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("ai_edge_litert", reason="runs .tflite files: pip install 'jaxcolor[detect-litert]'")

    def test_bad_files(self, tmp_path):
        for data in (b"", b"no model", b"\x1c\0\0\0TFL3" + bytes(100)):
            (tmp_path / "bad.tflite").write_bytes(data)
            with pytest.raises(DetectorError, match=r"bad\.tflite: cannot be opened as a LiteRT model") as caught:
                DetectorSpec(str(tmp_path / "bad.tflite")).open()
            assert "\n" not in str(caught.value)
        with pytest.raises(DetectorError, match="run on the CPU"):
            DetectorSpec(str(tmp_path / "bad.tflite"), device="cuda").open()

    @pytest.mark.skipif(not (YOLO.exists() and VAL.exists()), reason=f"no detector at {YOLO}")
    def test_finds_what_others_found(self):
        detector = DetectorSpec(str(YOLO)).open()
        given = matched = 0
        for path in sorted((VAL / "images").glob("*.jpg"))[:10]:
            (found,) = detector.detect([detector_gray(read_rgb(path))], 0.25)
            wanted = read_npz(VAL / "images_bbox" / f"{path.stem}.npz").boxes
            given += len(wanted)
            low = np.maximum(wanted[:, None, :2], found.boxes[None, :, :2])
            shared = np.maximum(np.minimum(wanted[:, None, 2:], found.boxes[None, :, 2:]) - low, 0).prod(-1)
            areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (wanted, found.boxes)]
            matched += int(((shared / (areas[0][:, None] + areas[1] - shared)).max(axis=1, initial=0) >= 0.9).sum())
        assert matched > 0.9 * given > 20


def test_missing_packages_and_files(tmp_path, monkeypatch):
    for suffix, package, extra in (("tflite", "ai_edge_litert.interpreter", "litert"), ("onnx", "onnxruntime", "onnx")):
        monkeypatch.setitem(sys.modules, package, None)
        path = tmp_path / f"m.{suffix}"
        with pytest.raises(DetectorError, match=rf"m\.{suffix}: cannot read this file: No such file"):
            DetectorSpec(str(path)).open()
        path.write_bytes(b"x")
        with pytest.raises(DetectorError, match=rf"pip install 'jaxcolor\[detect-{extra}\]'"):
            DetectorSpec(str(path)).open()
        with pytest.raises(DetectorError, match="--weights w: is for own, maskrcnn"):
            DetectorSpec(str(path), weights="w").open()


def test_names_tell_files_apart(tmp_path, monkeypatch):
    class Model(Cells):
        def __init__(self, path, spec):
            super().__init__()

    monkeypatch.setattr("jaxcolor.detection.onnx.OnnxModel", Model)
    names = set()
    for data, fit in ((b"a", "letterbox"), (b"b", "letterbox"), (b"b", "stretch")):
        (tmp_path / "m.onnx").write_bytes(data)
        names.add(model_file.open_model_file(DetectorSpec(str(tmp_path / "m.onnx"), fit=fit)).name)
    assert len(names) == 3

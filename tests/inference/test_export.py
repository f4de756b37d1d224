"""Exported programs give what the networks give, for any number of photos and crops."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

from jaxcolor.cli import main
from jaxcolor.color import AB_SCALE
from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.inference.export import export_onnx, export_stablehlo
from jaxcolor.models import networks
from jaxcolor.models.decoding import annealed_ab
from jaxcolor.runtime.errors import UserError
from jaxcolor.weights import native
from jaxcolor.weights.native import NativeWeights
from tests import small

MODEL = replace(small.TWO, outputs=("regression", "classes"))
WEIGHTS = NativeWeights(MODEL, dict(small.variables(MODEL)), {}, "")


def lightness(picture: networks.Picture) -> np.ndarray:
    return np.asarray(picture.luminance) * 100 + 50


@pytest.mark.parametrize("vivid", [0.0, 0.5])
def test_the_full_branch_for_any_number_of_photos(vivid: float) -> None:
    program = jax.export.deserialize(bytearray(export_stablehlo(WEIGHTS, "full", vivid)))
    nets = networks.build(MODEL)
    for count in (1, 3):
        batch = small.batch([small.example(n) for n in range(count)], capacity=0)
        lab = networks.to_lab(batch, MODEL)
        found = networks.run_full(nets, WEIGHTS.variables, lab.full.inputs)
        expected = np.asarray(found.ab)
        if vivid:
            expected = (expected + np.asarray(annealed_ab(found.outputs, (16, 16)))) / 2
        np.testing.assert_allclose(program.call(lightness(lab.full)), expected * AB_SCALE, atol=1e-2)


@pytest.mark.slow
def test_the_fused_branch_for_any_number_of_crops() -> None:
    program = jax.export.deserialize(bytearray(export_stablehlo(WEIGHTS, vivid=0.0)))
    nets = networks.build(MODEL)
    for boxes in ([(0, 0, 8, 8)], [(0, 0, 8, 8), (4, 4, 12, 16), (1, 1, 15, 15)]):
        batch = small.batch([small.example(0, boxes)], capacity=len(boxes))
        lab = networks.to_lab(batch, MODEL)
        expected = np.asarray(networks.run_fused(nets, WEIGHTS.variables, lab).ab) * AB_SCALE
        found = program.call(lightness(lab.full), lightness(lab.crop), np.asarray(lab.level_boxes))
        np.testing.assert_allclose(found, expected, atol=1e-2)


def test_programs_are_for_all_devices() -> None:
    program = jax.export.deserialize(bytearray(export_stablehlo(WEIGHTS, "full")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    # No kernels of this machine: what is checked is the number of photos.
    assert set(re.findall(r"custom_call @(\w+)", program.mlir_module())) == {"shape_assertion"}


@pytest.mark.parametrize(
    ("weights", "branch", "vivid", "message"),
    [
        (WEIGHTS, "half", 0.0, "branch 'half': must be full or fused"),
        (
            WEIGHTS._replace(variables={"full": {}}),
            "fused",
            0.0,
            "these weights have no tree instance, fusion",
        ),
        (WEIGHTS, "full", 2.0, r"vivid 2\.0: must be from 0"),
        (NativeWeights(small.MODEL, {"full": {}}, {}, ""), "full", 0.5, "neither a class head"),
    ],
)
def test_what_cannot_be_exported(weights: NativeWeights, branch: str, vivid: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_stablehlo(weights, branch, vivid)


@pytest.mark.parametrize("vivid", [0.0, 0.5])
def test_onnx_gives_the_same(vivid: float) -> None:
    pytest.importorskip("jax2onnx", reason="pip install 'jaxcolor[onnx]'")
    session = onnxruntime.InferenceSession(export_onnx(WEIGHTS, vivid))
    assert [value.name for value in session.get_inputs()] == ["lightness"]
    program = jax.export.deserialize(bytearray(export_stablehlo(WEIGHTS, "full", vivid)))
    for count in (1, 3):
        gray = np.random.default_rng(count).uniform(0, 100, (count, 16, 16, 1)).astype(np.float32)
        (found,) = session.run(["ab"], {"lightness": gray})
        np.testing.assert_allclose(found, program.call(gray), atol=1e-3)


def test_onnx_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(
        UserError, match=r"^ONNX needs a package that is not installed: pip install 'jaxcolor\[onnx\]'$"
    ):
        export_onnx(WEIGHTS)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, program = tmp_path / "w.safetensors", tmp_path / "w.stablehlo"
    native.save(weights, MODEL, {"full": WEIGHTS.variables["full"]})
    command = ["export", "-w", str(weights), "-o", str(program)]
    assert main(command) == 0
    assert "full branch, n x 16 x 16" in capsys.readouterr().out
    gray = np.full((1, 16, 16, 1), 60, np.float32)
    ab = jax.export.deserialize(bytearray(program.read_bytes())).call(gray)
    rgb = Colorizer.from_pretrained(weights)(np.full((16, 16), 145, np.uint8))
    assert ab.shape == (1, 16, 16, 2)
    assert rgb.shape == (16, 16, 3)
    assert main(command) == 1
    assert "exists; give --force to replace it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0

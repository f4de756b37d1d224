"""Weights written back as the reference's .pth files: what is in them, and what PyTorch makes of them."""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import cli
from jaxcolor.config import FusionConfig, ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.networks import TREES, network_input
from jaxcolor.weights import names, native, reference, reference_export
from jaxcolor.weights.reference import WeightsError
from tests import recipe
from tests import small as small_networks
from tests.weights.conftest import SMALL, assert_same

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
FORWARD = ["two_boxes_128", "whole_image"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="writing .pth files needs PyTorch: pip install 'jaxcolor[torch]'")


@pytest.fixture(scope="module")
def trees(states):
    """The content of a file of the recipe weights, with the arrays that nothing reads."""
    translated = {tree: reference.variables_from_state(tree, states[tree]) for tree in TREES}
    return native.NativeWeights(
        ModelConfig(),
        {tree: t.variables for tree, t in translated.items()},
        {tree: t.unused for tree, t in translated.items()},
        "",
    )


@pytest.fixture(scope="module")
def written(pth_folder, tmp_path_factory):
    """The reference's files, converted and converted back by the command."""
    folder = tmp_path_factory.mktemp("back")
    ours, back = folder / "ours.safetensors", folder / "reference"
    assert cli.main(["convert", str(pth_folder), str(ours)]) == 0
    assert cli.main(["convert", "--to-reference", str(ours), str(back)]) == 0
    ours.unlink()
    yield back
    for name in names.REFERENCE_FILES.values():
        (back / name).unlink()


def part(weights: native.NativeWeights, *trees: str, **changes) -> native.NativeWeights:
    return native.NativeWeights(
        dataclasses.replace(weights.config, **changes),
        {tree: weights.variables[tree] for tree in trees},
        {tree: weights.unused[tree] for tree in trees},
        "",
    )


def nets(torch, folder: Path):
    """PyTorch's networks with the files loaded strictly, GF inside a DataParallel as the reference has it."""
    from tests.torch_reference import Backbone, Fusion

    made = {"full": Backbone(), "instance": Backbone(), "fusion": torch.nn.DataParallel(Fusion())}
    for tree, network in made.items():
        state = torch.load(folder / names.REFERENCE_FILES[tree], weights_only=True)
        assert network.load_state_dict(state, strict=True)
        network.eval()
    return made["full"], made["instance"], made["fusion"].module


def run(torch, loaded, inputs: np.ndarray, crops: np.ndarray, boxes) -> list[np.ndarray]:
    """Colours of the full image, of the crops, fused; channels last."""
    full, instance, fusion = loaded
    to_torch = [torch.tensor(np.asarray(a).transpose(0, 3, 1, 2)) for a in (inputs, crops)]
    with torch.no_grad():
        outputs = [full(to_torch[0]), instance(to_torch[1])]
        fusion.instances, fusion.boxes = instance.taps, boxes
        outputs.append(fusion(to_torch[0]))
    return [output.numpy().transpose(0, 2, 3, 1) for output in outputs]


def test_there_and_back_is_the_same_to_the_bit(states, written):
    assert {path.name for path in written.iterdir()} == set(names.REFERENCE_FILES.values())
    for tree, name in names.REFERENCE_FILES.items():
        prefix = "module." if tree == "fusion" else ""
        assert_same(reference.read_pth(written / name), {prefix + k: v for k, v in states[tree].items()})
        # The form that PyTorch had before 1.6.
        assert not zipfile.is_zipfile(written / name)


@pytest.mark.parametrize("name", FORWARD)
def test_pytorch_gives_the_goldens(torch, written, name):
    golden = dict(np.load(GOLDENS / f"forward_{name}.npz"))
    inputs = network_input(*(jnp.asarray(golden[key]) for key in ("L", "hint_ab", "hint_mask")))
    crops = network_input(jnp.asarray(golden["crops_L"]))
    boxes = golden["level_boxes"].transpose(1, 0, 2)[..., [0, 2, 4, 5]]
    outputs = run(torch, nets(torch, written), inputs, crops, boxes)
    for output, key in zip(outputs, ("full_ab", "instance_ab", "fused_ab"), strict=True):
        np.testing.assert_allclose(output, golden[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.slow
def test_weights_of_ours_alone(torch, tmp_path, capsys):
    """Trained from nothing: what the reference's files hold besides is there, 0, and said."""
    variables = small_networks.variables(ModelConfig())
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back"
    native.save(ours, ModelConfig(), variables)
    assert cli.main(["convert", "--to-reference", str(ours), str(back)]) == 0
    ours.unlink()
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in said[::2]] == [f"wrote {back / n}" for n in names.REFERENCE_FILES.values()]
    text = "arrays that nothing reads were not in ours.safetensors and are 0"
    assert said[1::2] == [
        f"  9 {text} (num_batches_tracked)",
        f"  11 {text} (model_class.*, num_batches_tracked)",
        f"  23 {text} (model_class.*, num_batches_tracked, weight_layerout.*)",
    ]
    rng = np.random.default_rng(0)
    luminance, crops = (jnp.asarray(rng.uniform(-0.5, 0.5, (n, 32, 32, 1)), jnp.float32) for n in (1, 2))
    boxes = np.array([[[x >> i, y >> i, w >> i, h >> i] for i in range(4)] for x, y, w, h in [(8, 0, 16, 8)] * 2])
    parts = networks.build(ModelConfig())
    inputs, crop_inputs, index = network_input(luminance), network_input(crops), jnp.zeros(2, jnp.int32)

    @jax.jit
    def ours_of(variables):
        full = networks.run_full(parts, variables, inputs)
        instance = networks.run_instance(parts, variables, crop_inputs, index)
        fusion = networks.run_fusion(parts, variables, inputs, instance.taps, index, jnp.asarray(boxes, jnp.int32))
        return full.ab, instance.ab, fusion.ab

    theirs = run(torch, nets(torch, back), inputs, crop_inputs, boxes)
    for mine, output in zip(ours_of(variables), theirs, strict=True):
        np.testing.assert_allclose(output, mine, rtol=0, atol=1e-5)
    for path in back.iterdir():
        path.unlink()


@pytest.mark.parametrize("tree", TREES)
def test_every_key_is_there(states, trees, tree):
    shapes = recipe.shapes()[names.REFERENCE_NETWORKS[tree]]
    state, made = reference_export.complete_state(tree, trees.variables[tree], {})
    assert set(state) == set(states[tree])
    assert set(made) == {key for key in states[tree] if names.UNUSED[tree].fullmatch(key)}
    for key, value in state.items():
        assert value.shape == shapes.get(key, ())
        assert value.dtype == states[tree][key].dtype
        assert (key in made) == (not np.array_equal(value, states[tree][key]))
        assert key not in made or not value.any()


def test_kept_arrays_that_are_wrong(trees):
    kept = {
        "model1.4.num_batches_tracked": np.asarray(3, np.float32),
        "model_class.0.bias": np.zeros(5, np.float32),
        "model1.0.more": np.zeros(2, np.float32),
    }
    with pytest.raises(WeightsError) as error:
        reference_export.complete_state("instance", trees.variables["instance"], kept)
    assert str(error.value).splitlines() == [
        "instance: kept arrays that the reference's G has not",
        "  + left over: model1.0.more (2,)",
        "  ! wrong shape: model_class.0.bias is (5,), expected (529,)",
        "  ! wrong type: model1.4.num_batches_tracked is float32, expected int64",
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ModelConfig(width=0.5), "model.width is 0.5, the reference's is 1.0"),
        (ModelConfig(norm="group"), "model.norm is 'group', the reference's is 'batch'"),
        (ModelConfig(compute_dtype="float64"), "model.compute_dtype is 'float64', the reference's is 'float32'"),
        (ModelConfig(fusion=FusionConfig(strategy="box_mask")), "model.fusion.strategy is 'box_mask'"),
        (ModelConfig(fusion=FusionConfig(outside="masked")), "model.fusion.outside is 'masked'"),
        (ModelConfig(fusion=FusionConfig(layers="encoder")), "model.fusion.layers is 'encoder'"),
        (ModelConfig(fusion=FusionConfig(head_channels=8)), "model.fusion.head_channels is 8, the reference's is 16"),
    ],
)
def test_other_architectures_are_refused_by_field(config, said):
    (line,) = reference_export.differences(config, TREES)
    assert line.startswith(said)
    # How instances are fused is nothing to the other two networks.
    assert reference_export.differences(config, ("full", "instance")) == ([] if "fusion" in said else [line])


def test_what_makes_no_difference():
    config = ModelConfig(side=64, init="normal002", compute_dtype="bfloat16")
    every = ",".join(names.WEIGHT_LAYERS)
    assert not reference_export.differences(dataclasses.replace(config, fusion=FusionConfig(layers=every)), TREES)


def test_a_small_model_is_refused_by_the_command(small, tmp_path, capsys):
    source, folder = tmp_path / "small.safetensors", tmp_path / "out"
    native.save(source, SMALL, small)
    assert cli.main(["convert", "--to-reference", str(source), str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"jaxcolor convert: {source}: not networks that the reference's code can build\n")
    for field in ("width is 0.02", "fusion.layers is", "fusion.head_channels is 2"):
        assert f"model.{field}" in said
    assert not folder.exists()


def test_nothing_is_replaced_unasked(torch, trees, tmp_path):
    full = part(trees, "full")
    path = tmp_path / "latest_net_GComp.pth"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="--force"):
        reference_export.write_reference("w", full, tmp_path)
    assert path.read_text() == "precious"
    ((at, made),) = reference_export.write_reference("w", full, tmp_path, replace=True)
    assert (at, made) == (path, ())
    assert len(reference.read_pth(path)) == 107
    path.unlink()


def test_files_of_other_weights_beside_it(trees, tmp_path):
    (tmp_path / "latest_net_GF.pth").touch()
    with pytest.raises(WeightsError, match=r"latest_net_GF.pth: is there, but some has no fusion tree"):
        reference_export.write_reference("some", part(trees, "full"), tmp_path, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["latest_net_GF.pth"]


def test_all_files_or_none(torch, trees, tmp_path, monkeypatch):
    """A disk that is full at the second file."""
    original, saved = torch.save, []

    def save(state, file, **options):
        saved.append(1)
        if len(saved) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        original(state, file, **options)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space"):
        reference_export.write_reference("w", part(trees, "full", "instance"), tmp_path / "out")
    assert len(saved) == 2
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(torch, trees, tmp_path, monkeypatch):
    full = part(trees, "full")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        reference_export.write_reference("w", full, tmp_path / "no" / "out")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="give a folder"):
        reference_export.write_reference("w", full, tmp_path / "file")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"writing .pth files needs PyTorch: pip install 'jaxcolor\[torch\]'$"):
        reference_export.write_reference("w", full, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.pth", "out"], "SOURCE 'a.pth' does not end in .safetensors"),
        (["a.safetensors", "b.safetensors"], "OUTPUT 'b.safetensors' must be a folder"),
        (["a.safetensors", "latest_net_G.pth"], "OUTPUT 'latest_net_G.pth' must be a folder"),
        (["a.safetensors", "out", "--note", "mine"], "no place for --note"),
    ],
)
def test_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", "--to-reference", *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value", "theirs"),
    [
        ("hint_mask", "siggraph17", "reference"),
        ("outputs", ("regression", "classes"), ("regression",)),
        ("backbone", "unet", "reference"),
    ],
)
def test_masks_heads_and_backbones_of_others_are_listed(field, value, theirs):
    (line,) = reference_export.differences(ModelConfig(**{field: value}), ("full",))
    assert line == f"model.{field} is {value!r}, the reference's is {theirs!r}"

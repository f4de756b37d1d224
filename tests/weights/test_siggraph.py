"""Weights of siggraph17: recognized, read as they are, and fed the hint mask that they were trained with."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import cli
from jaxcolor.config import ModelConfig
from jaxcolor.hints import HintMask, Hints, network_hint_channels
from jaxcolor.models import networks
from jaxcolor.weights import native, reference
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import assert_same

SIDE = 64
"""Where features are smaller than kernels XLA on CPU convolves in slow loops: at a side of 32 for ten times as long."""


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reading .pth files needs PyTorch: pip install 'jaxcolor[torch]'")


@pytest.fixture
def reads(states, monkeypatch):
    """Any file is one of the full branch, without the counters, which old files do not have."""
    state = {key: value for key, value in states["full"].items() if not key.endswith("num_batches_tracked")}
    monkeypatch.setattr(reference, "read_pth", lambda path: state)
    return state


@pytest.fixture(scope="module")
def run():
    """Colours of the full branch, compiled once."""
    nets = networks.build(ModelConfig())
    return jax.jit(lambda variables, shown: networks.run_full(nets, variables, shown).ab)


@pytest.fixture(scope="module")
def luminance():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, SIDE, SIDE, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("latest_net_GComp.pth", "reference"),
        ("siggraph17-df00044c.pth", "siggraph17"),
        ("siggraph17.pth", "siggraph17"),
        ("weights.pth", None),
    ],
)
def test_by_name(tmp_path, name, form):
    (tmp_path / name).write_bytes(b"anything")
    assert reference.form_of(tmp_path / name) == form


def test_by_checksum(tmp_path, monkeypatch):
    (tmp_path / "renamed.pth").write_bytes(b"content")
    monkeypatch.setattr(reference, "SIGGRAPH_CHECKSUM", hashlib.sha256(b"content").hexdigest()[:8])
    assert reference.form_of(tmp_path / "renamed.pth") == "siggraph17"


def test_unknown_files_are_not_guessed(reads, tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    with pytest.raises(WeightsError, match=r"say that its form is 'reference' .* or 'siggraph17'") as error:
        reference.load(path)
    assert str(error.value).startswith(f"{path}: ")
    expected = reference.variables_from_state("full", reads).variables
    for form in ("reference", "siggraph17"):
        loaded = reference.load(path, form)
        assert loaded.hint_mask == form
        assert_same(loaded.variables["full"], expected)


def test_what_is_said_overrules_the_name(reads, tmp_path):
    """siggraph_retrained/latest_net_G.pth, which the reference begins with, is a full branch."""
    (tmp_path / "latest_net_G.pth").touch()
    with pytest.raises(WeightsError, match=r"siggraph_retrained is\), say that its form is 'reference'"):
        reference.load(tmp_path / "latest_net_G.pth")
    assert tuple(reference.load(tmp_path / "latest_net_G.pth", "reference").variables) == ("full",)


def test_a_folder_is_not_siggraph17(tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder; siggraph17 is one \.pth file"):
        reference.load(tmp_path, "siggraph17")


@pytest.mark.parametrize("hinted", [False, True])
def test_equal_to_pytorch_with_their_mask(torch, states, luminance, run, hinted):
    """To the borders, where the zero padding is their empty hint."""
    from tests.torch_reference import Backbone

    network = Backbone().eval()
    network.load_state_dict({key: torch.tensor(value) for key, value in states["full"].items()}, strict=True)
    mask = np.zeros(luminance.shape, bool)
    mask[0, 4:8, :6] = hinted
    ab = np.where(mask, np.float32([0.3, -0.2]), 0)
    inputs = np.concatenate([luminance, ab, mask.astype(np.float32)], axis=-1)
    with torch.no_grad():
        theirs = network(torch.tensor(inputs.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)

    tree = {"full": reference.variables_from_state("full", states["full"]).variables}
    hints = Hints(jnp.asarray(ab), jnp.asarray(mask))

    def ours(mask: HintMask) -> np.ndarray:
        channels = network_hint_channels(hints, mask)
        shown = jnp.concatenate([jnp.asarray(luminance), channels], axis=-1)
        return np.asarray(run(tree, shown))

    np.testing.assert_allclose(ours("siggraph17"), theirs, rtol=0, atol=1e-5)
    assert np.abs(ours("reference") - theirs).max() > 0.01


def test_the_file_keeps_the_mask(reads, tmp_path, capsys):
    source, output = tmp_path / "siggraph17-df00044c.pth", tmp_path / "out.safetensors"
    source.touch()
    assert cli.main(["convert", str(source), str(output), "--note", "from the package"]) == 0
    assert "trained with the hint mask of siggraph17" in capsys.readouterr().out
    loaded = native.load(output)
    assert loaded.config == ModelConfig(hint_mask="siggraph17")
    assert loaded.note == "from the package"
    assert_same(loaded.variables["full"], reference.variables_from_state("full", reads).variables)
    # Not the reference's: its code would feed them another mask.
    assert cli.main(["convert", "--to-reference", str(output), str(tmp_path / "back")]) == 1
    output.unlink()
    assert "model.hint_mask is 'siggraph17', the reference's is 'reference'" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()

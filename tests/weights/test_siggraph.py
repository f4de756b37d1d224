"""Weights of siggraph17: recognized, and equal under our input although their hint mask is another."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor import cli
from jaxcolor.config import ModelConfig
from jaxcolor.models import networks
from jaxcolor.models.networks import network_input
from jaxcolor.weights import native, reference
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import flat

SIDE = 32


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
    changed = {
        form: [
            key
            for key, value in flat(reference.load(path, form).variables["full"]).items()
            if not np.array_equal(value, flat(reference.variables_from_state("full", reads).variables)[key])
        ]
        for form in ("reference", "siggraph17")
    }
    assert changed == {"reference": [], "siggraph17": ["params/conv1_1/kernel"]}


def test_what_is_said_overrules_the_name(reads, tmp_path):
    """siggraph_retrained/latest_net_G.pth, which the reference begins with, is a full branch."""
    (tmp_path / "latest_net_G.pth").touch()
    with pytest.raises(WeightsError, match=r"siggraph_retrained is\), say that its form is 'reference'"):
        reference.load(tmp_path / "latest_net_G.pth")
    assert tuple(reference.load(tmp_path / "latest_net_G.pth", "reference").variables) == ("full",)


def test_a_folder_is_not_siggraph17(tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder; siggraph17 is one \.pth file"):
        reference.load(tmp_path, "siggraph17")


def test_only_the_masks_weights_change(states):
    before = reference.variables_from_state("full", states["full"]).variables
    after = reference.without_mask(before)
    ours, theirs = flat(after), flat(before)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not np.array_equal(ours[key], theirs[key])] == ["params/conv1_1/kernel"]
    kernel = after["params"]["conv1_1"]["kernel"]
    assert not kernel[:, :, 3].any()
    assert np.array_equal(kernel[:, :, :3], before["params"]["conv1_1"]["kernel"][:, :, :3])
    assert before["params"]["conv1_1"]["kernel"][:, :, 3].all()


def test_equal_to_pytorch_with_their_mask(torch, states, luminance):
    """To the borders, where a bias in place of the mask's weights would be wrong."""
    from tests.torch_reference import Backbone

    network = Backbone().eval()
    network.load_state_dict({key: torch.tensor(value) for key, value in states["full"].items()}, strict=True)
    inputs = np.concatenate([luminance, np.zeros((*luminance.shape[:-1], 3), np.float32)], axis=-1)
    with torch.no_grad():
        theirs = network(torch.tensor(inputs.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)

    parts = networks.build(ModelConfig())
    run = jax.jit(lambda tree: networks.run_full(parts, {"full": tree}, network_input(jnp.asarray(luminance))).ab)
    as_reference = reference.variables_from_state("full", states["full"]).variables
    np.testing.assert_allclose(run(reference.without_mask(as_reference)), theirs, rtol=0, atol=1e-5)
    # Taken for the reference's, they are off everywhere, and a bias would leave them off at the borders.
    assert np.abs(run(as_reference) - theirs).max() > 0.01


def test_the_file_says_what_was_done(reads, tmp_path, capsys):
    source, output = tmp_path / "siggraph17-df00044c.pth", tmp_path / "out.safetensors"
    source.touch()
    assert cli.main(["convert", str(source), str(output), "--note", "from the package"]) == 0
    assert reference.SIGGRAPH_NOTE in capsys.readouterr().out
    loaded = native.load(output)
    output.unlink()
    assert loaded.note == f"from the package; {reference.SIGGRAPH_NOTE}"
    assert not loaded.variables["full"]["params"]["conv1_1"]["kernel"][:, :, 3].any()

"""What a run can start from besides released files."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from jaxcolor.config import Config, ConfigError, FusionConfig, ModelConfig
from jaxcolor.models.networks import TREES
from jaxcolor.weights import native, reference, siggraph
from jaxcolor.weights.pretrained import load_pretrained
from tests.weights.conftest import SMALL, assert_same

BFLOAT = ModelConfig(compute_dtype="bfloat16", init="normal002", side=64)


@pytest.fixture
def reads(states, monkeypatch):
    """Every .pth file is one of the full branch; reading needs PyTorch."""
    monkeypatch.setattr(reference, "read_pth", lambda path: states["full"])


def config(path, model=BFLOAT, **changes) -> Config:
    return Config(model=model, start_from=str(path), **changes)


def test_a_pth_file_of_the_full_branch(reads, states, tmp_path):
    start = load_pretrained(config(tmp_path / "latest_net_GComp.pth"))
    assert start.trees == ("full",)
    assert start.config.side == BFLOAT.side
    assert start.note == "started from latest_net_GComp.pth"
    assert_same(start.variables["full"], reference.variables_from_state("full", states["full"]).variables)
    assert start.variables["full"]["params"]["conv1_1"]["kernel"].flags.c_contiguous


def test_siggraph17(reads, tmp_path):
    start = load_pretrained(config(tmp_path / "siggraph17-df00044c.pth"))
    assert start.note == f"started from siggraph17-df00044c.pth ({siggraph.NOTE})"
    assert not start.variables["full"]["params"]["conv1_1"]["kernel"][:, :, 3].any()


def test_the_form_can_be_said(reads, tmp_path):
    (tmp_path / "some.pth").touch()
    with pytest.raises(reference.WeightsError, match="say that its form is"):
        load_pretrained(config(tmp_path / "some.pth"))
    masks = {
        form: load_pretrained(config(tmp_path / "some.pth", start_form=form)).variables["full"]["params"]["conv1_1"][
            "kernel"
        ]
        for form in ("reference", "siggraph17")
    }
    assert not masks["siggraph17"][:, :, 3].any()
    assert masks["reference"][:, :, 3].all()
    assert np.array_equal(masks["reference"][:, :, :3], masks["siggraph17"][:, :, :3])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ModelConfig(width=0.5), "width: 1.0 -> 0.5"),
        (ModelConfig(norm="group"), "norm: 'batch' -> 'group'"),
    ],
)
def test_another_architecture_is_refused(reads, tmp_path, model, said):
    with pytest.raises(ConfigError) as error:
        load_pretrained(config(tmp_path / "latest_net_GComp.pth", model))
    assert str(error.value).splitlines() == [
        f"start_from: {tmp_path}/latest_net_GComp.pth holds another model:",
        f"  {said}",
    ]


def test_the_full_branch_says_nothing_about_fusion(reads, tmp_path):
    model = dataclasses.replace(BFLOAT, fusion=FusionConfig(outside="masked", head_channels=4))
    assert load_pretrained(config(tmp_path / "latest_net_GComp.pth", model)).config.fusion == model.fusion


def test_the_reference_in_a_folder(states, tmp_path, monkeypatch):
    translated = {tree: reference.variables_from_state(tree, states[tree]) for tree in TREES}
    loaded = reference.Reference({tree: t.variables for tree, t in translated.items()}, {tree: {} for tree in TREES})
    monkeypatch.setattr(reference, "load", lambda path, form: loaded)
    assert load_pretrained(config(tmp_path)).trees == TREES
    model = dataclasses.replace(BFLOAT, fusion=FusionConfig(outside="masked"))
    with pytest.raises(ConfigError, match=r"fusion\.outside: 'zero' -> 'masked'"):
        load_pretrained(config(tmp_path, model))


def test_released_files(small, tmp_path):
    path = tmp_path / "small.safetensors"
    save = functools.partial(native.save, path, SMALL, small)
    save()
    assert load_pretrained(config(path, SMALL)).note == "started from small.safetensors"
    save(note="mine")
    start = load_pretrained(config(path, SMALL))
    assert start.note == "started from small.safetensors (mine)"
    assert_same(start.variables, small)
    with pytest.raises(ConfigError, match=r"start_form: 'siggraph17' is for \.pth files"):
        load_pretrained(config(path, SMALL, start_form="siggraph17"))
    with pytest.raises(ConfigError, match="holds another model:\n  side: 256 -> 64"):
        load_pretrained(config(path, dataclasses.replace(SMALL, side=64)))


def test_converted_weights_can_start_any_recipe(small, tmp_path):
    """A file's config is of float32 and He; the recipes compute in bfloat16. float64 keeps other parameters."""
    path = tmp_path / "small.safetensors"
    native.save(path, SMALL, small)
    changed = dataclasses.replace(SMALL, compute_dtype="bfloat16", init="normal002", head_init="he")
    assert_same(load_pretrained(config(path, changed)).variables, small)
    with pytest.raises(ConfigError, match="holds another model:\n  compute_dtype: 'float32' -> 'float64'"):
        load_pretrained(config(path, dataclasses.replace(SMALL, compute_dtype="float64")))


def test_from_a_real_file(states, pth_folder):
    start = load_pretrained(config(pth_folder / "latest_net_GComp.pth"))
    assert_same(start.variables["full"], reference.variables_from_state("full", states["full"]).variables)

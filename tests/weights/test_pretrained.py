"""Pretrained weights that a run can start from."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from jaxcolor.config import Config, ConfigError, FusionConfig, ModelConfig
from jaxcolor.config_io import to_dict
from jaxcolor.models.networks import TREES
from jaxcolor.weights import native, reference
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
    assert tuple(start.variables) == ("full",)
    assert start.note == "started from latest_net_GComp.pth"
    assert_same(start.variables["full"], reference.variables_from_state("full", states["full"]).variables)
    assert start.variables["full"]["params"]["conv1_1"]["kernel"].flags.c_contiguous


def test_siggraph17(reads, states, tmp_path):
    path = tmp_path / "siggraph17-df00044c.pth"
    start = load_pretrained(config(path, dataclasses.replace(BFLOAT, hint_mask="siggraph17")))
    assert start.note == "started from siggraph17-df00044c.pth"
    assert_same(start.variables["full"], reference.variables_from_state("full", states["full"]).variables)
    with pytest.raises(ConfigError) as error:
        load_pretrained(config(path))
    assert str(error.value) == (
        f"model.hint_mask: 'reference', but the weights of start_from, {path}, were trained with 'siggraph17'; "
        "set --config.model.hint_mask=siggraph17"
    )


def test_the_form_can_be_said(reads, tmp_path):
    path = tmp_path / "some.pth"
    path.touch()
    with pytest.raises(reference.WeightsError, match="say that its form is"):
        load_pretrained(config(path))
    for form in ("reference", "siggraph17"):
        load_pretrained(config(path, dataclasses.replace(BFLOAT, hint_mask=form), start_form=form))
    with pytest.raises(ConfigError, match=r"set --config\.model\.hint_mask=siggraph17"):
        load_pretrained(config(path, start_form="siggraph17"))


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
        f"start_from: {tmp_path}/latest_net_GComp.pth holds trees of another model than config.model:",
        f"  full: {said}",
    ]


def test_the_full_branch_says_nothing_about_fusion(reads, tmp_path):
    model = dataclasses.replace(BFLOAT, fusion=FusionConfig(outside="masked", head_channels=4))
    start = load_pretrained(config(tmp_path / "latest_net_GComp.pth", model))
    assert (tuple(start.variables), start.unused) == (("full",), ())


def test_the_reference_in_a_folder(states, tmp_path, monkeypatch):
    translated = {tree: reference.variables_from_state(tree, states[tree]) for tree in TREES}
    loaded = reference.Reference({tree: t.variables for tree, t in translated.items()}, {tree: {} for tree in TREES})
    monkeypatch.setattr(reference, "load", lambda path, form: loaded)
    start = load_pretrained(config(tmp_path))
    assert (tuple(start.variables), start.unused) == (TREES, ())
    model = dataclasses.replace(BFLOAT, fusion=FusionConfig(outside="masked"))
    start = load_pretrained(config(tmp_path, model))
    assert tuple(start.variables) == ("full", "instance")
    assert start.unused == (
        f"start_from: the fusion tree of {tmp_path.name} is not used, it is of another model: "
        "fusion.outside: 'zero' -> 'masked'",
    )


def test_our_own_files(small, tmp_path):
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
    assert_same(load_pretrained(config(path, dataclasses.replace(SMALL, side=64))).variables, small)
    with pytest.raises(
        ConfigError,
        match=r"than config\.model:\n  full: norm: .batch. -> .group.\n  instance: norm: .*\n  fusion: norm",
    ):
        load_pretrained(config(path, dataclasses.replace(SMALL, norm="group")))


def test_converted_weights_can_start_any_recipe(small, tmp_path):
    """A file's config is of float32 and He; the recipes compute in bfloat16. float64 keeps other parameters."""
    path = tmp_path / "small.safetensors"
    native.save(path, SMALL, small)
    changed = dataclasses.replace(SMALL, compute_dtype="bfloat16", init="normal002", head_init="he")
    assert_same(load_pretrained(config(path, changed)).variables, small)
    with pytest.raises(ConfigError, match=r"than config\.model:\n  full: compute_dtype: 'float32' -> 'float64'"):
        load_pretrained(config(path, dataclasses.replace(SMALL, compute_dtype="float64")))


@pytest.mark.parametrize(
    "fusion",
    [
        {"strategy": "box_mask"},
        {"layers": "encoder"},
        {"outside": "masked"},
        {"head_channels": 3},
    ],
)
def test_full_and_instance_fit_whatever_the_fusion_settings_are(small, tmp_path, fusion):
    path = tmp_path / "small.safetensors"
    native.save(path, SMALL, small)
    model = dataclasses.replace(SMALL, fusion=dataclasses.replace(SMALL.fusion, **fusion))
    start = load_pretrained(config(path, model))
    assert_same(start.variables, {tree: small[tree] for tree in ("full", "instance")})
    (line,) = start.unused
    (name,) = fusion
    assert line.startswith(
        "start_from: the fusion tree of small.safetensors is not used, it is of another model: "
        f"fusion.{name}: {to_dict(SMALL.fusion)[name]!r} -> {fusion[name]!r}"
    )


def test_from_a_real_file(states, pth_folder):
    start = load_pretrained(config(pth_folder / "latest_net_GComp.pth"))
    assert_same(start.variables["full"], reference.variables_from_state("full", states["full"]).variables)

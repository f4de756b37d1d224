from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxcolor.models.ops import box_blend, implementation, output_conv, thin_conv
from jaxcolor.models.ops.triton import box_blend as triton_box_blend

OTHERS = [
    ("cpu", SimpleNamespace(compute_capability="9.0")),
    ("tpu", SimpleNamespace(compute_capability="9.0")),
    ("gpu", SimpleNamespace(compute_capability="7.5")),  # T4
    ("gpu", SimpleNamespace(compute_capability="gfx942")),  # AMD's MI300
    ("gpu", SimpleNamespace()),
]


def computed_on(monkeypatch: pytest.MonkeyPatch, backend: str, device: Any) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])


@pytest.mark.parametrize("capability", ["8.0", "9.0", "10.0", "12.1"])
def test_kernels_are_for_newer_gpus(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    computed_on(monkeypatch, "gpu", SimpleNamespace(compute_capability=capability))
    assert implementation.find("blend_kernel") is blend_kernel


@pytest.mark.parametrize(("backend", "device"), OTHERS)
def test_others_compute_without(monkeypatch: pytest.MonkeyPatch, backend: str, device: Any) -> None:
    computed_on(monkeypatch, backend, device)
    assert implementation.find("blend_kernel") is None
    crops, photos = jnp.zeros((1, 8, 8, 64)), jnp.zeros((1, 64, 64, 4), jnp.bfloat16)
    assert box_blend.way_for(crops) is not triton_box_blend.blend
    assert thin_conv.way_for(photos, 64) is not thin_conv.from_few
    assert output_conv.leaky_way_for(crops.astype(jnp.bfloat16)) is not output_conv.leaky_to_few


def test_nothing_is_found_where_jax_has_no_pallas_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    computed_on(monkeypatch, "gpu", SimpleNamespace(compute_capability="9.0"))
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    assert implementation.find("blend_kernel") is None
    assert box_blend.way_for(jnp.zeros((1, 8, 8, 64))) is box_blend.plain


@pytest.mark.parametrize(
    ("blocks", "programs", "turns"),
    [
        (65536, 1024, 64),
        (1, 1024, 1),
        (1023, 1024, 1),
        (100800, 1024, 96),
        (2 * 1031, 1024, 2),
        (1031, 100, 1),
        (0, 5, 1),
    ],
)
def test_programs_have_as_many_blocks_each(blocks: int, programs: int, turns: int) -> None:
    assert implementation.blocks_per_program(blocks, programs) == turns

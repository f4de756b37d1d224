from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxcolor.models.ops import blend, implementation, output_conv, thin_conv
from jaxcolor.models.ops.triton import blend as triton_blend

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
    assert implementation.triton_module("blend") is triton_blend


@pytest.mark.parametrize(("backend", "device"), OTHERS)
def test_others_compute_without(monkeypatch: pytest.MonkeyPatch, backend: str, device: Any) -> None:
    computed_on(monkeypatch, backend, device)
    assert implementation.triton_module("blend") is None
    crops, photos = jnp.zeros((1, 8, 8, 64)), jnp.zeros((1, 64, 64, 4), jnp.bfloat16)
    assert blend.implementation_for(crops) is not triton_blend.box_blend
    assert thin_conv.implementation_for(photos, 64) is not thin_conv.from_few
    assert output_conv.leaky_implementation(crops.astype(jnp.bfloat16)) is not output_conv.leaky_to_few


def test_nothing_is_found_where_jax_has_no_pallas_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    computed_on(monkeypatch, "gpu", SimpleNamespace(compute_capability="9.0"))
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    assert implementation.triton_module("blend") is None
    assert blend.implementation_for(jnp.zeros((1, 8, 8, 64))) is blend.plain


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


def plain():
    return "plain"


def answers(**others: str) -> str:
    """What is chosen among implementations that say their names."""
    named = {name: (lambda name=name: name) for name in others}
    gpu = {"gpu": lambda: named.pop("gpu")} if "gpu" in named else {}
    chosen = implementation.select_implementation(plain, **{k: v for k, v in named.items() if k != "gpu"}, **gpu)
    return str(chosen())


@pytest.mark.parametrize(
    ("backend", "expected"), [("cpu", "cpu"), ("gpu", "gpu"), ("tpu", "fast")], ids=["cpu", "gpu", "tpu"]
)
def test_each_backend_has_its_own(monkeypatch: pytest.MonkeyPatch, backend: str, expected: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    everything = {"fast": "", "cpu": "", "gpu": "", "portable": ""}
    assert answers(**everything) == expected
    assert answers(portable="") == "plain"
    assert answers(fast="", portable="") == "fast"


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_switches_leave_fast_ones_out(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    everything = {"fast": "", "cpu": "", "gpu": "", "portable": ""}
    with implementation.portable_ops():
        assert answers(**everything) == "portable"
        assert answers(fast="", cpu="") == "plain"
    for value, chosen in (("1", "plain"), ("0", "fast" if backend == "tpu" else backend)):
        monkeypatch.setenv(implementation.PLAIN_SWITCH, value)
        assert answers(**everything) == chosen

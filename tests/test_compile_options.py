from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor import compile_options
from jaxcolor.compile_options import FEW, compiler_options, jit_prediction
from jaxcolor.data.packing import pack
from jaxcolor.data.preprocess import Example


def batch_of(photos):
    filled: list[Example | None] = [None] * photos
    return pack(filled, device_count=1, capacity=0, side=8, with_full=True)[0]


def test_graphs_are_for_few_pictures_on_gpus_if_asked_for(monkeypatch):
    assert compiler_options(1, cuda_graphs=True) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options(FEW, cuda_graphs=True) == {"xla_gpu_enable_command_buffer": compile_options.GRAPHS}
    assert compiler_options(FEW, cuda_graphs=False) is compiler_options(FEW + 1, cuda_graphs=True) is None


def test_this_xla_knows_the_option():
    options = {"xla_gpu_enable_command_buffer": compile_options.GRAPHS}
    compiled = jax.jit(lambda x: x + 1).lower(jnp.ones(3)).compile(compiler_options=options)
    np.testing.assert_array_equal(compiled(jnp.ones(3)), 2)


def test_a_prediction_is_compiled_once_for_each_set_of_options_and_shape(monkeypatch):
    asked, traced = [], []

    def options(pictures, cuda_graphs):
        asked.append((pictures, cuda_graphs))
        return {"xla_gpu_enable_command_buffer": compile_options.GRAPHS} if pictures <= FEW else None

    def prediction(variables, batch):
        traced.append(len(batch.full_rgb))
        return batch.full_rgb.sum() + variables

    monkeypatch.setattr(compile_options, "compiler_options", options)
    jitted = jit_prediction(prediction, cuda_graphs=True)
    for photos in (1, FEW + 1, 1, FEW + 1):
        assert int(jitted(jnp.ones(()), batch_of(photos))) == 1
    assert traced == [1, FEW + 1]
    assert asked == [(FEW, True), (FEW + 1, True)]

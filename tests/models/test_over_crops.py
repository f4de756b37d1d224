"""Crops one after another: none that is padding, and the same colors as all at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcolor.batch import PADDING
from jaxcolor.models import networks, over_crops
from tests import small
from tests.evaluation.batches import BOXES, MODEL, example, loaded


@pytest.mark.parametrize("real", [0, 1, 3, 5])
def test_what_is_run_on_crops_is_not_run_on_padding(real: int) -> None:
    turns = []

    def run(inputs: jax.Array, crop_to_image: jax.Array) -> dict[str, jax.Array]:
        jax.debug.callback(turns.append, crop_to_image)
        return {"twice": 2 * inputs}

    inputs = np.arange(1.0, 11.0, dtype=np.float32).reshape(5, 2)
    photo = np.where(np.arange(5) < real, 0, PADDING).astype(np.int32)
    found = jax.jit(lambda *given: over_crops.over_crops(run, *given, 2))(inputs, photo)["twice"]
    jax.effects_barrier()
    assert len(turns) == -(-real // 2)
    np.testing.assert_array_equal(found[:real], 2 * inputs[:real])
    np.testing.assert_array_equal(found[real + real % 2 :], 0)


def test_no_crops_at_all() -> None:
    nothing = over_crops.over_crops(lambda x, _: jnp.sum(x, axis=1), jnp.zeros((0, 2)), jnp.zeros(0, jnp.int32), 2)
    assert nothing.shape == (0,)


@pytest.mark.parametrize("layers", ["all", ("conv8_3", "conv10_2")])
def test_the_same_colors_as_all_crops_at_once(layers: str | tuple[str, ...]) -> None:
    model = dataclasses.replace(MODEL, fusion=dataclasses.replace(MODEL.fusion, layers=layers))
    variables, nets = small.variables(model), networks.build(model)
    batch = loaded([example(i, BOXES[i]) for i in (0, 1, 3)]).batch
    assert (batch.crop_to_image < 0).any()
    lab = networks.to_lab(batch, model)
    found = jax.jit(lambda v, lab: over_crops.run_fused(nets, v, lab).ab)(variables, lab)
    expected = networks.run_fused(nets, variables, lab).ab
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(np.asarray(expected)) > 0.01

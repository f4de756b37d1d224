"""Functions evaluated operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcolor.models.eager import operations
from jaxcolor.models.networks import TREES, _draws, _init, _key, init
from tests.small import FEW


def test_only_what_the_result_needs_is_evaluated() -> None:
    def function(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        jnp.linalg.inv(jnp.outer(x, y))
        return {"double": x + x, "given": y, "fixed": jnp.ones(2), "number": jnp.float32(3)}

    x, y = jnp.arange(3.0), jnp.arange(3)
    traced = operations(function, x, y)
    assert [e.primitive.name for e in traced.traced.jaxpr.eqns] == ["add", "broadcast_in_dim"]
    assert traced.shapes() == jax.eval_shape(function, x, y)
    found = traced.evaluate(x, y)
    assert {name: value.tolist() for name, value in found.items()} == {
        "double": [0, 2, 4],
        "given": [0, 1, 2],
        "fixed": [1, 1],
        "number": 3,
    }


def test_fresh_variables_are_those_of_flax() -> None:
    """A network's worth of them compiles for long, one parameter does not."""
    names = {e.primitive.name for e in _draws(FEW, False).traced.jaxpr.eqns}
    assert not names & {"dot_general", "conv_general_dilated", "reduce_sum"}
    kernel = jax.jit(lambda key: _init(key, FEW)["instance"]["params"]["conv4_2"]["kernel"])(_key(5))
    found = init(FEW, 5)
    assert set(found) == set(TREES)
    np.testing.assert_allclose(found["instance"]["params"]["conv4_2"]["kernel"], kernel, rtol=1e-6)

"""A function evaluated one operation after the other: equal operations share a compiled program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun


class Operations(NamedTuple):
    """A traced function, of all that it computes only what its result depends on."""

    traced: ClosedJaxpr
    structure: Any
    """Of the result: a pytree's."""

    def shapes(self) -> Any:
        """The result's shapes and types."""
        shapes = [jax.ShapeDtypeStruct(like.shape, like.dtype) for like in self.traced.out_avals]
        return jax.tree.unflatten(self.structure, shapes)

    def evaluate(self, *arguments: Any) -> Any:
        """The result for arguments of the same shapes and types."""
        found = jaxpr_as_fun(self.traced)(*jax.tree.leaves(arguments))  # constants among it are numbers
        arrays = [jnp.asarray(x, like.dtype) for x, like in zip(found, self.traced.out_avals, strict=True)]
        return jax.tree.unflatten(self.structure, arrays)


def operations(function: Callable[..., Any], *arguments: Any) -> Operations:
    """Trace a function of arrays."""
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    needed, equations = {v for v in traced.jaxpr.outvars if not isinstance(v, Literal)}, []
    for equation in reversed(traced.jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            equations.append(equation)
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return Operations(traced.replace(jaxpr=traced.jaxpr.replace(eqns=equations[::-1])), jax.tree.structure(shapes))
